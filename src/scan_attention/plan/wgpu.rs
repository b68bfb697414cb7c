//! The plans of WebGPU devices: 32 invocations walk one head of one row through time.

use super::{Pass, columns};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{BackwardWgsl, ForwardWgsl};
use crate::scan_attention::{NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Chooses the kernel of a pass: there is one for each element type.
pub(in crate::scan_attention) fn wgpu(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let variants: Vec<&'static VariantInfo> = match pass {
        Pass::Forward => ForwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
        Pass::Backward => BackwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
    };
    let dtype = problem.dtype.name();
    let found = variants.into_iter().find(|info| info.parameter("element") == Some(dtype));
    let Some(info) = found else {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("elements {dtype}"),
            instead: "use `cpu`".to_owned(),
        });
    };
    if let Some(asked) = pass.forced(options).filter(|asked| asked != info.name) {
        return Err(no_such_variant(NAME, device.to_owned(), &asked, [info.name]));
    }
    let heads = problem.rows as u64 * problem.heads as u64;
    let workgroups = heads.saturating_mul(columns(problem.width) as u64);
    Ok(Plan {
        variant: info.name,
        schedule: Schedule::Serial,
        blocks: crate::backend::wgpu::folded(workgroups, limits.grid).unwrap_or(limits.grid),
        workspace: workspace(pass, problem),
        reason: format!("{workgroups} workgroups walk through time, 32 steps at once"),
    })
}

/// Bytes of scratch, as if every optional tensor were there.
fn workspace(pass: Pass, problem: &Problem) -> u64 {
    let &Problem { batch, heads, steps, width, rows, .. } = problem;
    let size = |elements: &[usize]| {
        elements.iter().fold(4u64, |bytes, &factor| bytes.saturating_mul(factor as u64))
    };
    let state = size(&[rows, heads, width + 2]);
    let tiles = size(&[batch, heads, problem.tiles(), width + 2]);
    let positions = 2 * size(&[batch, steps]);
    let scores = size(&[batch, heads, steps]);
    let key_width = problem.key_width.unwrap_or(0);
    match pass {
        Pass::Forward => 2 * state + tiles + positions + 2 * scores,
        Pass::Backward => {
            let values = if problem.group() > 1 { scores.saturating_mul(width as u64) } else { 0 };
            let queries = size(&[batch, problem.tiles(), heads, key_width]);
            3 * state + positions + scores * columns(width) as u64 + values + queries
        }
    }
}
