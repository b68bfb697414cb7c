//! Carries out a rank's program: what is posted, what has come, and what is held of others.

use std::collections::HashMap;

use super::schedule::{Action, Block, Lane, Schedule, Transfer};
use crate::backend::Backend;
use crate::collective::{self, Communicator, Parcel, Tag};
use crate::tensor::View;
use crate::{Error, Result};

/// The part of a pass that knows what travels.
pub(super) trait Worker<B: Backend> {
    /// Where what is sent lies.
    fn outgoing(&mut self, transfer: &Transfer) -> Result<Vec<View<B>>>;

    /// Where what is received shall lie.
    fn room(&mut self, transfer: &Transfer) -> Result<Vec<View<B>>>;

    /// Inputs have come, to be computed with in the next step.
    fn hold(&mut self, transfer: &Transfer, parts: Vec<View<B>>);

    fn compute(&mut self, block: &Block) -> Result<()>;

    /// Results have come.
    fn merge(&mut self, transfer: &Transfer, parts: Vec<View<B>>) -> Result<()>;

    /// What was sent is free again.
    fn release(&mut self, transfer: &Transfer, parts: Vec<View<B>>);
}

/// What was posted for a step of a lane.
struct Posted<B: Backend, T> {
    ticket: T,
    sends: Vec<(Transfer, Vec<View<B>>)>,
    receives: Vec<(Transfer, Vec<View<B>>)>,
}

/// Runs a rank's program. Where it cannot go on the others are told.
pub(super) fn run<B: Backend, C: Communicator<B>>(
    ranks: &C,
    schedule: &Schedule,
    call: u64,
    worker: &mut impl Worker<B>,
) -> Result<()> {
    let done = carry_out(ranks, schedule, call, worker);
    if let Err(error) = &done
        && !matches!(error, Error::Communication { .. })
    {
        ranks.abort(&error.to_string());
    }
    done
}

fn carry_out<B: Backend, C: Communicator<B>>(
    ranks: &C,
    schedule: &Schedule,
    call: u64,
    worker: &mut impl Worker<B>,
) -> Result<()> {
    let mut posted: HashMap<(usize, Lane), Posted<B, C::Ticket>> = HashMap::new();
    let mut arrived: HashMap<Transfer, Vec<View<B>>> = HashMap::new();
    for action in schedule.program(ranks.rank()) {
        match action {
            Action::Post { step, lane, sends, receives } => {
                let sends = sends
                    .into_iter()
                    .map(|transfer| worker.outgoing(&transfer).map(|parts| (transfer, parts)));
                let sends: Vec<_> = sends.collect::<Result<_>>()?;
                let receives = receives
                    .into_iter()
                    .map(|transfer| worker.room(&transfer).map(|parts| (transfer, parts)));
                let receives: Vec<_> = receives.collect::<Result<_>>()?;
                let parcels = |parts: &[(Transfer, Vec<View<B>>)], out: bool| {
                    let parcel = |(transfer, parts): &(Transfer, Vec<View<B>>)| Parcel {
                        peer: if out { transfer.to } else { transfer.from },
                        parts: parts.clone(),
                    };
                    parts.iter().map(parcel).collect()
                };
                let tag = Tag { call, step: step as u32, lane: of(lane) };
                let ticket = ranks.post(tag, parcels(&sends, true), parcels(&receives, false))?;
                posted.insert((step, lane), Posted { ticket, sends, receives });
            }
            Action::Wait { step, lane } => {
                let Some(Posted { ticket, sends, receives }) = posted.remove(&(step, lane)) else {
                    unreachable!("a program waits for what it has posted");
                };
                ranks.wait(ticket)?;
                for (transfer, parts) in sends {
                    worker.release(&transfer, parts);
                }
                for (transfer, parts) in receives {
                    match lane {
                        Lane::Inputs => worker.hold(&transfer, parts),
                        Lane::Results => {
                            arrived.insert(transfer, parts);
                        }
                    }
                }
            }
            Action::Compute(block) => worker.compute(&block)?,
            Action::Merge(transfer) => {
                let Some(parts) = arrived.remove(&transfer) else {
                    unreachable!("a program merges what has come");
                };
                worker.merge(&transfer, parts)?;
            }
        }
    }
    Ok(())
}

fn of(lane: Lane) -> collective::Lane {
    collective::Lane(match lane {
        Lane::Inputs => 0,
        Lane::Results => 1,
    })
}
