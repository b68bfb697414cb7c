//! Attention over sequences that no single device holds.
//!
//! Each rank has some tokens of a sequence, as a [`Partition`] cuts it, and gives what
//! [`attention`](mod@crate::attention) gives for its queries over the keys of all. What is computed,
//! sent and merged, and when, is a [`Schedule`]: data, the same for every transport. A
//! [`Communicator`] carries it out.
//!
//! | schedule | stays | goes round | comes home |
//! |---|---|---|---|
//! | [`KvRing`](Algorithm::KvRing) | queries, results | keys, values | backward their gradients, added to on the way |
//! | [`TwoWay`](Algorithm::TwoWay) | the same | half of the heads up, half down | the same |
//! | [`TokenRing`](Algorithm::TokenRing) | keys, values, their gradients | queries | results, backward gradients of queries, straight |
//!
//! Which is taken, if none is asked for, is told from the bytes that a step moves
//! ([`Shards::choose`]). Where sight is causal a [zigzag](Scheme::Zigzag) gives every rank as much
//! to do, and moves three quarters of the bytes. Sums are f32 wherever they are, so that errors do
//! not grow with the ranks; they are added in the order of the steps, so that equal calls give
//! equal bits; one rank is a plain call, to the bit.
//!
//! Sequences that are packed into one row are cut one by one ([`forward_packed`],
//! [`backward_packed`]). Those who want the weights themselves have whole rows of scores
//! ([`forward_scores`], [`backward_scores`]), on the CPU.
//!
//! ```
//! use warpwright::attention::{Inputs, Mask, Options};
//! use warpwright::collective::{Communicator, Local};
//! use warpwright::ring::{self, Partition, Ring, Scheme};
//! use warpwright::{Cpu, Tensor};
//!
//! // Keys that are all alike: every query has the mean of the values up to its own, of all ranks.
//! let partition = Partition::new(Scheme::Zigzag, 8, 2)?;
//! let shards = Local::<Cpu>::run(2, |ranks| {
//!     let rank = ranks.rank();
//!     let ones = Tensor::from_vec(vec![1.0f32; 4], &[1, 4, 1, 1])?;
//!     let values: Vec<f32> = (0..8u8).map(f32::from).collect();
//!     let v = Tensor::from_vec(partition.scatter(&values, [1, 1], rank), &[1, 4, 1, 1])?;
//!     let options = Options::default().with_mask(Mask::causal());
//!     let inputs = Inputs::new(&ones, &ones, &v);
//!     ring::forward(&ranks, &inputs, &Ring::new(partition), &options)?.out.to_vec()
//! });
//! let shards: Vec<Vec<f32>> = shards.into_iter().collect::<Result<_, _>>()?;
//! for (t, mean) in partition.gather(&shards, [1, 1]).into_iter().enumerate() {
//!     assert!((mean - t as f32 / 2.0).abs() < 1e-5);
//! }
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! `warpwright plan ring` prints a [`Plan`] and draws it; `warpwright run ring-attention` takes whole
//! sequences: over threads ([`Local`](crate::collective::Local)), or over processes of MPI by
//! [`run_over`], where the first rank has the tensors and sends the others their shards.
//!
//! Papers: H. Liu, M. Zaharia, P. Abbeel, "Ring Attention with Blockwise Transformers for
//! Near-Infinite Context", 2023, arXiv 2310.01889; W. Brandon et al., "Striped Attention: Faster Ring
//! Attention for Causal Transformers", 2023, arXiv 2311.09431; Z. Wang et al., "TokenRing: An
//! Efficient Parallelism Framework for Infinite-Context LLMs via Bidirectional Communication", 2024,
//! arXiv 2412.20501.

mod backward;
mod cut;
mod forward;
mod model;
mod named;
mod options;
mod packed;
mod partition;
mod plan;
mod request;
mod schedule;
mod scores;
mod spread;
mod store;
mod traffic;
mod whole;

pub use model::Shards;
pub(crate) use named::RunTime;
#[cfg(feature = "verify")]
pub(crate) use named::run_threads;
pub use options::Ring;
pub use packed::{PackedPartition, PackedRing, backward_packed, forward_packed};
pub use partition::{MAX_RANKS, Partition, Scheme};
pub use plan::{Plan, plans};
pub use request::{Engine, RANKS, Request};
pub use schedule::{
    Action, Algorithm, Block, Direction, Half, Heads, Item, Lane, Meetings, Pass, Piece, Schedule,
    Transfer,
};
pub use scores::{Scored, backward_scores, forward_scores};
pub use spread::{check_over, run_over};

use crate::attention::{
    self, Attention, Gradients, Inputs, Options, OutputGradients, Outputs, Problem,
};
use crate::backend::Backend;
use crate::check::Check;
use crate::collective::{self, Communicator, Descriptor, Lines};
use crate::element::{Element, Float};
use crate::tensor::Tensor;
use crate::{Error, Result};
use backward::Backward;
use cut::{Cut, tokens_first};
use forward::Forward;
use store::Pool;

