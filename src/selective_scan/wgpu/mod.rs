//! The WGSL kernels: what a scan records into a command encoder.
//!
//! A scan is recorded as copies of small tensors into a scratch buffer, one compute pass, and
//! copies of the states out of a workspace buffer; where the device allows 16 storage buffers,
//! small tensors are bound where they lie and most copies fall away. The pass widens parameters
//! that are not f32, turns what separates documents into codes, and scans: serially
//! in time, or first each chunk's end, then the carries, then each chunk ([`forward`]). The backward
//! pass goes down in time, segment by segment, and sums what workgroups leave ([`backward`]). Batches
//! that no binding can hold are recorded in parts ([`parts`]).

use super::kernels::{ForwardChunkedWgsl, ForwardDirectWgsl, ForwardSerialWgsl};
use super::{
    BackwardCall, GradientsMut, Inputs, NAME, Options, OutputGradients, OutputsMut, Plan, Problem,
    SelectiveScan, check::CHECK, plan,
};
use crate::backend::Backend;
use crate::backend::kernel::{Variant, VariantInfo};
use crate::backend::wgpu::{Wgpu, refused};
use crate::element::DeviceFloat;
use crate::tensor::Tensor;
use crate::{Error, Result};

mod backward;
mod flag;
mod forward;
mod parts;
mod tensors;

/// Records the scan into the caller's encoder; nothing is submitted. The encoder and the tensors
/// must be of `device`. The caller's tensors must not share memory with one another or with an
/// input where they are written.
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
    let plan = plan::wgpu(&problem, &device.limits(), options, &device.name())?;
    record(device, encoder, &plan, &problem, inputs, options, outputs)
}

/// Records the backward pass into the caller's encoder, as [`record_forward`] does the forward one.
///
/// # Errors
///
/// As [`backward_into`](super::backward_into) and [`record_forward`].
pub fn record_backward<T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
    saved: &Tensor<Wgpu, f32>,
    outer: &OutputGradients<'_, Wgpu, T>,
    gradients: &mut GradientsMut<'_, Wgpu, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    CHECK.same_device(device, inputs.named())?;
    problem.check_output_gradients(inputs, saved, outer)?;
    problem.check_gradients(inputs, saved, outer, options, gradients)?;
    let plan = plan::wgpu_backward(&problem, &device.limits(), options, &device.name())?;
    let call = BackwardCall { inputs, options, saved, outer };
    backward::record(device, encoder, &plan, &problem, &call, gradients)
}

impl<T: DeviceFloat> SelectiveScan<T> for Wgpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::wgpu(problem, &self.limits(), options, &self.name())
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        let mut encoder = self.device().create_command_encoder(&::wgpu::CommandEncoderDescriptor {
            label: Some(plan.variant),
        });
        record(self, &mut encoder, plan, problem, inputs, options, outputs)?;
        self.submit(encoder)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::wgpu_variants(problem, &self.limits(), options, &self.name())
    }

    fn preload_forward(&self, plan: &Plan) -> Result<()> {
        let kernels = Kernels::of(self, plan)?;
        for info in kernels.infos() {
            self.preload(info)?;
        }
        Ok(())
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::wgpu_backward(problem, &self.limits(), options, &self.name())
    }

    fn preload_backward(&self, plan: &Plan) -> Result<()> {
        backward::preload(self, plan)
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        call: &BackwardCall<'_, Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        let mut encoder = self.device().create_command_encoder(&::wgpu::CommandEncoderDescriptor {
            label: Some(plan.variant),
        });
        backward::record(self, &mut encoder, plan, problem, call, gradients)?;
        self.submit(encoder)
    }
}

fn record<T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Wgpu, T>,
) -> Result<()> {
    if problem.rows == 0 || problem.channels == 0 {
        return Ok(());
    }
    for (name, view) in inputs.named().into_iter().chain(outputs.named()) {
        view.buffer().check_usages(NAME, name)?;
    }
    let kernels = Kernels::of(device, plan)?;
    let call = forward::Call { device, kernels, plan, problem, inputs, options, outputs };
    for part in parts::parts(device, problem, &call.demands())? {
        call.record(encoder, &part)?;
    }
    Ok(())
}

/// The plan is not one of this device's.
fn wrong_plan(device: &Wgpu, plan: &Plan) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what: format!("the plan's variant `{}`", plan.variant),
        instead: "plan the call for this device".to_owned(),
    }
}

/// A size as kernels take it.
fn word(device: &Wgpu, what: &str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("{size} {what}")))
}

/// The kernel that writes the output.
#[derive(Clone, Copy)]
enum Scan {
    /// Small tensors come through scratch.
    Serial(Variant<ForwardSerialWgsl<'static>>),
    /// Small tensors have bindings of their own.
    Direct(Variant<ForwardDirectWgsl<'static>>),
}

/// The kernels of a plan.
#[derive(Clone, Copy)]
struct Kernels {
    /// The first pass, where time is cut into chunks.
    ends: Option<Variant<ForwardChunkedWgsl<'static>>>,
    scan: Scan,
}

impl Kernels {
    /// Looks the plan's variant up, and the partners that it runs with.
    fn of(device: &Wgpu, plan: &Plan) -> Result<Self> {
        let named = |info: &VariantInfo| info.name == plan.variant;
        let ends = ForwardChunkedWgsl::VARIANTS.iter().find(|one| named(one.info)).copied();
        let wanted = |info: &'static VariantInfo| match ends {
            Some(ends) => plan::Spread { info }.matches(ends.info),
            None => named(info),
        };
        let direct = || ForwardDirectWgsl::VARIANTS.iter().find(|one| wanted(one.info));
        let serial = || ForwardSerialWgsl::VARIANTS.iter().find(|one| wanted(one.info));
        let scan = match ends.is_none() || plan::binds_directly(&device.limits()) {
            true => direct().copied().map(Scan::Direct),
            false => None,
        };
        match scan.or_else(|| serial().copied().map(Scan::Serial)) {
            Some(scan) => Ok(Self { ends, scan }),
            None => Err(wrong_plan(device, plan)),
        }
    }

    fn infos(&self) -> impl Iterator<Item = &'static VariantInfo> {
        let scan = match self.scan {
            Scan::Serial(variant) => variant.info,
            Scan::Direct(variant) => variant.info,
        };
        self.ends.map(|ends| ends.info).into_iter().chain([scan])
    }

    fn is_direct(&self) -> bool {
        matches!(self.scan, Scan::Direct(_))
    }
}
