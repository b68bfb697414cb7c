//! The CPU backend: the reference for f64, SIMD over channels for the others.

use super::{Inputs, NAME, Options, OutputsMut, Plan, Problem, SelectiveScan, plan, reference};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;

mod block;
mod forward;
mod recurrence;
mod scratch;
mod tile;
mod transpose;

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 2] = [
    CpuVariant {
        operation: NAME,
        pass: "forward",
        elements: &[DType::F32, DType::BF16, DType::F16],
        layout: "BDL BLD",
        name: SIMD,
    },
    CpuVariant {
        operation: NAME,
        pass: "forward",
        elements: &[DType::F64],
        layout: "BDL BLD",
        name: REFERENCE,
    },
];

const SIMD: &str = "selective_scan_forward_simd";
const REFERENCE: &str = "selective_scan_forward_reference";

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl SelectiveScan<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(REFERENCE, problem.rows, options)
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
}

impl<T: DeviceFloat> SelectiveScan<T> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(SIMD, forward::tasks(problem), options)
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
}
