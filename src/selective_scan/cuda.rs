//! Launches the PTX: first what has to be converted into workspace, then the scan.
//!
//! Everything runs on the stream of the device handle, which all tensors of a call share.

use super::kernels::{CodesPtx, ForwardPtx, WidenPtx};
use super::{
    CHECKPOINT, Inputs, NAME, Options, OutputsMut, Plan, Problem, Resets, SelectiveScan, plan,
};
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer, Grid, Stream};
use crate::backend::kernel::{Variant, VariantInfo};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::{Error, Result};

/// Bits of the kernel's `flags`.
mod flag {
    pub const SOFTPLUS: u32 = 1;
    pub const CLAMP: u32 = 2;
    pub const CONSTANT_B: u32 = 4;
    pub const CONSTANT_C: u32 = 8;
    pub const A_PER_CHANNEL: u32 = 16;
    pub const ANY_CODE_RESETS: u32 = 32;
}

/// Elements that a thread of `widen` converts.
const WIDENED_PER_THREAD: u64 = 8;

impl<T: DeviceFloat> SelectiveScan<T> for Cuda {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(&self.name(), &self.limits(), problem, options)
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, outputs.named())?;
        if plan.blocks.contains(&0) {
            return Ok(());
        }
        let variant = variant(ForwardPtx::VARIANTS, |info| info.name == plan.variant)?;
        let stream = self.stream();
        let call = Call::new(problem, inputs)?;
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = call.workspace.allocate(stream)?;
        for parameter in call.parameters() {
            parameter.widen(stream, workspace.as_ref())?;
        }
        call.codes.write(stream, workspace.as_ref(), problem)?;
        let grid = Grid { blocks: plan.blocks, ..Grid::default() };
        call.arguments(problem, inputs, options, outputs, workspace.as_ref())
            .launch(stream, variant, grid)
    }

    fn preload_forward(&self, plan: &Plan) -> Result<()> {
        let stream = self.stream();
        stream.preload(variant(ForwardPtx::VARIANTS, |info| info.name == plan.variant)?.info)?;
        stream.preload(codes_variant()?.info)?;
        WidenPtx::VARIANTS.iter().try_for_each(|variant| stream.preload(variant.info))
    }
}

/// The tensors of a call that the kernel takes in another form, and where that form lies.
struct Call<'a> {
    a: Place<'a>,
    b: Place<'a>,
    c: Place<'a>,
    d: Place<'a>,
    delta_bias: Place<'a>,
    h0: Place<'a>,
    codes: Codes<'a>,
    cu_seqlens: Option<(&'a View<Cuda>, u32)>,
    workspace: plan::Workspace,
}

