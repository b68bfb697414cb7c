//! The backward pass: x and y backwards in time, dv and ds, then what is made of ds, and sums of
//! parts.

use super::super::{
    Carry, Gradients, Inputs, Options, OutputGradients, Problem, Saved, ScoreGradients, Scores,
};
use super::forward::workgroups;
use super::{Lines, Rooms, Slices, Tokens, copy_out, flag, for_element, spans, word};
use crate::Result;
use crate::backend::kernel::common::{SumWgsl, SumWgslParams};
use crate::backend::wgpu::{Recorder, Slice, Wgpu};
use crate::element::{DType, DeviceFloat};
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    BackwardCarryWgsl, BackwardCarryWgslParams, BackwardChunkedWgsl, BackwardChunkedWgslParams,
    BackwardKeysWgsl, BackwardKeysWgslParams, BackwardStatesWgsl, BackwardStatesWgslParams,
    BackwardWgsl, BackwardWgslParams,
};
use crate::scan_attention::plan::columns;

// The parameters are filled in once for both entries.
const _: () = assert!(size_of::<BackwardWgslParams>() == size_of::<BackwardChunkedWgslParams>());

/// A checked call.
pub(super) struct Call<'a, T: DeviceFloat> {
    pub device: &'a Wgpu,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Wgpu, T>,
    pub options: &'a Options,
    pub saved: &'a Saved<Wgpu, T>,
    pub given: &'a OutputGradients<'a, Wgpu, T>,
    pub gradients: &'a Gradients<Wgpu, T>,
}

/// Words of scratch.
struct Places {
    tokens: Tokens,
    /// m0, u0, w0.
    carry: [u32; 3],
    q: u32,
    du: u32,
    dw: u32,
    saved_m: u32,
    saved_u: u32,
    /// (column blocks, B, H, L).
    ds: u32,
    /// (column blocks, rows, H).
    y: u32,
    /// (rows, H, Dv).
    x: u32,
    dm0: u32,
    du0: u32,
    /// (B, H, L, Dv), where several heads share values.
    dv: u32,
    /// (B, tiles, H, Dk).
    dq: u32,
    /// Of a chunked schedule: x, y and how they fade, (rows, H, chunks, Dv), (column blocks, rows,
    /// H, chunks) and (rows, H, chunks).
    between: Option<[u32; 3]>,
}

