//! The generator: expands the kernels and writes the Rust that launches them.
//!
//! `kernels/` has one folder per operation. Its `variants.toml` declares tables of variants
//! ([`table`]); each table names a template, which is expanded once per variant ([`expand`]),
//! and read back ([`reflect_ptx`], [`reflect_wgsl`]) to learn what a launch has to pass. From
//! that, [`emit`] writes for each folder a file of typed entries, and one file with the rows
//! of all tables.
//!
//! Whatever is wrong is reported as a [`Failure`]: with the file and line of the source, also
//! where it shows only in the expanded text ([`source_map`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

mod emit;
mod expand;
mod failure;
mod headers;
mod interface;
mod names;
mod reflect_ptx;
mod reflect_wgsl;
mod source_map;
mod table;

pub use failure::Failure;
use failure::Place;
use interface::{Expanded, Interface};
use table::{Language, Table};

/// What is checked beyond the headers of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Parameters, bindings and block sizes: what the generated Rust depends on.
    Headers,
    /// Every instruction of the PTX, and the WGSL by naga's validator.
    Everything,
}

/// A table with all of its variants expanded and agreed on their interface.
struct Entry {
    table: Table,
    interface: Interface,
    variants: Vec<Expanded>,
}

/// Expands `kernels` and writes the results under `out`: `<folder>.rs` with the typed entries
/// of each folder, `tables.rs` with the rows of all tables, and `text/` with the expansions.
///
/// # Errors
///
/// The first failure of each broken variant; equal ones are told once.
pub fn generate(kernels: &Path, out: &Path, depth: Depth) -> Result<(), Vec<Failure>> {
    let sources = read_sources(kernels).map_err(|failure| vec![failure])?;
    let mut tables = Vec::new();
    let mut failures = Vec::new();
    for (file, text) in sources.iter().filter(|(file, _)| file.ends_with("/variants.toml")) {
        match table::parse(file, text) {
            Ok(parsed) => tables.extend(parsed),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        failures.extend(names::unique(&tables));
    }
    fail_on(failures)?;

    let templates = expand::Templates::new(&sources)?;
    let mut entries = Vec::new();
    let mut failures = Vec::new();
    for table in tables {
        match entry(table, &templates, depth) {
            Ok(entry) => entries.push(entry),
            Err(found) => failures.extend(found),
        }
    }
    fail_on(failure::gathered(failures))?;

    let folders = sources.keys().filter_map(|file| file.split_once('/')).map(|(folder, _)| folder);
    emit::write(&entries, folders, out).map_err(|failure| vec![failure])
}

fn fail_on(failures: Vec<Failure>) -> Result<(), Vec<Failure>> {
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Expands and reads every variant of a table.
fn entry(table: Table, templates: &expand::Templates, depth: Depth) -> Result<Entry, Vec<Failure>> {
    let mut variants: Vec<Expanded> = Vec::new();
    let mut first: Option<Interface> = None;
    let mut failures = Vec::new();
    for variant in &table.variants {
        let read = templates.expand(&table, variant).and_then(|text| {
            let (interface, shared) = match table.language {
                Language::Ptx => reflect_ptx::read(&table, variant, &text, depth)?,
                Language::Wgsl => reflect_wgsl::read(&table, variant, &text, depth)?,
            };
            if let (Some(first), Some(name)) = (&first, variants.first().map(|one| &one.name)) {
                first.same_as(name, &interface, &variant.name).map_err(|(line, message)| {
                    Failure::new(text.place(line), message).of(&variant.name)
                })?;
            }
            Ok((interface, Expanded { name: variant.name.clone(), text, shared }))
        });
        match read {
            Ok((interface, expanded)) => {
                first.get_or_insert(interface);
                variants.push(expanded);
            }
            Err(failure) => failures.push(failure),
        }
    }
    fail_on(failures)?;
    match first {
        Some(interface) => Ok(Entry { table, interface, variants }),
        None => Err(vec![Failure::new(
            Place::file(&table.file),
            format!("[{}] declares no variant", table.key),
        )]),
    }
}

/// All tables and templates, by their path below `kernels/`.
fn read_sources(kernels: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut sources = BTreeMap::new();
    for folder in listed(kernels)? {
        if !folder.is_dir() {
            continue;
        }
        for path in listed(&folder)? {
            let (Some(folder), Some(file)) = (name_of(&folder), name_of(&path)) else {
                continue;
            };
            let file = format!("{folder}/{file}");
            if file.ends_with("/variants.toml") || Language::of(&file).is_some() {
                let text = fs::read_to_string(&path).map_err(|error| {
                    Failure::new(Place::file(&file), format!("cannot be read: {error}"))
                })?;
                sources.insert(file, text);
            }
        }
    }
    Ok(sources)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// What a directory holds, in the order of names.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map(|mut paths| {
            paths.sort();
            paths
        })
        .map_err(|error| {
            Failure::new(Place::directory(directory), format!("cannot be read: {error}"))
        })
}