impl<'a> Call<'a> {
    fn new<T: DeviceFloat>(problem: &Problem, inputs: &Inputs<'a, Cuda, T>) -> Result<Self> {
        let mut workspace = plan::Workspace::default();
        let mut widened = |parameter: Option<Parameter<'a, Cuda>>| match parameter {
            None => Place::Absent,
            Some(parameter) => Place::of(parameter.view(), &mut workspace),
        };
        let a = widened(Some(inputs.a));
        // A map that varies with time is an activation, which stays as it is.
        let mut map = |map: Parameter<'a, Cuda>, constant: bool| match constant {
            true => widened(Some(map)),
            false => Place::Tensor(map.view()),
        };
        let b = map(inputs.b, problem.b_constant);
        let c = map(inputs.c, problem.c_constant);
        let d = widened(inputs.d);
        let delta_bias = widened(inputs.delta_bias);
        let h0 = widened(inputs.h0);
        let (codes, cu_seqlens) = match &inputs.resets {
            Resets::None => (Codes::None, None),
            Resets::Flags(flags) => (Codes::Flags(flags), None),
            Resets::SeqIdx(seq_idx) => {
                let at = workspace.take(problem.batch as u64 * problem.steps as u64);
                let words = words("seq_idx", seq_idx.view())?;
                (Codes::SeqIdx { seq_idx: seq_idx.view(), words, at }, None)
            }
            Resets::CuSeqlens(bounds) => {
                let bounds = bounds.view();
                (Codes::None, Some((bounds, words("cu_seqlens", bounds)?)))
            }
        };
        Ok(Self { a, b, c, d, delta_bias, h0, codes, cu_seqlens, workspace })
    }

    fn parameters(&self) -> [&Place<'a>; 6] {
        [&self.a, &self.b, &self.c, &self.d, &self.delta_bias, &self.h0]
    }

    fn arguments<T: DeviceFloat>(
        &self,
        problem: &Problem,
        inputs: &Inputs<'_, Cuda, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Cuda, T>,
        workspace: Option<&CudaBuffer>,
    ) -> ForwardPtx {
        let [u, delta, out] = [inputs.u, inputs.delta, &*outputs.out].map(|tensor| strides(tensor));
        let z = inputs.z.map_or([0; 4], |z| strides(z));
        let map = |map: &View<Cuda>, constant: bool| if constant { [0; 4] } else { strides(map) };
        let b = map(&inputs.b, problem.b_constant);
        let c = map(&inputs.c, problem.c_constant);
        let (delta_min, delta_max) = options.delta_clamp.unwrap_or_default();
        let address = |view: Option<&View<Cuda>>| view.map_or(Address::NULL, Address::of);
        ForwardPtx {
            u: Address::of(inputs.u),
            delta: Address::of(inputs.delta),
            a: self.a.address(workspace),
            b: self.b.address(workspace),
            c: self.c.address(workspace),
            d: self.d.address(workspace),
            z: address(inputs.z.map(|z| &**z)),
            delta_bias: self.delta_bias.address(workspace),
            h0: self.h0.address(workspace),
            codes: self.codes.address(workspace),
            cu_seqlens: address(self.cu_seqlens.map(|(bounds, _)| bounds)),
            out: Address::of(outputs.out),
            last_state: address(outputs.last_state.as_deref().map(|state| &**state)),
            saved: address(outputs.saved.as_deref().map(|saved| &**saved)),
            u_batch_stride: u[0],
            u_channel_stride: u[1],
            delta_batch_stride: delta[0],
            delta_channel_stride: delta[1],
            z_batch_stride: z[0],
            z_channel_stride: z[1],
            out_batch_stride: out[0],
            out_channel_stride: out[1],
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_state_stride: b[2],
            c_batch_stride: c[0],
            c_group_stride: c[1],
            c_state_stride: c[2],
            codes_batch_stride: self.codes.batch_stride(problem),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            save_every: word(CHECKPOINT),
            cu_seqlens_words: self.cu_seqlens.map_or(0, |(_, words)| words),
            flags: self.flags(problem, options),
            delta_min,
            delta_max,
        }
    }

    fn flags(&self, problem: &Problem, options: &Options) -> u32 {
        let any_code_resets = matches!(self.codes, Codes::Flags(_));
        [
            (options.delta_softplus, flag::SOFTPLUS),
            (options.delta_clamp.is_some(), flag::CLAMP),
            (problem.b_constant, flag::CONSTANT_B),
            (problem.c_constant, flag::CONSTANT_C),
            (problem.a_per_channel, flag::A_PER_CHANNEL),
            (any_code_resets, flag::ANY_CODE_RESETS),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
    }
}

/// Where the kernel finds a parameter, in f32.
enum Place<'a> {
    Absent,
    Tensor(&'a View<Cuda>),
    /// Converted, at this byte of the workspace.
    Workspace {
        from: &'a View<Cuda>,
        at: u64,
    },
}

impl<'a> Place<'a> {
    fn of(from: &'a View<Cuda>, workspace: &mut plan::Workspace) -> Self {
        match from.dtype() {
            DType::F32 => Self::Tensor(from),
            _ => {
                let bytes = from.elements() as u64 * DType::F32.bytes() as u64;
                Self::Workspace { from, at: workspace.take(bytes) }
            }
        }
    }

    fn address(&self, workspace: Option<&CudaBuffer>) -> Address {
        match *self {
            Self::Absent => Address::NULL,
            Self::Tensor(view) => Address::of(view),
            Self::Workspace { at, .. } => within(workspace, at),
        }
    }

