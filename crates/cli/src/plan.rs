//! `warpwright plan`: what would run, and why.

use std::path::PathBuf;

use warpwright::operation::{self, Settings, Sizes};
use warpwright::{DType, ring};

use crate::failure::Failure;
use crate::output::say;
use crate::run::options;
use crate::target::Target;

mod picture;
mod steps;

/// Print which kernel would run for a call of some shape, and why
///
/// Example: warpwright plan selective-scan --shape B=8,D=2048,L=4096,N=16 --device wgpu
///
/// Of ring-attention, ring for short, also the bytes that each rank sends at each step, and with
/// `--svg` a picture of who computes and sends what; `--set pass=backward` for the other pass.
/// Example: warpwright plan ring --shape B=1,H=8,Sq=4096,D=64 --set causal=true --svg ring.svg
#[derive(clap::Args)]
pub struct Arguments {
    /// The operation, as `warpwright list` names it
    operation: String,
    /// The axes of the operation; of selective-scan: B batch, D channels, L steps, N states, G
    /// groups (1)
    #[arg(long, value_name = "B=4,D=768,L=1024,N=16,G=1")]
    shape: String,
    /// Where it would run: auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX or ptx
    #[arg(long, default_value = "auto")]
    device: Target,
    /// The type of the activations: f32, bf16, f16 or f64
    #[arg(long, default_value = "f32", value_parser = parse_dtype)]
    dtype: DType,
    /// An option of the operation, such as layout=BLD; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The kernel variant to use instead of the planned one
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// The file for a picture of the schedule, of ring-attention
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Reads the sizes of a call of an operation.
pub fn parse_shape(operation: &dyn operation::Operation, text: &str) -> Result<Sizes, Failure> {
    Sizes::parse(operation.axes(), text)
        .map_err(|wrong| Failure::input(format!("{}: --shape: {wrong}", operation.name())))
}

/// Reads the type of activations.
pub fn parse_dtype(name: &str) -> Result<DType, String> {
    [DType::F32, DType::BF16, DType::F16, DType::F64]
        .into_iter()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| "expected f32, bf16, f16 or f64".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let operation = operation::find(&arguments.operation)?;
    let sizes = parse_shape(operation, &arguments.shape)?;
    let settings = Settings {
        options: options(&arguments.set)?,
        variant: arguments.variant.clone(),
        ..Settings::default()
    };
    let device = arguments.device.open()?;
    let plan = operation.plan(&device, arguments.dtype, &sizes, &settings)?;
    let is_ring = operation.name() == ring::NAME;
    if arguments.svg.is_some() && !is_ring {
        return Err(Failure::input(format!(
            "{}: --svg: only ring-attention has a schedule to be drawn",
            operation.name()
        )));
    }
    say!("device     {}", device.name());
    say!("{plan}");
    if is_ring {
        let plans = ring::plans(arguments.dtype, &sizes, &settings)?;
        plans.iter().for_each(steps::print);
        if let (Some(path), Some(first)) = (&arguments.svg, plans.first()) {
            picture::write(path, first)?;
        }
    }
    Ok(())
}
