//! The command as `mpirun` calls it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use safetensors::SafeTensors;

/// One job at a time.
static TURN: Mutex<()> = Mutex::new(());

fn fixture() -> String {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    data.join("ring-zigzag.in.safetensors").display().to_string()
}

/// A path for a file of this test alone, which is not there yet.
fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("warpwright-{}-{name}", std::process::id()));
    // That there is none is as good.
    let _ = std::fs::remove_file(&path);
    path
}

/// Runs the command by so many processes; by itself where there is to be one.
fn run(processes: usize, input: &str, output: &Path, arguments: &[&str]) -> Output {
    let turn = TURN.lock();
    let program = env!("CARGO_BIN_EXE_warpwright");
    let mut command = match processes {
        1 => Command::new(program),
        _ => {
            let mut mpirun = Command::new("mpirun");
            let count = processes.to_string();
            mpirun.args(["-n", &count, "--oversubscribe", "--bind-to", "none", program]);
            // In a container.
            mpirun.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
            mpirun.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
            mpirun
        }
    };
    command.args(["run", "ring", "--input", input, "--output"]).arg(output);
    let ran = command.args(arguments).output().expect("the command starts");
    drop(turn);
    ran
}

/// The tensors of a file as bytes, and its metadata.
type Contents = (HashMap<String, Vec<u8>>, HashMap<String, String>);

fn contents(path: &Path) -> Contents {
    let bytes = std::fs::read(path).expect("the output is there");
    std::fs::remove_file(path).expect("it can be removed");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("it is whole");
    let file = SafeTensors::deserialize(&bytes).expect("it is whole");
    let tensors = file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()));
    (tensors.collect(), header.metadata().clone().unwrap_or_default())
}

fn assert_done(ran: &Output) {
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn processes_give_the_bits_of_threads() {
    let output = temporary("bits");
    for schedule in ["auto", "kv-ring", "two-way", "token-ring"] {
        let schedule = format!("schedule={schedule}");
        let set = ["--set", &schedule, "--device", "cpu"];
        assert_done(&run(1, &fixture(), &output, &set));
        let (threads, of_threads) = contents(&output);
        let over_mpi = [set.as_slice(), &["--set", "engine=mpi"]].concat();
        assert_done(&run(4, &fixture(), &output, &over_mpi));
        let (processes, of_processes) = contents(&output);
        assert_eq!(threads.len(), 5, "{schedule}: out, lse, dq, dk, dv");
        assert!(threads == processes, "{schedule}: other bits");
        for key in ["bytes_sent", "variant", "op", "device"] {
            assert_eq!(of_threads[key], of_processes[key], "{schedule}: {key}");
        }
    }
}

#[test]
fn the_reference_is_made_once() {
    let output = temporary("reference");
    let mpi = ["--set", "engine=mpi", "--device", "reference"];
    assert_done(&run(2, &fixture(), &output, &mpi));
    assert_eq!(contents(&output).1["device"], "reference");
}

#[test]
fn errors_are_told_once_and_all_ranks_end_alike() {
    let output = temporary("errors");
    let refused = |input: &str, arguments: &[&str], status: i32, says: &str| {
        let arguments = [["--set", "engine=mpi"].as_slice(), arguments].concat();
        let ran = run(4, input, &output, &arguments);
        let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(status), "{complaint}");
        let told: Vec<&str> =
            complaint.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(told.len() == 1 && told[0].contains(says), "{complaint}");
        assert!(!output.exists(), "{arguments:?}: a file is left");
    };
    refused(&fixture(), &["--set", "schedule=circle"], 2, "expected auto, kv-ring");
    refused(&fixture(), &["--set", "schedule=ulysses"], 3, "use two-way");
    refused(&fixture(), &["--set", "ranks=3"], 2, "expected 4, as many as the job has");
    refused(&fixture(), &["--device", "ptx"], 3, "use the device cpu");
    refused("missing.safetensors", &[], 2, "missing.safetensors");
}

#[test]
fn a_file_that_cannot_be_written_ends_all() {
    let nowhere = temporary("nowhere").join("out.safetensors");
    let ran = run(2, &fixture(), &nowhere, &["--set", "engine=mpi", "--set", "ranks=2"]);
    let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{complaint}");
    assert_eq!(complaint.matches("error: ").count(), 1, "{complaint}");
}
