//! The backward pass: x and y backwards in time, dv and ds, then what is made of ds, and sums of
//! parts. Chunked in time, that is three launches for x and y: what each chunk hands on when
//! nothing comes from behind; what really comes from behind; the gradients of each chunk.

use super::super::plan::{self, BLOCK_FEATURES, ChunkGradients, Chunks, Parts};
use super::super::{
    Gradients, Inputs, NAME, Options, OutputGradients, Problem, Resets, Saved, ScoreGradients,
    Scores,
};
use super::forward::ScorePlace;
use super::{Sum, address, at, for_element, grid, named, strides};
use crate::Result;
use crate::backend::cuda::{
    Address, Codes, Cuda, CudaBuffer, Place, Stream, Workspace, linear, only, within, word,
};
use crate::element::DeviceFloat;
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    BackwardCarryPtx, BackwardChunkedPtx, BackwardKeysPtx, BackwardPtx, BackwardStatesPtx,
};

/// A call, and where everything lies that the kernels take in another form or leave to each other.
pub(super) struct Call<'a, T: DeviceFloat> {
    problem: &'a Problem,
    inputs: &'a Inputs<'a, Cuda, T>,
    options: &'a Options,
    saved: &'a Saved<Cuda, T>,
    given: &'a OutputGradients<'a, Cuda, T>,
    gradients: &'a Gradients<Cuda, T>,
    carry: [Place<'a>; 3],
    q: Place<'a>,
    du: Place<'a>,
    dw: Place<'a>,
    codes: Codes<'a>,
    chunks: Chunks,
    between: Option<ChunkGradients>,
    parts: Parts,
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    pub fn new(
        plan: &Plan,
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        saved: &'a Saved<Cuda, T>,
        given: &'a OutputGradients<'a, Cuda, T>,
        gradients: &'a Gradients<Cuda, T>,
    ) -> Self {
        let mut workspace = Workspace::default();
        let mut place = |view| Place::of(view, &mut workspace);
        let carry = match &inputs.carry {
            Some(carry) => [carry.m, carry.u, carry.w].map(|parameter| place(parameter.view())),
            None => [Place::Absent, Place::Absent, Place::Absent],
        };
        let q = match &inputs.scores {
            Scores::Keys { q, .. } => place(q.view()),
            Scores::Given(_) => Place::Absent,
        };
        let du = given.u.map_or(Place::Absent, |du| place(du.view()));
        let dw = given.w.map_or(Place::Absent, |dw| place(dw.view()));
        let codes = Codes::of(&inputs.resets, [problem.batch, problem.steps], &mut workspace);
        let chunks = Chunks::of(plan.schedule, problem);
        let between = match plan.schedule {
            Schedule::Serial => None,
            Schedule::Chunked { .. } => Some(chunks.take_gradients(problem, &mut workspace)),
        };
        let parts = Parts::take(problem, &mut workspace);
        Self {
            problem,
            inputs,
            options,
            saved,
            given,
            gradients,
            carry,
            q,
            du,
            dw,
            codes,
            chunks,
            between,
            parts,
            workspace,
        }
    }

    pub fn launch(&self, plan: &Plan, stream: &Stream) -> Result<()> {
        let problem = self.problem;
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = self.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        for parameter in self.carry.iter().chain([&self.q, &self.du, &self.dw]) {
            parameter.widen(NAME, stream, workspace)?;
        }
        self.codes.write(NAME, stream, workspace, [problem.batch, problem.steps])?;
        if !plan.blocks.contains(&0) {
            if self.between.is_some() {
                let fronts = named(BackwardChunkedPtx::VARIANTS, plan.variant)?;
                self.fronts(workspace).launch(stream, fronts, grid(plan))?;
                self.launch_carry(stream, workspace)?;
            }
            let main = for_element(BackwardPtx::VARIANTS, T::DTYPE)?;
            self.main(workspace).launch(stream, main, grid(plan))?;
            self.launch_states(stream, workspace)?;
        }
        self.sum_values(stream, workspace)?;
        match &self.gradients.scores {
            ScoreGradients::Given(_) => self.sum_scores(stream, workspace),
            ScoreGradients::Keys { .. } => self.launch_keys(stream, workspace),
        }
    }

    fn scores(&self) -> ScorePlace {
        match (&self.inputs.scores, &self.saved.scores) {
            (Scores::Given(s), _) => ScorePlace::of(s),
            (_, scores) => {
                let scores = address(scores.as_ref().map(|scores| &**scores));
                ScorePlace::contiguous(scores, self.problem)
            }
        }
    }

    fn saved(&self) -> [Address; 3] {
        [&*self.saved.m, &*self.saved.u, &*self.saved.w].map(Address::of)
    }

    /// Heads of rows, cut into chunks.
    fn lines(&self) -> u64 {
        self.problem.rows as u64 * self.problem.heads as u64 * u64::from(self.chunks.count)
    }

    /// The first pass of the chunked schedule.
    fn fronts(&self, workspace: Option<&CudaBuffer>) -> BackwardChunkedPtx {
        let &Self { problem, inputs, .. } = self;
        let scores = self.scores();
        let [v_batch_stride, v_head_stride, v_time_stride] = strides(inputs.v, problem.layout);
        let d_o = self.given.o.map_or([0; 3], |o| strides(o, problem.layout));
        let place = |of: fn(&ChunkGradients) -> u64| at(workspace, self.between.as_ref().map(of));
        let [m0, u0, w0] = [0, 1, 2].map(|i| self.carry[i].address(workspace));
        let [saved_m, saved_u, saved_w] = self.saved();
        BackwardChunkedPtx {
            scores: scores.address,
            v: Address::of(inputs.v),
            d_o: address(self.given.o.map(|o| &**o)),
            m0,
            u0,
            w0,
            saved_m,
            saved_u,
            saved_w,
            codes: self.codes.address(workspace),
            mask: address(inputs.mask.map(|mask| &**mask)),
            x_front: place(|between| between.x),
            y_front: place(|between| between.y),
            fades: place(|between| between.fades),
            scores_batch_stride: scores.batch_stride,
            scores_head_stride: scores.head_stride,
            v_batch_stride,
            v_head_stride,
            v_time_stride,
            d_o_batch_stride: d_o[0],
            d_o_head_stride: d_o[1],
            d_o_time_stride: d_o[2],
            lines: self.lines(),
            heads: word(problem.heads),
            group: word(problem.group()),
            steps: word(problem.steps),
            width: word(problem.width),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            scores_bytes: scores.bytes,
            tiles: word(problem.tiles()),
            any_code_resets: self.codes.any_resets().into(),
        }
    }

    /// The second pass of the chunked schedule.
    fn launch_carry(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let problem = self.problem;
        let lines = problem.rows as u64 * problem.heads as u64;
        let variant = only(NAME, BackwardCarryPtx::VARIANTS)?;
        let threads = lines.saturating_mul(problem.width.max(1) as u64);
        let grid = linear(NAME, stream, threads.div_ceil(u64::from(variant.info.block[0])))?;
        let place = |of: fn(&ChunkGradients) -> u64| at(workspace, self.between.as_ref().map(of));
        BackwardCarryPtx {
            du: self.du.address(workspace),
            dw: self.dw.address(workspace),
            xs: place(|between| between.x),
            ys: place(|between| between.y),
            fades: place(|between| between.fades),
            lines,
            width: word(problem.width),
            chunks: self.chunks.count,
        }
        .launch(stream, variant, grid)
    }

    /// The gradients: the only pass of the serial schedule, the last of the chunked one.
    fn main(&self, workspace: Option<&CudaBuffer>) -> BackwardPtx {
        let &Self { problem, inputs, gradients, .. } = self;
        let scores = self.scores();
        let [v_batch_stride, v_head_stride, v_time_stride] = strides(inputs.v, problem.layout);
        let d_o = self.given.o.map_or([0; 3], |o| strides(o, problem.layout));
        let bounds = match &inputs.resets {
            Resets::CuSeqlens(bounds) => Some(bounds.view()),
            _ => None,
        };
        let [m0, u0, w0] = [0, 1, 2].map(|i| self.carry[i].address(workspace));
        let [saved_m, saved_u, saved_w] = self.saved();
        let (x_behind, y_behind, y_column_stride) = match &self.between {
            Some(between) => {
                (within(workspace, between.x), within(workspace, between.y), self.lines())
            }
            None => (self.dw.address(workspace), self.du.address(workspace), 0),
        };
        let (dv, dv_strides, dv_bytes) = self.place_values(workspace);
        let (ds, ds_strides, ds_bytes) = self.place_score_gradients(workspace);
        let x_front = match &gradients.carry {
            Some(carry) => Address::of(&carry.w),
            None => within(workspace, self.parts.x),
        };
        BackwardPtx {
            scores: scores.address,
            v: Address::of(inputs.v),
            d_o: address(self.given.o.map(|o| &**o)),
            m0,
            u0,
            w0,
            saved_m,
            saved_u,
            saved_w,
            codes: self.codes.address(workspace),
            mask: address(inputs.mask.map(|mask| &**mask)),
            cu_seqlens: address(bounds),
            x_behind,
            y_behind,
            dv,
            ds,
            x_front,
            y_front: within(workspace, self.parts.y),
            scores_batch_stride: scores.batch_stride,
            scores_head_stride: scores.head_stride,
            v_batch_stride,
            v_head_stride,
            v_time_stride,
            d_o_batch_stride: d_o[0],
            d_o_head_stride: d_o[1],
            d_o_time_stride: d_o[2],
            dv_batch_stride: dv_strides[0],
            dv_head_stride: dv_strides[1],
            dv_time_stride: dv_strides[2],
            ds_column_stride: ds_strides[0],
            ds_batch_stride: ds_strides[1],
            ds_head_stride: ds_strides[2],
            y_column_stride,
            lines: self.lines(),
            heads: word(problem.heads),
            group: word(problem.group()),
            steps: word(problem.steps),
            width: word(problem.width),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            scores_bytes: scores.bytes,
            dv_bytes,
            ds_bytes,
            cu_seqlens_bytes: bounds.map_or(0, |bounds| word(bounds.dtype().bytes())),
            tiles: word(problem.tiles()),
            any_code_resets: self.codes.any_resets().into(),
        }
    }

    /// Where the kernel writes dv: address, strides of batch entries, heads and steps, bytes of an
    /// element.
    fn place_values(&self, workspace: Option<&CudaBuffer>) -> (Address, [u64; 3], u32) {
        let &Self { problem, gradients, .. } = self;
        match self.parts.dv {
            None => {
                let strides = strides(&gradients.v, problem.layout);
                (Address::of(&gradients.v), strides, word(T::DTYPE.bytes()))
            }
            Some(at) => {
                let width = problem.width as u64;
                let head = problem.steps as u64 * width;
                (within(workspace, at), [problem.heads as u64 * head, head, width], 4)
            }
        }
    }

    /// Where the kernel writes ds: address, strides of column blocks, batch entries and heads,
    /// bytes of an element.
    fn place_score_gradients(&self, workspace: Option<&CudaBuffer>) -> (Address, [u64; 3], u32) {
        let problem = self.problem;
        match (self.parts.ds, &self.gradients.scores) {
            (None, ScoreGradients::Given(ds)) => {
                let place = ScorePlace::of(ds);
                (place.address, [0, place.batch_stride, place.head_stride], place.bytes)
            }
            (place, _) => {
                let steps = problem.steps as u64;
                let entry = problem.heads as u64 * steps;
                (at(workspace, place), [problem.batch as u64 * entry, entry, steps], 4)
            }
        }
    }

    /// dm0 and du0, where there is a carry in.
    fn launch_states(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let Some(carry) = &self.gradients.carry else { return Ok(()) };
        let problem = self.problem;
        let lines = problem.rows as u64 * problem.heads as u64;
        let variant = only(NAME, BackwardStatesPtx::VARIANTS)?;
        let per_block = u64::from(variant.info.block[0] / 32);
        BackwardStatesPtx {
            u0: self.carry[1].address(workspace),
            w0: self.carry[2].address(workspace),
            y_parts: within(workspace, self.parts.y),
            dw0: Address::of(&carry.w),
            dm0: Address::of(&carry.m),
            du0: Address::of(&carry.u),
            lines,
            width: word(problem.width),
            columns: word(plan::columns(problem.width)),
        }
        .launch(stream, variant, linear(NAME, stream, lines.div_ceil(per_block))?)
    }

    /// dv, where several heads share values.
    fn sum_values(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let Some(parts) = self.parts.dv else { return Ok(()) };
        let &Problem { batch, value_heads, steps, width, .. } = self.problem;
        Sum {
            parts: within(workspace, parts),
            count: self.problem.group(),
            line_stride: self.problem.group() * steps * width,
            part_stride: steps * width,
            target: &self.gradients.v,
            strides: strides(&self.gradients.v, self.problem.layout),
            sizes: [batch, value_heads, steps, width],
        }
        .launch(stream)
    }

    /// ds, where several column blocks have parts of it.
    fn sum_scores(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let (Some(parts), ScoreGradients::Given(ds)) = (self.parts.ds, &self.gradients.scores)
        else {
            return Ok(());
        };
        let &Problem { batch, heads, steps, width, .. } = self.problem;
        Sum {
            parts: within(workspace, parts),
            count: plan::columns(width),
            line_stride: steps,
            part_stride: batch * heads * steps,
            target: ds,
            strides: [ds.strides()[0] as u64, ds.strides()[1] as u64, 1],
            sizes: [batch, heads, steps, 1],
        }
        .launch(stream)
    }

    /// dk, and dq.
    fn launch_keys(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let (ScoreGradients::Keys { q: dq, k: dk }, Scores::Keys { k, .. }) =
            (&self.gradients.scores, &self.inputs.scores)
        else {
            return Ok(());
        };
        let problem = self.problem;
        let &Problem { batch, heads, steps, value_heads, .. } = problem;
        let (Some((dq_parts, count)), Some(width)) = (self.parts.dq, problem.key_width) else {
            return Ok(());
        };
        let blocks = [count, value_heads, width.div_ceil(BLOCK_FEATURES)];
        let blocks = blocks.iter().fold(1u64, |blocks, &size| blocks.saturating_mul(size as u64));
        if blocks > 0 {
            let variant = for_element(BackwardKeysPtx::VARIANTS, T::DTYPE)?;
            let [k_batch_stride, k_head_stride, k_time_stride] = strides(k, problem.layout);
            let [dk_batch_stride, dk_head_stride, dk_time_stride] = strides(dk, problem.layout);
            BackwardKeysPtx {
                ds: at(workspace, self.parts.ds),
                q: self.q.address(workspace),
                k: Address::of(k),
                dk: Address::of(dk),
                dq_parts: within(workspace, dq_parts),
                ds_part_stride: batch as u64 * heads as u64 * steps as u64,
                k_batch_stride,
                k_head_stride,
                k_time_stride,
                dk_batch_stride,
                dk_head_stride,
                dk_time_stride,
                ds_parts: word(plan::columns(problem.width)),
                key_heads: word(value_heads),
                group: word(problem.group()),
                steps: word(steps),
                width: word(width),
                scale: self.options.scale(width) as f32,
            }
            .launch(stream, variant, linear(NAME, stream, blocks)?)?;
        }
        Sum {
            parts: within(workspace, dq_parts),
            count,
            line_stride: 0,
            part_stride: heads * width,
            target: dq,
            strides: [0; 3],
            sizes: [1, 1, 1, heads * width],
        }
        .launch(stream)
    }
}
