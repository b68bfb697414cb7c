//! What a newcomer sees.

use std::process::{Command, Stdio};

use crate::{root, warpwright};

fn text(arguments: &[&str]) -> String {
    let ran = warpwright(arguments);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn without_arguments_it_says_where_to_begin() {
    let help = text(&[]);
    for command in ["warpwright devices", "warpwright verify", "warpwright run"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(!help.contains('\u{1b}'), "colours are for terminals only");
}

#[test]
fn every_command_has_help() {
    for command in
        ["devices", "list", "verify", "run", "bench", "plan", "compress", "inspect", "decompress"]
    {
        assert!(text(&[command, "--help"]).contains("Usage"), "{command}");
    }
}

#[test]
fn the_status_table_of_the_readme_is_made_by_list() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("there is a README");
    let begin = "<!-- status: `warpwright list --status` -->\n";
    let table = readme.split(begin).nth(1).and_then(|rest| rest.split("\n\n").next());
    let table = table.expect("the README has the table");
    assert_eq!(table.trim(), text(&["list", "--status"]).trim(), "run `warpwright list --status`");
}

#[test]
fn a_plan_is_explained() {
    let plan =
        text(&["plan", "selective-scan", "--shape", "B=2,D=64,L=100,N=16", "--device", "cpu"]);
    assert!(plan.contains("variant    selective_scan_forward_simd"), "{plan}");
    assert!(plan.contains("because"), "{plan}");
}

#[test]
fn benches_and_lists_can_be_read_by_programs() {
    let shape = "B=1,D=8,L=16,N=4";
    let bench = text(&[
        "bench",
        "selective-scan",
        "--pass",
        "forward",
        "--device",
        "cpu",
        "--shape",
        shape,
        "--runs",
        "2",
        "--json",
    ]);
    let rows: serde_json::Value = serde_json::from_str(&bench).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "{bench}");
    assert_eq!(rows[0]["runs"], 2);
    assert!(rows[0]["median_s"].as_f64().expect("a number") > 0.0);
    let list: serde_json::Value = serde_json::from_str(&text(&["list", "--json"])).expect("JSON");
    assert!(list.as_array().is_some_and(|rows| rows.len() > 2));
}

#[test]
fn verify_checks_the_cpu() {
    let verified = text(&["verify", "--quick", "--device", "cpu"]);
    assert!(verified.contains("selective_scan_forward_simd"), "{verified}");
    assert!(!verified.contains("FAILED"), "{verified}");
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpwright"))
        .arg("list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(command.stdout.take());
    let ended = command.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{:?}: {complaint}", ended.status);
    assert_eq!(complaint, "", "it complains");
}
