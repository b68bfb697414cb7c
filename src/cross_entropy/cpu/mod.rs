//! The CPU backend: the reference for f64, SIMD over columns for the others.

use super::plan::{self, Pass};
use super::{
    CrossEntropy, GradientLines, Inputs, Logits, NAME, Options, OutputsMut, Plan, Problem,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::parameter::{Indices, Parameter};
use crate::tensor::Tensor;

mod exact;
mod given;
mod linear;
mod loss;
mod rows;

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 4] = [
    simd("forward", SIMD_FORWARD),
    simd("backward", SIMD_BACKWARD),
    exact("forward", EXACT_FORWARD),
    exact("backward", EXACT_BACKWARD),
];

const SIMD_FORWARD: &str = "cross_entropy_forward_simd";
const SIMD_BACKWARD: &str = "cross_entropy_backward_simd";
const EXACT_FORWARD: &str = "cross_entropy_forward_reference";
const EXACT_BACKWARD: &str = "cross_entropy_backward_reference";

const fn simd(pass: &'static str, name: &'static str) -> CpuVariant {
    let elements = &[DType::F32, DType::BF16, DType::F16];
    CpuVariant { operation: NAME, pass, elements, layout: "", name }
}

const fn exact(pass: &'static str, name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass, elements: &[DType::F64], layout: "", name }
}

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl CrossEntropy<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, EXACT_FORWARD, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, EXACT_BACKWARD, problem, options)
    }

    fn launch_statistics(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        options: &Options,
        statistics: &Tensor<Self, f64>,
    ) -> Result<()> {
        exact::statistics(inputs, options, statistics)
    }

    fn launch_loss(
        &self,
        problem: &Problem,
        target: Indices<'_, Self>,
        options: &Options,
        statistics: &Tensor<Self, f64>,
        outputs: &OutputsMut<'_, Self, f64>,
    ) -> Result<()> {
        exact::loss(problem, target, options, statistics, outputs)
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        options: &Options,
        lse: &Tensor<Self, f64>,
        dloss: Parameter<'_, Self>,
        gradients: &GradientLines<'_, Self>,
    ) -> Result<()> {
        exact::backward(inputs, options, lse, dloss, gradients)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}

impl<T: DeviceFloat> CrossEntropy<T> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, SIMD_FORWARD, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, SIMD_BACKWARD, problem, options)
    }

    fn launch_statistics(
        &self,
        _plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        statistics: &Tensor<Self, f32>,
    ) -> Result<()> {
        match inputs.logits {
            Logits::Given(logits) => {
                given::statistics(problem, logits, inputs.target, options, statistics)
            }
            Logits::Linear { x, weight } => {
                linear::statistics(problem, [x, weight], inputs.target, options, statistics)
            }
        }
    }

    fn launch_loss(
        &self,
        problem: &Problem,
        target: Indices<'_, Self>,
        options: &Options,
        statistics: &Tensor<Self, f32>,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        loss::run(problem, target, options, statistics, outputs)
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        lse: &Tensor<Self, f32>,
        dloss: Parameter<'_, Self>,
        gradients: &GradientLines<'_, Self>,
    ) -> Result<()> {
        let slopes = rows::Slopes::new(problem, inputs.target, options, lse, dloss)?;
        match (&inputs.logits, gradients) {
            (Logits::Given(logits), GradientLines::Given(to)) => {
                given::gradient(problem, logits, &slopes, to)
            }
            (Logits::Linear { x, weight }, GradientLines::Linear { x: dx, weight: dweight }) => {
                linear::gradient(plan, problem, [x, weight], &slopes, [dx, dweight])
            }
            // The caller makes gradients of what there is.
            _ => Ok(()),
        }
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}
