//! `warpwright verify`: every kernel on every device against the reference.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use comfy_table::{Cell, CellAlignment, Table};
use warpwright::backend::DeviceInfo;
use warpwright::verify::{self, Comparison, Outcome, Report, SUITES, Size};
use warpwright::{DType, Device, DeviceName};

use crate::failure::Failure;
use crate::output::{progress, say};
use crate::table::table;
use crate::target::Target;

/// Check and time every kernel on every device against the f64 reference.
///
/// Without `--device`: the CPU, hardware adapters and CUDA devices; software Vulkan and the
/// interpreter when named. Exits with 1 if anything is further from the reference than the
/// arithmetic allows.
#[derive(clap::Args)]
pub struct Arguments {
    /// The operation; all of them if none is given. `conformance` runs the programs that state
    /// what each instruction of PTX must give, on `cuda` or `ptx`
    operation: Option<String>,
    /// The device; may be repeated
    #[arg(long)]
    device: Vec<Target>,
    /// Only a few cases: seconds
    #[arg(long, conflicts_with = "thorough")]
    quick: bool,
    /// The specifications' full grids: many minutes
    #[arg(long)]
    thorough: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    #[cfg(feature = "interpreter")]
    if arguments.operation.as_deref() == Some("conformance") {
        return crate::conformance::run(&devices(&arguments.device)?);
    }
    let suites = match &arguments.operation {
        None => SUITES.to_vec(),
        Some(name) => vec![verify::find(name)?],
    };
    let size = match (arguments.quick, arguments.thorough) {
        (true, _) => Size::Quick,
        (_, true) => Size::Thorough,
        _ => Size::Default,
    };
    let mut summary = Summary::default();
    let start = Instant::now();
    for device in devices(&arguments.device)? {
        for suite in &suites {
            let message = format!("{} on {}", suite.operation().name(), device.name());
            let progress = progress(message, suite.count(size));
            suite.run(&device, size, &mut |report| {
                progress.set_position(report.index as u64);
                if let Some(complaint) = summary.add(&device, report) {
                    progress.suspend(|| say!("FAILED {complaint}"));
                }
            });
            progress.finish_and_clear();
        }
    }
    say!("{}", summary.table());
    for (reason, cases) in &summary.unsupported {
        say!("not supported, {cases} cases: {reason}");
    }
    let failed = summary.failed;
    say!("{} cases in {:.1} s", summary.cases, start.elapsed().as_secs_f64());
    match failed {
        0 => Ok(()),
        failed => Err(Failure::run(format!("{failed} of {} cases failed", summary.cases))),
    }
}

/// The devices that were named, or those that are checked by default.
fn devices(named: &[Target]) -> Result<Vec<Device>, Failure> {
    let names: Vec<DeviceName> = match named {
        [] => {
            let (found, _) = DeviceInfo::list();
            found.iter().filter(|device| !device.software).map(|device| device.name).collect()
        }
        named => named
            .iter()
            .map(|target| match target {
                Target::Device(name) => Ok(*name),
                Target::Reference => Err(Failure::input(
                    "--device: the reference is what the devices are compared with; \
                     expected another device",
                )),
            })
            .collect::<Result<_, _>>()?,
    };
    names.into_iter().map(|name| Device::open(name).map_err(Failure::from)).collect()
}

/// The reports so far, a line for each device, operation, pass, element type and variant.
#[derive(Default)]
struct Summary {
    lines: BTreeMap<(String, &'static str, &'static str, DType, &'static str), Line>,
    failed: usize,
    unsupported: BTreeMap<String, usize>,
    cases: usize,
}

#[derive(Default)]
struct Line {
    cases: usize,
    failed: usize,
    elapsed: Duration,
    worst: Option<Comparison>,
}

impl Summary {
    /// Counts a report, and says what is wrong with it: a grid of hours tells of a failure when
    /// it sees it.
    fn add(&mut self, device: &Device, report: Report) -> Option<String> {
        if let Outcome::Unsupported(reason) = report.outcome {
            *self.unsupported.entry(reason).or_default() += 1;
            return None;
        }
        self.cases += 1;
        let Report { operation, pass, dtype, variant, .. } = report;
        let line = self.lines.entry((device.name(), operation, pass, dtype, variant)).or_default();
        line.cases += 1;
        line.elapsed += report.elapsed;
        let strain = |worst: &Comparison| worst.error / worst.tolerance;
        let worst = report
            .worst()
            .filter(|worst| line.worst.as_ref().is_none_or(|known| strain(worst) > strain(known)));
        if let Some(worst) = worst {
            line.worst = Some(worst.clone());
        }
        let complaint = report.complaint()?;
        line.failed += 1;
        self.failed += 1;
        Some(format!("{}: {complaint}", device.name()))
    }

    fn table(&self) -> Table {
        let mut table = table([
            "device",
            "operation",
            "pass",
            "type",
            "variant",
            "cases",
            "worst error",
            "tolerance",
            "of",
            "time",
            "",
        ]);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        for ((device, operation, pass, dtype, variant), line) in &self.lines {
            let worst = line.worst.as_ref();
            let number =
                |number: Option<f64>| number.map_or("-".to_owned(), |x| format!("{x:.1e}"));
            table.add_row([
                Cell::new(device),
                Cell::new(operation),
                Cell::new(pass),
                Cell::new(dtype),
                Cell::new(variant),
                right(line.cases.to_string()),
                right(number(worst.map(|worst| worst.error))),
                right(number(worst.map(|worst| worst.tolerance))),
                Cell::new(worst.map_or("", |worst| worst.tensor)),
                right(format!("{:.2} s", line.elapsed.as_secs_f64())),
                Cell::new(match line.failed {
                    0 => "ok".to_owned(),
                    failed => format!("{failed} FAILED"),
                }),
            ]);
        }
        table
    }
}
