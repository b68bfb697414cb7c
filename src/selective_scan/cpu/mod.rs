//! The CPU backend: the reference for f64, SIMD over channels for the others.

use super::{Inputs, Options, OutputsMut, Plan, Problem, SelectiveScan, plan, reference};
use crate::Result;
use crate::backend::Cpu;
use crate::element::DeviceFloat;

mod block;
mod forward;
mod recurrence;
mod tile;

/// f64 runs the reference, so that gradient checks, F64 files and the oracle are one piece of
/// code.
impl SelectiveScan<f64> for Cpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu("selective_scan_forward_reference", problem.rows, options)
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
        plan::cpu("selective_scan_forward_simd", forward::tasks(problem), options)
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
