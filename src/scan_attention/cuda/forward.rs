//! The forward pass: parameters and codes into workspace, scores of keys, then the scan. Chunked in
//! time, that is three launches: the state that each chunk ends with when it starts from nothing;
//! the states that the chunks really start from; the scan of each chunk from there.

use super::super::plan::{ChunkStates, Chunks};
use super::super::{Inputs, NAME, Options, OutputsMut, Problem, Resets, Scores};
use super::{address, at, for_element, grid, named, strides};
use crate::Result;
use crate::backend::cuda::{
    Address, Codes, Cuda, CudaBuffer, Place, Stream, Workspace, bytes, linear, only, within, word,
};
use crate::element::{DType, DeviceFloat};
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{ForwardCarryPtx, ForwardChunkedPtx, ForwardPtx, ScoresPtx};
use crate::tensor::View;

/// Where scores lie when the scan reads them.
pub(super) struct ScorePlace {
    pub address: Address,
    pub batch_stride: u64,
    pub head_stride: u64,
    pub bytes: u32,
}

impl ScorePlace {
    /// In the tensor that was given.
    pub fn of(view: &View<Cuda>) -> Self {
        Self {
            address: Address::of(view),
            batch_stride: view.strides()[0] as u64,
            head_stride: view.strides()[1] as u64,
            bytes: word(view.dtype().bytes()),
        }
    }

    /// In f32 without gaps.
    pub fn contiguous(address: Address, problem: &Problem) -> Self {
        let steps = problem.steps as u64;
        let (batch_stride, head_stride) = (problem.heads as u64 * steps, steps);
        Self { address, batch_stride, head_stride, bytes: word(DType::F32.bytes()) }
    }
}

