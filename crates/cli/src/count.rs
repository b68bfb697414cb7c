//! `warpwright bench --device ptx`: what the kernels do, counted, and what that means for a GPU.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment};
use warpwright::DType;
use warpwright::ptx::interpreter::{Counters, Estimate, Gpu, Options as Interpretation};
use warpwright::verify::Suite;
use warpwright::verify::count::Counted;
use warpwright::verify::time::Setting;

use crate::failure::Failure;
use crate::output::say;
use crate::table::table;

/// A counted setting.
struct Row {
    setting: Setting,
    dtype: DType,
    counted: Counted,
}

/// Counts the settings and prints them, as a table or as JSON.
pub fn run(
    suite: &dyn Suite,
    settings: Vec<Setting>,
    dtypes: &[DType],
    gpu: &'static Gpu,
    json: bool,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for setting in settings {
        for &dtype in dtypes {
            // Races are for the tests; here the counters matter, and time.
            let interpretation = Interpretation::default().unchecked();
            let counted = suite.count_kernels(&setting, dtype, interpretation)?;
            rows.push(Row { setting: setting.clone(), dtype, counted });
        }
    }
    let operation = suite.operation().name();
    match json {
        true => say!(
            "{}",
            rows.iter().map(|row| row.json(operation, gpu)).collect::<serde_json::Value>()
        ),
        false => print(operation, &rows, gpu),
    }
    Ok(())
}

/// The estimate for a kernel, and the unit that bounds it.
fn estimate(counters: &Counters, gpu: &'static Gpu) -> (String, String) {
    match Estimate::of(counters, None, gpu) {
        Ok(estimate) => {
            let bound = estimate.bound().map_or("nothing", |unit| &unit.name).to_owned();
            (format!("{:.1} us", estimate.seconds() * 1e6), bound)
        }
        Err(why) => ("none".to_owned(), why.to_string()),
    }
}

fn print(operation: &str, rows: &[Row], gpu: &'static Gpu) {
    let mut table = table([
        "setting",
        "pass",
        "shape",
        "type",
        "kernel",
        "instructions / element",
        "bytes",
        "of least",
        "bank conflicts",
        "at least",
        "bound by",
    ]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for row in rows {
        for kernel in &row.counted.kernels {
            let total = kernel.total();
            let (seconds, bound) = estimate(kernel, gpu);
            let per_element = total.threads as f64 / row.counted.elements.max(1) as f64;
            let share = total.global_bytes() as f64 / row.counted.least_bytes.max(1) as f64;
            table.add_row([
                Cell::new(row.setting.id),
                Cell::new(row.setting.pass),
                Cell::new(row.setting.describe()),
                Cell::new(row.dtype),
                Cell::new(&kernel.kernel),
                right(format!("{per_element:.2}")),
                right(total.global_bytes().to_string()),
                right(format!("{share:.3}")),
                right(total.bank_conflicts().to_string()),
                right(seconds),
                Cell::new(bound),
            ]);
        }
    }
    say!("{operation} on ptx, for {}: counted, not timed", gpu.name);
    say!("{table}");
    say!(
        "instructions: those of threads; bytes: whole sectors of 32 to and from global memory, \
         against the least that the call can move; at least: the longest of the units' times, \
         without latencies; {:.0} million instructions of threads a second here",
        speed(rows) / 1e6
    );
}

/// Instructions of threads that the interpreter ran in a second.
fn speed(rows: &[Row]) -> f64 {
    let (instructions, seconds) = rows.iter().fold((0.0, 0.0), |(instructions, seconds), row| {
        let counted = &row.counted;
        (instructions + counted.instructions() as f64, seconds + counted.elapsed.as_secs_f64())
    });
    instructions / seconds
}

impl Row {
    fn json(&self, operation: &str, gpu: &'static Gpu) -> serde_json::Value {
        let kernels: Vec<serde_json::Value> =
            self.counted.kernels.iter().map(|kernel| kernel_json(kernel, gpu)).collect();
        serde_json::json!({
            "operation": operation,
            "setting": self.setting.id,
            "pass": self.setting.pass,
            "device": "ptx",
            "counted": true,
            "variant": self.counted.variant,
            "dtype": self.dtype.name(),
            "shape": self.setting.sizes.axes().iter().copied().collect::<BTreeMap<_, _>>(),
            "options": self.setting.settings.options,
            "instructions_per_element": self.counted.instructions_per_element(),
            "bytes": self.counted.bytes(),
            "least_bytes": self.counted.least_bytes,
            "interpreter_s": self.counted.elapsed.as_secs_f64(),
            "kernels": kernels,
        })
    }
}

fn kernel_json(kernel: &Counters, gpu: &'static Gpu) -> serde_json::Value {
    let total = kernel.total();
    let classes: serde_json::Map<String, serde_json::Value> = kernel
        .by_class()
        .into_iter()
        .map(|(class, tally)| (class.to_string(), tally.warps.into()))
        .collect();
    let estimate = Estimate::of(kernel, None, gpu).ok().map(|estimate| {
        let units: serde_json::Map<String, serde_json::Value> =
            estimate.units.iter().map(|unit| (unit.name.clone(), unit.seconds.into())).collect();
        serde_json::json!({ "gpu": gpu.name, "seconds": estimate.seconds(), "units": units })
    });
    serde_json::json!({
        "kernel": kernel.kernel,
        "launches": kernel.launches.len(),
        "warp_instructions": total.warps,
        "thread_instructions": total.threads,
        "issue_slots": kernel.issue_slots(),
        "warp_instructions_by_class": classes,
        "load_sectors": total.loads.sectors,
        "store_sectors": total.stores.sectors,
        "useful_bytes": total.useful_bytes(),
        "wavefronts": total.wavefronts,
        "bank_conflicts": total.bank_conflicts(),
        "divergent_branches": total.divergent,
        "barriers": kernel.barriers,
        "estimate": estimate,
    })
}
