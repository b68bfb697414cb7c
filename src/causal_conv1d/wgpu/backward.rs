//! The backward pass: dx and the sums of each span, then the sums of all, and ds0.

use super::call::{Activation, Call, flag, slice_of_rows};
use super::check_usages;
use super::forward::{of, variant};
use super::parts::{Part, parts};
use crate::Result;
use crate::backend::kernel::VariantInfo;
use crate::backend::wgpu::{Recorder, Slice, Wgpu, WgpuBuffer, folded};
use crate::backend::{Backend, Buffer};
use crate::causal_conv1d::kernels::{
    BackwardInitialWgsl, BackwardInitialWgslParams, BackwardSumsWgsl, BackwardSumsWgslParams,
    BackwardWgsl, BackwardWgslParams, ForwardWgslParams, MasksWgsl,
};
use crate::causal_conv1d::{GradientsMut, Inputs, Options, OutputGradients, Plan, Problem, plan};
use crate::element::DeviceFloat;
use crate::tensor::View;

// The parameters are filled in once for all kernels.
const _: () = assert!(size_of::<ForwardWgslParams>() == size_of::<BackwardWgslParams>());
const _: () = assert!(size_of::<ForwardWgslParams>() == size_of::<BackwardInitialWgslParams>());

/// The kernels of the pass.
pub(super) fn infos<T: DeviceFloat>() -> impl Iterator<Item = &'static VariantInfo> + Clone {
    let backward = BackwardWgsl::VARIANTS.iter().map(|one| one.info);
    let initial = BackwardInitialWgsl::VARIANTS.iter().map(|one| one.info);
    let sums = BackwardSumsWgsl::VARIANTS.iter().map(|one| one.info);
    let masks = MasksWgsl::VARIANTS.iter().map(|one| one.info);
    backward.chain(initial).filter(of::<T>).chain(sums).chain(masks)
}

/// The backward pass of a call.
struct Backward<'a, T: DeviceFloat> {
    call: Call<'a, T>,
    dout: Option<&'a View<Wgpu>>,
    dx: Option<&'a View<Wgpu>>,
    ds0: Option<&'a View<Wgpu>>,
    variant: &'static str,
    spans: plan::WgpuSpans,
    /// What the spans leave, (spans, W + 1, D), where sums are wanted.
    parts: Option<WgpuBuffer>,
}

#[expect(clippy::too_many_arguments, reason = "the call as the trait gives it, and the recorder")]
pub(super) fn record<T: DeviceFloat>(
    recorder: &mut Recorder<'_>,
    device: &Wgpu,
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    gradients: &OutputGradients<'_, Wgpu, T>,
    options: &Options,
    outputs: &GradientsMut<'_, Wgpu, T>,
) -> Result<()> {
    if problem.channels == 0 {
        return Ok(());
    }
    let tensors = inputs.named().into_iter().chain(gradients.named());
    check_usages(tensors.chain(outputs.named()))?;
    let kernel = BackwardWgsl::VARIANTS.iter().find(|one| one.info.name == plan.variant);
    let info = kernel.unwrap_or(&BackwardWgsl::VARIANTS[0]).info;
    let spans = plan::WgpuSpans::new(&device.limits(), problem, info);
    let summed = outputs.dweight.is_some() || outputs.dbias.is_some();
    let numbers = (problem.width as u64 + 1) * problem.channels as u64;
    let parts_bytes = spans.all().saturating_mul(4 * numbers).max(4);
    let backward = Backward {
        call: Call { device, problem, inputs, options, dfinal: gradients.dfinal_state },
        dout: gradients.dout.map(|dout| &**dout),
        dx: outputs.dx.as_deref().map(|dx| &**dx),
        ds0: outputs.ds0.as_deref().filter(|ds0| ds0.elements() > 0).map(|ds0| &**ds0),
        variant: info.name,
        spans,
        parts: if summed { Some(device.allocate(parts_bytes)?) } else { None },
    };
    let mut activations: Vec<(&str, &View<Wgpu>)> = vec![("x", inputs.x)];
    activations.extend(backward.dout.map(|dout| ("dout", dout)));
    activations.extend(backward.dx.map(|dx| ("dx", dx)));
    for part in parts(device, problem, &activations)? {
        backward.record(recorder, &part)?;
    }
    match &backward.parts {
        Some(parts) => backward.record_sums(recorder, parts, outputs),
        None => Ok(()),
    }
}

