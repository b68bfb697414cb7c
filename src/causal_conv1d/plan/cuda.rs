//! The plan of a CUDA device.

use super::forced_on;
use crate::backend::Limits;
use crate::backend::cuda::{Workspace, bytes, grid_length};
use crate::backend::kernel::VariantInfo;
use crate::causal_conv1d::kernels::{BackwardPtx, ForwardPtx};
use crate::causal_conv1d::{Layout, NAME, Options, Pass, Problem};
use crate::plan::{Plan, Schedule};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Steps that the kernels count, in 32 bits with a sign, with room for a chunk on either side.
const MOST_STEPS: usize = i32::MAX as usize - 4096;

/// Warps that keep a multiprocessor busy.
const WARPS_PER_UNIT: u64 = 16;

/// Lanes of a warp.
const LANES: usize = 32;

/// Chooses the kernel of a pass and the spans for a CUDA device.
pub(in crate::causal_conv1d) fn cuda(
    device: &str,
    limits: &Limits,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    if problem.steps > MOST_STEPS || u32::try_from(problem.channels).is_err() {
        let what = format!("L = {} and D = {}", problem.steps, problem.channels);
        return Err(unsupported(device, what));
    }
    let fitting = fitting(pass, problem);
    let (info, reason) = match forced_on(pass, options) {
        Some(asked) => match fitting.iter().find(|info| info.name == asked) {
            Some(info) => (*info, "the variant was asked for".to_owned()),
            None => {
                let names = fitting.iter().map(|info| info.name);
                return Err(no_such_variant(NAME, device.to_owned(), &asked, names));
            }
        },
        None => match fitting.first() {
            Some(info) => (*info, format!("it has the least room for W = {} taps", problem.width)),
            None => return Err(unsupported(device, format!("elements {}", problem.dtype))),
        },
    };
    let spans = Spans::new(limits, problem, info);
    let blocks = grid_length(NAME, device, limits, spans.blocks())?;
    Ok(Plan {
        variant: info.name,
        schedule: Schedule::Chunked { chunk: spans.steps },
        blocks: [blocks, 1, 1],
        workspace: workspace(pass, problem, &spans).0.bytes(),
        reason,
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::causal_conv1d) fn cuda_variants(
    device: &str,
    limits: &Limits,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = cuda(device, limits, pass, problem, options)?.variant;
    let others = fitting(pass, problem).into_iter().map(|info| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// The kernels of a pass that can run the problem, those with the least room first.
fn fitting(pass: Pass, problem: &Problem) -> Vec<&'static VariantInfo> {
    let fits = |info: &&'static VariantInfo| {
        info.parameter("element") == Some(problem.dtype.name())
            && info.parameter("layout") == Some(layout(problem))
            && number(info, "padded") >= problem.width
    };
    let mut fitting: Vec<_> = match pass {
        Pass::Forward => ForwardPtx::VARIANTS.iter().map(|one| one.info).filter(fits).collect(),
        Pass::Backward => BackwardPtx::VARIANTS.iter().map(|one| one.info).filter(fits).collect(),
    };
    fitting.sort_by_key(|info| number(info, "padded"));
    fitting
}

fn layout(problem: &Problem) -> &'static str {
    match problem.layout {
        Layout::Bdl => "bdl",
        Layout::Bld => "bld",
    }
}

/// How rows are cut into spans of time, and spans spread over blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::causal_conv1d) struct Spans {
    /// Steps of a span.
    pub steps: u32,
    /// Spans of a row, where rows are batch entries.
    pub of_row: u32,
    /// Spans of all rows, and room for those that packed sequences may add.
    pub all: u64,
    /// Spans that a block takes.
    together: u64,
    /// Blocks that share the channels of a span.
    channel_blocks: u64,
}

