//! The CPU backend: the reference for f64, SIMD for the others: over time where time is the
//! fastest axis, over channels where they are.
//!
//! A task takes a span of time of one row, for one channel or for a block of them, and walks it in
//! tiles that stay in the first-level cache. In a tile an element's taps lie a fixed distance
//! apart, whatever the layout, so that one piece of code sums them ([`taps`]).

use super::{
    CausalConv1d, GradientsMut, Inputs, NAME, Options, OutputGradients, OutputsMut, Pass, Plan,
    Problem, plan, reference,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::plan::Schedule;

mod backward;
mod call;
mod forward;
pub(super) mod taps;
mod tile;

const FORWARD: &str = "causal_conv1d_forward_simd";
const BACKWARD: &str = "causal_conv1d_backward_simd";
const FORWARD_REFERENCE: &str = "causal_conv1d_forward_reference";
const BACKWARD_REFERENCE: &str = "causal_conv1d_backward_reference";

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 4] = [
    variant("forward", FORWARD, &[DType::F32, DType::BF16, DType::F16]),
    variant("backward", BACKWARD, &[DType::F32, DType::BF16, DType::F16]),
    variant("forward", FORWARD_REFERENCE, &[DType::F64]),
    variant("backward", BACKWARD_REFERENCE, &[DType::F64]),
];

const fn variant(pass: &'static str, name: &'static str, elements: &'static [DType]) -> CpuVariant {
    CpuVariant { operation: NAME, pass, elements, layout: "BDL BLD", name }
}

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl CausalConv1d<f64> for Cpu {
    fn plan(&self, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan> {
        let name = match pass {
            Pass::Forward => FORWARD_REFERENCE,
            Pass::Backward => BACKWARD_REFERENCE,
        };
        plan::cpu(pass, name, Schedule::Serial, problem.rows, 0, options)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
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

    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        gradients: &OutputGradients<'_, Self, f64>,
        options: &Options,
        outputs: &GradientsMut<'_, Self, f64>,
    ) -> Result<()> {
        reference::backward(inputs, gradients, options)?.write(options.layout, outputs)
    }
}

impl<T: DeviceFloat> CausalConv1d<T> for Cpu {
    fn plan(&self, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan> {
        let schedule = Schedule::Chunked { chunk: call::SPAN as u32 };
        let spans = problem.steps.div_ceil(call::SPAN) * problem.rows;
        let tasks = spans * call::channel_blocks(problem).len();
        match pass {
            Pass::Forward => plan::cpu(pass, FORWARD, schedule, tasks, 0, options),
            Pass::Backward => {
                let workspace = (spans * backward::sums_of_span(problem) * 8) as u64;
                plan::cpu(pass, BACKWARD, schedule, tasks, workspace, options)
            }
        }
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
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
        gradients: &OutputGradients<'_, Self, T>,
        options: &Options,
        outputs: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        problem.check_values(inputs)?;
        backward::run(problem, inputs, gradients, options, outputs)
    }
}
