//! One token.

use super::super::{NAME, Options, Scores, State, StepInputs, StepProblem};
use super::{address, for_element};
use crate::Result;
use crate::backend::cuda::{Address, Cuda, Place, Stream, Workspace, linear, word};
use crate::element::{DType, DeviceFloat};
use crate::scan_attention::kernels::StepPtx;
use crate::tensor::Tensor;

/// Takes a token into each state.
pub(super) fn launch<T: DeviceFloat>(
    stream: &Stream,
    problem: &StepProblem,
    inputs: &StepInputs<'_, Cuda, T>,
    options: &Options,
    state: &State<Cuda, T>,
    o: &Tensor<Cuda, T>,
) -> Result<()> {
    let lines = problem.batch as u64 * problem.heads as u64;
    if lines == 0 {
        return Ok(());
    }
    let mut workspace = Workspace::default();
    let (scores, q, k) = match &inputs.scores {
        Scores::Given(s) => (Some(s.view()), Place::Absent, None),
        Scores::Keys { q, k } => (None, Place::of(q.view(), &mut workspace), Some(&***k)),
    };
    let workspace = workspace.allocate(stream)?;
    q.widen(NAME, stream, workspace.as_ref())?;
    let variant = for_element(StepPtx::VARIANTS, T::DTYPE)?;
    let grid = linear(NAME, stream, lines.div_ceil(u64::from(variant.info.block[0] / 32)))?;
    let key_width = problem.key_width.unwrap_or(0);
    StepPtx {
        scores: address(scores),
        q: q.address(workspace.as_ref()),
        k: address(k),
        v: Address::of(inputs.v),
        state_indices: address(inputs.state_indices.map(|indices| indices.view())),
        out_indices: address(inputs.out_indices.map(|indices| indices.view())),
        m: Address::of(&state.m),
        u: Address::of(&state.u),
        w: Address::of(&state.w),
        o: Address::of(o),
        batch: word(problem.batch),
        heads: word(problem.heads),
        group: word(problem.group()),
        key_width: word(key_width),
        width: word(problem.width),
        slots: word(problem.slots),
        scores_bytes: word(scores.map_or(DType::F32, |scores| scores.dtype()).bytes()),
        scale: options.scale(key_width) as f32,
    }
    .launch(stream, variant, grid)
}
