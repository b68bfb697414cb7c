//! Rings on whole tensors whose names and types are known only at run time, as files give them.

use std::time::{Duration, Instant};

use super::request::{Engine, RANKS, Request};
use super::{NAME, Pass, Ring, Shards, backward, forward, refuse, whole};
use crate::attention::{self, AXES, Attention, Gradients, Inputs, Options, Problem, given, split};
use crate::backend::{Cpu, Device, Named, dispatch, in_f64, on_backend};
use crate::collective::{Communicator, Lines, Local, Meter, barrier};
use crate::element::{DType, Float};
use crate::named::downloaded;
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::tensor::View;
use crate::{Error, Result};

/// Rings as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        check(named, &Request::from_settings(settings)?).map(drop)
    }

    /// Ranks that are threads; `out` and the others are those of the whole sequence.
    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        let request = Request::from_settings(settings)?;
        let problem = check(named, &request)?;
        request.check_ability()?;
        if request.engine == Engine::Mpi {
            return Err(Error::Unsupported {
                operation: NAME,
                backend: "one process".to_owned(),
                what: "the engine mpi".to_owned(),
                instead: "build warpwright-cli with the feature mpi and start the command by \
                          mpirun, or use the engine local"
                    .to_owned(),
            });
        }
        let ring = ring(&problem, &request, request.ranks.unwrap_or(RANKS))?;
        refuse(&device.name(), has_bias(named), problem.sequences.is_some(), &request.options)?;
        let options = &request.options;
        dispatch!(NAME, device, problem.dtype, |backend, T| {
            run_threads::<_, T>(backend, named, &ring, options)?.ran(&ring, &problem, options)
        })
    }

    /// Attention's, of all at once.
    fn reference(&self, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        let request = Request::from_settings(settings)?;
        attention::run_named(&Device::Cpu(Cpu), &in_f64(named)?, &request.options)
    }

    /// Both passes, or that of the option `pass`.
    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let plans = super::plan::plans(dtype, sizes, settings)?;
        let texts: Result<Vec<String>> = plans.iter().map(|plan| plan.explain(device)).collect();
        Ok(texts?.join("\n\n"))
    }
}

pub(super) fn has_bias(named: &Named<Cpu>) -> bool {
    named.contains_key("bias")
}

/// Checks all that can be told without a device.
pub(super) fn check(named: &Named<Cpu>, request: &Request) -> Result<Problem> {
    let problem = attention::problem(named, &request.options)?;
    // Packed sequences are not cut.
    if problem.sequences.is_none() {
        ring(&problem, request, request.ranks.unwrap_or(RANKS))?;
    }
    Ok(problem)
}

/// The ring of a call, whose schedules can be made.
pub(super) fn ring(problem: &Problem, request: &Request, ranks: usize) -> Result<Ring> {
    let ring = request.ring([problem.queries, problem.keys], ranks)?;
    ring.check(problem.kv_heads)?;
    Ok(ring)
}

/// What a rank gave for its part of whole tensors.
#[derive(Clone, Debug)]
pub(crate) struct OfRank {
    /// Its part of the outputs.
    pub outputs: Named<Cpu>,
    /// Bytes that it has really sent, forward and backward.
    pub sent: [u64; 2],
    /// From when all ranks were there to its own end, forward and backward.
    pub elapsed: [Duration; 2],
}

/// Makes a rank's call, and that of its backward pass where gradients of outputs are among the
/// tensors. What the rank alone finds wrong is told to the others.
pub(super) fn run_rank<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    shard: &Named<B>,
    ring: &Ring,
    options: &Options,
) -> Result<OfRank> {
    let ran = both_passes::<B, T, C>(ranks, shard, ring, options);
    ran.inspect_err(|error| {
        if !matches!(error, Error::Communication { .. }) {
            ranks.abort(&error.to_string());
        }
    })
}

