//! The backward pass: row terms; then a walk for each gradient, so that each is added up in one
//! order by one workgroup.

use super::{Common, Lines, Rooms, Small, copy_out, find, flag, word, workgroups};
use crate::Result;
use crate::attention::kernels::{
    SinkWgsl, SinkWgslParams, TermsWgsl, TermsWgslParams, WalkWgsl, WalkWgslParams,
};
use crate::attention::plan::{self, Stage, Walked};
use crate::attention::{
    GradientMut, GradientsMut, Inputs, Options, OutputGradients, Plan, Problem,
};
use crate::backend::kernel::Variant;
use crate::backend::wgpu::{Recorder, Slice, Wgpu};
use crate::element::{DType, DeviceFloat};
use crate::tensor::{Tensor, View};

/// Records δ = dout · out - dlse.
pub(super) fn record_terms<T: DeviceFloat>(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    problem: &Problem,
    out: &Tensor<Wgpu, T>,
    lse: &Tensor<Wgpu, f32>,
    given: &OutputGradients<'_, Wgpu, T>,
    delta: &Tensor<Wgpu, f32>,
) -> Result<()> {
    let rows = problem.batch * problem.heads * problem.queries;
    if rows == 0 {
        return Ok(());
    }
    let mut rooms = Rooms::new(device);
    let lse_at = rooms.parameter(lse)?;
    let dlse_at = rooms.optional(given.lse)?;
    let delta_at = rooms.room(&[rows])?;
    let scratch = rooms.scratch.fill(device, recorder)?;
    let scratch = Slice::whole(&scratch);
    let out = Lines::of(device, out, problem.layout)?;
    let dout = Lines::of(device, given.out, problem.layout)?;
    let (count, grid) = workgroups(device, &[rows.div_ceil(8)])?;
    let params = TermsWgslParams {
        workgroups: count,
        rows: word(device, "rows", rows)?,
        heads: word(device, "heads", problem.heads)?,
        queries: word(device, "queries", problem.queries)?,
        width: word(device, "features", problem.value_width)?,
        has_dlse: given.lse.is_some().into(),
        out_at: out.at,
        out_batch: out.batch,
        out_head: out.head,
        out_token: out.token,
        dout_at: dout.at,
        dout_batch: dout.batch,
        dout_head: dout.head,
        dout_token: dout.token,
        lse_at,
        dlse_at,
        delta_at,
    };
    let variant = find(device, TermsWgsl::VARIANTS, T::DTYPE, |_| true)?;
    TermsWgsl { params, out: out.bound(scratch), dout: dout.bound(scratch), scratch }
        .record(recorder, variant, grid)?;
    copy_out(recorder, scratch, delta_at, delta);
    Ok(())
}

/// A backward call.
pub(super) struct Call<'a, T: DeviceFloat> {
    pub device: &'a Wgpu,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Wgpu, T>,
    pub options: &'a Options,
    /// δ and lse.
    pub rows: [&'a Tensor<Wgpu, f32>; 2],
    pub dout: &'a Tensor<Wgpu, T>,
    pub gradients: &'a GradientsMut<'a, Wgpu, T>,
}

/// What is bound for all walks.
struct Bound<'a> {
    common: Common<'a>,
    dout: Lines<'a>,
    scratch: Slice<'a>,
}

