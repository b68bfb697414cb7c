//! `warpwright inspect`: what a file of compressed layers holds.

use std::path::PathBuf;

use warpwright::group_sparse::file::Reader;

use crate::failure::Failure;
use crate::layers::{self, Facts};
use crate::output::{progress, say, size};

mod grid;
mod picture;

use grid::Grid;

/// Show the compressed layers of a file: sizes, sparsity, error
///
/// Every layer is read and checked. The error is ‖W - What‖ / ‖W‖ as the compressor has told it, the
/// weighted one that of the outputs for its calibration; the imbalance, the most groups of a row
/// over the mean. With `--svg`, a picture of the kept groups and of the errors. Example:
///
///   warpwright inspect model.gqsa.safetensors --svg model.svg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The file, with layers as `warpwright compress` writes them
    file: PathBuf,
    /// The file for a picture of the layers
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut reader = layers::open_compressed(&arguments.file)?;
    let (mut facts, mut grids) = (Vec::new(), Vec::new());
    let progress = progress("reading layers", reader.headers().len());
    for layer in reader.layers() {
        let layer = layer.map_err(|error| layers::input(&arguments.file, error))?;
        grids.extend(arguments.svg.is_some().then(|| Grid::of(&layer.matrix)));
        facts.push(Facts::of(&layer));
        progress.inc(1);
    }
    progress.finish_and_clear();
    say!("{}", layers::shown(&facts));
    say!("{}", layers::total(&facts));
    if let Some(others) = others(&reader) {
        say!("{others}");
    }
    match &arguments.svg {
        Some(path) => picture::write(path, &arguments.file, &facts, &grids),
        None => Ok(()),
    }
}

/// The tensors that are not compressed, in a line.
fn others(reader: &Reader) -> Option<String> {
    let others = reader.entries().iter().filter(|(name, _)| !reader.is_compressed(name));
    let sizes: Vec<u64> = others.map(|(_, entry)| entry.bytes()).collect();
    let bytes = size(sizes.iter().sum());
    match sizes.len() {
        0 => None,
        1 => Some(format!("1 other tensor: {bytes}")),
        count => Some(format!("{count} other tensors: {bytes}")),
    }
}
