//! A case of a recurrence: sizes and forms, from which its tensors follow.

use crate::Result;
use crate::backend::{Cpu, Named};
use crate::element::{DType, Element, Float};
use crate::rnn::{Activation, Cell, Direction, Options, Problem, Save};
use crate::tensor::Tensor;
use crate::verify::Random;

/// B, T, N and D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sizes {
    pub batch: usize,
    pub steps: usize,
    pub heads: usize,
    pub width: usize,
}

/// How many steps rows have. What lies behind their ends is NaN in all that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Lengths {
    All,
    /// Any number from 0 on.
    Drawn,
    /// None but one, which has all.
    OneLong,
    Zero,
}

/// Which states before the first step are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Before {
    Nothing,
    /// h alone.
    Partial,
    All,
    /// All, of sLSTM with n = 0 here and there, where c and m hold infinities.
    Empty,
}

/// Which gradients of outputs are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Given {
    H,
    Last,
    /// Of h, of the other states of every step, of the last states.
    Everything,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub sizes: Sizes,
    pub cell: Cell,
    pub direction: Direction,
    pub lengths: Lengths,
    pub bias: bool,
    pub before: Before,
    pub given: Given,
    /// The gates that are kept are in f32.
    pub wide: bool,
    pub output_clip: Option<f32>,
    pub grad_clip: Option<f32>,
    pub grad_cut: bool,
    /// Matrices, bias and states are given in the activations' type.
    pub narrow: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl Case {
    /// A case of these sizes, from given states to gradients of h.
    pub fn new(cell: Cell, [batch, steps, heads, width]: [usize; 4]) -> Self {
        Self {
            sizes: Sizes { batch, steps, heads, width },
            cell,
            direction: Direction::Forward,
            lengths: Lengths::All,
            bias: true,
            before: Before::All,
            given: Given::H,
            wide: false,
            output_clip: None,
            grad_clip: None,
            grad_cut: false,
            narrow: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// A case whose forms are drawn at random, at these sizes.
    pub fn random(sizes: [usize; 4], random: &mut Random) -> Self {
        let lengths = [Lengths::All, Lengths::All, Lengths::Drawn, Lengths::OneLong];
        let before = [Before::Nothing, Before::Partial, Before::All, Before::Empty];
        let cell = random.pick(&Cell::ALL);
        let mut clip = |chance, clip| random.chance(chance).then_some(clip);
        let (output_clip, grad_clip) = (clip(0.2, 0.375), clip(0.2, 0.5));
        Self {
            direction: random.pick(&[Direction::Forward, Direction::Reverse]),
            lengths: random.pick(&lengths),
            bias: random.chance(0.7),
            before: random.pick(&before),
            given: random.pick(&[Given::H, Given::H, Given::Last, Given::Everything]),
            wide: random.chance(0.3),
            output_clip,
            grad_clip,
            grad_cut: random.chance(0.15),
            narrow: random.chance(0.3),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
            ..Self::new(cell, sizes)
        }
    }

    /// B · T · N · D², the products of one gate's matrices with states.
    pub fn products(&self) -> usize {
        let Sizes { batch, steps, heads, width } = self.sizes;
        batch * steps * heads * width * width
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        let mut options = Options::new(self.cell)
            .with_direction(self.direction)
            .with_save(if self.wide { Save::Wide } else { Save::Narrow })
            .with_states(true)
            .with_grad_cut(self.grad_cut);
        options.output_clip = self.output_clip;
        options.grad_clip = self.grad_clip;
        options
    }

    /// The call, as plans see it.
    ///
    /// # Errors
    ///
    /// Sizes that make no sense.
    pub fn problem(&self, dtype: DType) -> Result<Problem> {
        let Sizes { batch, steps, heads, width } = self.sizes;
        Problem::new(dtype, [batch, steps, heads, width], &self.options())
    }

    /// The case as it is run in an element type.
    ///
    /// Which elements a clip stops is decided by their last digits: in 16 bits an element that is
    /// just clipped may be just not, and its gradient is then another. And where a cell need not
    /// contract, with relu or in a head of very few units, errors of 16 bits grow from step to
    /// step: there each step is a row of its own, from states that are given, as section 13 of the
    /// specification wants it.
    pub(super) fn in_dtype(&self, dtype: DType) -> Self {
        let mut case = self.clone();
        if !is_narrow(dtype) {
            return case;
        }
        case.output_clip = None;
        let expands = self.cell == Cell::Elman(Activation::Relu) || self.sizes.width < 4;
        if expands && case.sizes.steps > 1 {
            case.sizes.batch *= case.sizes.steps;
            case.sizes.steps = 1;
            case.before = Before::All;
        }
        case
    }

    /// The tensors of the call in activations of type `T`, on the CPU, and the gradients of its
    /// outputs.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let Sizes { batch, steps, heads, width } = self.sizes;
        let mut draw = Draw::<T>::new(self);
        let gates = self.cell.input_gates().len();
        draw.sequence("wx", &[batch, steps, gates, heads, width])?;
        let around = if draw.keeps_from_kink() { 0.125 } else { 1.0 };
        let spread = around * (width.max(1) as f64).powf(-0.5);
        let gates = self.cell.recurrent_gates().len();
        // Numbers of the activations' type, also where they are stored in f32: kernels round them.
        let weight = |random: &mut Random| T::from_f64(spread * random.normal()).to_f64();
        draw.parameter("R", &[gates, heads, width, width], weight)?;
        if self.bias {
            let gates = self.cell.bias_gates().len();
            draw.parameter("b", &[gates, heads, width], |random| around * random.normal())?;
        }
        draw.states()?;
        if self.lengths != Lengths::All {
            let lengths: Vec<i32> = draw.lengths.iter().map(|&length| length as i32).collect();
            draw.insert("lengths", Tensor::from_vec(lengths, &[batch])?);
        }
        draw.gradients()?;
        Ok(draw.named)
    }

    /// The largest errors that the arithmetic allows: section 13 of the specification.
    pub fn tolerances(&self, dtype: DType) -> Tolerances {
        let elman = matches!(self.cell, Cell::Elman(_));
        let gru = self.cell == Cell::Gru;
        // Elman's gradient comes from h as it was stored.
        let narrow = !self.wide || elman;
        let pair = |norm, largest| Tolerance { norm, largest };
        match dtype {
            DType::F64 => Tolerances::of(pair(1e-13, 1e-12), pair(1e-12, 1e-11)),
            DType::F16 => {
                let h = pair(if gru { 3e-4 } else { 4e-4 }, if elman { 2e-3 } else { 1e-3 });
                let gradients = if narrow { pair(1.5e-3, 3e-3) } else { pair(7e-4, 2e-3) };
                let mut all = Tolerances::of(h, gradients);
                all.last.norm = if gru { 1.5e-4 } else { all.last.norm };
                all
            }
            DType::BF16 => {
                let h = pair(if gru { 2.4e-3 } else { 3.5e-3 }, if elman { 1.2e-2 } else { 8e-3 });
                let gradients = if narrow { pair(9e-3, 2e-2) } else { pair(5e-3, 1.2e-2) };
                let mut all = Tolerances::of(h, gradients);
                all.last.norm = if gru { 1.2e-3 } else { all.last.norm };
                all
            }
            _ => Tolerances::of(pair(1e-6, 1e-5), pair(5e-6, 2e-5)),
        }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Sizes { batch, steps, heads, width } = self.sizes;
        let mut words = vec![format!("{} B={batch} T={steps} N={heads} D={width}", self.cell)];
        words.push(format!("{:?}", self.before).to_lowercase());
        if self.lengths != Lengths::All {
            words.push(format!("lengths {:?}", self.lengths).to_lowercase());
        }
        words.extend(self.output_clip.map(|clip| format!("h clipped at {clip}")));
        words.extend(self.grad_clip.map(|clip| format!("gradient clipped at {clip}")));
        words.push(format!("d{:?}", self.given).to_lowercase());
        let flags = [
            (self.direction == Direction::Reverse, "reverse"),
            (self.bias, "bias"),
            (self.wide, "wide gates"),
            (self.grad_cut, "cut"),
            (self.narrow, "narrow"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

/// The largest errors of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// |x - reference| / |reference|, in the Euclidean norm.
    pub norm: f64,
    /// max |x - reference| / max |reference|.
    pub largest: f64,
}

/// The largest errors of the tensors of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Of h and the other states of every step.
    pub states: Tolerance,
    /// Of the last states.
    pub last: Tolerance,
    /// Of all gradients.
    pub gradients: Tolerance,
}

impl Tolerances {
    fn of(states: Tolerance, gradients: Tolerance) -> Self {
        Self { states, last: states, gradients }
    }
}

pub(super) fn is_narrow(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
}

/// Draws the tensors of a case.
struct Draw<'a, T> {
    case: &'a Case,
    random: Random,
    lengths: Vec<usize>,
    named: Named<Cpu>,
    element: std::marker::PhantomData<T>,
}

impl<'a, T: Float> Draw<'a, T> {
    fn new(case: &'a Case) -> Self {
        let Sizes { batch, steps, .. } = case.sizes;
        let mut random = Random::new(case.seed);
        let long = random.below(batch.max(1));
        let length = |row| match case.lengths {
            Lengths::All => steps,
            Lengths::Drawn => random.below(steps + 1),
            Lengths::OneLong => {
                if row == long {
                    steps
                } else {
                    random.below(steps.min(3) + 1)
                }
            }
            Lengths::Zero => 0,
        };
        let lengths = (0..batch).map(length).collect();
        Self { case, random, lengths, named: Named::new(), element: std::marker::PhantomData }
    }

    /// Whether nothing may come near the kink of relu, where the last digits of 16 bits decide on
    /// the gradient; among very many elements those of f32 do, too.
    fn keeps_from_kink(&self) -> bool {
        let Sizes { batch, steps, heads, width } = self.case.sizes;
        let many = batch * steps * heads * width > 1 << 16;
        self.case.cell == Cell::Elman(Activation::Relu) && (is_narrow(T::DTYPE) || many)
    }

    /// Normal numbers for every step, and NaN behind the ends of rows.
    fn sequence_of<E: Float>(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let of_step: usize = shape[2..].iter().product();
        let steps = shape[1];
        let away: f64 = if name == "wx" && self.keeps_from_kink() { 0.75 } else { 0.0 };
        let mut values = Vec::with_capacity(shape.iter().product());
        for row in 0..shape[0] {
            for t in 0..steps {
                let is_there = t < self.lengths[row];
                values.extend((0..of_step).map(|_| {
                    let value = self.random.normal();
                    let value = value + away.copysign(value);
                    E::from_f64(if is_there { value } else { f64::NAN })
                }));
            }
        }
        self.insert(name, Tensor::from_vec(values, shape)?);
        Ok(())
    }

    fn sequence(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        self.sequence_of::<T>(name, shape)
    }

    fn values<E: Float>(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&mut Random) -> f64,
    ) -> Result<()> {
        let count: usize = shape.iter().product();
        let values: Vec<E> = (0..count).map(|_| E::from_f64(value(&mut self.random))).collect();
        self.insert(name, Tensor::from_vec(values, shape)?);
        Ok(())
    }

    fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&mut Random) -> f64,
    ) -> Result<()> {
        match self.case.narrow {
            true => self.values::<T>(name, shape, value),
            false => self.values::<T::State>(name, shape, value),
        }
    }

    /// States before the first step.
    fn states(&mut self) -> Result<()> {
        let Sizes { batch, heads, width, .. } = self.case.sizes;
        let shape = [batch, heads, width];
        let states = match self.case.before {
            Before::Nothing => return Ok(()),
            Before::Partial => 1,
            Before::All | Before::Empty => self.case.cell.states().len(),
        };
        let names = ["h0", "c0", "n0", "m0"];
        let empty = self.case.before == Before::Empty && self.case.cell == Cell::Slstm;
        if !empty {
            for (i, name) in names[..states].iter().enumerate() {
                let value = |random: &mut Random| match i {
                    2 => random.uniform(1.0, 2.0),
                    _ => random.normal(),
                };
                self.parameter(name, &shape, value)?;
            }
            return Ok(());
        }
        let mut all = [const { Vec::new() }; 4];
        for _ in 0..shape.iter().product() {
            let is_empty = self.random.chance(0.3);
            let (h, c) = (self.random.normal(), self.random.normal());
            let (n, m) = (self.random.uniform(1.0, 2.0), self.random.normal());
            let values = match is_empty {
                true => [h, f64::INFINITY, 0.0, f64::NEG_INFINITY],
                false => [h, c, n, m],
            };
            all.iter_mut().zip(values).for_each(|(state, value)| state.push(value));
        }
        for (name, values) in names.into_iter().zip(all) {
            let values: Vec<T::State> = values.into_iter().map(T::State::from_f64).collect();
            self.insert(name, Tensor::from_vec(values, &shape)?);
        }
        Ok(())
    }

    /// Gradients of outputs.
    fn gradients(&mut self) -> Result<()> {
        let Sizes { batch, steps, heads, width } = self.case.sizes;
        let (sequence, state) = ([batch, steps, heads, width], [batch, heads, width]);
        let states = self.case.cell.states().len().min(3);
        if self.case.given != Given::Last {
            self.sequence("dh", &sequence)?;
        }
        if self.case.given == Given::H {
            return Ok(());
        }
        for name in &["dlast_h", "dlast_c", "dlast_n"][..states] {
            self.parameter(name, &state, Random::normal)?;
        }
        if self.case.given == Given::Everything {
            for name in &["dc", "dn"][..states - 1] {
                match self.case.narrow {
                    true => self.sequence_of::<T>(name, &sequence)?,
                    false => self.sequence_of::<T::State>(name, &sequence)?,
                }
            }
        }
        Ok(())
    }

    fn insert<E: Element>(&mut self, name: &str, tensor: Tensor<Cpu, E>) {
        self.named.insert(name.to_owned(), tensor.into_view());
    }
}
