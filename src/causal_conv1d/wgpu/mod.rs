//! The WGSL kernels: what a convolution records into a command encoder.
//!
//! Parameters and states come by way of a scratch buffer, as f32, with the masks of `seq_idx` or the
//! bounds of sequences behind them; activations are bound where they lie, and what is written in
//! f32 as well ([`call`]). Batches that no binding can hold are recorded in parts ([`parts`]).

use super::check::CHECK;
use super::{
    CausalConv1d, GradientsMut, Inputs, NAME, Options, OutputGradients, OutputsMut, Pass, Plan,
    Problem, plan,
};
use crate::backend::Backend;
use crate::backend::kernel::VariantInfo;
use crate::backend::wgpu::{Recorder, Wgpu};
use crate::element::DeviceFloat;
use crate::tensor::View;
use crate::{Error, Result};

mod backward;
mod call;
mod forward;
mod parts;

pub(super) use call::sign_at;

/// Records the convolution into the caller's encoder; nothing is submitted. The encoder and the
/// tensors must be of `device`. The caller's tensors must not share memory with one another or with
/// an input where they are written.
///
/// # Errors
///
/// As [`forward_into`](super::forward_into); [`Error::Unsupported`] for tensors in buffers that
/// lack a usage of [`WgpuBuffer::USAGES`](crate::backend::wgpu::WgpuBuffer::USAGES). An encoder
/// into which a call has failed to record should be dropped.
pub fn record_forward<T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, Wgpu, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    CHECK.same_device(device, inputs.named())?;
    problem.check_outputs(inputs, outputs)?;
    plan::wgpu(&device.name(), &device.limits(), Pass::Forward, &problem, options).map(drop)?;
    forward::record(&mut Recorder::new(device, encoder), device, &problem, inputs, options, outputs)
}

/// Records the backward pass into the caller's encoder, as [`record_forward`] does.
///
/// # Errors
///
/// As [`backward_into`](super::backward_into) and [`record_forward`].
pub fn record_backward<T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    inputs: &Inputs<'_, Wgpu, T>,
    gradients: &OutputGradients<'_, Wgpu, T>,
    options: &Options,
    outputs: &mut GradientsMut<'_, Wgpu, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    CHECK.same_device(device, inputs.named())?;
    problem.check_gradients(inputs, gradients)?;
    problem.check_input_gradients(inputs, gradients, outputs)?;
    let plan = plan::wgpu(&device.name(), &device.limits(), Pass::Backward, &problem, options)?;
    let mut recorder = Recorder::new(device, encoder);
    backward::record(&mut recorder, device, &plan, &problem, inputs, gradients, options, outputs)
}

impl<T: DeviceFloat> CausalConv1d<T> for Wgpu {
    fn plan(&self, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::wgpu(&self.name(), &self.limits(), pass, problem, options)
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let named = |info: &&VariantInfo| info.name == plan.variant;
        let infos = forward::infos::<T>().chain(backward::infos::<T>());
        // Those of the plan's pass.
        let pass = infos.clone().find(named).map(|info| info.pass);
        infos.filter(|info| Some(info.pass) == pass).try_for_each(|info| self.preload(info))
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        submit(self, plan, |recorder| {
            forward::record(recorder, self, problem, inputs, options, outputs)
        })
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        gradients: &OutputGradients<'_, Self, T>,
        options: &Options,
        outputs: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        submit(self, plan, |recorder| {
            backward::record(recorder, self, plan, problem, inputs, gradients, options, outputs)
        })
    }
}

/// Records into an encoder of our own, and submits it.
pub(in crate::causal_conv1d) fn submit(
    device: &Wgpu,
    plan: &Plan,
    record: impl FnOnce(&mut Recorder<'_>) -> Result<()>,
) -> Result<()> {
    let descriptor = ::wgpu::CommandEncoderDescriptor { label: Some(plan.variant) };
    let mut encoder = device.device().create_command_encoder(&descriptor);
    record(&mut Recorder::new(device, &mut encoder))?;
    device.submit(encoder)
}

/// The buffers can be used.
fn check_usages<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a View<Wgpu>)>) -> Result<()> {
    tensors.into_iter().try_for_each(|(name, view)| view.buffer().check_usages(NAME, name))
}

fn refused(device: &Wgpu, what: String) -> Error {
    crate::backend::wgpu::refused(NAME, device, what)
}
