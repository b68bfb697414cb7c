//! Variable B and C on their way to the walk, and the places of their gradients.

use super::super::parts::Part;
use super::super::tensors::Activation;
use super::{Call, for_element};
use crate::Result;
use crate::backend::wgpu::Wgpu;
use crate::backend::wgpu::{Recorder, Slice, workgroups};
use crate::element::DeviceFloat;
use crate::selective_scan::kernels::{
    BackwardMapsWgsl, BackwardMapsWgslParams, BackwardWgslParams,
};
use crate::selective_scan::{Layout, NAME};
use crate::tensor::View;

impl<T: DeviceFloat> Call<'_, T> {
    /// Variable B and C of the segment.
    pub(super) fn record_maps(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        walk: &BackwardWgslParams,
    ) -> Result<()> {
        let &Self { device, problem, call, .. } = self;
        let maps = [
            (call.inputs.b.view(), problem.b_constant, walk.b_at),
            (call.inputs.c.view(), problem.c_constant, walk.c_at),
        ];
        for (view, constant, target_at) in maps {
            let map = if constant { Map::ABSENT } else { Map::of(self, view, part)? };
            let Some(source) = map.slice else { continue };
            let variant = for_element(device, BackwardMapsWgsl::VARIANTS, T::DTYPE)?;
            let width = self.spread.capacity();
            // Scratch has room for as many words.
            let count = walk.batch * walk.groups * walk.length * width;
            let params = BackwardMapsWgslParams {
                count,
                groups: walk.groups,
                length: walk.length,
                width,
                steps: walk.steps,
                states: walk.states,
                start: walk.start,
                source_at: map.at,
                source_batch: map.batch,
                source_group: map.group,
                source_state: map.state,
                source_time: map.time,
                target_at,
            };
            let grid = workgroups(NAME, device, count, variant.info.block[0])?;
            BackwardMapsWgsl { params, source, target_words: scratch }
                .record(recorder, variant, grid)?;
        }
        Ok(())
    }
}

/// A map, or the gradient of one, as kernels find it.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub slice: Option<Slice<'a>>,
    pub at: u32,
    pub batch: u32,
    pub group: u32,
    pub state: u32,
    pub time: u32,
}

impl<'a> Map<'a> {
    pub const ABSENT: Self = Self { slice: None, at: 0, batch: 0, group: 0, state: 0, time: 0 };

    pub fn of<T: DeviceFloat>(
        call: &Call<'_, T>,
        view: &'a View<Wgpu>,
        part: &Part,
    ) -> Result<Self> {
        let Activation { slice, at, strides } = Activation::of(call.device, view, &part.batch)?;
        let [batch, second, third, _] = strides;
        Ok(match call.problem.layout {
            Layout::Bdl => Self { slice, at, batch, group: second, state: third, time: 1 },
            Layout::Bld => Self { slice, at, batch, group: third, state: 1, time: second },
        })
    }
}
