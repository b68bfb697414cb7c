//! No kernels yet.

use super::{
    Gradients, Inputs, NAME, Options, OutputGradients, OutputsMut, Plan, Problem, Rnn, Saved,
};
use crate::backend::Backend;
use crate::backend::wgpu::Wgpu;
use crate::element::DeviceFloat;
use crate::tensor::Tensor;
use crate::{Error, Result};

impl<T: DeviceFloat> Rnn<T> for Wgpu {
    fn plan_forward(&self, _problem: &Problem, _options: &Options) -> Result<Plan> {
        Err(Error::Unsupported {
            operation: NAME,
            backend: self.name(),
            what: "recurrent cells".to_owned(),
            instead: "use the device cpu".to_owned(),
        })
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        Rnn::<T>::plan_forward(self, problem, options)
    }

    fn launch_forward(
        &self,
        _plan: &Plan,
        problem: &Problem,
        _inputs: &Inputs<'_, Self, T>,
        options: &Options,
        _outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        Rnn::<T>::plan_forward(self, problem, options).map(drop)
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        problem: &Problem,
        _inputs: &Inputs<'_, Self, T>,
        options: &Options,
        _h: &Tensor<Self, T>,
        _saved: &Saved<Self, T>,
        _given: &OutputGradients<'_, Self, T>,
        _gradients: &Gradients<Self, T>,
    ) -> Result<()> {
        Rnn::<T>::plan_forward(self, problem, options).map(drop)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }
}