impl<T: DeviceFloat> Call<'_, T> {
    pub fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let problem = self.problem;
        let mut rooms = Rooms::new(self.device);
        let places = self.places(&mut rooms)?;
        let scratch = rooms.scratch.fill(self.device, recorder)?;
        let scratch = Slices(&scratch);
        if problem.rows > 0 && problem.heads > 0 {
            self.record_main(recorder, &scratch, &places)?;
        }
        if let Some(carry) = &self.gradients.carry {
            self.record_states(recorder, &scratch, &places)?;
            copy_out(recorder, &scratch, places.dm0, &carry.m);
            copy_out(recorder, &scratch, places.du0, &carry.u);
            copy_out(recorder, &scratch, places.x, &carry.w);
        }
        let &Problem { batch, heads, steps, width, value_heads, .. } = problem;
        if problem.group() > 1 {
            let dv = Lines::of(self.device, &self.gradients.v, problem.layout)?;
            let parts = Parts {
                at: places.dv,
                count: problem.group(),
                line_stride: problem.group() * steps * width,
                part_stride: steps * width,
            };
            let sizes = [batch, value_heads, steps, width];
            self.record_sum(recorder, &scratch, &parts, &dv, T::DTYPE, sizes)?;
        }
        match &self.gradients.scores {
            ScoreGradients::Given(ds) => {
                let target = Lines::of_scores(self.device, ds)?;
                let parts = Parts {
                    at: places.ds,
                    count: columns(width),
                    line_stride: steps,
                    part_stride: batch * heads * steps,
                };
                let sizes = [batch, heads, steps, 1];
                self.record_sum(recorder, &scratch, &parts, &target, ds.dtype(), sizes)
            }
            ScoreGradients::Keys { .. } => self.record_keys(recorder, &scratch, &places),
        }
    }

    fn places<'b>(&'b self, rooms: &mut Rooms<'b>) -> Result<Places> {
        let problem = self.problem;
        let &Problem { batch, heads, steps, width, rows, .. } = problem;
        let carry = match &self.inputs.carry {
            Some(Carry { m, u, w }) => {
                [rooms.parameter(m.view())?, rooms.parameter(u.view())?, rooms.parameter(w.view())?]
            }
            None => [0; 3],
        };
        let grouped = if problem.group() > 1 { steps } else { 0 };
        let key_width = problem.key_width.unwrap_or(0);
        Ok(Places {
            tokens: rooms.tokens(problem, self.inputs)?,
            carry,
            q: match &self.inputs.scores {
                Scores::Keys { q, .. } => rooms.parameter(q.view())?,
                Scores::Given(_) => 0,
            },
            du: rooms.optional(self.given.u)?,
            dw: rooms.optional(self.given.w)?,
            saved_m: rooms.parameter(&self.saved.m)?,
            saved_u: rooms.parameter(&self.saved.u)?,
            ds: rooms.room(&[columns(width), batch, heads, steps])?,
            y: rooms.room(&[columns(width), rows, heads])?,
            x: rooms.room(&[rows, heads, width])?,
            dm0: rooms.room(&[rows, heads])?,
            du0: rooms.room(&[rows, heads])?,
            dv: rooms.room(&[batch, heads, grouped, width])?,
            dq: rooms.room(&[batch, problem.tiles(), heads, key_width])?,
            between: match self.plan.schedule {
                Schedule::Serial => None,
                Schedule::Chunked { .. } => {
                    let chunks = spans(self.device, self.plan, problem)?.0 as usize;
                    Some([
                        rooms.room(&[rows, heads, chunks, width])?,
                        rooms.room(&[columns(width), rows, heads, chunks])?,
                        rooms.room(&[rows, heads, chunks])?,
                    ])
                }
            },
        })
    }

    fn record_main(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: &Slices<'_>,
        places: &Places,
    ) -> Result<()> {
        let Self { device, problem, inputs, .. } = *self;
        let &Problem { batch, heads, steps, width, rows, layout, .. } = problem;
        let (scores, narrow) = match (&inputs.scores, &self.saved.scores) {
            (Scores::Given(s), _) => (Lines::of_scores(device, s)?, s.dtype() != DType::F32),
            (_, Some(scores)) => (Lines::of_scores(device, scores)?, false),
            (_, None) => (Lines::ABSENT, false),
        };
        let v = Lines::of(device, inputs.v, layout)?;
        let d_o = self.given.o.map_or(Ok(Lines::ABSENT), |o| Lines::of(device, o, layout))?;
        // With parts, dv is written by their sum.
        let dv = match problem.group() > 1 {
            true => Lines::ABSENT,
            false => Lines::of(device, &self.gradients.v, layout)?,
        };
        let mut flags = places.tokens.flags;
        for (set, flag) in [
            (inputs.carry.is_some(), flag::HAS_CARRY),
            (narrow, flag::NARROW_SCORES),
            (self.given.o.is_some(), flag::HAS_DO),
            (self.given.u.is_some(), flag::HAS_DU),
            (self.given.w.is_some(), flag::HAS_DW),
            (problem.group() > 1, flag::PARTS),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let whole = scratch.whole();
        let saved_w = &self.saved.w;
        let saved_w = match saved_w.elements() {
            0 => whole,
            _ => Slice::new(saved_w.buffer(), saved_w.byte_range()),
        };
        let (chunks, chunk) = spans(device, self.plan, problem)?;
        let (count, grid) = workgroups(device, &[rows, heads, chunks as usize, columns(width)])?;
        let mut params = BackwardWgslParams {
            heads: word(device, "heads", heads)?,
            group: word(device, "heads", problem.group())?,
            steps: word(device, "steps", steps)?,
            width: word(device, "features", width)?,
            columns: word(device, "column blocks", columns(width))?,
            chunks,
            chunk,
            tiles: word(device, "tiles", problem.tiles())?,
            flags,
            count,
            scores_at: scores.at,
            scores_batch: scores.batch,
            scores_head: scores.head,
            v_at: v.at,
            v_batch: v.batch,
            v_head: v.head,
            v_time: v.time,
            d_o_at: d_o.at,
            d_o_batch: d_o.batch,
            d_o_head: d_o.head,
            d_o_time: d_o.time,
            dv_at: dv.at,
            dv_batch: dv.batch,
            dv_head: dv.head,
            dv_time: dv.time,
            saved_w_at: (saved_w.skipped(device) / 4) as u32,
            saved_m_at: places.saved_m,
            saved_u_at: places.saved_u,
            m0_at: places.carry[0],
            u0_at: places.carry[1],
            w0_at: places.carry[2],
            codes_at: places.tokens.codes_at,
            mask_at: places.tokens.mask_at,
            bounds_at: places.tokens.bounds_at,
            du_at: places.du,
            dw_at: places.dw,
            ds_at: places.ds,
            ds_column: word(device, "scores", batch * heads * steps)?,
            y_at: places.y,
            lines: word(device, "heads of rows", rows * heads)?,
            x_at: places.x,
            dv_parts_at: places.dv,
            fades_at: 0,
        };
        if let Some([x_at, y_at, fades_at]) = places.between {
            // What each chunk hands on when nothing comes from behind, then what does come.
            let fronts = BackwardWgslParams {
                flags: flags & !(flag::HAS_DU | flag::HAS_DW),
                x_at,
                y_at,
                fades_at,
                ..params
            };
            let variant = for_element(device, BackwardChunkedWgsl::VARIANTS, T::DTYPE)?;
            BackwardChunkedWgsl {
                // Both entries come of one template; the sizes are compared above.
                params: bytemuck::cast::<_, BackwardChunkedWgslParams>(fronts),
                scores: scores.bound(whole),
                v: v.bound(whole),
                d_o: d_o.bound(whole),
                saved_w,
                scratch: whole,
            }
            .record(recorder, variant, grid)?;
            let variant = &BackwardCarryWgsl::VARIANTS[0];
            let count = rows * heads * width.max(1);
            let (_, grid) = workgroups(device, &[count.div_ceil(variant.info.block[0] as usize)])?;
            let carry = BackwardCarryWgslParams {
                count: word(device, "features", count)?,
                lines: params.lines,
                width: params.width,
                chunks,
                flags,
                du_at: places.du,
                dw_at: places.dw,
                x_at,
                y_at,
                fades_at,
            };
            BackwardCarryWgsl { params: carry, scratch: whole }.record(recorder, variant, grid)?;
            (params.dw_at, params.du_at) = (x_at, y_at);
            params.flags |= flag::HAS_DU | flag::HAS_DW;
        }
        BackwardWgsl {
            params,
            scores: scores.bound(whole),
            v: v.bound(whole),
            d_o: d_o.bound(whole),
            dv: dv.bound(whole),
            saved_w,
            scratch: whole,
        }
        .record(recorder, for_element(device, BackwardWgsl::VARIANTS, T::DTYPE)?, grid)
    }

    /// dm0 and du0.
    fn record_states(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: &Slices<'_>,
        places: &Places,
    ) -> Result<()> {
        let Self { device, problem, .. } = *self;
        let variant = &BackwardStatesWgsl::VARIANTS[0];
        let lines = problem.rows * problem.heads;
        let (_, grid) = workgroups(device, &[lines.div_ceil(variant.info.block[0] as usize)])?;
        let params = BackwardStatesWgslParams {
            lines: word(device, "heads of rows", lines)?,
            width: word(device, "features", problem.width)?,
            columns: word(device, "column blocks", columns(problem.width))?,
            u0_at: places.carry[1],
            w0_at: places.carry[2],
            y_at: places.y,
            x_at: places.x,
            dm0_at: places.dm0,
            du0_at: places.du0,
        };
        BackwardStatesWgsl { params, scratch: scratch.whole() }.record(recorder, variant, grid)
    }

    /// dk and dq.
    fn record_keys(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: &Slices<'_>,
        places: &Places,
    ) -> Result<()> {
        let (ScoreGradients::Keys { q: dq, k: dk }, Scores::Keys { k, .. }) =
            (&self.gradients.scores, &self.inputs.scores)
        else {
            return Ok(());
        };
        let Self { device, problem, .. } = *self;
        let &Problem { batch, heads, steps, width, value_heads, layout, .. } = problem;
        let key_width = problem.key_width.unwrap_or(0);
        let pairs = key_width.div_ceil(2);
        let variant = for_element(device, BackwardKeysWgsl::VARIANTS, T::DTYPE)?;
        let invocations = batch * value_heads * problem.tiles() * pairs;
        let (_, grid) =
            workgroups(device, &[invocations.div_ceil(variant.info.block[0] as usize)])?;
        let (k, dk) = (Lines::of(device, k, layout)?, Lines::of(device, dk, layout)?);
        let params = BackwardKeysWgslParams {
            key_heads: word(device, "heads", value_heads)?,
            group: word(device, "heads", problem.group())?,
            steps: word(device, "steps", steps)?,
            width: word(device, "features", key_width)?,
            pairs: word(device, "features", pairs)?,
            tiles: word(device, "tiles", problem.tiles())?,
            count: word(device, "invocations", invocations)?,
            ds_parts: word(device, "column blocks", columns(width))?,
            ds_part: word(device, "scores", batch * heads * steps)?,
            scale: self.options.scale(key_width) as f32,
            k_at: k.at,
            k_batch: k.batch,
            k_head: k.head,
            k_time: k.time,
            dk_at: dk.at,
            dk_batch: dk.batch,
            dk_head: dk.head,
            dk_time: dk.time,
            q_at: places.q,
            ds_at: places.ds,
            dq_at: places.dq,
        };
        let whole = scratch.whole();
        BackwardKeysWgsl { params, k: k.bound(whole), dk: dk.bound(whole), scratch: whole }
            .record(recorder, variant, grid)?;
        let target = Lines::of_queries(device, dq);
        let parts = Parts {
            at: places.dq,
            count: batch * problem.tiles(),
            line_stride: 0,
            part_stride: heads * key_width,
        };
        let sizes = [1, 1, 1, heads * key_width];
        self.record_sum(recorder, scratch, &parts, &target, DType::F32, sizes)
    }

    /// Sums parts into a tensor of B, H, L and D.
    fn record_sum(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: &Slices<'_>,
        parts: &Parts,
        target: &Lines<'_>,
        dtype: DType,
        sizes: [usize; 4],
    ) -> Result<()> {
        let device = self.device;
        let variant = for_element(device, SumWgsl::VARIANTS, dtype)?;
        let count: usize = sizes.iter().product();
        let (_, grid) = workgroups(device, &[count.div_ceil(variant.info.block[0] as usize)])?;
        let [_, heads, steps, width] = sizes;
        let params = SumWgslParams {
            count: word(device, "elements", count)?,
            heads: word(device, "heads", heads)?,
            steps: word(device, "steps", steps)?,
            width: word(device, "features", width)?,
            parts: word(device, "parts", parts.count)?,
            line_stride: word(device, "elements of a stride", parts.line_stride)?,
            part_stride: word(device, "elements of a stride", parts.part_stride)?,
            parts_at: parts.at,
            out_at: target.at,
            out_batch: target.batch,
            out_head: target.head,
            out_time: target.time,
            out_width: 1,
            goes_on: 0,
        };
        let whole = scratch.whole();
        SumWgsl { params, scratch: whole, out: target.bound(whole) }.record(recorder, variant, grid)
    }
}

/// Parts in scratch that are summed.
struct Parts {
    /// The first word.
    at: u32,
    count: usize,
    /// Elements from the parts of a head to those of the next, and from part to part.
    line_stride: usize,
    part_stride: usize,
}
