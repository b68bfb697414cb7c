//! Sums and copies over all ranks, made of messages: every engine has them, and gives the same
//! bits, for ranks are added in their order.

use super::lines::CHECK;
use super::{Communicator, Lane, Lines, Parcel, Tag};
use crate::Result;
use crate::tensor::View;

/// The calls of this module, as tags name them.
const CALL: u64 = u64::from_le_bytes(*b"all-rank");

/// Waits until all ranks have come.
///
/// # Errors
///
/// As [`Communicator::wait`].
pub fn barrier<B: Lines>(ranks: &impl Communicator<B>) -> Result<()> {
    ranks.gather_bytes(b"barrier").map(drop)
}

/// Every rank's `own` in every rank's `all`, in the order of ranks.
///
/// # Errors
///
/// As [`Communicator::wait`], and the device's refusal.
pub fn all_gather<B: Lines>(
    ranks: &impl Communicator<B>,
    own: &View<B>,
    all: &[View<B>],
) -> Result<()> {
    if all.len() != ranks.size() {
        let expected = format!("{} tensors, one of each rank", ranks.size());
        return Err(CHECK.wrong_tensor("all", expected, &all.len().to_string()));
    }
    let others = || (0..ranks.size()).filter(|&peer| peer != ranks.rank());
    let sends = others().map(|peer| Parcel { peer, parts: vec![own.clone()] }).collect();
    let receives = others().map(|peer| Parcel { peer, parts: vec![all[peer].clone()] }).collect();
    let ticket = ranks.post(Tag { call: CALL, step: 0, lane: Lane(0) }, sends, receives)?;
    own.backend().copy_lines(own, &all[ranks.rank()])?;
    ranks.wait(ticket)
}

/// The sum of every rank's `own`, in place: each rank adds up its share of the elements along the
/// first axis, and tells the others.
///
/// # Errors
///
/// As [`Communicator::wait`], and the device's refusal.
pub fn all_reduce<B: Lines>(ranks: &impl Communicator<B>, own: &View<B>) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    if size == 1 || own.elements() == 0 {
        return Ok(());
    }
    // A single number is a line of one.
    let own = &if own.shape().is_empty() { own.unsqueezed(0)? } else { own.clone() };
    let length = own.shape()[0];
    let share = |rank: usize| own.narrowed(0, rank * length / size..(rank + 1) * length / size);
    let mine = share(rank)?;
    let others = || (0..size).filter(|&peer| peer != rank);
    let mut sends = Vec::new();
    for peer in others() {
        sends.extend(parcel(peer, share(peer)?));
    }
    // What each rank has of this one's share.
    let parts: Vec<View<B>> = (0..size)
        .map(|_| View::new(own.backend(), own.dtype(), mine.shape()))
        .collect::<Result<_>>()?;
    let receives = others().filter_map(|peer| parcel(peer, parts[peer].clone())).collect();
    let ticket = ranks.post(Tag { call: CALL, step: 1, lane: Lane(0) }, sends, receives)?;
    own.backend().copy_lines(&mine, &parts[rank])?;
    ranks.wait(ticket)?;
    own.backend().copy_lines(&parts[0], &mine)?;
    parts[1..].iter().try_for_each(|part| own.backend().add_lines(part, &mine))?;
    let sends = others().filter_map(|peer| parcel(peer, mine.clone())).collect();
    let mut receives = Vec::new();
    for peer in others() {
        receives.extend(parcel(peer, share(peer)?));
    }
    let ticket = ranks.post(Tag { call: CALL, step: 2, lane: Lane(0) }, sends, receives)?;
    ranks.wait(ticket)
}

/// A message of one tensor, unless there is nothing in it.
fn parcel<B: Lines>(peer: usize, part: View<B>) -> Option<Parcel<B>> {
    (part.elements() > 0).then(|| Parcel { peer, parts: vec![part] })
}

/// Whether a message belongs to a call of this module, and not to one of its callers.
pub(super) fn is_reduction(tag: &Tag) -> bool {
    tag.call == CALL
}
