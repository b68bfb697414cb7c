//! `warpwright plan`: what would run, and why.

use std::str::FromStr;

use warpwright::DType;
use warpwright::selective_scan::{self, Options, Problem};
use warpwright::verify::selective_scan::Case;

use crate::failure::Failure;
use crate::target::Target;

/// Print which kernel would run for a call of some shape, and why
///
/// Example: warpwright plan selective-scan --shape B=8,D=2048,L=4096,N=16 --device wgpu
#[derive(clap::Args)]
pub struct Arguments {
    /// The operation: selective-scan
    operation: String,
    /// B batch, D channels, L steps, N states, G groups (1)
    #[arg(long, value_name = "B=4,D=768,L=1024,N=16,G=1")]
    shape: Shape,
    /// Where it would run: auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX or ptx
    #[arg(long, default_value = "auto")]
    device: Target,
    /// The type of the activations: f32, bf16, f16 or f64
    #[arg(long, default_value = "f32", value_parser = parse_dtype)]
    dtype: DType,
    /// The layout of the activations: BDL or BLD
    #[arg(long, default_value = "BDL")]
    layout: String,
    /// The kernel variant to use instead of the planned one
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// The sizes of a scan, as the command line gives them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    batch: usize,
    channels: usize,
    steps: usize,
    states: usize,
    groups: usize,
}

impl Shape {
    /// The case with everything that Mamba uses at these sizes.
    pub fn case(self) -> Result<Case, Failure> {
        self.problem(DType::F32, &Options::default())?;
        let Self { batch, channels, steps, states, groups } = self;
        Ok(Case::new(batch, channels, steps, states, groups))
    }

    fn problem(self, dtype: DType, options: &Options) -> Result<Problem, Failure> {
        let Self { batch, channels, steps, states, groups } = self;
        Ok(Problem::new(dtype, [batch, channels, steps, states, groups], options)?)
    }
}

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut sizes = [None, None, None, None, Some(1)];
        for part in text.split(',') {
            let (axis, length) = part
                .split_once('=')
                .ok_or_else(|| format!("expected AXIS=LENGTH, found {part}"))?;
            let place = ["B", "D", "L", "N", "G"]
                .iter()
                .position(|known| *known == axis.trim())
                .ok_or_else(|| format!("expected an axis of B, D, L, N, G, found {axis}"))?;
            let length = length.trim().parse();
            sizes[place] = Some(length.map_err(|_| format!("expected a length in {part}"))?);
        }
        let [Some(batch), Some(channels), Some(steps), Some(states), Some(groups)] = sizes else {
            return Err(format!("expected B, D, L and N, found {text}"));
        };
        Ok(Self { batch, channels, steps, states, groups })
    }
}

/// Reads the type of activations.
pub fn parse_dtype(name: &str) -> Result<DType, String> {
    [DType::F32, DType::BF16, DType::F16, DType::F64]
        .into_iter()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| "expected f32, bf16, f16 or f64".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.operation != selective_scan::NAME {
        let (known, found) = (selective_scan::NAME, &arguments.operation);
        return Err(Failure::input(format!("operation: expected {known}, found {found}")));
    }
    let mut options = Options::default();
    options.set("layout", &arguments.layout)?;
    options.variant.clone_from(&arguments.variant);
    let problem = arguments.shape.problem(arguments.dtype, &options)?;
    let device = arguments.device.open()?;
    let plan = selective_scan::plan_problem(&device, &problem, &options)?;
    println!("device     {}", device.name());
    println!("{plan}");
    Ok(())
}
