//! Not there yet.

use super::{CausalConv1dUpdate, Inputs, NAME, Problem};
use crate::backend::Backend;
use crate::backend::wgpu::Wgpu;
use crate::causal_conv1d::{Options, Plan};
use crate::element::DeviceFloat;
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

impl<T: DeviceFloat> CausalConv1dUpdate<T> for Wgpu {
    fn plan_update(&self, _problem: &Problem, _options: &Options) -> Result<Plan> {
        Err(Error::Unsupported {
            operation: NAME,
            backend: self.name(),
            what: "this operation yet".to_owned(),
            instead: "use cpu".to_owned(),
        })
    }
    fn preload_update(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
    fn launch_update(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        _inputs: &Inputs<'_, Self, T>,
        _conv_state: &View<Self>,
        _options: &Options,
        _out: &Tensor<Self, T>,
    ) -> Result<()> {
        Ok(())
    }
}
