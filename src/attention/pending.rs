//! Devices whose kernels are not written yet: calls on them say so.

use super::{
    Attention, GradientsMut, Inputs, NAME, Options, OutputGradients, OutputsMut, Plan, Problem,
};
use crate::backend::Backend;
use crate::element::DeviceFloat;
use crate::tensor::Tensor;
use crate::{Error, Result};

fn pending(backend: &impl Backend) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: backend.name(),
        what: "attention blocks".to_owned(),
        instead: "use the device cpu: kernels of other devices follow".to_owned(),
    }
}

macro_rules! pending {
    ($backend:ty) => {
        impl<T: DeviceFloat> Attention<T> for $backend {
            fn plan_forward(&self, _problem: &Problem, _options: &Options) -> Result<Plan> {
                Err(pending(self))
            }

            fn plan_backward(&self, _problem: &Problem, _options: &Options) -> Result<Plan> {
                Err(pending(self))
            }

            fn launch_forward(
                &self,
                _plan: &Plan,
                _problem: &Problem,
                _inputs: &Inputs<'_, Self, T>,
                _options: &Options,
                _outputs: &OutputsMut<'_, Self, T>,
            ) -> Result<()> {
                Err(pending(self))
            }

            fn launch_row_terms(
                &self,
                _problem: &Problem,
                _out: &Tensor<Self, T>,
                _lse: &Tensor<Self, f32>,
                _given: &OutputGradients<'_, Self, T>,
                _delta: &Tensor<Self, f32>,
            ) -> Result<()> {
                Err(pending(self))
            }

            fn launch_backward(
                &self,
                _plan: &Plan,
                _problem: &Problem,
                _inputs: &Inputs<'_, Self, T>,
                _options: &Options,
                _rows: [&Tensor<Self, f32>; 2],
                _dout: &Tensor<Self, T>,
                _gradients: &GradientsMut<'_, Self, T>,
            ) -> Result<()> {
                Err(pending(self))
            }

            fn preload(&self, _plan: &Plan) -> Result<()> {
                Err(pending(self))
            }
        }
    };
}

pending!(crate::backend::cuda::Cuda);
