//! A case of the state update: sizes and forms, from which its tensors follow.

use crate::Result;
use crate::backend::{Cpu, Device, Named};
use crate::element::{DType, Element, Float};
use crate::selective_scan::state_update::Options;
use crate::tensor::{Tensor, View};
use crate::verify::Random;

/// Which slots the entries of a batch use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Entry b uses slot b.
    InOrder,
    /// Slots in another order, one entry in four padding.
    Chosen,
    /// As chosen, and what is written goes to slots that nobody reads.
    Moved,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub batch: usize,
    /// M; `None` for a call without an axis of steps.
    pub steps: Option<usize>,
    /// H, or D of a plain call.
    pub heads: usize,
    /// P; `None` for a plain call.
    pub width: Option<usize>,
    pub states: usize,
    pub groups: usize,
    /// The element type of the states; f64 where the activations are.
    pub state: DType,
    pub a_tied: bool,
    /// Whether dt, D and its bias have one value for a head.
    pub tied: bool,
    pub skip: bool,
    pub gate: bool,
    pub bias: bool,
    pub softplus: bool,
    /// The least and the largest step size.
    pub clamp: Option<(f32, f32)>,
    /// A, D and the bias are given in the activations' type.
    pub narrow: bool,
    pub slots: Slots,
    pub keep_state: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl Case {
    /// A plain call with everything that Mamba uses, at these sizes.
    pub fn plain(batch: usize, channels: usize, states: usize) -> Self {
        Self {
            batch,
            steps: None,
            heads: channels,
            width: None,
            states,
            groups: 1,
            state: DType::F32,
            a_tied: false,
            tied: false,
            skip: true,
            gate: true,
            bias: true,
            softplus: true,
            clamp: None,
            narrow: false,
            slots: Slots::InOrder,
            keep_state: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// A call with heads whose parameters are tied, as Mamba-2 has it.
    pub fn heads(batch: usize, heads: usize, width: usize, states: usize, groups: usize) -> Self {
        let plain = Self::plain(batch, heads, states);
        Self { width: Some(width), groups, a_tied: true, tied: true, ..plain }
    }

    /// A case whose sizes and forms are drawn at random.
    pub fn random(random: &mut Random) -> Self {
        let groups = random.pick(&[1, 1, 2, 3]);
        Self {
            batch: random.pick(&[1, 2, 3, 5]),
            steps: random.pick(&[None, None, Some(1), Some(2), Some(5), Some(16)]),
            heads: groups * random.pick(&[1, 2, 7, 33]),
            width: random.pick(&[None, None, Some(1), Some(4), Some(17)]),
            states: random.pick(&[1, 2, 3, 4, 8, 15, 16, 16, 17, 64, 128, 256]),
            groups,
            state: random.pick(&[DType::F32, DType::F32, DType::BF16, DType::F16]),
            a_tied: random.chance(0.4),
            tied: random.chance(0.4),
            skip: random.chance(0.5),
            gate: random.chance(0.5),
            bias: random.chance(0.5),
            softplus: random.chance(0.8),
            clamp: random.chance(0.25).then_some((0.01, 0.08)),
            narrow: random.chance(0.2),
            slots: random.pick(&[Slots::InOrder, Slots::Chosen, Slots::Moved]),
            keep_state: random.chance(0.2),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        let options =
            Options::default().with_dt_softplus(self.softplus).with_keep_state(self.keep_state);
        match self.clamp {
            Some((min, max)) => options.with_dt_clamp(min, max),
            None => options,
        }
    }

    /// The tensors of the call in activations of type `T`, on the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut random = Random::new(self.seed);
        let mut named = Named::new();
        let mut draw = |name: &str, dtype: DType, shape: &[usize], value: &Draw<'_>| {
            let values = (0..shape.iter().product()).map(|i| value(&mut random, i)).collect();
            named.insert(name.to_owned(), tensor(dtype, values, shape)?);
            Ok::<(), crate::Error>(())
        };
        let normal: &Draw<'_> = &|random, _| random.normal();
        // Without softplus a step size that is not positive makes states grow.
        let (dt, bias): (&Draw<'_>, &Draw<'_>) = match self.softplus {
            true => {
                (&|random, _| 0.3 * random.normal() - 3.0, &|random, _| random.uniform(-1.0, 1.0))
            }
            false => {
                (&|random, _| random.uniform(0.001, 0.1), &|random, _| random.uniform(0.0, 0.05))
            }
        };
        let (entry, channel, head) = (self.entry_shape(), self.channel_shape(), [self.heads]);
        let joined = |axes: &[usize]| [entry.as_slice(), axes].concat();
        let per_head = |tied: bool| if tied { head.to_vec() } else { channel.clone() };
        let parameter = if self.narrow { T::DTYPE } else { T::State::DTYPE };
        let state = if T::DTYPE == DType::F64 { DType::F64 } else { self.state };
        let states = self.states;
        draw(
            "state",
            state,
            &[&[self.slot_count()], channel.as_slice(), &[states]].concat(),
            normal,
        )?;
        draw("x", T::DTYPE, &joined(&channel), normal)?;
        draw("dt", T::DTYPE, &joined(&per_head(self.tied)), dt)?;
        match self.a_tied {
            true => draw("A", parameter, &head, &|random, _| -random.uniform(0.5, 16.0))?,
            false => {
                let shape = [channel.as_slice(), &[states]].concat();
                draw("A", parameter, &shape, &|_, i| -((i % states.max(1)) as f64 + 1.0))?;
            }
        }
        let map = match (self.width, self.groups) {
            (None, 1) => joined(&[states]),
            (_, groups) => joined(&[groups, states]),
        };
        draw("B", T::DTYPE, &map, normal)?;
        draw("C", T::DTYPE, &map, normal)?;
        if self.skip {
            draw("D", parameter, &per_head(self.tied), normal)?;
        }
        if self.gate {
            draw("z", T::DTYPE, &joined(&channel), &|random, _| 2.0 * random.normal())?;
        }
        if self.bias {
            draw("dt_bias", parameter, &per_head(self.tied), bias)?;
        }
        self.slot_tensors(&mut named)?;
        Ok(named)
    }

    fn slot_tensors(&self, named: &mut Named<Cpu>) -> Result<()> {
        let mut random = Random::new(!self.seed);
        if self.slots == Slots::InOrder {
            return Ok(());
        }
        let count = self.batch;
        let slot = |b: usize| (count - 1 - b) as i32;
        let read: Vec<i32> =
            (0..count).map(|b| if random.chance(0.25) { -1 } else { slot(b) }).collect();
        if self.slots == Slots::Moved {
            // One in five is written nowhere.
            let slot = |b: usize| (count + b) as i64;
            let written: Vec<i64> =
                (0..count).map(|b| if random.chance(0.2) { -1 } else { slot(b) }).collect();
            named
                .insert("out_indices".to_owned(), Tensor::from_vec(written, &[count])?.into_view());
        }
        named.insert("state_indices".to_owned(), Tensor::from_vec(read, &[count])?.into_view());
        Ok(())
    }

    /// R: some slots belong to nobody.
    fn slot_count(&self) -> usize {
        2 * self.batch + 1
    }

    fn entry_shape(&self) -> Vec<usize> {
        [self.batch].into_iter().chain(self.steps).collect()
    }

    fn channel_shape(&self) -> Vec<usize> {
        [self.heads].into_iter().chain(self.width).collect()
    }

    /// The largest scaled errors of `out` and of the states: section 11 of the specification.
    /// A half-precision state that lies between two numbers may go either way, and carries that
    /// into the output of the next step.
    pub fn tolerances(&self, device: &Device, dtype: DType) -> (f64, f64) {
        let coarse = device.name().starts_with("wgpu");
        let out: f64 = match (dtype, coarse) {
            (DType::BF16, _) => 6e-3,
            (DType::F16, _) => 8e-4,
            (_, true) => 1e-5,
            (_, false) => 2e-6,
        };
        let state = match (self.state, coarse) {
            (DType::BF16, _) => 8e-3,
            (DType::F16, _) => 1e-3,
            (_, true) => 5e-6,
            (_, false) => 1e-6,
        };
        let carried = self.state != DType::F32 && self.steps.is_some_and(|steps| steps > 1);
        (if carried { out.max(state) } else { out }, state)
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let mut words = vec![format!("B={}", self.batch)];
        words.extend(self.steps.map(|steps| format!("M={steps}")));
        match self.width {
            None => words.push(format!("D={}", self.heads)),
            Some(width) => words.push(format!("H={} P={width}", self.heads)),
        }
        words.push(format!("N={} G={} state {}", self.states, self.groups, self.state));
        let flags = [
            (self.a_tied, "A tied"),
            (self.tied, "tied"),
            (self.skip, "D"),
            (self.gate, "z"),
            (self.bias, "bias"),
            (!self.softplus, "no softplus"),
            (self.clamp.is_some(), "clamp"),
            (self.narrow, "narrow"),
            (self.slots != Slots::InOrder, "slots"),
            (self.slots == Slots::Moved, "moved"),
            (self.keep_state, "state kept"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

/// Draws element i of a tensor.
type Draw<'a> = dyn Fn(&mut Random, usize) -> f64 + 'a;

/// A tensor of some float type.
fn tensor(dtype: DType, values: Vec<f64>, shape: &[usize]) -> Result<View<Cpu>> {
    let view = View::new(&Cpu, dtype, shape)?;
    view.write_f64(&values)?;
    Ok(view)
}
