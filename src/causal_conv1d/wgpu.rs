//! Not there yet.

use super::{
    CausalConv1d, GradientsMut, Inputs, NAME, Options, OutputGradients, OutputsMut, Pass, Plan,
    Problem,
};
use crate::backend::Backend;
use crate::backend::wgpu::Wgpu;
use crate::element::DeviceFloat;
use crate::{Error, Result};

impl<T: DeviceFloat> CausalConv1d<T> for Wgpu {
    fn plan(&self, _pass: Pass, _problem: &Problem, _options: &Options) -> Result<Plan> {
        Err(Error::Unsupported {
            operation: NAME,
            backend: self.name(),
            what: "this operation yet".to_owned(),
            instead: "use cpu".to_owned(),
        })
    }
    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
    fn launch_forward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        _inputs: &Inputs<'_, Self, T>,
        _options: &Options,
        _outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        Ok(())
    }
    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        _inputs: &Inputs<'_, Self, T>,
        _gradients: &OutputGradients<'_, Self, T>,
        _options: &Options,
        _outputs: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        Ok(())
    }
}