/// The operation, as messages and the command name it.
pub const NAME: &str = "ring-attention";

/// The checks of the operation.
const CHECK: Check = Check { operation: NAME };

/// Attention of this rank's queries over the keys of all ranks, into new tensors. All ranks make
/// the call together, each with its tokens of the sequence: masks and slopes count positions in
/// the whole one. A sink is given to all.
///
/// # Errors
///
/// As [`attention::forward`](fn@attention::forward); [`Error::Shape`] where the tensors have not the
/// tokens of the partition, [`Error::Unsupported`] for what rings do not have yet, biases and packed
/// sequences ([`forward_packed`] takes them); [`Error::Communication`] where ranks differ, are late or gone.
pub fn forward<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    ring: &Ring,
    options: &Options,
) -> Result<Outputs<B, T>> {
    forward_in(ranks, inputs, ring, options, &mut Workspace::new(inputs.q.backend()))
}

/// The same with memory that an earlier call has left, and which this one leaves to the next: then
/// no step allocates any.
///
/// # Errors
///
/// As [`forward`].
pub fn forward_in<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    ring: &Ring,
    options: &Options,
    workspace: &mut Workspace<B>,
) -> Result<Outputs<B, T>> {
    let call = Call::new(ranks, inputs, ring, options, Pass::Forward)?;
    if call.is_plain() {
        return attention::forward(inputs, &call.whole(options));
    }
    call.agree(ranks)?;
    let outputs = Outputs::new(inputs.q.backend(), &call.problem)?;
    // Where T is the type of sums the result is its own sum.
    let out = tokens_first(&outputs.out, options.layout)?;
    let running = match T::DTYPE == T::State::DTYPE {
        true => out.clone(),
        false => tokens_first(
            &*Tensor::<B, T::State>::new(inputs.q.backend(), &call.problem.output_shape())?,
            options.layout,
        )?,
    };
    let cut = Cut::new(ranks.rank(), ring, call.shards.clone(), options);
    let running = [running, (*outputs.lse).clone()];
    let pool = workspace.0.leave();
    let mut worker = Forward::new(&cut, inputs, options.layout, running, pool)?;
    traffic::run(ranks, &call.schedule, call.digest(), &mut worker)?;
    let ([running, _], pool) = worker.finish();
    workspace.0 = pool;
    if T::DTYPE != T::State::DTYPE {
        out.backend().copy_lines(&running, &out)?;
    }
    Ok(outputs)
}

/// Gradients of this rank's queries, keys and values, and of the sink over all ranks, into new
/// tensors. `outputs` are those of [`forward`].
///
/// # Errors
///
/// As [`forward`].
pub fn backward<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    ring: &Ring,
    options: &Options,
    outputs: &Outputs<B, T>,
    given: &OutputGradients<'_, B, T>,
) -> Result<Gradients<B, T>> {
    let mut workspace = Workspace::new(inputs.q.backend());
    backward_in(ranks, inputs, ring, options, (outputs, given), &mut workspace)
}

/// The same with memory that an earlier call has left, and which this one leaves to the next.
///
/// # Errors
///
/// As [`backward`].
pub fn backward_in<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    ring: &Ring,
    options: &Options,
    (outputs, given): (&Outputs<B, T>, &OutputGradients<'_, B, T>),
    workspace: &mut Workspace<B>,
) -> Result<Gradients<B, T>> {
    let call = Call::new(ranks, inputs, ring, options, Pass::Backward)?;
    if call.is_plain() {
        let whole = call.whole(options);
        return attention::backward(inputs, &whole, &outputs.saved(), given);
    }
    let delta = told(ranks, attention::row_terms(inputs, options, outputs, given))?;
    call.agree(ranks)?;
    let cut = Cut::new(ranks.rank(), ring, call.shards.clone(), options);
    let mut gradients = Gradients::new(inputs.q.backend(), inputs)?;
    let rows = [&delta, &outputs.lse];
    let layout = options.layout;
    let pool = workspace.0.leave();
    let mut worker = Backward::new(&cut, inputs, layout, rows, given.out, &mut gradients, pool)?;
    traffic::run(ranks, &call.schedule, call.digest(), &mut worker)?;
    workspace.0 = worker.finish(layout, &gradients)?;
    if let Some(sink) = &gradients.sink {
        collective::all_reduce(ranks, sink)?;
    }
    Ok(gradients)
}

/// Memory that a call's steps have used, for the steps of the next one, of whatever sizes.
#[derive(Debug)]
pub struct Workspace<B: Backend>(Pool<B>);