impl Spans {
    /// As few spans as fill the device.
    fn new(limits: &Limits, problem: &Problem, info: &VariantInfo) -> Self {
        let warps = u64::from(info.block[0]) / LANES as u64;
        let wanted = u64::from(limits.units.max(1)) * WARPS_PER_UNIT;
        let values = number(info, "values").max(1);
        // A warp has a channel of its own, or a run of channels; a span is whole chunks of it.
        let (channel_warps, unit) = match problem.layout {
            Layout::Bdl => (problem.channels, LANES * values),
            Layout::Bld => (problem.channels.div_ceil(LANES * values), 64),
        };
        let rows = if problem.packed { 1 } else { problem.batch };
        let wanted = wanted.div_ceil((rows as u64 * channel_warps as u64).max(1)).max(1);
        let steps = (problem.steps as u64).div_ceil(wanted).next_multiple_of(unit as u64);
        Self::of_steps(problem, info, steps.max(unit as u64), warps)
    }

    /// The spans of a plan.
    pub fn planned(problem: &Problem, info: &VariantInfo, schedule: Schedule) -> Self {
        let steps = match schedule {
            Schedule::Chunked { chunk } => u64::from(chunk.max(1)),
            Schedule::Serial => problem.steps.max(1) as u64,
        };
        Self::of_steps(problem, info, steps, u64::from(info.block[0]) / LANES as u64)
    }

    fn of_steps(problem: &Problem, info: &VariantInfo, steps: u64, warps: u64) -> Self {
        let of_row = (problem.steps as u64).div_ceil(steps);
        let all = match problem.packed {
            true => of_row.saturating_add(problem.rows as u64),
            false => of_row.saturating_mul(problem.batch as u64),
        };
        let (together, channels_of_block) = match problem.layout {
            Layout::Bdl => (1, warps),
            Layout::Bld => (warps, (LANES * number(info, "values")) as u64),
        };
        let channel_blocks = (problem.channels as u64).div_ceil(channels_of_block.max(1));
        // The number of steps has been checked to fit.
        let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { steps: word(steps), of_row: word(of_row), all, together, channel_blocks }
    }

    /// Sums that the first stage leaves for each channel and tap.
    pub fn parts(&self) -> u64 {
        self.all.div_ceil(self.together.max(1))
    }

    fn blocks(&self) -> u64 {
        self.parts().saturating_mul(self.channel_blocks)
    }
}

/// The workspace of a pass, and the bytes in it where the masks and the parts of sums begin.
pub(in crate::causal_conv1d) fn workspace(
    pass: Pass,
    problem: &Problem,
    spans: &Spans,
) -> (Workspace, u64, u64) {
    let mut workspace = Workspace::default();
    let masks = if problem.numbered { bytes(&[problem.batch, problem.steps], 1) } else { 0 };
    let masks_at = workspace.take(masks);
    let parts = match pass {
        Pass::Forward => 0,
        Pass::Backward => bytes(&[problem.width + 1, problem.channels], 4),
    };
    let parts_at = workspace.take(parts.saturating_mul(spans.parts()));
    (workspace, masks_at, parts_at)
}

/// A whole number among a variant's parameters; 0 where there is none.
fn number(info: &VariantInfo, name: &str) -> usize {
    info.number(name).map_or(0, |value| value as usize)
}

