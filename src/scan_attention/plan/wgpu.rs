//! The plans of WebGPU devices: 32 invocations walk one head of one row, or a chunk of it, through time.

use super::{Pass, columns};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    BackwardChunkedWgsl, BackwardWgsl, ForwardChunkedWgsl, ForwardWgsl,
};
use crate::scan_attention::{NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Workgroups that fill a hardware device: WebGPU does not tell how many units there are, so this
/// is what a large one needs, 132 units of 8.
const FULL: u64 = 132 * 8;

/// Workgroups that keep a core of a software device busy.
const FULL_PER_CORE: u64 = 2;

/// Steps of a chunk are a multiple of this.
const CHUNK_UNIT: u64 = 256;

/// Rows of fewer steps are not worth cutting.
const LEAST_CUT: usize = 1024;

/// Chooses the kernel and the schedule of a pass.
pub(in crate::scan_attention) fn wgpu(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let fitting = fitting(pass, problem);
    let heads = problem.rows as u64 * problem.heads as u64;
    let serial = heads.saturating_mul(columns(problem.width) as u64);
    let full = if limits.units == 0 { FULL } else { u64::from(limits.units) * FULL_PER_CORE };
    let idle = serial * 4 <= full && problem.steps >= LEAST_CUT && !problem.packed;
    let chosen = match pass.forced(options) {
        Some(asked) => match fitting.iter().find(|(info, _)| info.name == asked) {
            Some(chosen) => Some(chosen),
            None => {
                let names = fitting.iter().map(|(info, _)| info.name);
                return Err(no_such_variant(NAME, device.to_owned(), &asked, names));
            }
        },
        None => fitting.iter().find(|(_, chunked)| *chunked == idle),
    };
    let Some(&(info, chunked)) = chosen else {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("elements {}", problem.dtype),
            instead: "use `cpu`".to_owned(),
        });
    };
    let steps = problem.steps as u64;
    let wanted = steps.div_ceil(full.div_ceil(serial.max(1))).next_multiple_of(CHUNK_UNIT);
    let (schedule, chunks) = match chunked {
        true => {
            let chunk = wanted.max(CHUNK_UNIT);
            let schedule = Schedule::Chunked { chunk: u32::try_from(chunk).unwrap_or(u32::MAX) };
            (schedule, steps.div_ceil(chunk).max(1))
        }
        false => (Schedule::Serial, 1),
    };
    let workgroups = serial.saturating_mul(chunks);
    Ok(Plan {
        variant: info.name,
        schedule,
        blocks: crate::backend::wgpu::folded(workgroups, limits.grid).unwrap_or(limits.grid),
        workspace: workspace(pass, problem, chunks),
        reason: format!("{serial} workgroups for all heads, {full} would fill the device"),
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::scan_attention) fn wgpu_variants(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = wgpu(pass, device, limits, problem, options)?.variant;
    let others = fitting(pass, problem).into_iter().map(|(info, _)| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// Every kernel of a pass that can run the problem, and whether it begins a chunked schedule.
/// Packed sequences are never cut: their bounds lie on the device, and they are many already.
fn fitting(pass: Pass, problem: &Problem) -> Vec<(&'static VariantInfo, bool)> {
    let (serial, chunked): (Vec<_>, Vec<_>) = match pass {
        Pass::Forward => (
            ForwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
            ForwardChunkedWgsl::VARIANTS.iter().map(|one| one.info).collect(),
        ),
        Pass::Backward => (
            BackwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
            BackwardChunkedWgsl::VARIANTS.iter().map(|one| one.info).collect(),
        ),
    };
    let serial = serial.into_iter().map(|info: &'static VariantInfo| (info, false));
    let chunked = chunked.into_iter().map(|info: &'static VariantInfo| (info, true));
    let fits = |info: &VariantInfo, chunked: bool| {
        info.parameter("element") == Some(problem.dtype.name()) && !(chunked && problem.packed)
    };
    serial.chain(chunked).filter(|&(info, chunked)| fits(info, chunked)).collect()
}

/// Bytes of scratch, as if every optional tensor were there.
fn workspace(pass: Pass, problem: &Problem, chunks: u64) -> u64 {
    let &Problem { batch, heads, steps, width, rows, .. } = problem;
    let size = |elements: &[usize]| {
        elements.iter().fold(4u64, |bytes, &factor| bytes.saturating_mul(factor as u64))
    };
    let state = size(&[rows, heads, width + 2]);
    let between =
        if chunks > 1 { size(&[rows, heads, width + 5]).saturating_mul(chunks) } else { 0 };
    let tiles = size(&[batch, heads, problem.tiles(), width + 2]);
    let positions = 2 * size(&[batch, steps]);
    let scores = size(&[batch, heads, steps]);
    let key_width = problem.key_width.unwrap_or(0);
    match pass {
        Pass::Forward => between + 2 * state + tiles + positions + 2 * scores,
        Pass::Backward => {
            let values = if problem.group() > 1 { scores.saturating_mul(width as u64) } else { 0 };
            let queries = size(&[batch, problem.tiles(), heads, key_width]);
            between + 3 * state + positions + scores * columns(width) as u64 + values + queries
        }
    }
}
