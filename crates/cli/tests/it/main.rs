//! The command as a user calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod attention;
mod cross_entropy;
mod errors;
mod fixtures;
mod group_sparse;
mod help;
mod ring;
mod rnn;
mod scan_attention;
mod spgemm;

/// Runs the command.
fn warpwright(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warpwright"))
        .args(arguments)
        .env_remove("WARPWRIGHT_VARIANT")
        .output()
        .expect("the command starts")
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture(name: &str) -> String {
    root().join("tests/data").join(name).display().to_string()
}

/// A path for a file of this test alone, which is not there yet.
fn temporary(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("warpwright-{}-{name}", std::process::id()));
    // That there is none is as good.
    let _ = std::fs::remove_file(&path);
    path.display().to_string()
}
