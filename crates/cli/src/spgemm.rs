//! `warpwright spgemm`: the product of two Matrix Market files.

use std::path::PathBuf;

use comfy_table::{Cell, CellAlignment};
use warpwright::sparse::matrix_market::Number;
use warpwright::spgemm::{Inputs, Options, Semiring, Summary, multiply_on};
use warpwright::{DType, Device};

use crate::failure::Failure;
use crate::matrix::{self, Phases};
use crate::output::say;
use crate::table::table;
use crate::target::Target;

/// Multiply two sparse matrices in Matrix Market files
///
/// Examples:
///   warpwright spgemm a.mtx b.mtx -o c.mtx
///   warpwright spgemm roads.mtx roads.mtx -o two.mtx --semiring min-plus
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The left factor
    a: PathBuf,
    /// The right factor
    b: PathBuf,
    /// The file to write; it appears whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What sum and product mean: plus-times, min-plus, max-times, or-and or plus-pair
    #[arg(long, default_value = "plus-times", value_parser = Semiring::parse)]
    semiring: Semiring,
    /// A matrix at whose places alone the product is computed
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// Compute it everywhere but at the mask's places
    #[arg(long, requires = "mask")]
    complement: bool,
    /// The type of values: f64, f32, i32 or u32. Truth values and counts have their own
    #[arg(long, default_value = "f64", value_parser = parse_dtype)]
    dtype: DType,
    /// Sum every value from left to right, whatever the device
    #[arg(long)]
    deterministic: bool,
    /// Where to run: auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX, ptx or reference
    #[arg(long, default_value = "auto")]
    device: Target,
}

fn parse_dtype(name: &str) -> Result<DType, String> {
    [DType::F64, DType::F32, DType::I32, DType::U32]
        .into_iter()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| "expected f64, f32, i32 or u32".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.device.open()?;
    match (arguments.semiring, arguments.dtype) {
        (Semiring::OrAnd, _) => multiply::<u8>(arguments, &device),
        (Semiring::PlusPair, _) => multiply::<u32>(arguments, &device),
        (_, DType::F32) => multiply::<f32>(arguments, &device),
        (_, DType::I32) => multiply::<i32>(arguments, &device),
        (_, DType::U32) => multiply::<u32>(arguments, &device),
        _ => multiply::<f64>(arguments, &device),
    }
}

fn multiply<T: Number>(arguments: &Arguments, device: &Device) -> Result<(), Failure> {
    let mut phases = Phases::default();
    let (a, b, mask) = phases.run("read", || {
        let a = read::<T>(arguments, &arguments.a)?;
        let b = match arguments.b == arguments.a {
            true => a.clone(),
            false => read::<T>(arguments, &arguments.b)?,
        };
        let mask = arguments.mask.as_ref().map(|mask| read::<T>(arguments, mask)).transpose()?;
        Ok((a, b, mask))
    })?;
    let options = Options::default()
        .with_semiring(arguments.semiring)
        .with_complement(arguments.complement)
        .with_deterministic(arguments.deterministic);
    let mut inputs = Inputs::new(&a, &b);
    inputs.mask = mask.as_ref();
    let mut all = Phases::default();
    let (product, summary) = all.run("multiply", || Ok(multiply_on(device, &inputs, &options)?))?;
    for phase in &summary.phases {
        phases.add(phase.name, phase.time);
    }
    phases.run("write", || matrix::write(&arguments.output, &product))?;
    for (name, matrix) in [("A", &a), ("B", &b), ("C", &product)] {
        let [rows, cols] = matrix.shape();
        say!("{name}  {rows} x {cols}, {} entries", matrix.nnz());
    }
    print(device, &summary, &phases);
    Ok(())
}

/// A matrix with values; what is true, or counted, are its places.
fn read<T: Number>(
    arguments: &Arguments,
    path: &std::path::Path,
) -> Result<warpwright::sparse::Csr<warpwright::Cpu, T>, Failure> {
    match arguments.semiring {
        Semiring::PlusPair => Ok(matrix::read::<f64>(path)?.to_pattern()),
        Semiring::OrAnd => {
            Ok(matrix::read::<f64>(path)?.map_values(|x| T::from_f64(f64::from(x != 0.0)))?)
        }
        _ => matrix::read(path),
    }
}

/// What it took.
pub fn print(device: &Device, summary: &Summary, phases: &Phases) {
    let ratio = summary.compression().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    say!(
        "\n{} products, {} entries, {ratio} products an entry; {} on {}\n",
        summary.products,
        summary.entries,
        summary.variant,
        device.name()
    );
    let mut times = table(["phase", "time"]);
    for (name, time) in phases.times() {
        let time = format!("{:.1} ms", time.as_secs_f64() * 1e3);
        times.add_row([Cell::new(name), Cell::new(time).set_alignment(CellAlignment::Right)]);
    }
    say!("{times}");
}
