//! The CPU backend: the reference for f64, SIMD over channels for the others.

use super::{
    BackwardCall, GradientsMut, Inputs, NAME, Options, OutputsMut, Plan, Problem, SelectiveScan,
    plan, reference,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;

mod backward;
mod block;
mod call;
mod forward;
mod maps;
mod recurrence;
mod scratch;
mod tile;
mod transpose;

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 4] = [
    variant("forward", HALVES_AND_SINGLES, FORWARD),
    variant("forward", &[DType::F64], FORWARD_REFERENCE),
    variant("backward", HALVES_AND_SINGLES, BACKWARD),
    variant("backward", &[DType::F64], BACKWARD_REFERENCE),
];

const HALVES_AND_SINGLES: &[DType] = &[DType::F32, DType::BF16, DType::F16];

const FORWARD: &str = "selective_scan_forward_simd";
const FORWARD_REFERENCE: &str = "selective_scan_forward_reference";
const BACKWARD: &str = "selective_scan_backward_simd";
const BACKWARD_REFERENCE: &str = "selective_scan_backward_reference";

const fn variant(pass: &'static str, elements: &'static [DType], name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass, elements, layout: "BDL BLD", name }
}

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl SelectiveScan<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(FORWARD_REFERENCE, problem.rows, options)
    }

    fn launch_forward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, f64>,
    ) -> Result<()> {
        reference::forward(inputs, options)?.write(options.layout, outputs)
    }

    fn preload_forward(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu_backward(BACKWARD_REFERENCE, problem.rows, 0, options)
    }

    fn preload_backward(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        call: &BackwardCall<'_, Self, f64>,
        gradients: &GradientsMut<'_, Self, f64>,
    ) -> Result<()> {
        let exact = reference::backward(call.inputs, call.options, call.outer)?;
        exact.write(call.options.layout, gradients)
    }
}

impl<T: DeviceFloat> SelectiveScan<T> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(FORWARD, forward::tasks(problem), options)
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

    fn preload_forward(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        let parts = backward::parts(problem).len();
        let maps = [problem.b_constant, problem.c_constant].map(|constant| usize::from(!constant));
        let sums = problem.states * problem.steps * maps.iter().sum::<usize>();
        let workspace = (parts * sums * DType::F32.bytes()) as u64;
        plan::cpu_backward(BACKWARD, parts, workspace, options)
    }

    fn preload_backward(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        problem: &Problem,
        call: &BackwardCall<'_, Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        problem.check_values(call.inputs)?;
        backward::run(problem, call, gradients)
    }
}
