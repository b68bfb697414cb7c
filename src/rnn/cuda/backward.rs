//! The backward pass: all steps in one launch, or a launch for each, from the last to the first;
//! then one for the gradients of the matrices, and one for those of the bias.

use super::{
    Lengths, Numbers, address, begin, element, flags, gate_strides, grid, or_infinite, paired,
    strides,
};
use crate::Result;
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Place, Stream, Workspace, bytes, linear, only, variant, within, word,
};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Parameter;
use crate::rnn::kernels::{BackwardResidentPtx, BackwardStepPtx, BiasPtx, MatricesPtx};
use crate::rnn::{
    Cell, Gradients, Inputs, NAME, Options, OutputGradients, Path, Plan, Problem, Saved,
};
use crate::tensor::{Tensor, View};

/// States that have gradients.
const STATES: usize = 3;

/// A call, and where everything lies that the kernels take in another form or leave to each other.
pub(super) struct Call<'a, T: DeviceFloat> {
    problem: &'a Problem,
    options: &'a Options,
    h: &'a Tensor<Cuda, T>,
    saved: &'a Saved<Cuda, T>,
    given: &'a OutputGradients<'a, Cuda, T>,
    gradients: &'a Gradients<Cuda, T>,
    r: Place<'a>,
    initial: [Place<'a>; STATES],
    /// Gradients of c and n of every step.
    sequences: [Place<'a>; 2],
    lengths: Lengths<'a>,
    /// Gradients of the states on their way back, of the states that there are.
    carries: Vec<Numbers<'a>>,
    sums: Numbers<'a>,
    /// D of two steps, of which a step reads one and writes the other.
    turns: [u64; 2],
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    pub fn new(
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        h: &'a Tensor<Cuda, T>,
        saved: &'a Saved<Cuda, T>,
        given: &'a OutputGradients<'a, Cuda, T>,
        gradients: &'a Gradients<Cuda, T>,
    ) -> Self {
        let mut workspace = Workspace::default();
        let mut place = |parameter: Option<Parameter<'a, Cuda>>| {
            parameter.map_or(Place::Absent, |one| Place::of(one.view(), &mut workspace))
        };
        let r = place(Some(inputs.r));
        let [h0, c0, n0, _] = inputs.initial.all();
        let initial = [place(h0), place(c0), place(n0)];
        let sequences = [place(given.c), place(given.n)];
        let lengths = Lengths::of(inputs.lengths, problem, &mut workspace);
        let shape = problem.state_shape();
        let states = problem.cell.states().len().min(STATES);
        let carry = |gradient: &'a Option<Tensor<Cuda, f32>>| {
            Numbers::of(gradient.as_deref(), &shape, &mut workspace)
        };
        let carries = gradients.initial[..states].iter().map(carry).collect();
        let gates = problem.cell.bias_gates().len();
        let [batch, heads, width] = shape;
        let sums = Numbers::of(None, &[gates, batch, heads, width], &mut workspace);
        let gates = problem.cell.recurrent_gates().len();
        let turns = [(); 2].map(|()| workspace.take(bytes(&[batch, heads, gates, width], 4)));
        Self {
            problem,
            options,
            h,
            saved,
            given,
            gradients,
            r,
            initial,
            sequences,
            lengths,
            carries,
            sums,
            turns,
            workspace,
        }
    }

    pub fn launch(&self, plan: &Plan, stream: &Stream) -> Result<()> {
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = self.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        self.begin(stream, workspace)?;
        if plan.blocks > 0 {
            self.walk(plan, stream, workspace)?;
        }
        self.sum_matrices(stream, workspace)?;
        self.sum_bias(stream, workspace)
    }

    /// All steps.
    fn walk(&self, plan: &Plan, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let grid = grid(plan);
        if plan.path == Path::Resident {
            let kernel =
                variant(NAME, BackwardResidentPtx::VARIANTS, |info| info.name == plan.variant)?;
            return self.all_steps(workspace, plan).launch(stream, kernel, grid);
        }
        let kernel = variant(NAME, BackwardStepPtx::VARIANTS, |info| info.name == plan.variant)?;
        for step in (0..self.problem.steps).rev() {
            self.step(workspace, Some(step)).launch(stream, kernel, grid)?;
        }
        self.step(workspace, None).launch(stream, kernel, grid)
    }

    /// What the first launch finds: gradients of the last states, and zeros.
    fn begin(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let sequences = self.sequences.iter();
        for place in [&self.r].into_iter().chain(&self.initial).chain(sequences) {
            place.widen(NAME, stream, workspace)?;
        }
        self.lengths.write(stream, workspace, self.problem)?;
        let [batch, heads, width] = self.problem.state_shape();
        let last = [self.given.last.h, self.given.last.c, self.given.last.n];
        for (carry, last) in self.carries.iter().zip(last) {
            let last = last.map(|last| last.view());
            begin(stream, last, carry.address(workspace), &[batch, heads, width])?;
        }
        let gates = self.problem.cell.bias_gates().len();
        begin(stream, None, self.sums.address(workspace), &[gates, batch, heads, width])
    }

    /// A step, or what is left to do before the first.
    fn step(&self, workspace: Option<&CudaBuffer>, step: Option<usize>) -> BackwardStepPtx {
        let problem = self.problem;
        let behind = step.map_or(0, |step| step + 1);
        let multiplies = !self.options.grad_cut && behind < problem.steps;
        let carry = |state: usize| match self.carries.get(state) {
            Some(numbers) => numbers.address(workspace),
            None => Address::NULL,
        };
        let [h0, c0, n0] = [0, 1, 2].map(|state: usize| self.initial[state].address(workspace));
        let [dc, dn] = [0, 1].map(|state: usize| self.sequences[state].address(workspace));
        let dh = self.given.h.map(|dh| &**dh as &View<Cuda>);
        let [h_row_stride, h_step_stride, h_head_stride] = strides(self.h);
        let [dh_row_stride, dh_step_stride, dh_head_stride] = dh.map_or([0; 3], strides);
        let [dwx_row_stride, dwx_step_stride, dwx_gate_stride, dwx_head_stride] =
            gate_strides(&self.gradients.wx);
        let gates = self.saved.gates.as_ref();
        let [reverse, relu] = flags(self.options);
        BackwardStepPtx {
            r: self.r.address(workspace),
            lengths: self.lengths.address(workspace),
            behind: within(workspace, self.turns[behind % 2]),
            own: within(workspace, self.turns[step.unwrap_or(0) % 2]),
            h: Address::of(self.h),
            h0,
            c0,
            n0,
            kept_c: address(self.saved.c.as_deref()),
            kept_n: address(self.saved.n.as_deref()),
            gates: address(gates),
            dh: address(dh),
            dc,
            dn,
            dwx: Address::of(&self.gradients.wx),
            carry_h: carry(0),
            carry_c: carry(1),
            carry_n: carry(2),
            sums: self.sums.address(workspace),
            h_row_stride,
            h_step_stride,
            h_head_stride,
            dh_row_stride,
            dh_step_stride,
            dh_head_stride,
            dwx_row_stride,
            dwx_step_stride,
            dwx_gate_stride,
            dwx_head_stride,
            batch: word(problem.batch),
            steps: word(problem.steps),
            heads: word(problem.heads),
            width: word(problem.width),
            step: step.map_or(u32::MAX, word),
            reverse,
            relu,
            element: element(T::DTYPE),
            gate_bytes: word(gates.map_or(DType::F32, |gates| gates.dtype()).bytes()),
            multiplies: multiplies.into(),
            nan_to_zero: self.options.nan_to_zero.into(),
            clip: or_infinite(self.options.output_clip),
            grad_clip: or_infinite(self.options.grad_clip),
        }
    }

    /// All steps in one launch: what is left to do before the first, as far as it is the same.
    fn all_steps(&self, workspace: Option<&CudaBuffer>, plan: &Plan) -> BackwardResidentPtx {
        let step = self.step(workspace, None);
        let BackwardStepPtx { h0, c0, n0, kept_c, kept_n, dc, dn, sums, .. } = step;
        let BackwardStepPtx { carry_h, carry_c, carry_n, .. } = step;
        let wide = [h0, c0, n0, kept_c, kept_n, dc, dn, carry_h, carry_c, carry_n, sums];
        let (gates, dwx) = (self.saved.gates.as_ref(), Some(&*self.gradients.wx));
        let narrow = [Some(&**self.h), self.given.h.map(|dh| &**dh), gates, dwx];
        as_of!(step => BackwardResidentPtx {
            r lengths h h0 c0 n0 kept_c kept_n gates dh dc dn dwx carry_h carry_c carry_n sums
            h_row_stride h_step_stride h_head_stride dh_row_stride dh_step_stride dh_head_stride
            dwx_row_stride dwx_step_stride dwx_gate_stride dwx_head_stride
            batch steps heads width reverse relu gate_bytes nan_to_zero clip grad_clip;
            rows: plan.rows,
            paired: paired(self.problem.width, &wide, &narrow).into(),
            multiplies: (!self.options.grad_cut).into(),
        })
    }

    fn sum_matrices(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let &Problem { cell, batch, steps, heads, width, .. } = self.problem;
        let [h_row_stride, h_step_stride, h_head_stride] = strides(self.h);
        let [dwx_row_stride, dwx_step_stride, dwx_gate_stride, dwx_head_stride] =
            gate_strides(&self.gradients.wx);
        let (gates, tiles) = (cell.recurrent_gates().len(), width.div_ceil(32));
        let kept = self.saved.gates.as_ref().filter(|_| cell == Cell::Gru);
        let [reverse, _] = flags(self.options);
        MatricesPtx {
            dwx: Address::of(&self.gradients.wx),
            kept: address(kept),
            h: Address::of(self.h),
            h0: self.initial[0].address(workspace),
            lengths: self.lengths.address(workspace),
            matrices: Address::of(&self.gradients.r),
            h_row_stride,
            h_step_stride,
            h_head_stride,
            dwx_row_stride,
            dwx_step_stride,
            dwx_gate_stride,
            dwx_head_stride,
            batch: word(batch),
            steps: word(steps),
            heads: word(heads),
            width: word(width),
            element: element(T::DTYPE),
            gate_bytes: word(kept.map_or(DType::F32, |kept| kept.dtype()).bytes()),
            reverse,
        }
        .launch(
            stream,
            only(NAME, MatricesPtx::VARIANTS)?,
            linear(NAME, stream, bytes(&[gates, heads, tiles, tiles], 1))?,
        )
    }

    fn sum_bias(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let Some(bias) = &self.gradients.b else { return Ok(()) };
        let elements = bias.elements();
        if elements == 0 {
            return Ok(());
        }
        let &Problem { batch, heads, width, .. } = self.problem;
        let kernel = only(NAME, BiasPtx::VARIANTS)?;
        let blocks = (elements as u64).div_ceil(u64::from(kernel.info.block[0]));
        BiasPtx {
            sums: self.sums.address(workspace),
            bias: Address::of(bias),
            batch: word(batch),
            units: word(heads * width),
            elements: word(elements),
        }
        .launch(stream, kernel, linear(NAME, stream, blocks)?)
    }
}
