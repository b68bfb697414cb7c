//! Launches the PTX: first what has to be converted into workspace, then the passes' own kernels.
//!
//! Everything runs on the stream of the device handle, which all tensors of a call share.

use super::{
    BackwardCall, GradientsMut, Inputs, NAME, Options, OutputsMut, Plan, Problem, SelectiveScan,
    plan,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Cuda, preload};
use crate::element::DeviceFloat;

mod backward;
mod forward;
mod reads;

impl<T: DeviceFloat> SelectiveScan<T> for Cuda {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(&self.name(), &self.limits(), problem, options)
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
        forward::launch(self.stream(), plan, problem, inputs, options, outputs)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_variants(&self.name(), &self.limits(), problem, options)
    }

    fn preload_forward(&self, plan: &Plan) -> Result<()> {
        forward::preload(self.stream(), plan)?;
        preload(NAME, self.stream())
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda_backward(&self.name(), &self.limits(), problem, options)
    }

    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_backward_variants(&self.name(), &self.limits(), problem, options)
    }

    fn preload_backward(&self, plan: &Plan) -> Result<()> {
        backward::preload(self.stream(), plan)?;
        preload(NAME, self.stream())
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        call: &BackwardCall<'_, Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, call.inputs.named())?;
        self.check_streams(NAME, call.outer.named())?;
        self.check_streams(NAME, [("saved", &**call.saved)])?;
        self.check_streams(NAME, gradients.named())?;
        backward::launch(self.stream(), plan, problem, call, gradients)
    }
}