impl<T: DeviceFloat> Call<'_, T> {
    pub fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let &Self { device, problem, inputs, options, gradients, .. } = self;
        if problem.batch * problem.heads == 0 {
            return Ok(());
        }
        let mut rooms = Rooms::new(device);
        let small = Small {
            slopes_at: rooms.optional(inputs.alibi_slopes)?,
            bounds_at: rooms.bounds(problem, inputs)?,
        };
        let sink_at = rooms.optional(inputs.sink)?;
        let [delta_at, lse_at] = [rooms.parameter(self.rows[0])?, rooms.parameter(self.rows[1])?];
        let dsink_at = rooms.room(&[problem.heads])?;
        let scratch = rooms.scratch.fill(device, recorder)?;
        let scratch = Slice::whole(&scratch);
        let mut common = Common::new(device, problem, inputs, options, small)?;
        (common.params.delta_at, common.params.lse_at) = (delta_at, lse_at);
        let dout = Lines::of(device, self.dout, options.layout)?;
        common.params.dout_at = dout.at;
        common.params.dout_batch = dout.batch;
        common.params.dout_head = dout.head;
        common.params.dout_token = dout.token;
        let bound = Bound { common, dout, scratch };
        let GradientsMut { q, k, v, .. } = gradients;
        for (stage, gradient) in [(Stage::Dq, q), (Stage::Dk, k), (Stage::Dv, v)] {
            self.walk(recorder, &bound, stage, gradient)?;
        }
        if let Some(dbias) = gradients.bias.as_deref() {
            self.walk_bias(recorder, &bound, dbias)?;
        }
        if let Some(dsink) = gradients.sink.as_deref() {
            let (count, grid) = workgroups(device, &[problem.heads])?;
            let params = SinkWgslParams {
                workgroups: count,
                batch: word(device, "batch entries", problem.batch)?,
                queries: bound.common.params.queries,
                lse_at,
                delta_at,
                sink_at,
                dsink_at,
            };
            SinkWgsl { params, scratch }.record(recorder, &SinkWgsl::VARIANTS[0], grid)?;
            copy_out(recorder, scratch, dsink_at, dsink);
        }
        Ok(())
    }

    /// The kernel of a stage whose lines are so wide, of the plan's kind; that of dq is the plan's.
    fn variant(&self, stage: Stage) -> Result<&'static Variant<WalkWgsl<'static>>> {
        let planned = |info: &crate::backend::kernel::VariantInfo| info.name == self.plan.variant;
        let of_plan = find(self.device, WalkWgsl::VARIANTS, T::DTYPE, planned)?;
        let width = match stage {
            Stage::Dv => self.problem.value_width,
            _ => plan::width(of_plan.info),
        };
        // The gradient of a bias has one kind only.
        let capabilities = match stage {
            Stage::Dbias => &[],
            _ => of_plan.info.capabilities,
        };
        find(self.device, WalkWgsl::VARIANTS, T::DTYPE, |info| {
            info.parameter("stage") == Some(stage.name())
                && info.capabilities == capabilities
                && width <= plan::width(info)
        })
    }

    /// A gradient of queries, keys or values.
    fn walk(
        &self,
        recorder: &mut Recorder<'_>,
        bound: &Bound<'_>,
        stage: Stage,
        gradient: &GradientMut<'_, Wgpu, T>,
    ) -> Result<()> {
        let &Self { device, problem, options, .. } = self;
        let result = Lines::of(device, gradient.view(), options.layout)?;
        if result.slice.is_none() {
            return Ok(());
        }
        let variant = self.variant(stage)?;
        let Walked { tile, head_tiles, tiles } =
            Walked::new(problem, stage, plan::rows(variant.info));
        let (workgroups, grid) = workgroups(device, &[problem.kv_heads, head_tiles, tiles])?;
        let wide = T::DTYPE != DType::F32 && gradient.view().dtype() == DType::F32;
        let flags =
            flag::all([(true, flag::RESULT), (wide, flag::WIDE), (gradient.adds(), flag::ADD)]);
        let params = WalkWgslParams {
            workgroups,
            flags: bound.common.params.flags | flags,
            tiles: word(device, "tiles", tiles)?,
            tile_tokens: word(device, "tokens", tile.queries)?,
            tile_heads: word(device, "heads", tile.heads)?,
            head_tiles: word(device, "heads", head_tiles)?,
            result_at: result.at,
            result_batch: result.batch,
            result_head: result.head,
            result_token: result.token,
            ..bound.common.params
        };
        self.record_walk(recorder, bound, variant, params, [result.slice, None], grid)
    }

    /// The gradient of the bias: a workgroup has a tile of it, and walks what shares it.
    fn walk_bias(
        &self,
        recorder: &mut Recorder<'_>,
        bound: &Bound<'_>,
        dbias: &View<Wgpu>,
    ) -> Result<()> {
        let &Self { device, problem, .. } = self;
        if dbias.elements() == 0 {
            return Ok(());
        }
        let variant = self.variant(Stage::Dbias)?;
        let [rows, keys] = [plan::rows(variant.info), plan::keys(variant.info)];
        let planes = [dbias.shape()[0], dbias.shape()[1]];
        let Walked { tiles, .. } = Walked::new(problem, Stage::Dbias, rows);
        let parts = problem.keys.div_ceil(keys);
        let (workgroups, grid) = workgroups(device, &[planes[0] * planes[1], tiles, parts])?;
        let partial = Lines::of_bias(device, dbias)?;
        let word = |what, size| word(device, what, size);
        let params = WalkWgslParams {
            workgroups,
            tiles: word("tiles", tiles)?,
            tile_tokens: word("queries", rows)?,
            parts: word("parts", parts)?,
            part_tokens: word("keys", keys)?,
            partial_at: partial.at,
            partial_batch: word("elements", problem.queries * problem.keys)?,
            partial_token: word("elements", problem.keys)?,
            shared_batches: word("batch entries", problem.batch / planes[0])?,
            shared_heads: word("heads", problem.heads / planes[1])?,
            ..bound.common.params
        };
        self.record_walk(recorder, bound, variant, params, [None, partial.slice], grid)
    }

    fn record_walk(
        &self,
        recorder: &mut Recorder<'_>,
        bound: &Bound<'_>,
        variant: &'static Variant<WalkWgsl<'static>>,
        params: WalkWgslParams,
        [result, partial]: [Option<Slice<'_>>; 2],
        grid: [u32; 3],
    ) -> Result<()> {
        let Bound { common, dout, scratch } = bound;
        WalkWgsl {
            params,
            q: common.q.bound(*scratch),
            k: common.k.bound(*scratch),
            v: common.v.bound(*scratch),
            dout: dout.bound(*scratch),
            bias: common.bias.bound(*scratch),
            result: result.unwrap_or(*scratch),
            partial: partial.unwrap_or(*scratch),
            scratch: *scratch,
        }
        .record(recorder, variant, grid)
    }
}
