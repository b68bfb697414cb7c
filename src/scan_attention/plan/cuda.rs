//! The plans of a CUDA device.

use super::{Pass, columns};
use crate::backend::Limits;
use crate::backend::cuda::{Workspace, bytes, grid_length};
use crate::backend::kernel::VariantInfo;
use crate::element::DType;
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    BackwardChunkedPtx, BackwardPtx, ForwardChunkedPtx, ForwardPtx,
};
use crate::scan_attention::{NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Steps that the kernels count, in 32 bits with a sign, with room for a tile behind the last.
const MOST_STEPS: usize = i32::MAX as usize - 512;

/// Steps of a chunk are a multiple of this, which is a multiple of every kernel's block tile.
const CHUNK_UNIT: u64 = 256;

/// Rows of fewer steps are not worth cutting.
const LEAST_CUT: usize = 2048;

/// Chooses the kernel and the schedule of a pass.
pub(in crate::scan_attention) fn cuda(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_ability(device, problem)?;
    let serial_blocks = blocks(problem, 1);
    let (info, chunked, reason) = choose(pass, device, limits, problem, options)?;
    let schedule = match chunked {
        true => Schedule::Chunked { chunk: chunk(limits, problem, serial_blocks) },
        false => Schedule::Serial,
    };
    let chunks = Chunks::of(schedule, problem);
    let grid = grid_length(NAME, device, limits, blocks(problem, chunks.count))?;
    Ok(Plan {
        variant: info.name,
        schedule,
        blocks: [grid, 1, 1],
        workspace: workspace(pass, problem, chunks),
        reason,
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::scan_attention) fn cuda_variants(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = cuda(pass, device, limits, problem, options)?.variant;
    let others = fitting(pass, problem).into_iter().map(|(info, _)| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

type Choice = (&'static VariantInfo, bool, String);

/// The kernel that is forced; else the chunked one where the others leave most of the device idle
/// and there is time to cut, else the serial one.
fn choose(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Choice> {
    let fitting = fitting(pass, problem);
    if let Some(asked) = pass.forced(options) {
        return match fitting.iter().find(|(info, _)| info.name == asked) {
            Some(&(info, chunked)) => Ok((info, chunked, "the variant was asked for".to_owned())),
            None => {
                let names = fitting.iter().map(|(info, _)| info.name);
                Err(no_such_variant(NAME, device.to_owned(), &asked, names))
            }
        };
    }
    let blocks = blocks(problem, 1);
    let idle = blocks * 4 <= u64::from(limits.units) && problem.steps >= LEAST_CUT;
    match fitting.iter().find(|(_, chunked)| *chunked == (idle && !problem.packed)) {
        Some(&(info, true)) => {
            let (units, steps) = (limits.units, problem.steps);
            let reason = format!(
                "{blocks} blocks leave {units} multiprocessors idle; {steps} steps are cut"
            );
            Ok((info, true, reason))
        }
        Some(&(info, false)) => {
            let steps = info.block[0];
            let reason = format!("{blocks} blocks walk through time, {steps} steps at once");
            Ok((info, false, reason))
        }
        None => Err(unsupported(device, format!("elements {}", problem.dtype))),
    }
}

/// Every kernel of a pass that can run the problem, and whether it begins a chunked schedule.
/// Packed sequences are never cut: their bounds lie on the device, and they are many already.
fn fitting(pass: Pass, problem: &Problem) -> Vec<(&'static VariantInfo, bool)> {
    let (serial, chunked): (Vec<_>, Vec<_>) = match pass {
        Pass::Forward => (
            ForwardPtx::VARIANTS.iter().map(|variant| variant.info).collect(),
            ForwardChunkedPtx::VARIANTS.iter().map(|variant| variant.info).collect(),
        ),
        Pass::Backward => (
            BackwardPtx::VARIANTS.iter().map(|variant| variant.info).collect(),
            BackwardChunkedPtx::VARIANTS.iter().map(|variant| variant.info).collect(),
        ),
    };
    let serial = serial.into_iter().map(|info| (info, false));
    let chunked = chunked.into_iter().map(|info| (info, true));
    let fits = |info: &VariantInfo, chunked: bool| {
        info.parameter("element") == Some(problem.dtype.name()) && !(chunked && problem.packed)
    };
    serial.chain(chunked).filter(|&(info, chunked)| fits(info, chunked)).collect()
}

/// Blocks that walk all rows, cut into so many chunks.
fn blocks(problem: &Problem, chunks: u32) -> u64 {
    [problem.rows, problem.heads, columns(problem.width), chunks as usize]
        .into_iter()
        .try_fold(1u64, |blocks, factor| blocks.checked_mul(factor as u64))
        .unwrap_or(u64::MAX)
}

/// Steps of a chunk, so that the chunks of all heads just fill the device.
fn chunk(limits: &Limits, problem: &Problem, serial_blocks: u64) -> u32 {
    let full = 2 * u64::from(limits.units.max(1));
    let chunks = full.div_ceil(serial_blocks.max(1));
    let steps = (problem.steps as u64).div_ceil(chunks).next_multiple_of(CHUNK_UNIT);
    // No more than the steps, whose number has been checked.
    u32::try_from(steps.max(CHUNK_UNIT)).unwrap_or(u32::MAX)
}

/// The spans of time that are walked side by side.
#[derive(Clone, Copy, Debug)]
pub(in crate::scan_attention) struct Chunks {
    /// Chunks of a row.
    pub count: u32,
    /// Steps of a chunk; the last one may have fewer.
    pub steps: u32,
}

impl Chunks {
    pub fn of(schedule: Schedule, problem: &Problem) -> Self {
        // The plan has refused more steps.
        let steps = u32::try_from(problem.steps).unwrap_or(u32::MAX);
        match schedule {
            Schedule::Serial => Self { count: 1, steps },
            Schedule::Chunked { chunk } => {
                Self { count: steps.div_ceil(chunk.max(1)).max(1), steps: chunk }
            }
        }
    }

    /// Room for the states that chunks end with and start from.
    pub fn take_states(self, problem: &Problem, workspace: &mut Workspace) -> ChunkStates {
        let lines = [problem.rows, problem.heads, self.count as usize];
        let mut numbers = || workspace.take(bytes(&lines, 4));
        let [end_m, end_u, cuts, start_m, start_u] = [(); 5].map(|()| numbers());
        let w = workspace.take(bytes(&[lines.as_slice(), &[problem.width]].concat(), 4));
        ChunkStates { end_m, end_u, cuts, start_m, start_u, w }
    }

    /// Room for what chunks hand on to earlier ones.
    pub fn take_gradients(self, problem: &Problem, workspace: &mut Workspace) -> ChunkGradients {
        let lines = [problem.rows, problem.heads, self.count as usize];
        let x = workspace.take(bytes(&[lines.as_slice(), &[problem.width]].concat(), 4));
        let y = workspace.take(bytes(&[lines.as_slice(), &[columns(problem.width)]].concat(), 4));
        ChunkGradients { x, y, fades: workspace.take(bytes(&lines, 4)) }
    }
}

/// Bytes of the workspace where the states between chunks lie.
#[derive(Clone, Copy, Debug)]
pub(in crate::scan_attention) struct ChunkStates {
    pub end_m: u64,
    pub end_u: u64,
    pub cuts: u64,
    pub start_m: u64,
    pub start_u: u64,
    pub w: u64,
}

/// Bytes of the workspace where x and y between chunks lie.
#[derive(Clone, Copy, Debug)]
pub(in crate::scan_attention) struct ChunkGradients {
    pub x: u64,
    pub y: u64,
    pub fades: u64,
}

/// Room for the parts of gradients that are summed afterwards.
#[derive(Clone, Copy, Debug)]
pub(in crate::scan_attention) struct Parts {
    /// (column blocks, B, H, L): ds, unless it is written in its place.
    pub ds: Option<u64>,
    /// (B, H, L, Dv): dv, where several heads share values.
    pub dv: Option<u64>,
    /// (B * time blocks, H, Dk): dq, and the number of its parts.
    pub dq: Option<(u64, usize)>,
    /// (column blocks, rows, H): y before the first step, where there is a carry in.
    pub y: u64,
    /// (rows, H, Dv): x before the first step, where there is none.
    pub x: u64,
}

/// Steps of a block of the keys' kernel.
const KEY_STEPS: usize = 128;

impl Parts {
    pub fn take(problem: &Problem, workspace: &mut Workspace) -> Self {
        let &Problem { batch, heads, steps, width, rows, .. } = problem;
        let columns = columns(width);
        let mut take = |elements: &[usize]| workspace.take(bytes(elements, 4));
        let parted = problem.key_width.is_some() || columns > 1;
        Self {
            ds: parted.then(|| take(&[columns, batch, heads, steps])),
            dv: (problem.group() > 1).then(|| take(&[batch, heads, steps, width])),
            dq: problem.key_width.filter(|&width| width > 0).map(|key_width| {
                let parts = batch * steps.div_ceil(KEY_STEPS);
                (take(&[parts, heads, key_width]), parts)
            }),
            y: take(&[columns, rows, heads]),
            x: take(&[rows, heads, width]),
        }
    }
}

/// What the kernels can do.
fn check_ability(device: &str, problem: &Problem) -> Result<()> {
    let &Problem { steps, width, .. } = problem;
    if steps > MOST_STEPS || u32::try_from(width).is_err() {
        return Err(unsupported(device, format!("L = {steps} and Dv = {width}")));
    }
    Ok(())
}

/// The most that a call may need: which parameters have 16 bits, and whether there are codes,
/// only the tensors tell.
fn workspace(pass: Pass, problem: &Problem, chunks: Chunks) -> u64 {
    let &Problem { batch, heads, steps, width, rows, .. } = problem;
    let mut workspace = Workspace::default();
    let mut numbers = |elements: &[usize]| workspace.take(bytes(elements, 4));
    if problem.dtype != DType::F32 {
        for _m_and_u_and_their_gradients in 0..2 {
            numbers(&[rows, heads]);
            numbers(&[rows, heads, width]);
        }
        numbers(&[rows, heads]);
        numbers(&[heads, problem.key_width.unwrap_or(0)]);
    }
    if pass == Pass::Forward && problem.key_width.is_some() && !problem.save {
        numbers(&[batch, heads, steps]);
    }
    if !problem.packed {
        workspace.take(bytes(&[batch, steps], 1));
    }
    match pass {
        Pass::Forward if chunks.count > 1 => drop(chunks.take_states(problem, &mut workspace)),
        Pass::Backward if chunks.count > 1 => drop(chunks.take_gradients(problem, &mut workspace)),
        _ => {}
    }
    if pass == Pass::Backward {
        let _ = Parts::take(problem, &mut workspace);
    }
    workspace.bytes()
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

    fn planned(pass: Pass, sizes: [usize; 6]) -> Plan {
        let problem = Problem::new(DType::BF16, sizes, &Options::default()).unwrap();
        cuda(pass, "cuda", &Limits::of_h100(), &problem, &Options::default()).unwrap()
    }

    #[test]
    fn heads_enough_walk_time_serially() {
        let plan = planned(Pass::Forward, [8, 16, 16, 4096, 64, 64]);
        assert_eq!(plan.variant, "scan_attention_forward_serial_bf16");
        assert_eq!((plan.schedule, plan.blocks), (Schedule::Serial, [128, 1, 1]));
        let plan = planned(Pass::Backward, [8, 16, 16, 4096, 64, 64]);
        assert_eq!(plan.variant, "scan_attention_backward_serial_bf16");
    }

    #[test]
    fn few_heads_of_long_rows_are_cut() {
        for pass in [Pass::Forward, Pass::Backward] {
            let plan = planned(pass, [1, 4, 4, 1 << 16, 64, 64]);
            let Schedule::Chunked { chunk } = plan.schedule else { panic!("{plan}") };
            assert!(u64::from(chunk).is_multiple_of(CHUNK_UNIT));
            assert!((132..=4 * 132).contains(&plan.blocks[0]), "{plan}");
        }
        let plan = planned(Pass::Forward, [1, 4, 4, 1024, 64, 64]);
        assert_eq!(plan.schedule, Schedule::Serial);
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let problem = Problem::new(DType::F32, [1, 1, 1, 100, 0, 5], &Options::default()).unwrap();
        let options = Options::default().with_variant("scan_attention_forward_fast");
        let error =
            cuda(Pass::Forward, "cuda", &Limits::of_h100(), &problem, &options).unwrap_err();
        assert!(error.to_string().contains("serial_f32"), "{error}");
        // A variant of the other pass leaves this one alone.
        assert!(cuda(Pass::Backward, "cuda", &Limits::of_h100(), &problem, &options).is_ok());
    }
}