fn unsupported(device: &str, what: String) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what,
        instead: "use wgpu or cpu".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn problem(sizes: [usize; 4], layout: Layout) -> Problem {
        Problem::new(DType::F32, sizes, &Options::default().with_layout(layout)).unwrap()
    }

    fn plan(pass: Pass, problem: &Problem) -> Result<Plan> {
        cuda("cuda:0", &Limits::of_h100(), pass, problem, &Options::default())
    }

    #[test]
    fn every_form_has_a_kernel_with_the_least_room() {
        for (layout, name) in [(Layout::Bdl, "bdl"), (Layout::Bld, "bld")] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                for width in 1..=8 {
                    let problem = Problem { dtype, ..problem([2, 3, 5, width], layout) };
                    let padded = if width <= 4 { 4 } else { 8 };
                    for pass in [Pass::Forward, Pass::Backward] {
                        let expected = format!("causal_conv1d_{pass}_{dtype}_{name}_w{padded}");
                        assert_eq!(plan(pass, &problem).unwrap().variant, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_cut_until_the_device_is_full() {
        let spans = |sizes, layout| {
            let problem = problem(sizes, layout);
            let plan = plan(Pass::Backward, &problem).unwrap();
            let Schedule::Chunked { chunk } = plan.schedule else { panic!("{plan}") };
            (chunk, plan.blocks[0])
        };
        // As many channels as warps: rows stay whole. Blocks of 4 channels.
        assert_eq!(spans([8, 2048, 2048, 4], Layout::Bdl), (2048, 8 * 512));
        // 2112 warps for 64 channels of one row: 33 spans, 32 of whole chunks of 128 steps.
        assert_eq!(spans([1, 64, 1 << 17, 4], Layout::Bdl), (4096, 32 * 16));
        // 128 channels of a warp: 17 spans of each row, in blocks of 4 spans.
        assert_eq!(spans([8, 2048, 2048, 4], Layout::Bld), (128, 8 * 16 / 4 * 16));
        assert_eq!(spans([1, 3, 5, 4], Layout::Bld), (64, 1));
        assert_eq!(spans([0, 3, 5, 4], Layout::Bld).1, 0);
    }

    #[test]
    fn workspace_holds_masks_and_parts_of_sums() {
        let plain = problem([8, 2048, 2048, 4], Layout::Bdl);
        assert_eq!(plan(Pass::Forward, &plain).unwrap().workspace, 0);
        assert_eq!(plan(Pass::Backward, &plain).unwrap().workspace, 8 * 5 * 2048 * 4);
        let numbered = Problem { numbered: true, ..plain.clone() };
        assert_eq!(plan(Pass::Forward, &numbered).unwrap().workspace, 8 * 2048);
        let packed = Problem { batch: 1, rows: 10, packed: true, ..plain };
        let Schedule::Chunked { chunk } = plan(Pass::Backward, &packed).unwrap().schedule else {
            panic!("in spans");
        };
        let parts = 2048usize.div_ceil(chunk as usize) + 10;
        assert_eq!(plan(Pass::Backward, &packed).unwrap().workspace, parts as u64 * 5 * 2048 * 4);
    }

    #[test]
    fn what_has_no_kernel_says_where_it_runs() {
        let small = problem([1, 2, 3, 4], Layout::Bdl);
        let refused = [
            Problem { dtype: DType::F64, ..small.clone() },
            Problem { steps: 1 << 31, ..small.clone() },
        ];
        for problem in refused {
            let error = plan(Pass::Forward, &problem).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }));
            assert!(error.to_string().ends_with("use wgpu or cpu"), "{error}");
        }
    }

    #[test]
    fn a_variant_can_be_forced_where_it_fits() {
        let small = problem([1, 2, 3, 4], Layout::Bdl);
        let force = |pass, name: &str, problem: &Problem| {
            cuda(
                "cuda:0",
                &Limits::of_h100(),
                pass,
                problem,
                &Options::default().with_variant(name),
            )
        };
        let wider = "causal_conv1d_forward_f32_bdl_w8";
        assert_eq!(force(Pass::Forward, wider, &small).unwrap().variant, wider);
        // It has no say in the other pass.
        let other = force(Pass::Backward, wider, &small).unwrap().variant;
        assert_eq!(other, "causal_conv1d_backward_f32_bdl_w4");
        let wide = Problem { width: 5, ..small.clone() };
        let narrow = "causal_conv1d_forward_f32_bdl_w4";
        let error = force(Pass::Forward, narrow, &wide).unwrap_err().to_string();
        assert!(error.ends_with("use causal_conv1d_forward_f32_bdl_w8"), "{error}");
        let all =
            cuda_variants("cuda:0", &Limits::of_h100(), Pass::Forward, &small, &Options::default());
        assert_eq!(all.unwrap(), [narrow, wider]);
    }
}
