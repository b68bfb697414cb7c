//! `warpwright bench`: times, and how far they are from the device's copy bandwidth.

use comfy_table::{Cell, CellAlignment};
use warpwright::verify::selective_scan::Case;
use warpwright::verify::time::{self, SETTINGS, Timing, copy_bandwidth};
use warpwright::{DType, Device, selective_scan};
#[cfg(feature = "interpreter")]
use warpwright::{DeviceName, ptx::interpreter::Gpu};

use crate::failure::Failure;
use crate::plan::{Shape, parse_dtype};
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
    /// One shape instead of the settings
    #[arg(long, value_name = "B=4,D=768,L=1024,N=16,G=1")]
    shape: Option<Shape>,
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
    setting: &'static str,
    case: Case,
    dtype: DType,
    timing: Timing,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(name) = arguments.operation.as_ref().filter(|name| *name != selective_scan::NAME) {
        let known = selective_scan::NAME;
        return Err(Failure::input(format!("operation: expected {known}, found {name}")));
    }
    let dtypes = arguments.dtype.map_or(vec![DType::F32, DType::BF16, DType::F16], |one| vec![one]);
    #[cfg(feature = "interpreter")]
    if arguments.device == Target::Device(DeviceName::Ptx) {
        let small = |(_, case): &(_, Case)| {
            arguments.thorough || arguments.shape.is_some() || elements(case) <= MOST_COUNTED
        };
        let settings = settings(arguments)?.into_iter().filter(small).collect();
        return crate::count::run(settings, &dtypes, arguments.gpu, arguments.json);
    }
    let device = match arguments.device {
        Target::Reference => {
            return Err(Failure::input("--device: expected a device to time, found reference"));
        }
        target => target.open()?,
    };
    let copy = copy_bandwidth(&device)?;
    let mut rows = Vec::new();
    for (setting, case) in settings(arguments)? {
        for &dtype in &dtypes {
            let runs = arguments.runs.map(|runs| runs as usize);
            let timing = time::selective_scan(&device, &case, dtype, runs)?;
            rows.push(Row { setting, case: case.clone(), dtype, timing });
        }
    }
    match arguments.json {
        true => println!("{}", json(&device, copy, &rows)),
        false => print_table(&device, copy, &rows),
    }
    Ok(())
}

/// The largest setting that is counted unless it is asked for.
#[cfg(feature = "interpreter")]
const MOST_COUNTED: usize = 10_000_000;

/// B · D · L · N.
#[cfg(feature = "interpreter")]
fn elements(case: &Case) -> usize {
    shape(case).iter().take(4).map(|(_, length)| length).product()
}

#[cfg(feature = "interpreter")]
fn parse_gpu(name: &str) -> Result<&'static Gpu, String> {
    Gpu::named(name).map_err(|unknown| unknown.to_string())
}

/// The sizes of a case under the names of their axes.
pub fn shape(case: &Case) -> [(&'static str, usize); 5] {
    let sizes = case.sizes;
    [
        ("B", sizes.batch),
        ("D", sizes.channels),
        ("L", sizes.steps),
        ("N", sizes.states),
        ("G", sizes.groups),
    ]
}

/// The sizes of a case in a line.
pub fn shape_text(case: &Case) -> String {
    shape(case).map(|(axis, length)| format!("{axis}={length}")).join(" ")
}

fn settings(arguments: &Arguments) -> Result<Vec<(&'static str, Case)>, Failure> {
    if let Some(shape) = arguments.shape {
        return Ok(vec![("shape", shape.case()?)]);
    }
    let wanted = SETTINGS.iter().filter(|setting| arguments.thorough || !setting.large);
    Ok(wanted.map(|setting| (setting.id, setting.case())).collect())
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

fn print_table(device: &Device, copy: f64, rows: &[Row]) {
    let mut table = table([
        "setting", "shape", "type", "variant", "median", "fastest", "runs", "GB/s", "of copy",
    ]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for row in rows {
        table.add_row([
            Cell::new(row.setting),
            Cell::new(shape_text(&row.case)),
            Cell::new(row.dtype),
            Cell::new(row.timing.variant),
            right(format!("{:.3} ms", row.median() * 1e3)),
            right(format!("{:.3} ms", row.fastest() * 1e3)),
            right(row.timing.seconds.len().to_string()),
            right(format!("{:.2}", row.bandwidth() / 1e9)),
            right(format!("{:.0} %", 100.0 * row.bandwidth() / copy)),
        ]);
    }
    println!("{} on {}", selective_scan::NAME, device.name());
    println!("{table}");
    println!("copy bandwidth, read and written: {:.2} GB/s; times are by the clock", copy / 1e9);
}

fn json(device: &Device, copy: f64, rows: &[Row]) -> serde_json::Value {
    rows.iter()
        .map(|row| {
            serde_json::json!({
                "operation": selective_scan::NAME,
                "setting": row.setting,
                "device": device.name(),
                "variant": row.timing.variant,
                "dtype": row.dtype.name(),
                "shape": shape(&row.case).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
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