fn both_passes<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    shard: &Named<B>,
    ring: &Ring,
    options: &Options,
) -> Result<OfRank> {
    let (inputs, gradients) = split(shard);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let (backend, problem) = (inputs.q.backend(), Problem::check(&inputs, options)?);
    let mut zeros = None;
    let given = match gradients.is_empty() {
        true => None,
        false => Some(given(backend, &problem, &gradients, &mut zeros)?),
    };
    let ranks = Meter::new(ranks);
    let begin = || {
        backend.synchronise()?;
        barrier(&ranks).map(|()| Instant::now())
    };
    let end = |start: Instant| backend.synchronise().map(|()| start.elapsed());
    let start = begin()?;
    let outputs = forward(&ranks, &inputs, ring, options)?;
    let mut elapsed = [end(start)?, Duration::ZERO];
    let sent = ranks.sent();
    let gradients = match given {
        None => None,
        Some(given) => {
            let start = begin()?;
            let gradients = backward(&ranks, &inputs, ring, options, &outputs, &given)?;
            elapsed[1] = end(start)?;
            Some(gradients)
        }
    };
    let mut named: Vec<(&'static str, &View<B>)> =
        vec![("out", &outputs.out), ("lse", &outputs.lse)];
    named.extend(gradients.iter().flat_map(Gradients::named));
    Ok(OfRank { outputs: downloaded(named)?, sent: [sent, ranks.sent() - sent], elapsed })
}

/// What all ranks gave, in their order.
#[derive(Clone, Debug)]
pub(crate) struct OfAll(pub Vec<OfRank>);

impl OfAll {
    /// The outputs of the whole sequence.
    pub fn outputs(&self, ring: &Ring, options: &Options) -> Result<Named<Cpu>> {
        let parts: Vec<_> = self.0.iter().map(|rank| rank.outputs.clone()).collect();
        whole::gather(&parts, ring, options.layout)
    }

    /// The time of a pass: that of the slowest rank.
    pub fn slowest(&self, pass: Pass) -> Duration {
        let of_pass = usize::from(pass == Pass::Backward);
        self.0.iter().map(|rank| rank.elapsed[of_pass]).max().unwrap_or_default()
    }

    /// The same with what is to be known of the run.
    pub fn ran(&self, ring: &Ring, problem: &Problem, options: &Options) -> Result<Ran> {
        let elapsed = self.slowest(Pass::Forward) + self.slowest(Pass::Backward);
        let sent = self.0.iter().map(|rank| rank.sent.iter().sum::<u64>().to_string());
        let bytes = sent.collect::<Vec<_>>().join(",");
        let algorithm = ring.chosen(&Shards::of(problem, ring.queries, ring.keys), Pass::Forward);
        let outputs = self.outputs(ring, options)?;
        let ran = Ran::new(algorithm.name(), elapsed, outputs);
        Ok(ran.with_metadata([("bytes_sent".to_owned(), bytes)]))
    }
}

/// Cuts whole tensors, and gives each rank, a thread, its part.
pub(crate) fn run_threads<B: Attention<T> + Lines, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    ring: &Ring,
    options: &Options,
) -> Result<OfAll> {
    let shards = whole::scatter(named, ring, options.layout)?;
    let shards: Vec<Named<B>> =
        shards.iter().map(|shard| on_backend(backend, shard)).collect::<Result<_>>()?;
    let ends = Local::<B>::run(ring.ranks(), |ranks| {
        run_rank::<B, T, _>(&ranks, &shards[ranks.rank()], ring, options)
    });
    cause(ends).map(OfAll)
}

/// What all gave, or what was wrong first: that a rank has met something by itself says more than
/// that the others were told.
fn cause(ends: Vec<Result<OfRank>>) -> Result<Vec<OfRank>> {
    let is_own = |end: &&Result<OfRank>| {
        end.as_ref().is_err_and(|error| !matches!(error, Error::Communication { .. }))
    };
    if let Some(Err(own)) = ends.iter().find(is_own) {
        return Err(own.clone());
    }
    ends.into_iter().collect()
}
