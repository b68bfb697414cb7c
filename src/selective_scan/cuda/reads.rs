//! What both passes read of a call, and where the kernels find it.

use crate::Result;
use crate::backend::cuda::{Address, Codes, Cuda, CudaBuffer, Place, Stream, Workspace};
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::selective_scan::{Inputs, Layout, NAME, Options, Problem, Resets};
use crate::tensor::View;

/// Bits of the kernel's `flags`.
mod flag {
    pub const SOFTPLUS: u32 = 1;
    pub const CLAMP: u32 = 2;
    pub const CONSTANT_B: u32 = 4;
    pub const CONSTANT_C: u32 = 8;
    pub const A_PER_CHANNEL: u32 = 16;
    pub const ANY_CODE_RESETS: u32 = 32;
    pub const ACCURATE: u32 = 64;
    pub const BLD: u32 = 128;
}

/// The inputs of a call: activations as they are, parameters in f32, resets as codes.
pub(super) struct Reads<'a, T: DeviceFloat> {
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Cuda, T>,
    pub options: &'a Options,
    pub a: Place<'a>,
    pub b: Place<'a>,
    pub c: Place<'a>,
    pub d: Place<'a>,
    pub delta_bias: Place<'a>,
    pub h0: Place<'a>,
    pub codes: Codes<'a>,
}

impl<'a, T: DeviceFloat> Reads<'a, T> {
    /// Takes room for what has to be converted.
    pub fn new(
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        workspace: &mut Workspace,
    ) -> Self {
        let mut widened = |parameter: Option<Parameter<'a, Cuda>>| match parameter {
            None => Place::Absent,
            Some(parameter) => Place::of(parameter.view(), workspace),
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
        let codes = Codes::of(&inputs.resets, [problem.batch, problem.steps], workspace);
        Self { problem, inputs, options, a, b, c, d, delta_bias, h0, codes }
    }

    /// Converts what has to be converted.
    pub fn prepare(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        for parameter in [&self.a, &self.b, &self.c, &self.d, &self.delta_bias, &self.h0] {
            parameter.widen(NAME, stream, workspace)?;
        }
        self.codes.write(NAME, stream, workspace, [self.problem.batch, self.problem.steps])
    }

    /// The bounds of packed sequences.
    pub fn bounds(&self) -> Option<&'a View<Cuda>> {
        match &self.inputs.resets {
            Resets::CuSeqlens(bounds) => Some(bounds.view()),
            _ => None,
        }
    }

    /// The strides of `B` and `C`: of batch entries, groups, states and steps; 0 where they are
    /// constant.
    pub fn map_strides(&self) -> [[u64; 4]; 2] {
        let &Self { problem, inputs, .. } = self;
        let strides = |view: &View<Cuda>, constant: bool| {
            if constant {
                return [0; 4];
            }
            let strides = view.strides();
            let [batch, second, third, fastest] = [0, 1, 2, 3].map(|axis| strides[axis] as u64);
            match problem.layout {
                Layout::Bdl => [batch, second, third, fastest],
                Layout::Bld => [batch, third, fastest, second],
            }
        };
        [strides(&inputs.b, problem.b_constant), strides(&inputs.c, problem.c_constant)]
    }

    /// The slower of a map's strides of states and steps.
    pub fn slow(&self, [_, _, state, step]: [u64; 4]) -> u64 {
        match self.problem.layout {
            Layout::Bdl => state,
            Layout::Bld => step,
        }
    }

    /// The kernels' `flags`.
    pub fn flags(&self) -> u32 {
        let &Self { problem, options, .. } = self;
        [
            (options.delta_softplus, flag::SOFTPLUS),
            (options.delta_clamp.is_some(), flag::CLAMP),
            (problem.b_constant, flag::CONSTANT_B),
            (problem.c_constant, flag::CONSTANT_C),
            (problem.a_per_channel, flag::A_PER_CHANNEL),
            (self.codes.any_resets(), flag::ANY_CODE_RESETS),
            (options.keeps_decays_accurate(), flag::ACCURATE),
            (problem.layout == Layout::Bld, flag::BLD),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
    }
}

/// The address of a tensor that may be absent.
pub(super) fn address(view: Option<&View<Cuda>>) -> Address {
    view.map_or(Address::NULL, Address::of)
}

/// The strides of an activation: of batch entries, and of the slower of channel and time; 0 where it
/// is absent.
pub(super) fn strides(view: Option<&View<Cuda>>) -> [u64; 2] {
    view.map_or([0; 2], |view| [view.strides()[0] as u64, view.strides()[1] as u64])
}
