//! What the assembler says of every PTX variant: registers, spills, shared memory.
//!
//! Each folder of `kernels/` keeps the numbers in its `resources.toml`, under the hash of the
//! variant's expanded text. A variant whose hash is there needs no assembler. For the others
//! `ptxas` is looked for in `$PTXAS`, then in `PATH`; with `WARPWRIGHT_UPDATE=1` the tables are
//! written anew. With `WARPWRIGHT_ALL=1` every variant is assembled for every architecture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use sha2::{Digest, Sha256};
use warpwright::backend::kernel::all;
use warpwright::backend::{Language, Tier, VariantInfo};

/// What runs a variant of a tier, the tier's own architecture first.
fn architectures(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::Sm80 => &["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"],
        Tier::Sm90a => &["sm_90a"],
    }
}

/// A row of `resources.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resources {
    /// The first 16 hexadecimal digits of the text's SHA-256.
    hash: String,
    /// Registers of a thread.
    registers: u64,
    /// Bytes that are spilled, stores and loads together.
    spills: u64,
    /// Bytes of static shared memory.
    shared: u64,
}

type Rows = BTreeMap<String, Resources>;

fn ptx() -> Vec<(&'static VariantInfo, Tier)> {
    let tier = |info: &'static VariantInfo| match info.language {
        Language::Ptx(tier) => Some((info, tier)),
        _ => None,
    };
    all().filter_map(tier).collect()
}

fn set(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| value == "1")
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn table(operation: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(operation).join("resources.toml")
}

/// The rows of an operation; none where there is no file yet. A row that lacks something counts
/// as missing.
fn read(operation: &str) -> Rows {
    let Ok(text) = fs::read_to_string(table(operation)) else {
        return Rows::new();
    };
    let toml: toml::Table = text.parse().expect("resources.toml is TOML");
    let row = |(name, row): (&String, &toml::Value)| {
        let number = |key: &str| row.get(key)?.as_integer()?.try_into().ok();
        let resources = Resources {
            hash: row.get("hash")?.as_str()?.to_owned(),
            registers: number("registers")?,
            spills: number("spills")?,
            shared: number("shared")?,
        };
        Some((name.clone(), resources))
    };
    toml.iter().filter_map(row).collect()
}

fn write(operation: &str, rows: &Rows) {
    let mut text = "# What ptxas reports for each variant: registers of a thread, bytes spilled, \
                    bytes of\n# static shared memory. Written by the test `resources` under \
                    WARPWRIGHT_UPDATE=1.\n"
        .to_owned();
    for (name, Resources { hash, registers, spills, shared }) in rows {
        let _ = write!(
            text,
            "\n[{name}]\nhash = \"{hash}\"\nregisters = {registers}\nspills = {spills}\nshared = {shared}\n"
        );
    }
    fs::write(table(operation), text).expect("resources.toml is written");
}

/// The assembler: `$PTXAS`, else the first in `PATH`.
fn assembler() -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        Command::new(path).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let named = env::var_os("PTXAS").map(PathBuf::from);
    named.into_iter().chain([PathBuf::from("ptxas")]).find(runs)
}

/// Assembles a variant for an architecture.
fn assembled(ptxas: &Path, info: &VariantInfo, architecture: &str) -> Result<Resources, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resources");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let source = folder.join(format!("{}.{architecture}.ptx", info.name));
    fs::write(&source, info.text()).map_err(|error| error.to_string())?;
    let output = Command::new(ptxas)
        .args(["-v", "-arch", architecture, "-o"])
        .arg(source.with_extension("cubin"))
        .arg(&source)
        .output()
        .map_err(|error| error.to_string())?;
    let log = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(with_sources(info, &log));
    }
    let number = |what: &str| number_before(&log, what);
    Ok(Resources {
        hash: hash(&info.text()),
        registers: number(" registers").ok_or_else(|| format!("no registers in: {log}"))?,
        spills: number(" bytes spill stores").unwrap_or(0)
            + number(" bytes spill loads").unwrap_or(0),
        shared: number(" bytes smem").unwrap_or(0),
    })
}

/// The number that stands before a word: 42 in `Used 42 registers`.
fn number_before(log: &str, what: &str) -> Option<u64> {
    log[..log.find(what)?].rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The assembler's words, with the line of the template beside that of the expanded text.
fn with_sources(info: &VariantInfo, log: &str) -> String {
    let told = log.lines().map(|line| {
        let number = line
            .split_once("line ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        match number.and_then(|number| info.source(number)) {
            Some((file, number)) => format!("{line} (kernels/{file}:{number})"),
            None => line.to_owned(),
        }
    });
    told.collect::<Vec<_>>().join("\n")
}

type Job = (&'static VariantInfo, &'static str);

/// Assembles all of these, on all cores; the results in their order.
fn assembled_all(ptxas: &Path, jobs: &[Job]) -> Vec<Result<Resources, String>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some((info, architecture)) = jobs.get(job) else { break };
                    let result = assembled(ptxas, info, architecture);
                    results.lock().expect("no thread panics").insert(job, result);
                }
            });
        }
    });
    results.into_inner().expect("no thread panics").into_values().collect()
}

