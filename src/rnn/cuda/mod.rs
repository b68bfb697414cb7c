//! Launches the PTX, all on the stream of the device handle, which all tensors of a call share.

use super::plan::{self, Pass};
use super::{
    Activation, Cell, Direction, Gradients, Inputs, NAME, Options, OutputGradients, OutputsMut,
    Plan, Problem, Rnn, Saved,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Stream, Workspace, bytes, element, linear, only, sign_at,
    within, word,
};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Indices;
use crate::rnn::kernels::{
    BackwardResidentPtx, BackwardStepPtx, BeginPtx, BiasPtx, ForwardResidentPtx, ForwardStepPtx,
    LengthsPtx, MatricesPtx,
};
use crate::tensor::{Tensor, View};

/// The arguments of a kernel: some as another takes them, and its own.
macro_rules! as_of {
    ($other:ident => $entry:ident { $($same:ident)*; $($own:ident: $value:expr,)* }) => {
        $entry { $($same: $other.$same,)* $($own: $value,)* }
    };
}

mod backward;
mod forward;

impl<T: DeviceFloat> Rnn<T> for Cuda {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(Pass::Forward, &self.name(), &self.limits(), problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(Pass::Backward, &self.name(), &self.limits(), problem, options)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_variants(Pass::Forward, &self.name(), &self.limits(), problem, options)
    }

    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_variants(Pass::Backward, &self.name(), &self.limits(), problem, options)
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, outputs.named())?;
        forward::Call::new(problem, inputs, options, outputs).launch(plan, self.stream())
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        h: &Tensor<Self, T>,
        saved: &Saved<Self, T>,
        given: &OutputGradients<'_, Self, T>,
        gradients: &Gradients<Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, [("h", &**h as &View<Self>)])?;
        self.check_streams(NAME, saved.named())?;
        self.check_streams(NAME, given.named())?;
        self.check_streams(NAME, gradients.named())?;
        backward::Call::new(problem, inputs, options, h, saved, given, gradients)
            .launch(plan, self.stream())
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let stream = self.stream();
        macro_rules! load {
            ($($entry:ident: $is_right:expr;)*) => {
                $(for variant in $entry::VARIANTS.iter().filter($is_right) {
                    stream.preload(variant.info)?;
                })*
            };
        }
        load! {
            ForwardResidentPtx: |one| one.info.name == plan.variant;
            ForwardStepPtx: |one| one.info.name == plan.variant;
            BackwardResidentPtx: |one| one.info.name == plan.variant;
            BackwardStepPtx: |one| one.info.name == plan.variant;
            BeginPtx: |_| true;
            MatricesPtx: |_| true;
            LengthsPtx: |_| true;
            BiasPtx: |_| true;
        }
        crate::backend::cuda::preload(NAME, stream)
    }
}

fn address(view: Option<&View<Cuda>>) -> Address {
    view.map_or(Address::NULL, Address::of)
}

/// A grid of the plan's blocks, laid out as it says.
fn grid(plan: &Plan) -> Grid {
    let blocks = [plan.blocks, 1, 1];
    match plan.layouts.first() {
        Some(layout) => Grid {
            blocks,
            threads: Some(layout.threads),
            dynamic_shared: layout.shared,
            ..Grid::default()
        },
        None => Grid { blocks, ..Grid::default() },
    }
}

/// Strides of rows, steps and heads of a tensor (B, T, N, D), in elements.
fn strides(view: &View<Cuda>) -> [u64; 3] {
    [0, 1, 2].map(|axis| view.strides()[axis] as u64)
}

/// Strides of rows, steps, gates and heads of a tensor (B, T, G, N, D), in elements.
fn gate_strides(view: &View<Cuda>) -> [u64; 4] {
    [0, 1, 2, 3].map(|axis| view.strides()[axis] as u64)
}

/// Whether the elements of an even unit and of the next lie at a multiple of their bytes in all of
/// these: numbers in f32 without gaps, and tensors with strides.
fn paired(width: usize, wide: &[Address], tensors: &[Option<&View<Cuda>>]) -> bool {
    let even = |view: &&View<Cuda>| {
        let outer = 0..view.shape().len() - 1;
        Address::of(view).is_multiple_of(2 * view.dtype().bytes() as u64)
            && outer.map(|axis| view.strides()[axis]).all(|stride| stride % 2 == 0)
    };
    width.is_multiple_of(2)
        && wide.iter().all(|address| address.is_multiple_of(8))
        && tensors.iter().flatten().all(even)
}

/// What an option of the kernels says of the direction and of the activation.
fn flags(options: &Options) -> [u32; 2] {
    let reverse = options.direction == Direction::Reverse;
    let relu = options.cell == Cell::Elman(Activation::Relu);
    [reverse.into(), relu.into()]
}

/// A magnitude that nothing exceeds where there is none.
fn or_infinite(clip: Option<f32>) -> f32 {
    clip.unwrap_or(f32::INFINITY)
}

/// Numbers in f32 that kernels change: in a tensor, where there is one for them, or in workspace.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    Tensor(&'a View<Cuda>),
    Workspace(u64),
}

impl<'a> Numbers<'a> {
    fn of(tensor: Option<&'a View<Cuda>>, elements: &[usize], workspace: &mut Workspace) -> Self {
        match tensor {
            Some(tensor) => Self::Tensor(tensor),
            None => Self::Workspace(workspace.take(bytes(elements, 4))),
        }
    }

    fn address(self, workspace: Option<&CudaBuffer>) -> Address {
        match self {
            Self::Tensor(view) => Address::of(view),
            Self::Workspace(at) => within(workspace, at),
        }
    }
}

/// Fills numbers in f32 with those of a tensor, or with zeros.
fn begin(
    stream: &Stream,
    from: Option<&View<Cuda>>,
    to: Address,
    elements: &[usize],
) -> Result<()> {
    let count = bytes(elements, 1);
    if count == 0 {
        return Ok(());
    }
    let variant = only(NAME, BeginPtx::VARIANTS)?;
    let grid = linear(NAME, stream, count.div_ceil(u64::from(variant.info.block[0])))?;
    let element = element(from.map_or(DType::F32, |from| from.dtype()));
    BeginPtx { from: address(from), to, count, element }.launch(stream, variant, grid)
}

/// The lengths of rows as words in workspace; nothing where all rows have all steps.
#[derive(Clone, Copy)]
struct Lengths<'a>(Option<(Indices<'a, Cuda>, u64)>);

impl<'a> Lengths<'a> {
    fn of(inputs: Option<Indices<'a, Cuda>>, problem: &Problem, workspace: &mut Workspace) -> Self {
        Self(inputs.map(|lengths| (lengths, workspace.take(bytes(&[problem.batch], 4)))))
    }

    fn address(self, workspace: Option<&CudaBuffer>) -> Address {
        self.0.map_or(Address::NULL, |(_, at)| within(workspace, at))
    }

    fn write(
        self,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
        problem: &Problem,
    ) -> Result<()> {
        let Some((lengths, at)) = self.0.filter(|_| problem.batch > 0) else { return Ok(()) };
        let variant = only(NAME, LengthsPtx::VARIANTS)?;
        let blocks = (problem.batch as u64).div_ceil(u64::from(variant.info.block[0]));
        LengthsPtx {
            lengths: Address::of(&lengths),
            words: within(workspace, at),
            batch: word(problem.batch),
            steps: word(problem.steps),
            bytes: word(lengths.dtype().bytes()),
            sign_at: sign_at(lengths.dtype()),
        }
        .launch(stream, variant, linear(NAME, stream, blocks)?)
    }
}
