//! The CPU backend: the reference for f64, SIMD over features for the others.

use super::plan::{self, Pass};
use super::{
    Gradients, Inputs, NAME, Options, OutputGradients, OutputsMut, Problem, Saved, ScanAttention,
    State, StepInputs, StepProblem,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::plan::Plan;
use crate::tensor::Tensor;

mod backward;
mod exact;
mod forward;
mod heads;
mod step;
mod tile;

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 6] = [
    simd("forward", SIMD_FORWARD),
    simd("backward", SIMD_BACKWARD),
    simd("step", "scan_attention_step_simd"),
    exact("forward", EXACT_FORWARD),
    exact("backward", EXACT_BACKWARD),
    exact("step", "scan_attention_step_reference"),
];

const SIMD_FORWARD: &str = "scan_attention_forward_simd";
const SIMD_BACKWARD: &str = "scan_attention_backward_simd";
const EXACT_FORWARD: &str = "scan_attention_forward_reference";
const EXACT_BACKWARD: &str = "scan_attention_backward_reference";

const fn simd(pass: &'static str, name: &'static str) -> CpuVariant {
    let elements = &[DType::F32, DType::BF16, DType::F16];
    CpuVariant { operation: NAME, pass, elements, layout: "BHLD BLHD", name }
}

const fn exact(pass: &'static str, name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass, elements: &[DType::F64], layout: "BHLD BLHD", name }
}

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl ScanAttention<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, EXACT_FORWARD, problem.rows * problem.heads, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, EXACT_BACKWARD, problem.rows * problem.heads, options)
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
        _saved: &Saved<Self, f64>,
        given: &OutputGradients<'_, Self, f64>,
        gradients: &Gradients<Self, f64>,
    ) -> Result<()> {
        exact::backward(inputs, options, given, gradients)
    }

    fn launch_step(
        &self,
        problem: &StepProblem,
        inputs: &StepInputs<'_, Self, f64>,
        options: &Options,
        state: &State<Self, f64>,
        o: &Tensor<Self, f64>,
    ) -> Result<()> {
        exact::step(problem, inputs, options, state, o)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}

impl<T: DeviceFloat> ScanAttention<T> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, SIMD_FORWARD, problem.rows * problem.heads, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, SIMD_BACKWARD, problem.rows * problem.value_heads, options)
    }

    fn launch_forward(
        &self,
        _plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        problem.check_values(inputs)?;
        forward::run(problem, inputs, options, outputs)
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        saved: &Saved<Self, T>,
        given: &OutputGradients<'_, Self, T>,
        gradients: &Gradients<Self, T>,
    ) -> Result<()> {
        problem.check_values(inputs)?;
        backward::run(problem, inputs, options, saved, given, gradients)
    }

    fn launch_step(
        &self,
        problem: &StepProblem,
        inputs: &StepInputs<'_, Self, T>,
        options: &Options,
        state: &State<Self, T>,
        o: &Tensor<Self, T>,
    ) -> Result<()> {
        step::run(problem, inputs, options, state, o)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}
