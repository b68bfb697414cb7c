//! The forward pass: rows over parts of the keys, then the merge of what these gave.

use super::{Common, address, aligned, merge, outer};
use crate::Result;
use crate::attention::kernels::WalkPtx;
use crate::attention::plan::{self, Stage, Walked};
use crate::attention::{Inputs, Merge, NAME, Options, OutputLines, OutputsMut, Plan, Problem};
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Place, Stream, Workspace, bytes, linear, variant, within, word,
};
use crate::element::DeviceFloat;

/// A call, and where everything lies that the kernels take in another form or leave to each other.
pub(super) struct Call<'a> {
    plan: &'a Plan,
    problem: &'a Problem,
    options: &'a Options,
    outputs: OutputLines<Cuda>,
    common: Common<'a>,
    sink: Place<'a>,
    /// Results of parts and their lse, where they are merged in the end.
    parts: Option<[u64; 2]>,
    workspace: Workspace,
}

impl<'a> Call<'a> {
    pub fn new<T: DeviceFloat>(
        plan: &'a Plan,
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        outputs: &OutputsMut<'_, Cuda, T>,
    ) -> Result<Self> {
        let mut workspace = Workspace::default();
        let common = Common::new(problem, inputs, options, &mut workspace)?;
        let outputs = outputs.lines(options.layout)?;
        let sink = inputs.sink.map_or(Place::Absent, |sink| Place::of(sink.view(), &mut workspace));
        let merges = plan.splits > 1 || options.accumulate || inputs.sink.is_some();
        let rows = [plan.splits as usize, problem.batch, problem.heads, problem.queries];
        let of_rows = bytes(&rows, 4);
        let parts = merges.then(|| {
            let out = of_rows.saturating_mul(problem.value_width as u64);
            [workspace.take(out), workspace.take(of_rows)]
        });
        Ok(Self { plan, problem, options, outputs, common, sink, parts, workspace })
    }

    pub fn launch(&self, stream: &Stream) -> Result<()> {
        if self.rows() == 0 {
            return Ok(());
        }
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = self.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        self.common.slopes.widen(NAME, stream, workspace)?;
        self.sink.widen(NAME, stream, workspace)?;
        let kernel = variant(NAME, WalkPtx::VARIANTS, |info| info.name == self.plan.variant)?;
        let rows = plan::rows(kernel.info);
        let Walked { tile, head_tiles, tiles } = Walked::new(self.problem, Stage::Out, rows);
        let splits = self.plan.splits as usize;
        let blocks = bytes(&[self.problem.kv_heads, head_tiles, tiles, splits], 1);
        let keys = plan::keys(kernel.info);
        let part_tokens = self.problem.keys.div_ceil(splits).next_multiple_of(keys);
        let walk = WalkPtx {
            tiles: word(tiles),
            tile_tokens: word(tile.queries),
            tile_heads: word(tile.heads),
            head_tiles: word(head_tiles),
            parts: self.plan.splits,
            part_tokens: word(part_tokens),
            ..self.common.told(workspace, kernel.info)
        };
        let dynamic_shared = plan::shared(kernel.info);
        let grid = Grid { dynamic_shared, ..linear(NAME, stream, blocks)? };
        self.to_its_place(walk, workspace).launch(stream, kernel, grid)?;
        self.merge(stream, workspace)
    }

    /// B H Sq.
    fn rows(&self) -> u64 {
        bytes(&[self.problem.batch, self.problem.heads, self.problem.queries], 1)
    }

    /// With results where the caller wants them, or among parts.
    fn to_its_place(&self, walk: WalkPtx, workspace: Option<&CudaBuffer>) -> WalkPtx {
        let &Problem { heads, queries, value_width, .. } = self.problem;
        if let Some([out, lse]) = self.parts {
            let width = value_width as u64;
            return WalkPtx {
                partial: within(workspace, out),
                lse: within(workspace, lse),
                partial_part_stride: self.rows() * width,
                partial_batch_stride: bytes(&[heads, queries], width),
                partial_head_stride: bytes(&[queries], width),
                partial_token_stride: width,
                lse_part_stride: self.rows(),
                aligned_results: value_width.is_multiple_of(8).into(),
                ..walk
            };
        }
        let OutputLines { out, partial, lse } = &self.outputs;
        let [result_batch_stride, result_head_stride, result_token_stride] = outer(out.as_ref());
        let [partial_batch_stride, partial_head_stride, partial_token_stride] =
            outer(partial.as_ref());
        WalkPtx {
            result: address(out.as_ref()),
            partial: address(partial.as_ref()),
            lse: Address::of(lse),
            result_batch_stride,
            result_head_stride,
            result_token_stride,
            partial_batch_stride,
            partial_head_stride,
            partial_token_stride,
            aligned_results: aligned(out.iter().chain(partial), 8).into(),
            ..walk
        }
    }

    /// Merges the parts of each row, what came before, and the sink.
    fn merge(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let (Some([out, lse]), Some(buffer)) = (self.parts, workspace) else { return Ok(()) };
        let parts = self.plan.splits as usize;
        let places = [(buffer, out), (buffer, lse)];
        let outputs = self.outputs.clone();
        let accumulate = self.options.accumulate;
        let merge = Merge::of_buffers(self.problem, parts, places, outputs, accumulate)?;
        merge::launch(stream, &merge, self.sink.address(workspace))
    }
}