/// A call, and where everything lies that the kernels take in another form or leave to each other.
pub(super) struct Call<'a, T: DeviceFloat> {
    problem: &'a Problem,
    inputs: &'a Inputs<'a, Cuda, T>,
    options: &'a Options,
    outputs: &'a OutputsMut<'a, Cuda, T>,
    carry: [Place<'a>; 3],
    q: Place<'a>,
    codes: Codes<'a>,
    /// Scores of keys, unless they are saved.
    scores: Option<u64>,
    chunks: Chunks,
    states: Option<ChunkStates>,
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    pub fn new(
        plan: &Plan,
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        outputs: &'a OutputsMut<'a, Cuda, T>,
    ) -> Self {
        let mut workspace = Workspace::default();
        let carry = match &inputs.carry {
            Some(carry) => [carry.m, carry.u, carry.w]
                .map(|parameter| Place::of(parameter.view(), &mut workspace)),
            None => [Place::Absent, Place::Absent, Place::Absent],
        };
        let q = match &inputs.scores {
            Scores::Keys { q, .. } => Place::of(q.view(), &mut workspace),
            Scores::Given(_) => Place::Absent,
        };
        let &Problem { batch, heads, steps, .. } = problem;
        let codes = Codes::of(&inputs.resets, [batch, steps], &mut workspace);
        let scores = (problem.key_width.is_some() && outputs.saved.is_none())
            .then(|| workspace.take(bytes(&[batch, heads, steps], 4)));
        let chunks = Chunks::of(plan.schedule, problem);
        let states = match plan.schedule {
            Schedule::Serial => None,
            Schedule::Chunked { .. } => Some(chunks.take_states(problem, &mut workspace)),
        };
        Self {
            problem,
            inputs,
            options,
            outputs,
            carry,
            q,
            codes,
            scores,
            chunks,
            states,
            workspace,
        }
    }

    pub fn launch(&self, plan: &Plan, stream: &Stream) -> Result<()> {
        let problem = self.problem;
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = self.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        for parameter in self.carry.iter().chain([&self.q]) {
            parameter.widen(NAME, stream, workspace)?;
        }
        self.codes.write(NAME, stream, workspace, [problem.batch, problem.steps])?;
        let scores = self.place_scores(workspace);
        self.launch_scores(stream, workspace, &scores)?;
        if self.states.is_some() {
            let ends = named(ForwardChunkedPtx::VARIANTS, plan.variant)?;
            self.ends(workspace, &scores).launch(stream, ends, grid(plan))?;
            self.launch_carry(stream, workspace)?;
        }
        let scan = match self.states {
            Some(_) => for_element(ForwardPtx::VARIANTS, T::DTYPE)?,
            None => named(ForwardPtx::VARIANTS, plan.variant)?,
        };
        self.scan(workspace, &scores).launch(stream, scan, grid(plan))
    }

    fn place_scores(&self, workspace: Option<&CudaBuffer>) -> ScorePlace {
        let saved = self.outputs.saved.as_deref().and_then(|saved| saved.scores.as_ref());
        match (&self.inputs.scores, saved) {
            (Scores::Given(s), _) => ScorePlace::of(s),
            (_, Some(saved)) => ScorePlace::contiguous(Address::of(saved), self.problem),
            (_, None) => ScorePlace::contiguous(at(workspace, self.scores), self.problem),
        }
    }

    fn launch_scores(
        &self,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
        scores: &ScorePlace,
    ) -> Result<()> {
        let Scores::Keys { k, .. } = &self.inputs.scores else { return Ok(()) };
        let problem = self.problem;
        let variant = for_element(ScoresPtx::VARIANTS, T::DTYPE)?;
        let steps = problem.steps.div_ceil(variant.info.block[0] as usize);
        let blocks = [problem.batch, problem.heads, steps];
        let blocks = blocks.iter().fold(1u64, |blocks, &size| blocks.saturating_mul(size as u64));
        if blocks == 0 {
            return Ok(());
        }
        let [k_batch_stride, k_head_stride, k_time_stride] = strides(k, problem.layout);
        let width = problem.key_width.unwrap_or(0);
        ScoresPtx {
            q: self.q.address(workspace),
            k: Address::of(k),
            scores: scores.address,
            k_batch_stride,
            k_head_stride,
            k_time_stride,
            heads: word(problem.heads),
            group: word(problem.group()),
            steps: word(problem.steps),
            width: word(width),
            scale: self.options.scale(width) as f32,
        }
        .launch(stream, variant, linear(NAME, stream, blocks)?)
    }

    /// The first pass of the chunked schedule.
    fn ends(&self, workspace: Option<&CudaBuffer>, scores: &ScorePlace) -> ForwardChunkedPtx {
        let &Self { problem, inputs, .. } = self;
        let [v_batch_stride, v_head_stride, v_time_stride] = strides(inputs.v, problem.layout);
        let place = |of: fn(&ChunkStates) -> u64| at(workspace, self.states.as_ref().map(of));
        ForwardChunkedPtx {
            scores: scores.address,
            v: Address::of(inputs.v),
            codes: self.codes.address(workspace),
            mask: address(inputs.mask.map(|mask| &**mask)),
            m: place(|states| states.end_m),
            u: place(|states| states.end_u),
            w: place(|states| states.w),
            cuts: place(|states| states.cuts),
            scores_batch_stride: scores.batch_stride,
            scores_head_stride: scores.head_stride,
            v_batch_stride,
            v_head_stride,
            v_time_stride,
            heads: word(problem.heads),
            group: word(problem.group()),
            steps: word(problem.steps),
            width: word(problem.width),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            scores_bytes: scores.bytes,
            any_code_resets: self.codes.any_resets().into(),
        }
    }

    /// The second pass of the chunked schedule; it also writes the carry out.
    fn launch_carry(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let problem = self.problem;
        let lines = problem.rows as u64 * problem.heads as u64;
        let variant = only(NAME, ForwardCarryPtx::VARIANTS)?;
        let threads = lines.saturating_mul(problem.width.max(1) as u64);
        let grid = linear(NAME, stream, threads.div_ceil(u64::from(variant.info.block[0])))?;
        let place = |of: fn(&ChunkStates) -> u64| at(workspace, self.states.as_ref().map(of));
        let [m0, u0, w0] = [0, 1, 2].map(|i| self.carry[i].address(workspace));
        let [m, u, w] = self.carry_out();
        ForwardCarryPtx {
            m0,
            u0,
            w0,
            end_m: place(|states| states.end_m),
            end_u: place(|states| states.end_u),
            cuts: place(|states| states.cuts),
            start_m: place(|states| states.start_m),
            start_u: place(|states| states.start_u),
            chunk_w: place(|states| states.w),
            m,
            u,
            w,
            lines,
            width: word(problem.width),
            chunks: self.chunks.count,
        }
        .launch(stream, variant, grid)
    }

    fn carry_out(&self) -> [Address; 3] {
        match self.outputs.carry.as_deref() {
            Some(carry) => [&*carry.m, &*carry.u, &*carry.w].map(Address::of),
            None => [Address::NULL; 3],
        }
    }

    /// The scan: the only pass of the serial schedule, the last of the chunked one.
    fn scan(&self, workspace: Option<&CudaBuffer>, scores: &ScorePlace) -> ForwardPtx {
        let &Self { problem, inputs, outputs, .. } = self;
        let [v_batch_stride, v_head_stride, v_time_stride] = strides(inputs.v, problem.layout);
        let [o_batch_stride, o_head_stride, o_time_stride] = strides(outputs.o, problem.layout);
        let bounds = match &inputs.resets {
            Resets::CuSeqlens(bounds) => Some(bounds.view()),
            _ => None,
        };
        let [m0, u0, w0] = match &self.states {
            Some(states) => {
                [states.start_m, states.start_u, states.w].map(|at| within(workspace, at))
            }
            None => [0, 1, 2].map(|i| self.carry[i].address(workspace)),
        };
        // The carries have written it already.
        let [m, u, w] = if self.states.is_some() { [Address::NULL; 3] } else { self.carry_out() };
        let [saved_m, saved_u, saved_w] = match outputs.saved.as_deref() {
            Some(saved) => [&*saved.m, &*saved.u, &*saved.w].map(Address::of),
            None => [Address::NULL; 3],
        };
        ForwardPtx {
            scores: scores.address,
            v: Address::of(inputs.v),
            m0,
            u0,
            w0,
            codes: self.codes.address(workspace),
            mask: address(inputs.mask.map(|mask| &**mask)),
            cu_seqlens: address(bounds),
            o: Address::of(outputs.o),
            lse: address(outputs.lse.as_deref().map(|lse| &**lse)),
            m,
            u,
            w,
            saved_m,
            saved_u,
            saved_w,
            scores_batch_stride: scores.batch_stride,
            scores_head_stride: scores.head_stride,
            v_batch_stride,
            v_head_stride,
            v_time_stride,
            o_batch_stride,
            o_head_stride,
            o_time_stride,
            heads: word(problem.heads),
            group: word(problem.group()),
            steps: word(problem.steps),
            width: word(problem.width),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            scores_bytes: scores.bytes,
            cu_seqlens_bytes: bounds.map_or(0, |bounds| word(bounds.dtype().bytes())),
            tiles: word(problem.tiles()),
            any_code_resets: self.codes.any_resets().into(),
        }
    }
}