    /// Converts the parameter, where it is to lie in the workspace.
    fn widen(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let Self::Workspace { from, at } = *self else { return Ok(()) };
        let element = from.dtype().name();
        let variant = variant(WidenPtx::VARIANTS, |info| plan::element(info) == Some(element))?;
        let count = from.elements() as u64;
        let per_block = WIDENED_PER_THREAD * u64::from(variant.info.block[0]);
        let grid = linear(stream, count.div_ceil(per_block))?;
        WidenPtx { source: Address::of(from), target: within(workspace, at), count }
            .launch(stream, variant, grid)
    }
}

/// What the kernel reads of resets inside a row: one byte per step.
enum Codes<'a> {
    None,
    /// The caller's flags, as they are.
    Flags(&'a View<Cuda>),
    /// Made from `seq_idx`, at this byte of the workspace.
    SeqIdx {
        seq_idx: &'a View<Cuda>,
        words: u32,
        at: u64,
    },
}

impl Codes<'_> {
    fn address(&self, workspace: Option<&CudaBuffer>) -> Address {
        match *self {
            Self::None => Address::NULL,
            Self::Flags(flags) => Address::of(flags),
            Self::SeqIdx { at, .. } => within(workspace, at),
        }
    }

    /// Flags have no gaps, and neither has the workspace.
    fn batch_stride(&self, problem: &Problem) -> u64 {
        match self {
            Self::None => 0,
            Self::Flags(_) | Self::SeqIdx { .. } => problem.steps as u64,
        }
    }

    fn write(
        &self,
        stream: &Stream,
        workspace: Option<&CudaBuffer>,
        problem: &Problem,
    ) -> Result<()> {
        let Self::SeqIdx { seq_idx, words, at } = *self else { return Ok(()) };
        let variant = codes_variant()?;
        let steps = problem.steps as u64;
        let blocks = problem.batch as u64 * steps.div_ceil(u64::from(variant.info.block[0]));
        let grid = linear(stream, blocks)?;
        CodesPtx {
            seq_idx: Address::of(seq_idx),
            codes: within(workspace, at),
            seq_idx_batch_stride: steps,
            codes_batch_stride: steps,
            steps: word(problem.steps),
            seq_idx_words: words,
        }
        .launch(stream, variant, grid)
    }
}

/// Only what takes bytes of the workspace lies in it, so that it is there.
fn within(workspace: Option<&CudaBuffer>, at: u64) -> Address {
    workspace.map_or(Address::NULL, |workspace| Address::within(workspace, at))
}

impl plan::Workspace {
    /// Memory from the stream's pool, where there is anything to hold.
    fn allocate(&self, stream: &Stream) -> Result<Option<CudaBuffer>> {
        match self.bytes() {
            0 => Ok(None),
            bytes => stream.workspace(bytes).map(Some),
        }
    }
}

/// A grid of this many blocks in a row.
fn linear(stream: &Stream, blocks: u64) -> Result<Grid> {
    let blocks = plan::grid_length(stream.device_name(), stream.limits(), blocks)?;
    Ok(Grid { blocks: [blocks, 1, 1], ..Grid::default() })
}

/// 32-bit words of an index: the kernels read the low one.
fn words(tensor: &str, view: &View<Cuda>) -> Result<u32> {
    match view.dtype().bytes() {
        4 => Ok(1),
        8 => Ok(2),
        _ => Err(Error::Unsupported {
            operation: NAME,
            backend: view.backend().name(),
            what: format!("`{tensor}` of {}", view.dtype()),
            instead: "give it as i32 or i64".to_owned(),
        }),
    }
}

/// The strides, in elements; those of axes that the view has not are 0.
fn strides(view: &View<Cuda>) -> [u64; 4] {
    let mut strides = [0; 4];
    for (into, &stride) in strides.iter_mut().zip(view.strides().iter()) {
        *into = stride as u64;
    }
    strides
}

/// A size as the kernels take it. The plan has refused what does not fit.
fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn codes_variant() -> Result<&'static Variant<CodesPtx>> {
    variant(CodesPtx::VARIANTS, |_| true)
}

/// The first variant of a table that is right. There is one, or the plan would have refused.
fn variant<E>(
    table: &'static [Variant<E>],
    is_right: impl Fn(&VariantInfo) -> bool,
) -> Result<&'static Variant<E>> {
    table.iter().find(|variant| is_right(variant.info)).ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: "cuda".to_owned(),
        what: "this plan, which was made for another device".to_owned(),
        instead: "plan the call again".to_owned(),
    })
}