impl<T: DeviceFloat> Backward<'_, T> {
    fn record(&self, recorder: &mut Recorder<'_>, part: &Part) -> Result<()> {
        let prepared = self.call.prepare(recorder, part)?;
        let scratch = prepared.scratch();
        let activation = |view: Option<&'_ View<Wgpu>>| match view {
            Some(view) => self.call.activation(view, part).map(|found| (found.at, found.strides)),
            None => Ok((0, [0; 3])),
        };
        let (dout_at, [dout_batch, dout_channel, dout_time]) = activation(self.dout)?;
        let (y_at, [y_batch, y_channel, y_time]) = activation(self.dx)?;
        let has = |set: bool, flag: u32| if set { flag } else { 0 };
        let params = ForwardWgslParams {
            span: self.spans.tiles as u32,
            spans: self.call.small("spans", self.spans.of_row as usize)?,
            flags: prepared.params.flags
                | has(self.dout.is_some(), flag::HAS_DOUT)
                | has(self.dx.is_some(), flag::HAS_Y)
                | has(self.parts.is_some(), flag::HAS_SUMS),
            dout_at,
            dout_batch,
            dout_channel,
            dout_time,
            y_at,
            y_batch,
            y_channel,
            y_time,
            ..prepared.params
        };
        self.record_spans(recorder, part, params, scratch)?;
        match self.ds0 {
            Some(ds0) => self.record_initial(recorder, part, params, scratch, ds0),
            None => Ok(()),
        }
    }

    /// A tensor of the part, or scratch in its place.
    fn slice<'v>(
        &self,
        view: Option<&'v View<Wgpu>>,
        part: &Part,
        scratch: Slice<'v>,
    ) -> Result<Slice<'v>> {
        let found = match view {
            Some(view) => self.call.activation(view, part)?,
            None => Activation::ABSENT,
        };
        Ok(found.slice.unwrap_or(scratch))
    }

    /// dx, and the sums of each span.
    fn record_spans(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        mut params: ForwardWgslParams,
        scratch: Slice<'_>,
    ) -> Result<()> {
        let (device, problem) = (self.call.device, self.call.problem);
        let spans = part.entries.len() as u64 * self.spans.of_row;
        if spans == 0 {
            return Ok(());
        }
        let kernel = BackwardWgsl::VARIANTS.iter().find(|one| one.info.name == self.variant);
        let kernel = kernel.unwrap_or(&BackwardWgsl::VARIANTS[0]);
        let of_row = self.spans.of_row as usize * (problem.width + 1) * problem.channels;
        params.state_at = self.call.small("sums", part.entries.start * of_row)?;
        let grid = folded(spans.saturating_mul(self.spans.channel_blocks), device.limits().grid);
        let grid = grid.ok_or_else(|| super::refused(device, format!("{spans} spans")))?;
        let parts = self.parts.as_ref();
        let kernel_call = BackwardWgsl {
            params: bytemuck::cast::<_, BackwardWgslParams>(params),
            x: self.slice(Some(self.call.inputs.x), part, scratch)?,
            dout: self.slice(self.dout, part, scratch)?,
            y: self.slice(self.dx, part, scratch)?,
            scratch,
            parts: parts.map_or(scratch, |parts| Slice::new(parts, 0..parts.bytes())),
        };
        kernel_call.record(recorder, kernel, grid)
    }

    fn record_initial(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        params: ForwardWgslParams,
        scratch: Slice<'_>,
        ds0: &View<Wgpu>,
    ) -> Result<()> {
        let problem = self.call.problem;
        let kernel = variant::<T, _>(BackwardInitialWgsl::VARIANTS);
        let state = problem.channels * problem.history();
        let target = slice_of_rows(ds0, &part.rows, state);
        let state_at = (target.skipped(self.call.device) / 4) as u32;
        let params = ForwardWgslParams { state_at, ..params };
        let grid = self.call.grid((part.rows.len() * state) as u64, kernel.info.block[0])?;
        let kernel_call = BackwardInitialWgsl {
            params: bytemuck::cast::<_, BackwardInitialWgslParams>(params),
            x: self.slice(Some(self.call.inputs.x), part, scratch)?,
            dout: self.slice(self.dout, part, scratch)?,
            scratch,
            ds0: target,
        };
        kernel_call.record(recorder, &kernel, grid)
    }

    /// The sums of all spans.
    fn record_sums(
        &self,
        recorder: &mut Recorder<'_>,
        parts: &WgpuBuffer,
        outputs: &GradientsMut<'_, Wgpu, T>,
    ) -> Result<()> {
        let (device, problem) = (self.call.device, self.call.problem);
        let kernel = &BackwardSumsWgsl::VARIANTS[0];
        let whole = Slice::new(parts, 0..parts.bytes());
        let dweight = outputs.dweight.as_deref().map(|dweight| placed(device, dweight));
        let dbias = outputs.dbias.as_deref().map(|dbias| placed(device, dbias));
        let flags = u32::from(dweight.is_some()) + 2 * u32::from(dbias.is_some());
        let ((dweight, dweight_at), (dbias, dbias_at)) =
            (dweight.unwrap_or((whole, 0)), dbias.unwrap_or((whole, 0)));
        let params = BackwardSumsWgslParams {
            count: self.call.small("spans", self.spans.all() as usize)?,
            channels: self.call.small("channels", problem.channels)?,
            width: problem.width as u32,
            dweight_at,
            dbias_at,
            flags,
        };
        let numbers = (problem.width as u64 + 1) * problem.channels as u64;
        let grid = self.call.grid(numbers, kernel.info.block[0])?;
        BackwardSumsWgsl { params, parts: whole, dweight, dbias }.record(recorder, kernel, grid)
    }
}

/// A tensor of f32, and its first element's index in the binding.
fn placed<'a>(device: &Wgpu, view: &'a View<Wgpu>) -> (Slice<'a>, u32) {
    let slice = Slice::new(view.buffer(), view.byte_range());
    (slice, (slice.skipped(device) / 4) as u32)
}
