//! `warpwright bench`: times, and how far they are from the device's copy bandwidth.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment};
use warpwright::operation::Settings;
use warpwright::verify::time::{Setting, Timing, copy_bandwidth};
use warpwright::verify::{self, SUITES, Suite};
use warpwright::{DType, Device};
#[cfg(feature = "interpreter")]
use warpwright::{DeviceName, ptx::interpreter::Gpu};

use crate::failure::Failure;
use crate::output::say;
use crate::plan::{parse_dtype, parse_shape};
use crate::run::options;
use crate::table::table;
use crate::target::Target;

/// Time an operation at the settings of its specification
///
/// Prints the median and the fastest of some runs, the bytes that the call must move at least
/// over that time, and their share of the copy bandwidth measured on the same device. On `ptx`
/// nothing is timed: the instructions and bytes of the kernels are counted, and what they would
/// take at least on a GPU is estimated.
#[derive(clap::Args)]
pub struct Arguments {
    /// The operation; all of them if none is given
    operation: Option<String>,
    /// Where to run: auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX or ptx
    #[arg(long, default_value = "auto")]
    device: Target,
    /// The type of the activations: f32, bf16 or f16; all of them if none is given
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<DType>,
    /// One shape instead of the settings; needs the name of the operation
    #[arg(long, value_name = "B=4,D=768,L=1024,N=16,G=1", requires = "operation")]
    shape: Option<String>,
    /// An option of the operation at that shape, such as layout=BLD; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "shape")]
    set: Vec<String>,
    /// Only this pass: forward, backward, …
    #[arg(long)]
    pass: Option<String>,
    /// Runs of each setting; as many as three seconds hold if none is given, 7 at least
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// All settings of the specification, the large ones as well
    #[arg(long)]
    thorough: bool,
    /// The GPU that `--device ptx` estimates for: H100, H200, A100 or RTX 4090
    #[cfg(feature = "interpreter")]
    #[arg(long, value_parser = parse_gpu, default_value = "H100")]
    gpu: &'static Gpu,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A timed setting.
struct Row {
    setting: Setting,
    dtype: DType,
    timing: Timing,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let suites = match &arguments.operation {
        Some(name) => vec![verify::find(name)?],
        None => SUITES.to_vec(),
    };
    let dtypes =
        |suite: &dyn Suite| arguments.dtype.map_or(suite.dtypes().to_vec(), |one| vec![one]);
    #[cfg(feature = "interpreter")]
    if arguments.device == Target::Device(DeviceName::Ptx) {
        return each(arguments, &suites, |suite| {
            let settings = settings(arguments, suite)?;
            crate::count::run(suite, settings, &dtypes(suite), arguments.gpu, arguments.json)
        });
    }
    let device = match arguments.device {
        Target::Reference => {
            return Err(Failure::input("--device: expected a device to time, found reference"));
        }
        target => target.open()?,
    };
    let copy = copy_bandwidth(&device)?;
    each(arguments, &suites, |suite| {
        let mut rows = Vec::new();
        for setting in settings(arguments, suite)? {
            for dtype in dtypes(suite) {
                let runs = arguments.runs.map(|runs| runs as usize);
                let timing = suite.time(&device, &setting, dtype, runs)?;
                rows.push(Row { setting: setting.clone(), dtype, timing });
            }
        }
        let operation = suite.operation().name();
        match arguments.json {
            true => say!("{}", json(operation, &device, copy, &rows)),
            false => print_table(operation, &device, copy, &rows),
        }
        Ok(())
    })
}

/// Does a piece of work for each operation. What the device cannot do is a failure where the
/// operation was asked for by name; else it is said, and left out.
fn each(
    arguments: &Arguments,
    suites: &[&dyn Suite],
    work: impl Fn(&dyn Suite) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for suite in suites {
        match work(*suite) {
            Err(failure) if failure.is_ability() && arguments.operation.is_none() => {
                eprintln!("left out: {failure}");
            }
            done => done?,
        }
    }
    Ok(())
}

/// The largest setting that is counted unless it is asked for.
#[cfg(feature = "interpreter")]
const MOST_COUNTED: usize = 10_000_000;

#[cfg(feature = "interpreter")]
fn parse_gpu(name: &str) -> Result<&'static Gpu, String> {
    Gpu::named(name).map_err(|unknown| unknown.to_string())
}

