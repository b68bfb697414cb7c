//! The CUDA backend: not there yet.

use super::{Call, Options, Plan, Problem, StateUpdate, not_there};
use crate::Result;
use crate::backend::cuda::Cuda;
use crate::element::DeviceFloat;

impl<T: DeviceFloat> StateUpdate<T> for Cuda {
    fn plan(&self, _problem: &Problem, _options: &Options) -> Result<Plan> {
        Err(not_there(self))
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Err(not_there(self))
    }

    fn launch(&self, _plan: &Plan, _problem: &Problem, _call: &Call<'_, Self, T>) -> Result<()> {
        Err(not_there(self))
    }
}
