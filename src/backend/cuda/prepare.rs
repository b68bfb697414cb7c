//! What launchers prepare for their kernels: workspace, parameters in f32, codes of resets, grids.

use super::{Address, Cuda, CudaBuffer, Grid, Stream};
use crate::backend::Limits;
use crate::backend::kernel::common::{CodesPtx, WidenPtx};
use crate::backend::kernel::{Variant, VariantInfo};
use crate::element::DType;
use crate::resets::Resets;
use crate::tensor::View;
use crate::{Error, Result};

/// Elements that a thread of `widen` converts.
const WIDENED_PER_THREAD: u64 = 8;

/// Workspace that is handed out piece by piece, each from a boundary that suits any access.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Workspace {
    bytes: u64,
}

impl Workspace {
    const BOUNDARY: u64 = 256;

    /// The first byte of the next piece.
    pub fn take(&mut self, bytes: u64) -> u64 {
        let at = self.bytes;
        let whole = bytes.div_ceil(Self::BOUNDARY).saturating_mul(Self::BOUNDARY);
        self.bytes = at.saturating_add(whole);
        at
    }

    /// All that was handed out.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory from the stream's pool, where there is anything to hold.
    pub fn allocate(&self, stream: &Stream) -> Result<Option<CudaBuffer>> {
        match self.bytes() {
            0 => Ok(None),
            bytes => stream.workspace(bytes).map(Some),
        }
    }
}

/// The bytes of so many elements.
pub(crate) fn bytes(elements: &[usize], size: u64) -> u64 {
    elements.iter().fold(size, |bytes, &factor| bytes.saturating_mul(factor as u64))
}

/// Only what takes bytes of the workspace lies in it, so that it is there.
pub(crate) fn within(workspace: Option<&CudaBuffer>, at: u64) -> Address {
    workspace.map_or(Address::NULL, |workspace| Address::within(workspace, at))
}

/// Where the kernel finds a parameter, in f32.
pub(crate) enum Place<'a> {
    Absent,
    Tensor(&'a View<Cuda>),
    /// Converted, at this byte of the workspace.
    Workspace {
        from: &'a View<Cuda>,
        at: u64,
    },
}

impl<'a> Place<'a> {
    pub fn of(from: &'a View<Cuda>, workspace: &mut Workspace) -> Self {
        match from.dtype() {
            DType::F32 => Self::Tensor(from),
            _ => {
                let bytes = from.elements() as u64 * DType::F32.bytes() as u64;
                Self::Workspace { from, at: workspace.take(bytes) }
            }
        }
    }

    pub fn address(&self, workspace: Option<&CudaBuffer>) -> Address {
        match *self {
            Self::Absent => Address::NULL,
            Self::Tensor(view) => Address::of(view),
            Self::Workspace { at, .. } => within(workspace, at),
        }
    }

    /// Converts the parameter, where it is to lie in the workspace.
    pub fn widen(
        &self,
        operation: &'static str,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
    ) -> Result<()> {
        let Self::Workspace { from, at } = *self else { return Ok(()) };
        let element = from.dtype().name();
        let variant = variant(operation, WidenPtx::VARIANTS, |info| {
            info.parameter("element") == Some(element)
        })?;
        let count = from.elements() as u64;
        let per_block = WIDENED_PER_THREAD * u64::from(variant.info.block[0]);
        let grid = linear(operation, stream, count.div_ceil(per_block))?;
        WidenPtx { source: Address::of(from), target: within(workspace, at), count }
            .launch(stream, variant, grid)
    }
}

/// What the kernel reads of resets inside a row: one byte per step.
pub(crate) enum Codes<'a> {
    None,
    /// The caller's flags, as they are.
    Flags(&'a View<Cuda>),
    /// Made from `seq_idx`, at this byte of the workspace.
    SeqIdx {
        seq_idx: &'a View<Cuda>,
        at: u64,
    },
}

impl<'a> Codes<'a> {
    pub fn of(
        resets: &Resets<'a, Cuda>,
        [batch, steps]: [usize; 2],
        workspace: &mut Workspace,
    ) -> Self {
        match resets {
            Resets::None | Resets::CuSeqlens(_) => Self::None,
            Resets::Flags(flags) => Self::Flags(flags),
            Resets::SeqIdx(seq_idx) => {
                let at = workspace.take(batch as u64 * steps as u64);
                Self::SeqIdx { seq_idx: seq_idx.view(), at }
            }
        }
    }

