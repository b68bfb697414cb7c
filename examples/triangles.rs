//! Triangles and clustering of real graphs, by masked products of sparse matrices.
//!
//! ```text
//! cargo run --release --example triangles
//! cargo run --release --example triangles -- my-graph.mtx --device cpu
//! ```
//!
//! Three vertices that are joined with one another are a triangle. With L the lower triangle of
//! a graph's matrix, entry (i, j) of L ⊕.pair⊗ L counts the ways of two steps from i down to j;
//! where L itself has an entry at (i, j), each of them closes a triangle. So one product, computed
//! only at the places of L, counts them all, and most of what A A would hold is never made.
//!
//! For the graphs of `examples/data` the program compares with what other libraries count, and
//! exits with 1 where it differs.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::time::Instant;

use warpwright::sparse::Csr;
use warpwright::sparse::matrix_market::{self, ReadOptions};
use warpwright::spgemm::triangles;
use warpwright::{Cpu, Device, DeviceName};

const USAGE: &str = "\
Counts the triangles of graphs in Matrix Market files, and how strongly they cluster.

Usage: triangles [--device DEVICE] [FILE...]

Without files: the graphs of examples/data, with what other libraries count. DEVICE is cpu (the
default), wgpu, wgpu:INDEX, cuda, cuda:INDEX, ptx or auto.";

/// Graphs of `examples/data`, and their triangles.
const KNOWN: [(&str, u64); 4] =
    [("karate", 45), ("lesmis", 467), ("minnesota", 53), ("power", 651)];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("triangles: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all known counts are met.
fn run() -> Result<bool, Box<dyn Error>> {
    let (mut device, mut files) = (DeviceName::Cpu, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(true);
            }
            "--device" => {
                device = arguments.next().ok_or("--device: the name is missing")?.parse()?;
            }
            option if option.starts_with('-') => {
                return Err(format!("unknown argument `{option}`\n\n{USAGE}").into());
            }
            file => files.push((file.to_owned(), None)),
        }
    }
    if files.is_empty() {
        let path = |name| format!("{}/examples/data/{name}.mtx", env!("CARGO_MANIFEST_DIR"));
        files.extend(KNOWN.map(|(name, expected)| (path(name), Some(expected))));
    }
    let device = Device::open(device)?;
    println!(
        "{:12} {:>9} {:>9} {:>10} {:>10} {:>12} {:>10}",
        "graph", "vertices", "edges", "triangles", "clustering", "transitivity", "time"
    );
    let mut all_met = true;
    for (file, expected) in files {
        all_met &= report(&device, &file, expected)?;
    }
    Ok(all_met)
}

/// Prints a graph's line; whether its count is the expected one.
fn report(device: &Device, file: &str, expected: Option<u64>) -> Result<bool, Box<dyn Error>> {
    let wrong = |error: &dyn Error| format!("{file}: {error}");
    let reader = BufReader::new(File::open(file).map_err(|error| wrong(&error))?);
    let graph: Csr<Cpu, f64> =
        matrix_market::read(reader, &ReadOptions::default()).map_err(|error| wrong(&error))?;
    let began = Instant::now();
    let (found, vertices) = triangles::on(device, &graph)?;
    let time = began.elapsed();
    let name = std::path::Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    println!(
        "{name:12} {:>9} {:>9} {:>10} {:>10.4} {:>12.4} {time:>10.1?}",
        found.vertices,
        found.edges,
        found.triangles,
        vertices.mean_clustering(),
        vertices.transitivity(),
    );
    let met = expected.is_none_or(|expected| expected == found.triangles);
    if let (Some(expected), false) = (expected, met) {
        println!("other libraries count {expected} triangles");
    }
    Ok(met)
}
