//! Ranks that are late, gone, or in another call: every other one ends in an error that says so.

use std::time::{Duration, Instant};

use warpwright::attention::{Inputs, Mask, Options};
use warpwright::collective::{Cause, Communicator, Fault, Lane, Local, Parcel, Tag};
use warpwright::ring::{self, Algorithm, Partition, Ring, Scheme};
use warpwright::{Cpu, Error, Result, Tensor};

const RANKS: usize = 4;
const DEADLINE: Duration = Duration::from_millis(300);

/// What a rank was told, where it was told anything.
fn faults<R>(ends: &[Result<R>]) -> Vec<Option<&Fault>> {
    ends.iter().map(fault).collect()
}

fn fault<R>(end: &Result<R>) -> Option<&Fault> {
    match end {
        Ok(_) => None,
        Err(Error::Communication { fault: Fault::Poisoned { first }, .. }) => match &**first {
            Error::Communication { fault, .. } => Some(fault),
            other => panic!("{other}"),
        },
        Err(Error::Communication { fault, .. }) => Some(fault),
        Err(other) => panic!("{other}"),
    }
}

/// Runs the ranks with a short deadline, and sees that all end soon.
fn run<R: Send>(rank: impl Fn(&Local<Cpu>) -> Result<R> + Sync) -> Vec<Result<R>> {
    let start = Instant::now();
    let ends = Local::run(RANKS, |ranks| rank(&ranks.with_deadline(Some(DEADLINE))));
    let elapsed = start.elapsed();
    assert!(elapsed < DEADLINE + Duration::from_secs(1), "it took {elapsed:?}");
    ends
}

/// A call of a rank, in which it has as many tokens as it should, of so many features.
fn forward(ranks: &impl Communicator<Cpu>, width: usize, options: &Options) -> Result<f32> {
    let partition = Partition::new(Scheme::Zigzag, 64, RANKS)?;
    let shape = [1, partition.len(ranks.rank()), 2, width];
    let x = Tensor::from_vec(vec![0.5f32; shape.iter().product()], &shape)?;
    let ring = Ring::new(partition).with_algorithm(Algorithm::KvRing);
    let outputs = ring::forward(ranks, &Inputs::new(&x, &x, &x), &ring, options)?;
    Ok(outputs.out.to_vec()?[0])
}

fn causal() -> Options {
    Options::default().with_mask(Mask::causal())
}

#[test]
fn a_rank_that_never_calls_is_named() {
    let ends = run(|ranks| {
        if ranks.rank() == 2 {
            std::thread::sleep(2 * DEADLINE);
            return Ok(0.0);
        }
        forward(ranks, 8, &causal())
    });
    for (rank, fault) in faults(&ends).into_iter().enumerate().filter(|(rank, _)| *rank != 2) {
        let late = matches!(fault, Some(Fault::PeerTimeout { peer: 2, elapsed, .. }) if *elapsed >= DEADLINE);
        assert!(late, "rank {rank}: {fault:?}");
    }
}

#[test]
fn a_rank_that_leaves_is_named() {
    let ends = run(|ranks| match ranks.rank() {
        1 => Ok(0.0),
        _ => forward(ranks, 8, &causal()),
    });
    for (rank, fault) in faults(&ends).into_iter().enumerate().filter(|(rank, _)| *rank != 1) {
        let left = matches!(fault, Some(Fault::PeerFailed { peer: 1, cause: Cause::Left }));
        assert!(left, "rank {rank}: {fault:?}");
    }
}

/// A communicator whose rank panics at its second wait, in the middle of the steps.
struct Panics<'a>(&'a Local<Cpu>, std::cell::Cell<usize>);

impl Communicator<Cpu> for Panics<'_> {
    type Ticket = <Local<Cpu> as Communicator<Cpu>>::Ticket;

    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<Cpu>>,
        receives: Vec<Parcel<Cpu>>,
    ) -> Result<Self::Ticket> {
        self.0.post(tag, sends, receives)
    }

    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool> {
        self.0.test(ticket)
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<()> {
        self.1.set(self.1.get() + 1);
        assert!(self.1.get() < 2, "this rank dies in mid-step");
        self.0.wait(ticket)
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.0.gather_bytes(bytes)
    }

    fn abort(&self, reason: &str) {
        self.0.abort(reason);
    }
}