fn settings(arguments: &Arguments, suite: &dyn Suite) -> Result<Vec<Setting>, Failure> {
    let wanted_pass =
        |setting: &Setting| arguments.pass.as_ref().is_none_or(|pass| pass == setting.pass);
    let known: Vec<Setting> = suite.settings().into_iter().filter(wanted_pass).collect();
    if let (Some(pass), []) = (&arguments.pass, known.as_slice()) {
        let operation = suite.operation().name();
        return Err(Failure::input(format!("{operation}: --pass: no pass `{pass}` is timed")));
    }
    if let Some(shape) = &arguments.shape {
        return one_shape(arguments, suite, shape, &known);
    }
    let small = |setting: &Setting| match arguments.device {
        #[cfg(feature = "interpreter")]
        Target::Device(DeviceName::Ptx) => suite.elements(&setting.sizes) <= MOST_COUNTED,
        _ => !setting.large,
    };
    Ok(known.into_iter().filter(|setting| arguments.thorough || small(setting)).collect())
}

/// Every wanted pass at the shape of the command line.
fn one_shape(
    arguments: &Arguments,
    suite: &dyn Suite,
    shape: &str,
    known: &[Setting],
) -> Result<Vec<Setting>, Failure> {
    let sizes = parse_shape(suite.operation(), shape)?;
    let settings = Settings { options: options(&arguments.set)?, ..Settings::default() };
    let mut passes: Vec<&'static str> = known.iter().map(|setting| setting.pass).collect();
    passes.sort_unstable();
    passes.dedup();
    Ok(passes
        .into_iter()
        .map(|pass| Setting::new("shape", pass, sizes.clone(), settings.clone()))
        .collect())
}

impl Row {
    fn median(&self) -> f64 {
        let mut seconds = self.timing.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn fastest(&self) -> f64 {
        self.timing.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Least bytes over the median time.
    fn bandwidth(&self) -> f64 {
        self.timing.bytes as f64 / self.median()
    }
}

fn print_table(operation: &str, device: &Device, copy: f64, rows: &[Row]) {
    let mut table = table([
        "setting", "pass", "shape", "type", "variant", "median", "fastest", "runs", "GB/s",
        "of copy",
    ]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for row in rows {
        table.add_row([
            Cell::new(row.setting.id),
            Cell::new(row.setting.pass),
            Cell::new(row.setting.describe()),
            Cell::new(row.dtype),
            Cell::new(row.timing.variant),
            right(format!("{:.3} ms", row.median() * 1e3)),
            right(format!("{:.3} ms", row.fastest() * 1e3)),
            right(row.timing.seconds.len().to_string()),
            right(format!("{:.2}", row.bandwidth() / 1e9)),
            right(format!("{:.0} %", 100.0 * row.bandwidth() / copy)),
        ]);
    }
    say!("{operation} on {}", device.name());
    say!("{table}");
    say!("copy bandwidth, read and written: {:.2} GB/s; times are by the clock", copy / 1e9);
}

fn json(operation: &str, device: &Device, copy: f64, rows: &[Row]) -> serde_json::Value {
    rows.iter()
        .map(|row| {
            serde_json::json!({
                "operation": operation,
                "setting": row.setting.id,
                "pass": row.setting.pass,
                "device": device.name(),
                "variant": row.timing.variant,
                "dtype": row.dtype.name(),
                "shape": row.setting.sizes.axes().iter().copied().collect::<BTreeMap<_, _>>(),
                "options": row.setting.settings.options,
                "median_s": row.median(),
                "min_s": row.fastest(),
                "runs": row.timing.seconds.len(),
                "bytes": row.timing.bytes,
                "gb_per_s": row.bandwidth() / 1e9,
                "copy_gb_per_s": copy / 1e9,
            })
        })
        .collect()
}
