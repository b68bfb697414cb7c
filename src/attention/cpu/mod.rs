//! The CPU backend: the reference for f64, tiles of SIMD products for the others.
//!
//! A task has rows, queries of the heads that share keys, and goes through keys tile by tile;
//! scores of a tile never leave a core's second cache. How calls are cut depends on their sizes
//! alone, so that results do not depend on the number of threads.

use super::plan::{self, Pass};
use super::{
    Attention, GradientsMut, Inputs, Merge, NAME, Options, OutputGradients, OutputsMut, Plan,
    Problem,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::tensor::Tensor;

mod backward;
mod bias;
mod exact;
mod forward;
mod keys;
pub(super) mod merge;
mod parts;
mod rows;
mod scores;
mod tensors;
mod tile;

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 6] = [
    simd("forward", SIMD_FORWARD),
    simd("backward", SIMD_BACKWARD),
    simd("merge", MERGE),
    exact("forward", EXACT_FORWARD),
    exact("backward", EXACT_BACKWARD),
    exact("merge", EXACT_MERGE),
];

const SIMD_FORWARD: &str = "attention_forward_simd";
const SIMD_BACKWARD: &str = "attention_backward_simd";
const MERGE: &str = "attention_merge_rows";
const EXACT_FORWARD: &str = "attention_forward_reference";
const EXACT_BACKWARD: &str = "attention_backward_reference";
const EXACT_MERGE: &str = "attention_merge_reference";

const fn simd(pass: &'static str, name: &'static str) -> CpuVariant {
    let elements = &[DType::F32, DType::BF16, DType::F16];
    CpuVariant { operation: NAME, pass, elements, layout: "", name }
}

const fn exact(pass: &'static str, name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass, elements: &[DType::F64], layout: "", name }
}

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl Attention<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, EXACT_FORWARD, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, EXACT_BACKWARD, problem, options)
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

    fn launch_row_terms(
        &self,
        problem: &Problem,
        out: &Tensor<Self, f64>,
        lse: &Tensor<Self, f64>,
        given: &OutputGradients<'_, Self, f64>,
        delta: &Tensor<Self, f64>,
    ) -> Result<()> {
        exact::row_terms(problem, out, lse, given, delta)
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        options: &Options,
        rows: [&Tensor<Self, f64>; 2],
        dout: &Tensor<Self, f64>,
        gradients: &GradientsMut<'_, Self, f64>,
    ) -> Result<()> {
        exact::backward(inputs, options, rows, dout, gradients)
    }

    fn merge_variant(&self) -> Result<&'static str> {
        Ok(EXACT_MERGE)
    }

    fn launch_merge(&self, merge: &Merge<Self>) -> Result<()> {
        exact::merge(merge)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}

impl<T: DeviceFloat> Attention<T> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Forward, SIMD_FORWARD, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(Pass::Backward, SIMD_BACKWARD, problem, options)
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

    fn launch_row_terms(
        &self,
        problem: &Problem,
        out: &Tensor<Self, T>,
        lse: &Tensor<Self, f32>,
        given: &OutputGradients<'_, Self, T>,
        delta: &Tensor<Self, f32>,
    ) -> Result<()> {
        rows::terms(problem, out, lse, given, delta)
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        rows: [&Tensor<Self, f32>; 2],
        dout: &Tensor<Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        backward::run(plan, problem, inputs, options, rows, dout, gradients)
    }

    fn merge_variant(&self) -> Result<&'static str> {
        Ok(MERGE)
    }

    fn launch_merge(&self, merge: &Merge<Self>) -> Result<()> {
        merge::run::<T>(merge)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}
