//! The plans of a CUDA device.

use super::tiler::tilings;
use super::{Pass, Path, Plan, Tiling};
use crate::backend::Limits;
use crate::backend::cuda::{bytes, grid_length};
use crate::backend::kernel::VariantInfo;
use crate::element::DType;
use crate::rnn::kernels::{
    BackwardResidentPtx, BackwardStepPtx, ForwardResidentPtx, ForwardStepPtx,
};
use crate::rnn::{NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Chooses the kernel of a pass, and its layout.
pub(in crate::rnn) fn cuda(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_sizes(device, problem)?;
    let mut all = candidates(pass, device, limits, problem)?;
    if let Some(asked) = pass.forced(options) {
        let names = all.iter().map(|(info, _)| info.name);
        if !names.clone().any(|name| name == asked) {
            return Err(no_such_variant(NAME, device.to_owned(), &asked, distinct(names)));
        }
        // A stable sort: those of the other path stay in their order.
        all.sort_by_key(|(info, _)| info.name != asked);
    }
    let (info, chosen) = all[0];
    let blocks = grid_length(NAME, device, limits, chosen.blocks)?;
    let reason = match chosen.path {
        Path::Resident => format!("{} blocks walk all steps by themselves", chosen.blocks),
        Path::Stepwise => {
            let fits = all.iter().any(|(_, layout)| layout.path == Path::Resident);
            let why =
                if fits { "blocks would take longer with heads" } else { "no block holds a head" };
            let &Problem { width, steps, .. } = problem;
            format!("{why} of {width} units: {steps} launches, each of which reads all matrices")
        }
    };
    Ok(Plan {
        variant: info.name,
        path: chosen.path,
        rows: chosen.rows,
        blocks,
        workspace: workspace(pass, problem),
        reason,
        layouts: all.into_iter().map(|(_, layout)| layout).collect(),
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::rnn) fn cuda_variants(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = cuda(pass, device, limits, problem, options)?.variant;
    let others = candidates(pass, device, limits, problem)?;
    let others = others.iter().map(|(info, _)| info.name);
    Ok(distinct(std::iter::once(planned).chain(others)))
}

/// Names, each once.
fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The layouts that fit, the cheapest first, each with the kernel of the cell and the type that
/// walks its path.
fn candidates(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
) -> Result<Vec<(&'static VariantInfo, Tiling)>> {
    // A kernel that is made for no element type takes all that devices have.
    let fits = |info: &VariantInfo| {
        info.parameter("cell") == Some(problem.cell.name())
            && info.parameter("element").is_none_or(|element| element == problem.dtype.name())
    };
    macro_rules! kernel {
        ($entry:ident) => {
            $entry::VARIANTS.iter().map(|one| one.info).find(|info| fits(info))
        };
    }
    let (resident, stepwise) = match pass {
        _ if problem.dtype == DType::F64 => (None, None),
        Pass::Forward => (kernel!(ForwardResidentPtx), kernel!(ForwardStepPtx)),
        Pass::Backward => (kernel!(BackwardResidentPtx), kernel!(BackwardStepPtx)),
    };
    let (Some(resident), Some(stepwise)) = (resident, stepwise) else {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("elements {}", problem.dtype),
            instead: "use f32, bf16 or f16 elements".to_owned(),
        });
    };
    let with_kernel = |layout: Tiling| match layout.path {
        Path::Resident => (resident, layout),
        Path::Stepwise => (stepwise, layout),
    };
    Ok(tilings(pass, limits, problem, resident.block[0]).into_iter().map(with_kernel).collect())
}

/// Kernels count steps of all rows, heads and units in words.
fn check_sizes(device: &str, problem: &Problem) -> Result<()> {
    let &Problem { batch, steps, heads, width, .. } = problem;
    let most = i32::MAX as usize;
    let together = batch.saturating_mul(steps);
    let too_large = [heads, width, together].into_iter().find(|&size| size > most);
    match too_large {
        None => Ok(()),
        Some(size) => Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("{size} heads, units, or steps of all rows; {most} at the most"),
            instead: "split the call".to_owned(),
        }),
    }
}

/// Bytes besides the tensors, about: states, and backward D of two steps and the sums of the bias.
fn workspace(pass: Pass, problem: &Problem) -> u64 {
    let &Problem { cell, batch, heads, width, .. } = problem;
    let state = bytes(&[batch, heads, width], 4);
    match pass {
        Pass::Forward => state.saturating_mul(1 + cell.states().len() as u64),
        Pass::Backward => {
            let gates = cell.bias_gates().len() + 2 * cell.recurrent_gates().len();
            state.saturating_mul(3 + gates as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rnn::Cell;

    #[test]
    fn the_stepwise_kernels_take_every_type_that_devices_have() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let options = Options::new(Cell::Lstm).with_variant("rnn_forward_step_lstm");
            let problem = Problem::new(dtype, [2, 3, 1, 4], &options).unwrap();
            let plan = cuda(Pass::Forward, "cuda", &Limits::of_h100(), &problem, &options).unwrap();
            assert_eq!((plan.variant, plan.path), ("rnn_forward_step_lstm", Path::Stepwise));
        }
        let options = Options::new(Cell::Lstm);
        let problem = Problem::new(DType::F64, [2, 3, 1, 4], &options).unwrap();
        assert!(cuda(Pass::Forward, "cuda", &Limits::of_h100(), &problem, &options).is_err());
    }
}