#[test]
fn a_rank_that_panics_in_mid_step_is_named() {
    let start = Instant::now();
    let ends: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = Local::group(RANKS)
            .into_iter()
            .map(|ranks| {
                scope.spawn(move || {
                    let ranks = ranks.with_deadline(Some(DEADLINE));
                    match ranks.rank() {
                        3 => forward(&Panics(&ranks, std::cell::Cell::new(0)), 8, &causal()),
                        _ => forward(&ranks, 8, &causal()),
                    }
                })
            })
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    assert!(start.elapsed() < DEADLINE + Duration::from_secs(1));
    assert!(ends[3].is_err(), "rank 3 panics");
    let ends: Vec<Result<f32>> =
        ends.into_iter().take(3).map(|end| end.expect("no panic")).collect();
    for (rank, fault) in faults(&ends).into_iter().enumerate() {
        let gone = matches!(fault, Some(Fault::PeerFailed { peer: 3, cause: Cause::Panicked }));
        assert!(gone, "rank {rank}: {fault:?}");
    }
}

#[test]
fn ranks_that_differ_say_in_what() {
    let different = |field: &str, of_rank: &(dyn Fn(&Local<Cpu>) -> Result<f32> + Sync)| {
        let ends = run(of_rank);
        for (rank, fault) in faults(&ends).into_iter().enumerate() {
            let Some(Fault::DescriptorMismatch { field: found, values }) = fault else {
                panic!("rank {rank}: {fault:?}");
            };
            assert_eq!((*found, values.len()), (field, RANKS));
        }
    };
    different("D", &|ranks| forward(ranks, 8 + ranks.rank() % 2, &causal()));
    different("scale", &|ranks| forward(ranks, 8, &causal().with_scale(1.0 + ranks.rank() as f32)));
    different("mask", &|ranks| match ranks.rank() {
        0 => forward(ranks, 8, &Options::default()),
        _ => forward(ranks, 8, &causal()),
    });
}

/// What only one rank finds wrong is told to all.
#[test]
fn an_error_of_one_rank_ends_all() {
    let ends = run(|ranks| {
        let width = if ranks.rank() == 1 { 0 } else { 8 };
        forward(ranks, width, &causal())
    });
    assert!(matches!(ends[1], Err(Error::Shape { .. } | Error::Option { .. })), "{:?}", ends[1]);
    let others: Vec<_> = ends.into_iter().enumerate().filter(|(rank, _)| *rank != 1).collect();
    for (rank, end) in others {
        let ends = [end];
        let faults = faults(&ends);
        assert!(
            matches!(faults[0], Some(Fault::Aborted { peer: 1, .. })),
            "rank {rank}: {faults:?}"
        );
    }
}

#[test]
fn a_message_of_another_step_is_not_taken_for_this_one() {
    let ends = run(|ranks| {
        let (own, peer) = (ranks.rank(), ranks.rank() ^ 1);
        let number = || Tensor::from_vec(vec![own as f32], &[1]).map(Tensor::into_view);
        let sends = vec![Parcel { peer, parts: vec![number()?] }];
        let receives = vec![Parcel { peer, parts: vec![number()?] }];
        let step = u32::from(own == 3);
        let ticket = ranks.post(Tag { call: 1, step, lane: Lane(0) }, sends, receives)?;
        ranks.wait(ticket)
    });
    let faults = faults(&ends);
    let found =
        faults.iter().flatten().find(|fault| matches!(fault, Fault::MessageMismatch { .. }));
    assert!(found.is_some(), "{faults:?}");
    let text = found.map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("expected 4 bytes of call") && text.contains("step 1"), "{text}");
}

/// A poisoned communicator fails at once, and works again when all ranks have reset it.
#[test]
fn ranks_begin_anew_together() {
    let ends = run(|ranks| {
        let broken = match ranks.rank() {
            0 => {
                ranks.abort("it was asked to");
                Err(Error::Communication {
                    rank: 0,
                    fault: Fault::Aborted { peer: 0, reason: String::new() },
                })
            }
            _ => forward(ranks, 8, &causal()),
        };
        assert!(broken.is_err());
        let start = Instant::now();
        let again = forward(ranks, 8, &causal());
        assert!(matches!(again, Err(Error::Communication { fault: Fault::Poisoned { .. }, .. })));
        assert!(start.elapsed() < DEADLINE / 2, "a poisoned one fails at once");
        ranks.reset()?;
        forward(ranks, 8, &causal())
    });
    for end in ends {
        assert_eq!(end.expect("it was reset"), 0.5);
    }
}
