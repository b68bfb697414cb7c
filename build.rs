//! Expands the kernels of `kernels/`, and writes their typed entries, into `OUT_DIR`.
//!
//! Needs no program and no network. With `WARPWRIGHT_VALIDATE=1` it also checks every
//! instruction, which the tests do in any case.

use std::env;
use std::path::Path;

#[path = "build/mod.rs"]
mod generator;

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WARPWRIGHT_VALIDATE");
    let depth = match env::var("WARPWRIGHT_VALIDATE").as_deref() {
        Ok("1") => generator::Depth::Everything,
        _ => generator::Depth::Headers,
    };
    let (Some(root), Some(out)) = (env::var_os("CARGO_MANIFEST_DIR"), env::var_os("OUT_DIR"))
    else {
        println!("cargo::error=build.rs is run by cargo");
        return;
    };
    let kernels = Path::new(&root).join("kernels");
    if let Err(failures) = generator::generate(&kernels, Path::new(&out), depth) {
        for failure in failures {
            println!("cargo::error={failure}");
        }
    }
}
