//! Some of the ranks, as a communicator of their own.

use std::sync::atomic::{AtomicU32, Ordering};

use super::reduce::gather_by_messages;
use super::{Communicator, Parcel, Tag};
use crate::backend::Backend;
use crate::{Error, Result};

/// Ranks of another communicator, which carries their messages. What ends one of them ends the
/// other. Made by [`split`].
#[derive(Debug)]
pub struct Split<'a, C, B: Backend> {
    ranks: &'a C,
    backend: B,
    /// The ranks of the other communicator, in the order of this one's.
    members: Vec<usize>,
    rank: usize,
    meetings: AtomicU32,
}

/// The calls of this module, as tags name them.
const CALL: u64 = u64::from_le_bytes(*b"of-split");

/// Splits ranks into groups of those that give the same `color`, each in the order of `key`, and of
/// ranks where keys are alike. All ranks make the call together. What a group says to all of its
/// ranks lies for a moment on `backend`.
///
/// ```
/// use warpwright::collective::{Communicator, Local, all_reduce, split};
/// use warpwright::{Cpu, Tensor};
///
/// // Even and odd ranks, from the last to the first.
/// let sums = Local::<Cpu>::run(4, |ranks| {
///     let rank = ranks.rank();
///     let half = split(&ranks, &Cpu, rank as u64 % 2, -(rank as i64))?;
///     let sum = Tensor::from_vec(vec![rank as f32], &[1])?;
///     all_reduce(&half, &sum)?;
///     Ok((half.rank(), sum.to_vec()?[0]))
/// });
/// let sums = sums.into_iter().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(sums, [(1, 2.0), (1, 4.0), (0, 2.0), (0, 4.0)]);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// As [`Communicator::gather_bytes`].
pub fn split<'a, B: Backend, C: Communicator<B>>(
    ranks: &'a C,
    backend: &B,
    color: u64,
    key: i64,
) -> Result<Split<'a, C, B>> {
    let said = [color.to_le_bytes(), key.to_le_bytes()].concat();
    let mut members: Vec<(i64, usize)> = Vec::new();
    for (rank, said) in ranks.gather_bytes(&said)?.into_iter().enumerate() {
        let number = |range: std::ops::Range<usize>| said.get(range)?.try_into().ok();
        let (Some(its_color), Some(its_key)) = (number(0..8), number(8..16)) else {
            let error = unexpected(&format!("{} bytes of rank {rank}", said.len()));
            ranks.abort(&error.to_string());
            return Err(error);
        };
        if u64::from_le_bytes(its_color) == color {
            members.push((i64::from_le_bytes(its_key), rank));
        }
    }
    members.sort_unstable();
    let members: Vec<usize> = members.into_iter().map(|(_, rank)| rank).collect();
    let Some(rank) = members.iter().position(|&member| member == ranks.rank()) else {
        unreachable!("a rank has its own color");
    };
    Ok(Split { ranks, backend: backend.clone(), members, rank, meetings: AtomicU32::new(0) })
}

fn unexpected(found: &str) -> Error {
    super::lines::CHECK.wrong_option("split", "a color and a key of each rank", found)
}

impl<B: Backend, C: Communicator<B>> Communicator<B> for Split<'_, C, B> {
    type Ticket = C::Ticket;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.members.len()
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<B>>,
        receives: Vec<Parcel<B>>,
    ) -> Result<Self::Ticket> {
        let of_all = |parcels: Vec<Parcel<B>>| {
            let of_all = |Parcel { peer, parts }| {
                let member = self.members.get(peer).copied().ok_or_else(|| {
                    let expected = format!("a rank below {}", self.members.len());
                    super::lines::CHECK.wrong_option("peer", &expected, &peer.to_string())
                });
                Ok(Parcel { peer: member?, parts })
            };
            parcels.into_iter().map(of_all).collect::<Result<Vec<_>>>()
        };
        self.ranks.post(tag, of_all(sends)?, of_all(receives)?)
    }

    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool> {
        self.ranks.test(ticket)
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<()> {
        self.ranks.wait(ticket)
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let number = self.meetings.fetch_add(1, Ordering::Relaxed);
        gather_by_messages(self, &self.backend, (CALL, number), bytes)
    }

    fn abort(&self, reason: &str) {
        self.ranks.abort(reason);
    }
}
