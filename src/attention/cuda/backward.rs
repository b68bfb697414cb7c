//! The backward pass: row terms; then a walk for each gradient, so that each is added up in one
//! order by one block.

use super::{Common, address, aligned, strides};
use crate::Result;
use crate::attention::kernels::{SinkPtx, TermsPtx, WalkPtx};
use crate::attention::plan::{self, Stage, Walked};
use crate::attention::{
    GradientMut, GradientsMut, Inputs, NAME, Options, OutputGradients, Plan, Problem,
};
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Place, Stream, Workspace, bytes, element, linear, only,
    variant, word,
};
use crate::backend::kernel::{Variant, VariantInfo};
use crate::element::DeviceFloat;
use crate::tensor::{Tensor, View};

/// δ = dout · out - dlse.
pub(super) fn row_terms<T: DeviceFloat>(
    stream: &Stream,
    problem: &Problem,
    out: &Tensor<Cuda, T>,
    lse: &Tensor<Cuda, f32>,
    given: &OutputGradients<'_, Cuda, T>,
    delta: &Tensor<Cuda, f32>,
) -> Result<()> {
    let rows = bytes(&[problem.batch, problem.heads, problem.queries], 1);
    if rows == 0 {
        return Ok(());
    }
    let mut workspace = Workspace::default();
    let dlse = given.lse.map_or(Place::Absent, |dlse| Place::of(dlse.view(), &mut workspace));
    let workspace = workspace.allocate(stream)?;
    dlse.widen(NAME, stream, workspace.as_ref())?;
    let [out_batch_stride, out_head_stride, out_token_stride] = strides(out, problem.layout)?;
    let [dout_batch_stride, dout_head_stride, dout_token_stride] =
        strides(given.out, problem.layout)?;
    let kernel = only(NAME, TermsPtx::VARIANTS)?;
    let grid = linear(NAME, stream, rows.div_ceil(u64::from(kernel.info.block[0] / 32)))?;
    TermsPtx {
        out: Address::of(out),
        dout: Address::of(given.out),
        lse: Address::of(lse),
        dlse: dlse.address(workspace.as_ref()),
        delta: Address::of(delta),
        out_batch_stride,
        out_head_stride,
        out_token_stride,
        dout_batch_stride,
        dout_head_stride,
        dout_token_stride,
        rows,
        heads: word(problem.heads),
        queries: word(problem.queries),
        width: word(problem.value_width),
        element: element(T::DTYPE),
    }
    .launch(stream, kernel, grid)
}

