//! A case of the convolution: sizes and forms, from which its tensors follow.

use crate::Result;
use crate::backend::{Cpu, Device, Named};
use crate::causal_conv1d::{Activation, Layout, Options};
use crate::element::{DType, Element, Float};
use crate::tensor::Tensor;
use crate::verify::Random;

/// B, D, L and W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// B, batch entries; S sequences where packed.
    pub batch: usize,
    /// D, channels.
    pub channels: usize,
    /// L, time steps.
    pub steps: usize,
    /// W, taps.
    pub width: usize,
}

/// How documents are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResetForm {
    None,
    SeqIdx,
    CuSeqlens,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Normal.
    Normal,
    /// Spikes, zeros, alternating signs; sums far out on both sides of the activation.
    Adversarial,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub sizes: Sizes,
    pub layout: Layout,
    pub activation: Activation,
    pub distribution: Distribution,
    pub resets: ResetForm,
    pub bias: bool,
    pub s0: bool,
    /// The gradient of the final state comes in, not only that of the output.
    pub dfinal_state: bool,
    /// Parameters and states are given in the activations' type.
    pub narrow_parameters: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl Case {
    /// A case with everything that Mamba uses, and states, at these sizes.
    pub fn new(batch: usize, channels: usize, steps: usize, width: usize) -> Self {
        Self {
            sizes: Sizes { batch, channels, steps, width },
            layout: Layout::Bdl,
            activation: Activation::Silu,
            distribution: Distribution::Normal,
            resets: ResetForm::None,
            bias: true,
            s0: true,
            dfinal_state: true,
            narrow_parameters: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// A case whose forms are drawn at random, at these sizes.
    pub fn random(sizes: Sizes, random: &mut Random) -> Self {
        use Distribution::{Adversarial, Normal};
        use ResetForm::{CuSeqlens, None, SeqIdx};
        Self {
            sizes,
            layout: random.pick(&[Layout::Bdl, Layout::Bld]),
            activation: random.pick(&[Activation::None, Activation::Silu, Activation::Silu]),
            distribution: random.pick(&[Normal, Normal, Adversarial]),
            resets: random.pick(&[None, None, SeqIdx, CuSeqlens]),
            bias: random.chance(0.5),
            s0: random.chance(0.5),
            dfinal_state: random.chance(0.5),
            narrow_parameters: random.chance(0.25),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        Options::default().with_layout(self.layout).with_activation(self.activation)
    }

    /// The tensors of the call in activations of type `T`, on the CPU, gradients of outputs among
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut draw = Draw::<T> {
            case: self,
            random: Random::new(self.seed),
            named: Named::new(),
            element: std::marker::PhantomData,
        };
        let Sizes { batch, channels, steps, width } = self.sizes;
        let activation = self.layout.axes([self.entries(), channels, steps]).map(|axis| axis.1);
        let state = [batch, channels, width - 1];
        draw.floats::<T>("x", &activation)?;
        draw.parameter("weight", &[channels, width])?;
        if self.bias {
            draw.parameter("bias", &[channels])?;
        }
        if self.s0 {
            draw.parameter("s0", &state)?;
        }
        draw.resets()?;
        draw.floats::<T>("dout", &activation)?;
        if self.dfinal_state {
            draw.parameter("dfinal_state", &state)?;
        }
        Ok(draw.named)
    }

    /// Batch entries of the activations: one where sequences are packed.
    pub fn entries(&self) -> usize {
        if self.packed() { 1 } else { self.sizes.batch }
    }

    fn packed(&self) -> bool {
        self.resets == ResetForm::CuSeqlens
    }

    fn number(&self, dtype: DType, name: &str, random: &mut Random, i: usize) -> f64 {
        match self.distribution {
            Distribution::Adversarial if name == "x" => match i % 7 {
                0 => 0.0,
                // Small enough that no sum leaves the range of f16.
                3 if random.chance(0.1) => {
                    if dtype == DType::F16 {
                        1e3
                    } else {
                        1e4
                    }
                }
                _ if i.is_multiple_of(2) => 1.0,
                _ => -1.0,
            },
            _ => random.normal(),
        }
    }

    /// The largest scaled error of an output that the arithmetic allows: section 11 of the
    /// specification.
    pub fn tolerance(&self, device: &Device, dtype: DType, output: &str) -> f64 {
        let coarse = !matches!(device.name().split(':').next(), Some("cpu" | "cuda" | "ptx"));
        let row = |bf16, f16, coarse_f32, f32| match (dtype, coarse) {
            (DType::BF16, _) => bf16,
            (DType::F16, _) => f16,
            (_, true) => coarse_f32,
            (_, false) => f32,
        };
        match output {
            "out" => row(6e-3, 8e-4, 1e-5, 2e-6),
            // A copy.
            "final_state" => 0.0,
            "dx" => row(8e-3, 1e-3, 2e-5, 5e-6),
            _ => row(1e-5, 1e-5, 3e-5, 1e-5),
        }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Sizes { batch, channels, steps, width } = self.sizes;
        let rows = if self.packed() { "S" } else { "B" };
        let mut words = vec![format!(
            "{rows}={batch} D={channels} L={steps} W={width} {} {}",
            self.layout, self.activation
        )];
        if self.distribution != Distribution::Normal {
            words.push("adversarial".to_owned());
        }
        if self.resets != ResetForm::None {
            words.push(format!("{:?}", self.resets).to_lowercase());
        }
        let flags = [
            (self.bias, "bias"),
            (self.s0, "s0"),
            (self.dfinal_state, "dfinal_state"),
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

impl<T: Float> Draw<'_, T> {
    fn floats<E: Float>(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let values: Vec<E> = (0..shape.iter().product())
            .map(|i| E::from_f64(self.case.number(T::DTYPE, name, &mut self.random, i)))
            .collect();
        self.insert(name, Tensor::from_vec(values, shape)?)
    }

    fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        match self.case.narrow_parameters {
            true => self.floats::<T>(name, shape),
            false => self.floats::<T::State>(name, shape),
        }
    }

    fn insert<E: Element>(&mut self, name: &str, tensor: Tensor<Cpu, E>) -> Result<()> {
        self.named.insert(name.to_owned(), tensor.into_view());
        Ok(())
    }

    /// Documents about a twentieth of a row long, single steps and padding among them; now and
    /// then a number comes back.
    fn resets(&mut self) -> Result<()> {
        let Sizes { batch, steps, .. } = self.case.sizes;
        let often = 20.0 / steps.max(40) as f64;
        match self.case.resets {
            ResetForm::None => Ok(()),
            ResetForm::SeqIdx => {
                let mut number = 0;
                let numbers: Vec<i32> = (0..batch * steps)
                    .map(|_| {
                        number += i32::from(self.random.chance(often));
                        match self.random.below(10) {
                            0 => -1,
                            1 => number - 1,
                            _ => number,
                        }
                    })
                    .collect();
                self.insert("seq_idx", Tensor::from_vec(numbers, &[batch, steps])?)
            }
            ResetForm::CuSeqlens => {
                let mut bounds: Vec<i64> =
                    (1..batch).map(|_| self.random.below(steps + 1) as i64).collect();
                bounds.extend([0, steps as i64]);
                bounds.sort_unstable();
                self.insert("cu_seqlens", Tensor::from_slice(&Cpu, &bounds, &[bounds.len()])?)
            }
        }
    }
}