    /// Whether any code but 0 is a reset: flags know no padding.
    pub fn any_resets(&self) -> bool {
        matches!(self, Self::Flags(_))
    }

    pub fn address(&self, workspace: Option<&CudaBuffer>) -> Address {
        match *self {
            Self::None => Address::NULL,
            Self::Flags(flags) => Address::of(flags),
            Self::SeqIdx { at, .. } => within(workspace, at),
        }
    }

    /// Flags have no gaps, and neither has the workspace.
    pub fn batch_stride(&self, steps: usize) -> u64 {
        match self {
            Self::None => 0,
            Self::Flags(_) | Self::SeqIdx { .. } => steps as u64,
        }
    }

    pub fn write(
        &self,
        operation: &'static str,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
        [batch, steps]: [usize; 2],
    ) -> Result<()> {
        let Self::SeqIdx { seq_idx, at } = *self else { return Ok(()) };
        let variant = only(operation, CodesPtx::VARIANTS)?;
        let count = word(steps);
        let steps = steps as u64;
        let blocks = batch as u64 * steps.div_ceil(u64::from(variant.info.block[0]));
        let grid = linear(operation, stream, blocks)?;
        CodesPtx {
            seq_idx: Address::of(seq_idx),
            codes: within(workspace, at),
            seq_idx_batch_stride: steps,
            codes_batch_stride: steps,
            steps: count,
            seq_idx_bytes: word(seq_idx.dtype().bytes()),
            sign_at: sign_at(seq_idx.dtype()),
        }
        .launch(stream, variant, grid)
    }
}

/// The byte of an index where the word with its sign begins; all ones where it has none.
pub(crate) fn sign_at(index: DType) -> u32 {
    match index {
        DType::I32 => 0,
        DType::I64 => 4,
        _ => u32::MAX,
    }
}

/// The length of a grid, where the device takes it.
pub(crate) fn grid_length(
    operation: &'static str,
    device: &str,
    limits: &Limits,
    blocks: u64,
) -> Result<u32> {
    let most = limits.grid[0];
    u32::try_from(blocks).ok().filter(|&blocks| blocks <= most).ok_or_else(|| Error::Unsupported {
        operation,
        backend: device.to_owned(),
        what: format!("{blocks} blocks in a grid of at most {most}"),
        instead: "split the batch".to_owned(),
    })
}

/// Loads the kernels of this module, so that no call waits for them.
pub(crate) fn preload(operation: &'static str, stream: &Stream) -> Result<()> {
    stream.preload(only(operation, CodesPtx::VARIANTS)?.info)?;
    WidenPtx::VARIANTS.iter().try_for_each(|variant| stream.preload(variant.info))
}

/// A grid of this many blocks in a row.
pub(crate) fn linear(operation: &'static str, stream: &Stream, blocks: u64) -> Result<Grid> {
    let blocks = grid_length(operation, stream.device_name(), stream.limits(), blocks)?;
    Ok(Grid { blocks: [blocks, 1, 1], ..Grid::default() })
}

/// How a launch tells its kernel the element type, one of those that devices have; see
/// kernels/common/number.ptx.
pub(crate) fn element(dtype: DType) -> u32 {
    match dtype {
        DType::BF16 => 1,
        DType::F16 => 2,
        _ => 0,
    }
}

/// A size as the kernels take it. The plan has refused what does not fit.
pub(crate) fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The variant of a table that has one.
pub(crate) fn only<E>(
    operation: &'static str,
    table: &'static [Variant<E>],
) -> Result<&'static Variant<E>> {
    variant(operation, table, |_| true)
}

/// The first variant of a table that is right. There is one, or the plan would have refused.
pub(crate) fn variant<E>(
    operation: &'static str,
    table: &'static [Variant<E>],
    is_right: impl Fn(&VariantInfo) -> bool,
) -> Result<&'static Variant<E>> {
    table.iter().find(|variant| is_right(variant.info)).ok_or_else(|| Error::Unsupported {
        operation,
        backend: "cuda".to_owned(),
        what: "this plan, which was made for another device".to_owned(),
        instead: "plan the call again".to_owned(),
    })
}
