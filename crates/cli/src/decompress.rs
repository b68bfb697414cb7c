//! `warpwright decompress`: a file of compressed layers as one of dense weights.

use std::path::PathBuf;

use warpwright::group_sparse::file::{Dtype, Writer, stored};
use warpwright::group_sparse::layer::Layer;
use warpwright::group_sparse::{self, Weights};
use warpwright::{Cpu, DType, DeviceFloat, bf16, f16};

use crate::failure::Failure;
use crate::layers;
use crate::output::{progress, say, size};

/// Write the layers of a file as dense weights
///
/// A layer P becomes the tensor P.weight, of the type that it was made of unless `--dtype` names
/// another; pruned groups are 0. All other tensors are copied. Memory does not grow with the model.
/// Example:
///
///   warpwright decompress model.gqsa.safetensors -o model.safetensors --dtype bf16
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The file, with layers as `warpwright compress` writes them
    file: PathBuf,
    /// The file to write; it appears whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The type of the weights: f32, f16 or bf16
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<DType>,
}

fn parse_dtype(name: &str) -> Result<DType, String> {
    [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| "expected f32, f16 or bf16".to_owned())
}

/// Bytes that are decoded at once, about.
const PIECE: usize = 16 << 20;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let wrong = |error| layers::input(&arguments.file, error);
    let mut reader = layers::open_compressed(&arguments.file)?;
    let mut writer = Writer::create(&arguments.output)?;
    for (key, value) in reader.metadata().iter().filter(|(key, _)| !key.starts_with("gqsa.")) {
        writer.set(key, value);
    }
    let names: Vec<String> = reader.entries().keys().cloned().collect();
    let others: Vec<&String> = names.iter().filter(|name| !reader.is_compressed(name)).collect();
    let count = reader.headers().len();
    let progress = progress("decompressing", others.len() + count);
    for name in others {
        writer.copy(&mut reader, name)?;
        progress.inc(1);
    }
    let mut bytes = 0;
    for layer in reader.layers() {
        bytes += write(&mut writer, &layer.map_err(wrong)?, arguments.dtype)?;
        progress.inc(1);
    }
    writer.finish()?;
    progress.finish_and_clear();
    let layers = if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
    say!("{layers} decompressed: {}", size(bytes));
    Ok(())
}

/// Writes a layer's weights, piece by piece, and tells how many bytes they are.
fn write(writer: &mut Writer, layer: &Layer, asked: Option<DType>) -> Result<u64, Failure> {
    match asked.unwrap_or(layer.source) {
        DType::F16 => write_as::<f16>(writer, layer),
        DType::BF16 => write_as::<bf16>(writer, layer),
        _ => write_as::<f32>(writer, layer),
    }
}

fn write_as<T: DeviceFloat>(writer: &mut Writer, layer: &Layer) -> Result<u64, Failure> {
    let format = layer.matrix.format();
    let (rows, columns) = (format.rows, format.columns);
    let weights = Weights::new(&Cpu, &layer.matrix)?;
    let step = (PIECE / (columns * size_of::<T>())).max(1);
    let pieces = (0..rows).step_by(step).map(|first| {
        let rows = first..rows.min(first + step);
        group_sparse::decompress::<Cpu, T>(&weights, rows)?.to_bytes()
    });
    let dtype: Dtype = stored(T::DTYPE);
    writer.pieces(&format!("{}.weight", layer.name), dtype, &[rows, columns], pieces)?;
    Ok((rows * columns * size_of::<T>()) as u64)
}
