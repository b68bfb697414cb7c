//! A case of the selective scan: sizes and forms, from which its tensors follow.

use crate::Result;
use crate::backend::{Cpu, Device, Named};
use crate::element::{DType, Element, Float};
use crate::selective_scan::{Layout, Options};
use crate::tensor::Tensor;
use crate::verify::Random;

/// B, D, L, N and G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// B, batch entries; S sequences where packed.
    pub batch: usize,
    /// D, channels.
    pub channels: usize,
    /// L, time steps.
    pub steps: usize,
    /// N, states.
    pub states: usize,
    /// G, groups.
    pub groups: usize,
}

/// How documents are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResetForm {
    None,
    Flags,
    SeqIdx,
    CuSeqlens,
}

/// How values are drawn; (i) to (vi) of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// A = -(1 .. N), step sizes in [0.001, 0.1]: a freshly made Mamba.
    Mamba,
    /// A in (-1/2, 0), raw step size in (0, 1/2).
    Broad,
    /// Raw step sizes of standard deviation 5, with softplus.
    Wild,
    /// A = -10⁻⁴: the state hardly decays.
    NearUnit,
    /// A = -10³: the state is gone at once.
    Strong,
    /// Spikes, zeros, alternating signs.
    Adversarial,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub sizes: Sizes,
    pub layout: Layout,
    pub distribution: Distribution,
    pub resets: ResetForm,
    pub a_per_channel: bool,
    pub b_constant: bool,
    pub c_constant: bool,
    pub skip: bool,
    pub gate: bool,
    pub bias: bool,
    pub h0: bool,
    pub softplus: bool,
    pub clamp: bool,
    /// Decays keep their distance from 1 on every device.
    pub accurate: bool,
    /// Parameters are given in the activations' type.
    pub narrow_parameters: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl Case {
    /// A case with everything that Mamba uses, at these sizes.
    pub fn new(batch: usize, channels: usize, steps: usize, states: usize, groups: usize) -> Self {
        Self {
            sizes: Sizes { batch, channels, steps, states, groups },
            layout: Layout::Bdl,
            distribution: Distribution::Mamba,
            resets: ResetForm::None,
            a_per_channel: false,
            b_constant: false,
            c_constant: false,
            skip: true,
            gate: true,
            bias: true,
            h0: true,
            softplus: true,
            clamp: false,
            accurate: false,
            narrow_parameters: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// A case whose forms are drawn at random, at these sizes.
    pub fn random(sizes: Sizes, random: &mut Random) -> Self {
        use Distribution::{Adversarial, Broad, Mamba, Strong, Wild};
        use ResetForm::{CuSeqlens, Flags, None, SeqIdx};
        let distribution = random.pick(&[Mamba, Mamba, Broad, Wild, Strong, Adversarial]);
        Self {
            sizes,
            layout: random.pick(&[Layout::Bdl, Layout::Bld]),
            distribution,
            resets: random.pick(&[None, None, Flags, SeqIdx, CuSeqlens]),
            a_per_channel: random.chance(0.25),
            b_constant: random.chance(0.25),
            c_constant: random.chance(0.25),
            skip: random.chance(0.5),
            gate: random.chance(0.5),
            bias: random.chance(0.5),
            h0: random.chance(0.5),
            softplus: !matches!(distribution, Broad) || random.chance(0.5),
            clamp: random.chance(0.25),
            accurate: false,
            narrow_parameters: random.chance(0.25),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        let options = Options::default()
            .with_layout(self.layout)
            .with_delta_softplus(self.softplus)
            .with_accurate_decays(self.accurate)
            .with_save(true);
        match self.clamp {
            true => options.with_delta_clamp(0.01, 0.08),
            false => options,
        }
    }

    /// The tensors of the call in activations of type `T`, on the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut draw = Draw::<T>::new(self);
        let Sizes { batch, channels, steps, states, groups } = self.sizes;
        let rows = if self.packed() { 1 } else { batch };
        let activation = match self.layout {
            Layout::Bdl => [rows, channels, steps],
            Layout::Bld => [rows, steps, channels],
        };
        let map = match self.layout {
            Layout::Bdl => [rows, groups, states, steps],
            Layout::Bld => [rows, steps, groups, states],
        };
        draw.activation("u", &activation, |case, random, i| case.input(T::DTYPE, random, i))?;
        draw.activation("delta", &activation, Self::raw_step)?;
        match self.a_per_channel {
            true => draw.parameter("A", &[channels], Self::decay)?,
            false => draw.parameter("A", &[channels, states], Self::decay)?,
        }
        for (name, constant) in [("B", self.b_constant), ("C", self.c_constant)] {
            match constant {
                true => {
                    draw.parameter(name, &[channels, states], |_, random, _| random.normal())?
                }
                false => draw.activation(name, &map, |_, random, _| random.normal())?,
            }
        }
        if self.skip {
            draw.parameter("D", &[channels], |_, random, _| random.normal())?;
        }
        if self.gate {
            draw.activation("z", &activation, |_, random, _| 2.0 * random.normal())?;
        }
        if self.bias {
            draw.parameter("delta_bias", &[channels], Self::step_bias)?;
        }
        if self.h0 {
            draw.parameter("h0", &[batch, channels, states], |_, random, _| random.normal())?;
        }
        draw.resets()?;
        Ok(draw.named)
    }

    /// The gradients of its outputs.
    ///
    /// # Errors
    ///
    /// As [`tensors`](Self::tensors).
    pub fn output_gradients<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut draw = Draw::<T>::new(self);
        draw.random = Random::new(!self.seed);
        let Sizes { batch, channels, steps, states, .. } = self.sizes;
        let rows = if self.packed() { 1 } else { batch };
        let activation = match self.layout {
            Layout::Bdl => [rows, channels, steps],
            Layout::Bld => [rows, steps, channels],
        };
        draw.activation("dout", &activation, |_, random, _| random.normal())?;
        if self.h0 {
            let state = [batch, channels, states];
            draw.parameter("dlast_state", &state, |_, random, _| random.normal())?;
        }
        Ok(draw.named)
    }

    /// B · D · L · N.
    #[cfg(feature = "interpreter")]
    pub(super) fn elements(&self) -> u64 {
        let Sizes { batch, channels, steps, states, .. } = self.sizes;
        (batch * channels * steps * states) as u64
    }

    fn packed(&self) -> bool {
        self.resets == ResetForm::CuSeqlens
    }

    fn input(&self, dtype: DType, random: &mut Random, i: usize) -> f64 {
        match self.distribution {
            Distribution::Adversarial => match i % 7 {
                0 => 0.0,
                3 if random.chance(0.1) => self.spike(dtype),
                _ => {
                    if i.is_multiple_of(2) {
                        1.0
                    } else {
                        -1.0
                    }
                }
            },
            _ => random.normal(),
        }
    }

    /// Of the specification's size where results cannot leave the range of the type: they are
    /// sums over n of spike · Δ B C, with Δ up to 25, gated by up to 10.
    fn spike(&self, dtype: DType) -> f64 {
        match dtype {
            DType::F16 => 25.0 / (self.sizes.states.max(1) as f64).sqrt(),
            _ => 1e4,
        }
    }

    fn raw_step(&self, random: &mut Random, i: usize) -> f64 {
        match self.distribution {
            Distribution::Mamba | Distribution::NearUnit | Distribution::Strong => {
                0.3 * random.normal() - if self.bias { 0.0 } else { 4.0 }
            }
            Distribution::Broad => random.uniform(0.0, 0.5),
            Distribution::Wild => 5.0 * random.normal(),
            Distribution::Adversarial => match i % 5 {
                0 => -30.0,
                1 => 25.0,
                _ => random.normal(),
            },
        }
    }

    /// softplus of it lies in [0.001, 0.1], as Mamba begins.
    fn step_bias(&self, random: &mut Random, _: usize) -> f64 {
        match self.distribution {
            Distribution::Broad => random.uniform(0.0, 0.1),
            _ => random.uniform(-6.9, -2.3),
        }
    }

    fn decay(&self, random: &mut Random, i: usize) -> f64 {
        match self.distribution {
            Distribution::Mamba | Distribution::Adversarial if !self.a_per_channel => {
                -((i % self.sizes.states.max(1)) as f64 + 1.0)
            }
            Distribution::NearUnit => -1e-4,
            Distribution::Strong => -1e3,
            _ => -random.uniform(0.01, 0.5),
        }
    }

    /// The largest scaled errors of `out` and of the states that the arithmetic allows: section
    /// 11 of the specification.
    pub fn tolerances(&self, device: &Device, dtype: DType) -> (f64, f64) {
        let coarse = !matches!(device.name().split(':').next(), Some("cpu" | "cuda" | "ptx"));
        // States are f32 whatever the activations: never held closer than in a call of f32.
        let (out, state): (f64, f64) = match (dtype, coarse) {
            (DType::BF16, true) => (6e-3, 1e-5),
            (DType::BF16, false) => (6e-3, 5e-6),
            (DType::F16, true) => (8e-4, 1e-5),
            (DType::F16, false) => (8e-4, 5e-6),
            (_, true) => (1e-5, 1e-5),
            (_, false) => (2e-6, 2e-6),
        };
        // Long memory: the rounding of a decay near 1 limits every f32 recurrence. The CPU and the
        // WGSL always keep the distance from 1.
        let accurate = self.accurate || coarse || matches!(device, Device::Cpu(_));
        match (self.distribution, accurate) {
            (Distribution::NearUnit, true) => (out.max(5e-5), 5e-5),
            (Distribution::NearUnit, false) => (out.max(2e-3), 2e-3),
            _ => (out, state),
        }
    }

    /// The largest scaled errors of the gradients of activations, of those of variable B and C,
    /// and of those of parameters and states: section 11 of the specification.
    pub fn gradient_tolerances(&self, device: &Device, dtype: DType) -> [f64; 3] {
        let coarse = matches!(device.name().split(':').next(), Some("wgpu"));
        let tolerances: [f64; 3] = match (dtype, coarse) {
            (DType::BF16, true) => [8e-3, 8e-3, 3e-5],
            (DType::BF16, false) => [8e-3, 8e-3, 1e-5],
            (DType::F16, true) => [1e-3, 1e-3, 3e-5],
            (DType::F16, false) => [1e-3, 1e-3, 1e-5],
            (_, true) => [2e-5, 2e-5, 3e-5],
            (_, false) => [5e-6, 5e-6, 1e-5],
        };
        // As of the forward pass.
        match (self.distribution, coarse || matches!(device, Device::Cpu(_))) {
            (Distribution::NearUnit, true) => tolerances.map(|bound| bound.max(5e-5)),
            (Distribution::NearUnit, false) => tolerances.map(|bound| bound.max(2e-3)),
            _ => tolerances,
        }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Sizes { batch, channels, steps, states, groups } = self.sizes;
        let rows = if self.packed() { "S" } else { "B" };
        let mut words = vec![
            format!("{rows}={batch} D={channels} L={steps} N={states} G={groups} {}", self.layout),
            format!("{:?}", self.distribution).to_lowercase(),
        ];
        if self.resets != ResetForm::None {
            words.push(format!("{:?}", self.resets).to_lowercase());
        }
        let flags = [
            (self.a_per_channel, "A(D)"),
            (self.b_constant, "B constant"),
            (self.c_constant, "C constant"),
            (self.skip, "D"),
            (self.gate, "z"),
            (self.bias, "bias"),
            (self.h0, "h0"),
            (self.softplus, "softplus"),
            (self.clamp, "clamp"),
            (self.accurate, "accurate decays"),
            (self.narrow_parameters, "narrow parameters"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

/// Draws the tensors of a case.
struct Draw<'a, T> {
    case: &'a Case,
    random: Random,
    named: Named<Cpu>,
    element: std::marker::PhantomData<T>,
}

impl<'a, T: Float> Draw<'a, T> {
    fn new(case: &'a Case) -> Self {
        let random = Random::new(case.seed);
        Self { case, random, named: Named::new(), element: std::marker::PhantomData }
    }

    fn values<E: Float>(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&Case, &mut Random, usize) -> f64,
    ) -> Result<()> {
        let values: Vec<E> = (0..shape.iter().product())
            .map(|i| E::from_f64(value(self.case, &mut self.random, i)))
            .collect();
        self.insert(name, Tensor::from_vec(values, shape)?)
    }

    fn activation(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&Case, &mut Random, usize) -> f64,
    ) -> Result<()> {
        self.values::<T>(name, shape, value)
    }

    fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&Case, &mut Random, usize) -> f64,
    ) -> Result<()> {
        match self.case.narrow_parameters {
            true => self.values::<T>(name, shape, value),
            false => self.values::<T::State>(name, shape, value),
        }
    }

    fn insert<E: Element>(&mut self, name: &str, tensor: Tensor<Cpu, E>) -> Result<()> {
        self.named.insert(name.to_owned(), tensor.into_view());
        Ok(())
    }

    /// Documents about a twentieth of a row long, single steps and padding among them.
    fn resets(&mut self) -> Result<()> {
        let Sizes { batch, steps, .. } = self.case.sizes;
        let often = 20.0 / steps.max(40) as f64;
        match self.case.resets {
            ResetForm::None => Ok(()),
            ResetForm::Flags => {
                let flags: Vec<u8> =
                    (0..batch * steps).map(|_| self.random.chance(often).into()).collect();
                self.insert("reset", Tensor::from_vec(flags, &[batch, steps])?)
            }
            ResetForm::SeqIdx => {
                let numbers = self.random.seq_idx(batch * steps, often);
                self.insert("seq_idx", Tensor::from_vec(numbers, &[batch, steps])?)
            }
            ResetForm::CuSeqlens => {
                let bounds = self.random.cu_seqlens(batch, steps);
                self.insert("cu_seqlens", Tensor::from_slice(&Cpu, &bounds, &[bounds.len()])?)
            }
        }
    }
}