/// No kernel spills, and the tables hold the numbers of the very texts that ship.
#[test]
fn every_kernel_assembles_without_spills() {
    let ptx = ptx();
    let operations: BTreeMap<&str, Rows> =
        ptx.iter().map(|(info, _)| (info.operation, read(info.operation))).collect();
    let known = |info: &VariantInfo| {
        operations[info.operation].get(info.name).filter(|row| row.hash == hash(&info.text()))
    };
    let jobs: Vec<Job> = ptx
        .iter()
        .flat_map(|&(info, tier)| {
            let wanted = match (set("WARPWRIGHT_ALL"), known(info)) {
                (true, _) => architectures(tier),
                (false, None) => &architectures(tier)[..1],
                (false, Some(_)) => &[],
            };
            wanted.iter().map(move |&architecture| (info, architecture))
        })
        .collect();
    let results = match assembler() {
        _ if jobs.is_empty() => Vec::new(),
        Some(ptxas) => assembled_all(&ptxas, &jobs),
        None => {
            let unknown: Vec<&str> = ptx
                .iter()
                .filter(|(info, _)| known(info).is_none())
                .map(|(info, _)| info.name)
                .collect();
            assert!(
                unknown.is_empty(),
                "there is no ptxas, and these kernels are new or changed: {}. It comes with the \
                 CUDA toolkit, and with the Python wheel nvidia-cuda-nvcc; name it by PTXAS or \
                 PATH, and run this test with WARPWRIGHT_UPDATE=1",
                unknown.join(", "),
            );
            println!("skipped: assembling for every architecture, for there is no ptxas");
            Vec::new()
        }
    };

    let own = |info: &VariantInfo| match info.language {
        Language::Ptx(tier) => architectures(tier).first().copied(),
        _ => None,
    };
    let mut failures = Vec::new();
    let mut rows = operations.clone();
    for ((info, architecture), result) in jobs.iter().zip(results) {
        match result {
            Err(log) => failures.push(format!("{} for {architecture}: {log}", info.name)),
            Ok(found) if found.spills > 0 => failures.push(format!(
                "{} for {architecture} spills {} bytes, with {} registers",
                info.name, found.spills, found.registers
            )),
            Ok(found) if own(info) == Some(*architecture) && known(info).is_none() => {
                rows.entry(info.operation).or_default().insert(info.name.to_owned(), found);
            }
            Ok(_) => {}
        }
    }
    for (operation, rows) in &mut rows {
        rows.retain(|name, _| ptx.iter().any(|(info, _)| info.name == name));
        if operations[operation] == *rows {
            continue;
        }
        if set("WARPWRIGHT_UPDATE") {
            write(operation, rows);
        } else {
            failures.push(format!(
                "kernels/{operation}/resources.toml does not fit the kernels: run \
                 `WARPWRIGHT_UPDATE=1 cargo test --test it resources` and look at the difference"
            ));
        }
    }
    for (info, _) in &ptx {
        let Some(row) = rows[info.operation].get(info.name) else { continue };
        if row.spills > 0 {
            failures.push(format!("{} spills {} bytes", info.name, row.spills));
        }
        if row.shared != u64::from(info.shared_bytes) {
            failures.push(format!(
                "{} has {} bytes of shared memory by ptxas, {} by our parser",
                info.name, row.shared, info.shared_bytes
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What ships is a small, finite set. The design has 300 entries and 12 MB for all operations. Texts
/// are embedded deflated, so that it is the deflated ones, 5.7 MB, that have to stay small; and until
/// the type of an element is a run-time branch where that costs nothing, as in the steps of recurrent
/// cells, more entries are allowed: three in five are selective scan's and SpGEMM's, by state size
/// and by semiring. (In the walks of attention it is such a branch; tensor cores' instructions name
/// it.)
#[test]
fn the_set_of_kernels_stays_small() {
    let entries = ptx().len();
    let bytes: usize = all().map(VariantInfo::embedded_bytes).sum();
    assert!(entries <= 440, "{entries} PTX entries, at most 440 are wanted");
    assert!(bytes <= 5_800_000, "{bytes} bytes of kernels, at most 5.8 MB are wanted");
}