/// A call, and where everything lies that the kernels take in another form.
pub(super) struct Call<'a, T: DeviceFloat> {
    plan: &'a Plan,
    problem: &'a Problem,
    options: &'a Options,
    /// δ and lse.
    rows: [&'a Tensor<Cuda, f32>; 2],
    gradients: &'a GradientsMut<'a, Cuda, T>,
    common: Common<'a>,
    sink: Place<'a>,
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    pub fn new(
        plan: &'a Plan,
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        rows: [&'a Tensor<Cuda, f32>; 2],
        dout: &'a Tensor<Cuda, T>,
        gradients: &'a GradientsMut<'a, Cuda, T>,
    ) -> Result<Self> {
        let mut workspace = Workspace::default();
        let mut common = Common::new(problem, inputs, options, &mut workspace)?;
        let [dout_batch_stride, dout_head_stride, dout_token_stride] =
            strides(dout, options.layout)?;
        common.lines.push(dout);
        common.walk = WalkPtx {
            dout: Address::of(dout),
            delta: Address::of(rows[0]),
            lse: Address::of(rows[1]),
            dout_batch_stride,
            dout_head_stride,
            dout_token_stride,
            ..common.walk
        };
        let sink = inputs.sink.map_or(Place::Absent, |sink| Place::of(sink.view(), &mut workspace));
        Ok(Self { plan, problem, options, rows, gradients, common, sink, workspace })
    }

    pub fn launch(&self, stream: &Stream) -> Result<()> {
        if self.problem.batch * self.problem.heads == 0 {
            return Ok(());
        }
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = self.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        self.common.slopes.widen(NAME, stream, workspace)?;
        self.sink.widen(NAME, stream, workspace)?;
        let GradientsMut { q, k, v, bias, sink } = self.gradients;
        self.walk(stream, workspace, Stage::Dq, q, None)?;
        // Only some kernels give both.
        if self.kernel(Stage::DkDv).is_ok() {
            self.walk(stream, workspace, Stage::DkDv, k, Some(v))?;
        } else {
            self.walk(stream, workspace, Stage::Dk, k, None)?;
            self.walk(stream, workspace, Stage::Dv, v, None)?;
        }
        if let Some(dbias) = bias.as_deref() {
            self.walk_bias(stream, workspace, dbias)?;
        }
        let Some(dsink) = sink.as_deref() else { return Ok(()) };
        let grid = linear(NAME, stream, self.problem.heads as u64)?;
        SinkPtx {
            sink: self.sink.address(workspace),
            lse: Address::of(self.rows[1]),
            delta: Address::of(self.rows[0]),
            dsink: Address::of(dsink),
            batch: word(self.problem.batch),
            heads: word(self.problem.heads),
            queries: word(self.problem.queries),
        }
        .launch(stream, only(NAME, SinkPtx::VARIANTS)?, grid)
    }

    /// The kernel of a stage, of the plan's kind, whose lines are so wide; that of dq is the plan's.
    /// A bias has one kind.
    fn kernel(&self, stage: Stage) -> Result<&'static Variant<WalkPtx>> {
        let named = |info: &VariantInfo| info.name == self.plan.variant;
        let planned = variant(NAME, WalkPtx::VARIANTS, named)?;
        if stage == Stage::Dq {
            return Ok(planned);
        }
        let on_tensor_cores = stage != Stage::Dbias && plan::is_of_tensor_cores(planned.info);
        let width = match stage {
            Stage::Dv if !on_tensor_cores => self.problem.value_width,
            Stage::Dbias => 0,
            _ => plan::width(planned.info),
        };
        let shapes = self.problem.shapes(self.options);
        variant(NAME, WalkPtx::VARIANTS, |info| {
            info.parameter("stage") == Some(stage.name())
                && plan::is_of_tensor_cores(info) == on_tensor_cores
                && (!on_tensor_cores || !shapes || plan::shapes(info))
                && info.parameter("element").is_none_or(|of| of == T::DTYPE.name())
                && width <= plan::width(info)
        })
    }

    /// A gradient of queries, keys or values, or two of them.
    fn walk(
        &self,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
        stage: Stage,
        gradient: &GradientMut<'_, Cuda, T>,
        second: Option<&GradientMut<'_, Cuda, T>>,
    ) -> Result<()> {
        let view = gradient.view();
        if view.elements() == 0 {
            return Ok(());
        }
        let (kernel, problem) = (self.kernel(stage)?, self.problem);
        let Walked { tile, head_tiles, tiles } =
            Walked::new(problem, stage, plan::rows(kernel.info));
        let grid = linear(NAME, stream, bytes(&[problem.kv_heads, head_tiles, tiles], 1))?;
        let [result_batch_stride, result_head_stride, result_token_stride] =
            strides(view, self.options.layout)?;
        let second_view = second.map_or(view, GradientMut::view);
        let [second_batch_stride, second_head_stride, second_token_stride] =
            strides(second_view, self.options.layout)?;
        let grid = Grid { dynamic_shared: plan::shared(kernel.info), ..grid };
        WalkPtx {
            result: Address::of(view),
            result_batch_stride,
            result_head_stride,
            result_token_stride,
            second: Address::of(second_view),
            second_batch_stride,
            second_head_stride,
            second_token_stride,
            result_element: element(view.dtype()),
            second_element: element(second_view.dtype()),
            aligned_results: aligned([view, second_view], 8).into(),
            adds: gradient.adds().into(),
            second_adds: second.is_some_and(GradientMut::adds).into(),
            tiles: word(tiles),
            tile_tokens: word(tile.queries),
            tile_heads: word(tile.heads),
            head_tiles: word(head_tiles),
            ..self.common.told(workspace, kernel.info)
        }
        .launch(stream, kernel, grid)
    }

    /// The gradient of the bias: a block has a tile of it, and walks what shares it.
    fn walk_bias(
        &self,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
        dbias: &View<Cuda>,
    ) -> Result<()> {
        if dbias.elements() == 0 {
            return Ok(());
        }
        let (kernel, problem) = (self.kernel(Stage::Dbias)?, self.problem);
        let [rows, keys] = [plan::rows(kernel.info), plan::keys(kernel.info)];
        let planes = [dbias.shape()[0], dbias.shape()[1]];
        let Walked { tiles, .. } = Walked::new(problem, Stage::Dbias, rows);
        let parts = problem.keys.div_ceil(keys);
        let grid = linear(NAME, stream, bytes(&[planes[0], planes[1], tiles, parts], 1))?;
        WalkPtx {
            partial: address(Some(dbias)),
            partial_batch_stride: bytes(&[problem.queries, problem.keys], 1),
            partial_token_stride: problem.keys as u64,
            tiles: word(tiles),
            tile_tokens: word(rows),
            parts: word(parts),
            part_tokens: word(keys),
            shared_batches: word(problem.batch / planes[0]),
            shared_heads: word(problem.heads / planes[1]),
            ..self.common.told(workspace, kernel.info)
        }
        .launch(stream, kernel, grid)
    }
}
