//! The forward pass: states into the places where steps change them, then a launch for every step.

use super::{
    Lengths, Numbers, address, begin, element, flags, gate_strides, grid, or_infinite, paired,
    strides,
};
use crate::Result;
use crate::backend::cuda::{Address, Cuda, CudaBuffer, Place, Stream, Workspace, variant, word};
use crate::element::{DType, DeviceFloat};
use crate::rnn::kernels::{ForwardResidentPtx, ForwardStepPtx};
use crate::rnn::{Inputs, NAME, Options, OutputsMut, Path, Plan, Problem};
use crate::tensor::View;

/// A call, and where everything lies that the kernels take in another form or leave to each other.
pub(super) struct Call<'a, T: DeviceFloat> {
    problem: &'a Problem,
    inputs: &'a Inputs<'a, Cuda, T>,
    options: &'a Options,
    outputs: &'a OutputsMut<'a, Cuda, T>,
    r: Place<'a>,
    b: Place<'a>,
    lengths: Lengths<'a>,
    /// h, of which a step reads one and writes the other; the first step reads the first.
    h: [Numbers<'a>; 2],
    /// c, n and m, of the states that there are.
    cells: Vec<Numbers<'a>>,
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    pub fn new(
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        outputs: &'a OutputsMut<'a, Cuda, T>,
    ) -> Self {
        let mut workspace = Workspace::default();
        let r = Place::of(inputs.r.view(), &mut workspace);
        let b = inputs.b.map_or(Place::Absent, |b| Place::of(b.view(), &mut workspace));
        let lengths = Lengths::of(inputs.lengths, problem, &mut workspace);
        let shape = problem.state_shape();
        let last = outputs.last.as_deref().map_or([None; 4], |last| last.all());
        let [last_h, others @ ..] = last.map(|state| state.map(|state| &**state as &View<Cuda>));
        let ends = Numbers::of(last_h, &shape, &mut workspace);
        let other = Numbers::of(None, &shape, &mut workspace);
        // So that the last step writes where h is wanted in the end.
        let h = if problem.steps.is_multiple_of(2) { [ends, other] } else { [other, ends] };
        let states = problem.cell.states().len() - 1;
        let cell = |state| Numbers::of(state, &shape, &mut workspace);
        let cells = others[..states].iter().copied().map(cell).collect();
        Self { problem, inputs, options, outputs, r, b, lengths, h, cells, workspace }
    }

    pub fn launch(&self, plan: &Plan, stream: &Stream) -> Result<()> {
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = self.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        self.r.widen(NAME, stream, workspace)?;
        self.b.widen(NAME, stream, workspace)?;
        self.lengths.write(stream, workspace, self.problem)?;
        let initial = self.inputs.initial.all().map(|state| state.map(|state| state.view()));
        let places = self.h[..1].iter().chain(&self.cells);
        for (state, place) in initial.into_iter().zip(places) {
            begin(stream, state, place.address(workspace), &self.problem.state_shape())?;
        }
        if plan.blocks == 0 {
            return Ok(());
        }
        if plan.path == Path::Resident {
            let kernel =
                variant(NAME, ForwardResidentPtx::VARIANTS, |info| info.name == plan.variant)?;
            return self.all_steps(workspace, plan).launch(stream, kernel, grid(plan));
        }
        let kernel = variant(NAME, ForwardStepPtx::VARIANTS, |info| info.name == plan.variant)?;
        for step in 0..self.problem.steps {
            self.step(workspace, step).launch(stream, kernel, grid(plan))?;
        }
        Ok(())
    }

    fn step(&self, workspace: Option<&CudaBuffer>, step: usize) -> ForwardStepPtx {
        let (problem, inputs, outputs) = (self.problem, self.inputs, self.outputs);
        let [wx_row_stride, wx_step_stride, wx_gate_stride, wx_head_stride] =
            gate_strides(inputs.wx);
        let [h_row_stride, h_step_stride, h_head_stride] = strides(outputs.h);
        let cell = |i: usize| match self.cells.get(i) {
            Some(numbers) => numbers.address(workspace),
            None => Address::NULL,
        };
        let states = outputs.states.as_deref().map_or([None; 3], |states| states.all());
        let [all_c, all_n, all_m] = states.map(|state| address(state.map(|state| &**state)));
        let saved = outputs.saved.as_deref();
        let gates = saved.and_then(|saved| saved.gates.as_ref());
        let [reverse, relu] = flags(self.options);
        let turn = step % 2;
        ForwardStepPtx {
            wx: Address::of(inputs.wx),
            r: self.r.address(workspace),
            b: self.b.address(workspace),
            lengths: self.lengths.address(workspace),
            before: self.h[turn].address(workspace),
            after: self.h[1 - turn].address(workspace),
            c: cell(0),
            n: cell(1),
            m: cell(2),
            h: Address::of(outputs.h),
            all_c,
            all_n,
            all_m,
            kept_c: address(saved.and_then(|saved| saved.c.as_deref())),
            kept_n: address(saved.and_then(|saved| saved.n.as_deref())),
            gates: address(gates),
            wx_row_stride,
            wx_step_stride,
            wx_gate_stride,
            wx_head_stride,
            h_row_stride,
            h_step_stride,
            h_head_stride,
            batch: word(problem.batch),
            steps: word(problem.steps),
            heads: word(problem.heads),
            width: word(problem.width),
            step: word(step),
            reverse,
            relu,
            element: element(T::DTYPE),
            gate_bytes: word(gates.map_or(DType::F32, |gates| gates.dtype()).bytes()),
            clip: or_infinite(self.options.output_clip),
            floor: self.options.n_floor,
        }
    }

    /// All steps in one launch: the first, as far as it is the same for all.
    fn all_steps(&self, workspace: Option<&CudaBuffer>, plan: &Plan) -> ForwardResidentPtx {
        let step = self.step(workspace, 0);
        let after = self.h[self.problem.steps % 2].address(workspace);
        let ForwardStepPtx { before, c, n, m, all_c, all_n, all_m, kept_c, kept_n, .. } = step;
        let wide = [before, after, c, n, m, all_c, all_n, all_m, kept_c, kept_n];
        let gates = self.outputs.saved.as_deref().and_then(|saved| saved.gates.as_ref());
        let narrow = [Some(&**self.inputs.wx as &View<Cuda>), Some(self.outputs.h), gates];
        as_of!(step => ForwardResidentPtx {
            wx r b lengths before c n m h all_c all_n all_m kept_c kept_n gates
            wx_row_stride wx_step_stride wx_gate_stride wx_head_stride
            h_row_stride h_step_stride h_head_stride
            batch steps heads width reverse relu gate_bytes clip floor;
            after: after,
            rows: plan.rows,
            paired: paired(self.problem.width, &wide, &narrow).into(),
        })
    }
}