impl<B: Backend> Workspace<B> {
    /// None yet.
    pub fn new(backend: &B) -> Self {
        Self(Pool::new(backend))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// Tells the other ranks of an error, who would wait for this one.
fn told<B: Backend, R>(ranks: &impl Communicator<B>, result: Result<R>) -> Result<R> {
    result.inspect_err(|error| ranks.abort(&error.to_string()))
}

/// A call that was checked, and what its ranks do.
struct Call {
    problem: Problem,
    shards: Shards,
    schedule: Schedule,
    descriptor: Descriptor,
}

impl Call {
    fn new<B: Attention<T>, T: Float>(
        ranks: &impl Communicator<B>,
        inputs: &Inputs<'_, B, T>,
        ring: &Ring,
        options: &Options,
        pass: Pass,
    ) -> Result<Self> {
        told(ranks, Self::check(ranks, inputs, ring, options, pass))
    }

    fn check<B: Attention<T>, T: Float>(
        ranks: &impl Communicator<B>,
        inputs: &Inputs<'_, B, T>,
        ring: &Ring,
        options: &Options,
        pass: Pass,
    ) -> Result<Self> {
        let problem = Problem::check(inputs, options)?;
        check_ring(ranks, &problem, inputs, ring, options)?;
        let shards = Shards::of(&problem, ring.queries, ring.keys);
        let schedule = ring.schedule(&shards, &options.mask, pass)?;
        let descriptor = describe(&problem, inputs, ring, options, &schedule);
        Ok(Self { problem, shards, schedule, descriptor })
    }

    /// Whether there is nothing to be sent, because there is one rank, or nothing at all.
    fn is_plain(&self) -> bool {
        self.schedule.ranks() == 1 || self.problem.batch * self.problem.heads == 0
    }

    /// The options of a plain call.
    fn whole(&self, options: &Options) -> Options {
        let shards = &self.shards;
        let rank = |partition: &Partition| partition.positions(0);
        match self.schedule.ranks() {
            1 => options.clone().with_queries(rank(&shards.queries)).with_keys(rank(&shards.keys)),
            _ => options.clone(),
        }
    }

    fn agree<B: Backend>(&self, ranks: &impl Communicator<B>) -> Result<()> {
        self.descriptor.agree(ranks)
    }

    fn digest(&self) -> u64 {
        self.descriptor.digest()
    }
}

/// The tensors are those of the rank's tokens, and nothing is asked for that rings do not have.
fn check_ring<B: Backend, T: Float>(
    ranks: &impl Communicator<B>,
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    ring: &Ring,
    options: &Options,
) -> Result<()> {
    if ring.ranks() != ranks.size() {
        let expected = format!("{}, as the communicator has", ranks.size());
        return Err(CHECK.wrong_option("ranks", &expected, &ring.ranks().to_string()));
    }
    for (name, partition, found, view) in [
        ("q", &ring.queries, problem.queries, &**inputs.q),
        ("k", &ring.keys, problem.keys, &**inputs.k),
    ] {
        let expected = partition.len(ranks.rank());
        if found != expected {
            let (rank, total) = (ranks.rank(), partition.total());
            let expected = format!("{expected} tokens, those of rank {rank} of {total}");
            return Err(CHECK.wrong_shape(name, view, expected));
        }
    }
    refuse(&inputs.q.backend().name(), inputs.bias.is_some(), inputs.packed.is_some(), options)
}

/// Nothing is asked for that rings do not have.
fn refuse(backend: &str, has_bias: bool, is_packed: bool, options: &Options) -> Result<()> {
    let refused = [
        (has_bias, "a bias", "use `alibi_slopes`, or attention without a ring"),
        (is_packed, "packed sequences", "use `forward_packed`, `backward_packed`"),
        (
            options.queries.is_some() || options.keys.is_some() || options.accumulate,
            "positions or running results of the caller",
            "cut the sequence by the ring's partitions",
        ),
    ];
    match refused.into_iter().find(|(asked, ..)| *asked) {
        None => Ok(()),
        Some((_, what, instead)) => Err(Error::Unsupported {
            operation: NAME,
            backend: backend.to_owned(),
            what: what.to_owned(),
            instead: instead.to_owned(),
        }),
    }
}

/// What ranks must agree on.
fn describe<B: Backend, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    ring: &Ring,
    options: &Options,
    schedule: &Schedule,
) -> Descriptor {
    let mask = format!("{:?}", options.mask);
    let softcap = options.softcap.map_or(0, f32::to_bits);
    let scale = options.scale.map_or("1/√D".to_owned(), |scale| scale.to_string());
    Descriptor::new()
        .with("operation", NAME)
        .with("pass", format!("{:?}", schedule.pass()))
        .with("ranks", ring.ranks())
        .with("B", problem.batch)
        .with("H", problem.heads)
        .with("Hk", problem.kv_heads)
        .with("D", problem.width)
        .with("Dv", problem.value_width)
        .with("type", problem.dtype)
        .with("partition of queries", ring.queries.scheme())
        .with("queries", ring.queries.total())
        .with("partition of keys", ring.keys.scheme())
        .with("keys", ring.keys.total())
        .with("schedule", schedule.algorithm())
        .with("direction", format!("{:?}", ring.direction))
        .with("mask", mask)
        .with("scale", scale)
        .with("softcap", format!("{softcap:08x}"))
        .with("alibi_slopes", inputs.alibi_slopes.is_some())
        .with("sink", inputs.sink.is_some())
}
