//! A case of scan attention: sizes and forms, from which its tensors follow.

use crate::Result;
use crate::backend::{Cpu, Device, Named};
use crate::element::{DType, Element, Float};
use crate::scan_attention::{Layout, Options, Problem};
use crate::tensor::Tensor;
use crate::verify::Random;

/// B, H, Hk, L, Dk and Dv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sizes {
    /// B, batch entries; S sequences where packed.
    pub batch: usize,
    pub heads: usize,
    /// Hk; H where the scores are given.
    pub key_heads: usize,
    pub steps: usize,
    /// Dk; none where the scores are given.
    pub key_width: Option<usize>,
    pub width: usize,
}

/// How documents are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Documents {
    None,
    SeqIdx,
    CuSeqlens,
}

/// How scores are drawn: (vii) of the specification, and hostile ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Normal, with this standard deviation.
    Normal(f64),
    /// Each larger than the one before.
    Rising,
    /// Many equal ones, runs of -∞, spikes of 10⁴ in both directions.
    Adversarial,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub sizes: Sizes,
    pub layout: Layout,
    pub distribution: Distribution,
    pub documents: Documents,
    pub mask: bool,
    pub carry: bool,
    /// Gradients of o, and of the carry out, are given.
    pub output_gradient: bool,
    pub carry_gradients: bool,
    /// Scores, queries and states are given in the activations' type.
    pub narrow: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl Case {
    /// A case with given scores, from a carry to gradients of everything.
    pub fn scores(batch: usize, heads: usize, steps: usize, width: usize) -> Self {
        let key_width = None;
        Self::new(Sizes { batch, heads, key_heads: heads, steps, key_width, width })
    }

    /// The same with keys.
    pub fn keys(batch: usize, [heads, key_heads]: [usize; 2], steps: usize, width: usize) -> Self {
        let key_width = Some(width);
        Self::new(Sizes { batch, heads, key_heads, steps, key_width, width })
    }

    /// A case of these sizes, from a carry to gradients of everything.
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            layout: Layout::Bhld,
            distribution: Distribution::Normal(1.0),
            documents: Documents::None,
            mask: false,
            carry: true,
            output_gradient: true,
            carry_gradients: true,
            narrow: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// A case whose forms are drawn at random, at these sizes.
    pub fn random(sizes: Sizes, random: &mut Random) -> Self {
        use Distribution::{Adversarial, Normal, Rising};
        let distribution = match sizes.key_width {
            // A score that is computed is rounded to f32, which for 30 is 10⁻⁶ of its weight: of
            // large scores only given ones have bounds.
            Some(_) => Normal(1.0),
            None => random.pick(&[Normal(1.0), Normal(30.0), Normal(300.0), Rising, Adversarial]),
        };
        Self {
            sizes,
            layout: random.pick(&[Layout::Bhld, Layout::Blhd]),
            distribution,
            documents: random.pick(&[
                Documents::None,
                Documents::None,
                Documents::SeqIdx,
                Documents::CuSeqlens,
            ]),
            mask: random.chance(0.3),
            carry: random.chance(0.5),
            output_gradient: random.chance(0.9),
            carry_gradients: random.chance(0.5),
            // Scores in 16 bits would be rounded to ties, or to infinity.
            narrow: matches!(distribution, Normal(1.0)) && random.chance(0.3),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        Options::default().with_layout(self.layout).with_save(true)
    }

    /// The tensors of the call in activations of type `T`, on the CPU, and the gradients of its
    /// outputs.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut draw = Draw::<T>::new(self);
        let Sizes { batch, heads, key_heads, steps, key_width, width } = self.sizes;
        let rows = if self.packed() { 1 } else { batch };
        let shape = |heads, width| match self.layout {
            Layout::Bhld => [rows, heads, steps, width],
            Layout::Blhd => [rows, steps, heads, width],
        };
        match key_width {
            None => {
                let score = |random: &mut Random, i| self.score(random, i);
                draw.parameter("s", &[rows, heads, steps], score)?;
            }
            Some(key_width) => {
                let spread = self.deviation();
                draw.parameter("q", &[heads, key_width], |random, _| spread * random.normal())?;
                draw.activation("k", &shape(key_heads, key_width), normal)?;
            }
        }
        draw.activation("v", &shape(key_heads, width), normal)?;
        if self.carry {
            draw.parameter("m0", &[batch, heads], |random, _| self.deviation() * random.normal())?;
            draw.parameter("u0", &[batch, heads], |random, _| random.uniform(1.0, 9.0))?;
            draw.parameter("w0", &[batch, heads, width], normal)?;
        }
        if self.mask {
            let mask = (0..rows * steps).map(|_| u8::from(draw.random.chance(0.7))).collect();
            draw.insert("mask", Tensor::from_vec(mask, &[rows, steps])?)?;
        }
        let often = 20.0 / steps.max(40) as f64;
        match self.documents {
            Documents::None => {}
            Documents::SeqIdx => {
                let numbers = draw.random.seq_idx(rows * steps, often);
                draw.insert("seq_idx", Tensor::from_vec(numbers, &[rows, steps])?)?;
            }
            Documents::CuSeqlens => {
                let bounds = draw.random.cu_seqlens(batch, steps);
                draw.insert("cu_seqlens", Tensor::from_slice(&Cpu, &bounds, &[bounds.len()])?)?;
            }
        }
        if self.output_gradient {
            draw.activation("do", &shape(heads, width), normal)?;
        }
        if self.carry_gradients {
            draw.parameter("du", &[batch, heads], normal)?;
            draw.parameter("dw", &[batch, heads, width], normal)?;
        }
        Ok(draw.named)
    }

    fn packed(&self) -> bool {
        self.documents == Documents::CuSeqlens
    }

    fn deviation(&self) -> f64 {
        match self.distribution {
            Distribution::Normal(deviation) => deviation,
            Distribution::Rising | Distribution::Adversarial => 1.0,
        }
    }

    fn score(&self, random: &mut Random, i: usize) -> f64 {
        let t = i % self.sizes.steps.max(1);
        match self.distribution {
            Distribution::Normal(deviation) => deviation * random.normal(),
            Distribution::Rising => 0.25 * t as f64 + random.uniform(0.0, 0.25),
            Distribution::Adversarial => match random.below(8) {
                0 => 1e4,
                1 => -1e4,
                2..=4 => f64::NEG_INFINITY,
                _ => f64::from(t.is_multiple_of(3)),
            },
        }
    }

    /// The largest scaled errors that the arithmetic allows: section 11 of the specification.
    pub fn tolerances(&self, device: &Device, dtype: DType) -> Tolerances {
        let coarse = !matches!(device.name().split(':').next(), Some("cpu" | "cuda" | "ptx"));
        let [o, carry, activations, scores, parameters] = match (dtype, coarse) {
            // What is f32 there is never held closer than in a call of f32.
            (DType::BF16, true) => [6e-3, 1e-5, 8e-3, 2e-5, 3e-5],
            (DType::BF16, false) => [6e-3, 5e-6, 8e-3, 1e-5, 1e-5],
            (DType::F16, true) => [8e-4, 1e-5, 1e-3, 2e-5, 3e-5],
            (DType::F16, false) => [8e-4, 5e-6, 1e-3, 1e-5, 1e-5],
            (_, true) => [1e-5, 1e-5, 2e-5, 2e-5, 3e-5],
            (_, false) => [2e-6, 2e-6, 5e-6, 5e-6, 1e-5],
        };
        Tolerances {
            o,
            carry,
            activations,
            scores: if self.narrow { activations } else { scores },
            parameters,
        }
    }

    /// The call, as plans see it.
    ///
    /// # Errors
    ///
    /// Sizes that make no sense.
    pub fn problem(&self, dtype: DType) -> Result<Problem> {
        let Sizes { batch, heads, key_heads, steps, key_width, width } = self.sizes;
        let sizes = [batch, heads, key_heads, steps, key_width.unwrap_or(0), width];
        Problem::new(dtype, sizes, &self.options())
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Sizes { batch, heads, key_heads, steps, key_width, width } = self.sizes;
        let rows = if self.packed() { "S" } else { "B" };
        let keys = key_width.map(|width| format!(" Hk={key_heads} Dk={width}"));
        let keys = keys.unwrap_or_default();
        let mut words = vec![
            format!("{rows}={batch} H={heads} L={steps} Dv={width}{keys} {}", self.layout),
            format!("{:?}", self.distribution).to_lowercase(),
        ];
        if self.documents != Documents::None {
            words.push(format!("{:?}", self.documents).to_lowercase());
        }
        let flags = [
            (self.mask, "mask"),
            (self.carry, "carry"),
            (self.output_gradient, "do"),
            (self.carry_gradients, "du dw"),
            (self.narrow, "narrow"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

/// The largest scaled errors of the tensors of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Of o.
    pub o: f64,
    /// Of lse, the carry out, and what is saved.
    pub carry: f64,
    /// Of dv and dk.
    pub activations: f64,
    /// Of ds.
    pub scores: f64,
    /// Of dq, dm0, du0 and dw0.
    pub parameters: f64,
}

fn normal(random: &mut Random, _: usize) -> f64 {
    random.normal()
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
        value: impl Fn(&mut Random, usize) -> f64,
    ) -> Result<()> {
        let values: Vec<E> =
            (0..shape.iter().product()).map(|i| E::from_f64(value(&mut self.random, i))).collect();
        self.insert(name, Tensor::from_vec(values, shape)?)
    }

    fn activation(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&mut Random, usize) -> f64,
    ) -> Result<()> {
        self.values::<T>(name, shape, value)
    }

    fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&mut Random, usize) -> f64,
    ) -> Result<()> {
        match self.case.narrow {
            true => self.values::<T>(name, shape, value),
            false => self.values::<T::State>(name, shape, value),
        }
    }

    fn insert<E: Element>(&mut self, name: &str, tensor: Tensor<Cpu, E>) -> Result<()> {
        self.named.insert(name.to_owned(), tensor.into_view());
        Ok(())
    }
}
