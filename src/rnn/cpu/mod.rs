//! The CPU backend: the reference for f64, SIMD over units for the others.
//!
//! A task has a head of some rows for all steps, where the head's matrices stay in a core's cache;
//! otherwise all tasks share the units of each step, so that a core reads its part of the matrices
//! only. Products, gates and states of a block of units are one piece of work: nothing of a step
//! but h, or backward the gradients of the gates, is read by another.

use super::plan::{self, Pass};
use super::{
    Gradients, Inputs, NAME, Options, OutputGradients, OutputsMut, Plan, Problem, Rnn, Saved,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::tensor::Tensor;

mod backward;
mod cells;
mod exact;
mod forward;
mod group;
mod history;
mod product;
mod sources;
mod tensors;

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 4] = [
    simd("forward", SIMD_FORWARD),
    simd("backward", SIMD_BACKWARD),
    exact("forward", EXACT_FORWARD),
    exact("backward", EXACT_BACKWARD),
];

const SIMD_FORWARD: &str = "rnn_forward_simd";
const SIMD_BACKWARD: &str = "rnn_backward_simd";
const EXACT_FORWARD: &str = "rnn_forward_reference";
const EXACT_BACKWARD: &str = "rnn_backward_reference";

const fn simd(pass: &'static str, name: &'static str) -> CpuVariant {
    let elements = &[DType::F32, DType::BF16, DType::F16];
    CpuVariant { operation: NAME, pass, elements, layout: "", name }
}

const fn exact(pass: &'static str, name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass, elements: &[DType::F64], layout: "", name }
}

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl Rnn<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, EXACT_FORWARD, 1, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, EXACT_BACKWARD, 1, problem, options)
    }

    fn launch_forward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, f64>,
    ) -> Result<()> {
        exact::forward(inputs, options, outputs)
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        options: &Options,
        _h: &Tensor<Self, f64>,
        _saved: &Saved<Self, f64>,
        given: &OutputGradients<'_, Self, f64>,
        gradients: &Gradients<Self, f64>,
    ) -> Result<()> {
        exact::backward(inputs, options, given, gradients)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}

impl<T: DeviceFloat> Rnn<T> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, SIMD_FORWARD, rayon::current_num_threads(), problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, SIMD_BACKWARD, rayon::current_num_threads(), problem, options)
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        forward::run(plan, problem, inputs, options, outputs)
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
        backward::run(plan, problem, inputs, options, h, saved, given, gradients)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}
