//! The plan of WebGPU devices.

use super::forced_on;
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::backend::wgpu::folded;
use crate::causal_conv1d::kernels::{BackwardWgsl, ForwardWgsl};
use crate::causal_conv1d::{Layout, NAME, Options, Pass, Problem};
use crate::plan::{Plan, Schedule};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Workgroups that fill a hardware device: WebGPU does not tell how many units there are, so this
/// is what a large one needs, 132 units of 16.
const FULL: u64 = 132 * 16;

/// Workgroups that keep a core of a software device busy.
const FULL_PER_CORE: u64 = 2;

/// Most tiles of a span. lavapipe counts the iterations of all loops of an invocation and leaves
/// them, wherever they are, after 65,535; a tile takes up to 300.
const MOST_TILES: u64 = 64;

/// Chooses the kernel of a pass for a WebGPU device.
pub(in crate::causal_conv1d) fn wgpu(
    device: &str,
    limits: &Limits,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let unsupported = |what: String| Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what,
        instead: "use `cpu`".to_owned(),
    };
    if limits.block_threads < 64 || limits.shared_bytes < 16 << 10 {
        return Err(unsupported(format!(
            "kernels of 64 invocations and 16 KiB: it allows {} and {} bytes",
            limits.block_threads, limits.shared_bytes
        )));
    }
    let info =
        fitting(pass, problem).ok_or_else(|| unsupported(format!("elements {}", problem.dtype)))?;
    if let Some(asked) = forced_on(pass, options).filter(|asked| asked != info.name) {
        return Err(no_such_variant(NAME, device.to_owned(), &asked, [info.name]));
    }
    let spans = Spans::new(limits, problem, info);
    let (schedule, workgroups, workspace) = match pass {
        Pass::Forward => {
            let elements = [problem.batch, problem.channels, problem.steps];
            let elements = elements.iter().fold(1u64, |all, &n| all.saturating_mul(n as u64));
            (Schedule::Serial, elements.div_ceil(u64::from(info.block[0])), 0)
        }
        Pass::Backward => {
            let steps = spans.tiles.saturating_mul(spans.tile);
            let sums = spans.all().saturating_mul(4 * (problem.width as u64 + 1));
            (
                Schedule::Chunked { chunk: u32::try_from(steps).unwrap_or(u32::MAX) },
                spans.all().saturating_mul(spans.channel_blocks),
                sums.saturating_mul(problem.channels as u64),
            )
        }
    };
    Ok(Plan {
        variant: info.name,
        schedule,
        blocks: folded(workgroups, limits.grid).unwrap_or(limits.grid),
        workspace: workspace.saturating_add(scratch(problem)),
        reason: "there is one kernel for these activations".to_owned(),
    })
}

/// The kernel of a pass for these activations.
fn fitting(pass: Pass, problem: &Problem) -> Option<&'static VariantInfo> {
    let layout = match problem.layout {
        Layout::Bdl => "bdl",
        Layout::Bld => "bld",
    };
    let fits = |info: &&'static VariantInfo| {
        info.parameter("element") == Some(problem.dtype.name())
            && info.parameter("layout").is_none_or(|of| of == layout)
    };
    match pass {
        Pass::Forward => ForwardWgsl::VARIANTS.iter().map(|one| one.info).find(fits),
        Pass::Backward => BackwardWgsl::VARIANTS.iter().map(|one| one.info).find(fits),
    }
}

/// Bytes of the scratch that holds parameters, states and masks.
fn scratch(problem: &Problem) -> u64 {
    let states = 2 * problem.state_shape().iter().product::<usize>();
    let masks = if problem.numbered { problem.batch * problem.steps } else { problem.rows + 1 };
    4 * (problem.channels * (problem.width + 1) + states + masks) as u64
}

/// How rows are cut into spans of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::causal_conv1d) struct Spans {
    /// Steps of a tile.
    tile: u64,
    /// Tiles of a span.
    pub tiles: u64,
    /// Spans of a row.
    pub of_row: u64,
    entries: u64,
    /// Workgroups that share the channels of a span.
    pub channel_blocks: u64,
}

impl Spans {
    /// As few spans as fill the device.
    pub fn new(limits: &Limits, problem: &Problem, info: &VariantInfo) -> Self {
        let number = |name| u64::from(info.number(name).unwrap_or(1).max(1));
        let tile = number("steps");
        let channel_blocks = (problem.channels as u64).div_ceil(number("channels"));
        let entries = problem.batch as u64;
        let all_tiles = (problem.steps as u64).div_ceil(tile);
        let full = if limits.units == 0 { FULL } else { u64::from(limits.units) * FULL_PER_CORE };
        let wanted = full.div_ceil((entries * channel_blocks).max(1)).max(1);
        let tiles = all_tiles.div_ceil(wanted).clamp(1, MOST_TILES);
        Self { tile, tiles, of_row: all_tiles.div_ceil(tiles), entries, channel_blocks }
    }

    /// Spans of all rows.
    pub fn all(&self) -> u64 {
        self.entries * self.of_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn chosen(units: u32, sizes: [usize; 4], layout: Layout) -> Plan {
        let options = Options::default().with_layout(layout);
        let problem = Problem::new(DType::BF16, sizes, &options).unwrap();
        wgpu("wgpu:0", &Limits::of_webgpu(units), Pass::Backward, &problem, &options).unwrap()
    }

    #[test]
    fn spans_fill_the_device_and_no_more() {
        let plan = chosen(0, [8, 2048, 2048, 4], Layout::Bdl);
        assert_eq!(plan.variant, "causal_conv1d_backward_wgsl_bf16_bdl");
        assert_eq!(plan.schedule, Schedule::Chunked { chunk: 2048 });
        // 64 blocks of 32 channels of 8 rows: 5 spans of 26 tiles of 16 steps.
        let plan = chosen(0, [8, 2048, 2048, 4], Layout::Bld);
        assert_eq!(plan.schedule, Schedule::Chunked { chunk: 416 });
        assert_eq!(plan.blocks, [64 * 8 * 5, 1, 1]);
        // No span is so long that lavapipe gives up.
        let plan = chosen(2, [1, 1, 1 << 20, 4], Layout::Bdl);
        assert_eq!(plan.schedule, Schedule::Chunked { chunk: 64 * 256 });
    }
}
