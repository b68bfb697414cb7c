//! The plans of a CUDA device.

use super::{Pass, Path, Plan};
use crate::backend::Limits;
use crate::backend::cuda::{bytes, grid_length};
use crate::backend::kernel::VariantInfo;
use crate::rnn::kernels::{BackwardStepPtx, ForwardStepPtx};
use crate::rnn::{NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Rows and units of a block.
const ROWS: usize = 16;
const UNITS: usize = 32;

/// Bytes of D that steps lay down before they are added to the gradients of the matrices, about.
const MOST_OF_STEPS: u64 = 64 << 20;

/// Chooses the kernel of a pass.
pub(in crate::rnn) fn cuda(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_sizes(device, problem)?;
    let info = choose(pass, device, problem, options)?;
    let &Problem { batch, steps, heads, width, .. } = problem;
    let tiles = [batch.div_ceil(ROWS), heads, width.div_ceil(UNITS)];
    let blocks = grid_length(NAME, device, limits, bytes(&tiles, 1))?;
    Ok(Plan {
        variant: info.name,
        path: Path::Stepwise,
        rows: ROWS as u32,
        blocks,
        workspace: workspace(pass, problem),
        reason: format!("{steps} launches, each of which reads all matrices"),
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
    Ok(vec![cuda(pass, device, limits, problem, options)?.variant])
}

/// The kernel of the cell and the type, or an error where another is forced.
fn choose(
    pass: Pass,
    device: &str,
    problem: &Problem,
    options: &Options,
) -> Result<&'static VariantInfo> {
    let fits = |info: &&VariantInfo| {
        info.parameter("cell") == Some(problem.cell.name())
            && info.parameter("element") == Some(problem.dtype.name())
    };
    let mut all: Box<dyn Iterator<Item = &'static VariantInfo>> = match pass {
        Pass::Forward => Box::new(ForwardStepPtx::VARIANTS.iter().map(|variant| variant.info)),
        Pass::Backward => Box::new(BackwardStepPtx::VARIANTS.iter().map(|variant| variant.info)),
    };
    let info = all.find(fits).ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what: format!("elements {}", problem.dtype),
        instead: "use f32, bf16 or f16 elements".to_owned(),
    })?;
    match pass.forced(options) {
        Some(asked) if asked != info.name => {
            Err(no_such_variant(NAME, device.to_owned(), &asked, [info.name]))
        }
        _ => Ok(info),
    }
}

/// Kernels count rows, steps, heads and units in words.
fn check_sizes(device: &str, problem: &Problem) -> Result<()> {
    let &Problem { batch, steps, heads, width, .. } = problem;
    let most = i32::MAX as usize;
    let too_large = [batch, steps, heads, width].into_iter().find(|&size| size > most);
    match too_large {
        None => Ok(()),
        Some(size) => Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("an axis of {size}, of {most} at the most"),
            instead: "split the call".to_owned(),
        }),
    }
}

/// Where D of a step is laid down, until it is added to the gradients of the matrices.
#[derive(Clone, Copy, Debug)]
pub(in crate::rnn) struct Slots {
    pub count: usize,
    /// Elements of one.
    pub elements: u64,
}

impl Slots {
    /// Two at least, since a step reads what the one behind it has laid down.
    pub fn of(problem: &Problem) -> Self {
        let &Problem { cell, batch, steps, heads, width, .. } = problem;
        let elements = bytes(&[batch, heads, cell.recurrent_gates().len(), width], 1);
        let fitting = usize::try_from(MOST_OF_STEPS / 4 / elements.max(1)).unwrap_or(usize::MAX);
        Self { count: fitting.clamp(2, steps.max(2)), elements }
    }
}

/// Bytes besides the tensors, about: states, and backward D of some steps and the sums of the bias.
fn workspace(pass: Pass, problem: &Problem) -> u64 {
    let &Problem { cell, batch, heads, width, .. } = problem;
    let state = bytes(&[batch, heads, width], 4);
    match pass {
        Pass::Forward => state.saturating_mul(1 + cell.states().len() as u64),
        Pass::Backward => {
            let slots = Slots::of(problem);
            let sums = state.saturating_mul(3 + cell.bias_gates().len() as u64);
            sums.saturating_add(4 * slots.elements.saturating_mul(slots.count as u64))
        }
    }
}
