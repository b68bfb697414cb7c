//! Sums and copies over all ranks, made of messages: every engine has them, and gives the same
//! bits, for ranks are added in their order.

use super::lines::CHECK;
use super::{Communicator, Lane, Lines, Parcel, Tag};
use crate::Result;
use crate::backend::Backend;
use crate::element::DType;
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
    exchange(ranks, 0, &vec![own.clone(); ranks.size()], all)
}

/// Sends `parts[r]` to each rank r, and receives from it into `into[r]`.
///
/// # Errors
///
/// As [`Communicator::wait`], and the device's refusal.
pub fn all_to_all<B: Lines>(
    ranks: &impl Communicator<B>,
    parts: &[View<B>],
    into: &[View<B>],
) -> Result<()> {
    exchange(ranks, 1, parts, into)
}

/// Of each rank's `parts[r]` the sum, in the order of ranks, into rank r's `own`.
///
/// # Errors
///
/// As [`Communicator::wait`], and the device's refusal.
pub fn reduce_scatter<B: Lines>(
    ranks: &impl Communicator<B>,
    parts: &[View<B>],
    own: &View<B>,
) -> Result<()> {
    reduce_parts(ranks, parts, own, Lines::add_lines)
}

/// The sum of every rank's `own`, in place: each rank adds up its share of the elements along the
/// first axis, in the order of ranks, and tells the others, so that all have the same bits.
///
/// # Errors
///
/// As [`Communicator::wait`], and the device's refusal.
pub fn all_reduce<B: Lines>(ranks: &impl Communicator<B>, own: &View<B>) -> Result<()> {
    reduce_shares(ranks, own, Lines::add_lines)
}

/// The greatest of every rank's `own`, element by element, in place.
///
/// # Errors
///
/// As [`all_reduce`].
pub fn all_reduce_max<B: Lines>(ranks: &impl Communicator<B>, own: &View<B>) -> Result<()> {
    reduce_shares(ranks, own, Lines::max_lines)
}

/// How a tensor is put into another.
type Into<B> = fn(&B, &View<B>, &View<B>) -> Result<()>;

fn reduce_shares<B: Lines>(
    ranks: &impl Communicator<B>,
    own: &View<B>,
    reduce: Into<B>,
) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    if size == 1 || own.elements() == 0 {
        return Ok(());
    }
    // A single number is a line of one.
    let own = &if own.shape().is_empty() { own.unsqueezed(0)? } else { own.clone() };
    let length = own.shape()[0];
    let share = |rank: usize| own.narrowed(0, rank * length / size..(rank + 1) * length / size);
    let shares: Vec<View<B>> = (0..size).map(share).collect::<Result<_>>()?;
    let sum = View::new(own.backend(), own.dtype(), shares[rank].shape())?;
    reduce_parts(ranks, &shares, &sum, reduce)?;
    let sums = vec![sum; size];
    exchange(ranks, 3, &sums, &shares)
}

fn reduce_parts<B: Lines>(
    ranks: &impl Communicator<B>,
    parts: &[View<B>],
    own: &View<B>,
    reduce: Into<B>,
) -> Result<()> {
    // What each rank has of this one's.
    let room = || View::new(own.backend(), own.dtype(), own.shape());
    let of_ranks: Vec<View<B>> = (0..ranks.size()).map(|_| room()).collect::<Result<_>>()?;
    exchange(ranks, 2, parts, &of_ranks)?;
    own.backend().copy_lines(&of_ranks[0], own)?;
    of_ranks[1..].iter().try_for_each(|part| reduce(own.backend(), part, own))
}

/// Every rank sends each a tensor, itself too.
fn exchange<B: Lines>(
    ranks: &impl Communicator<B>,
    step: u32,
    parts: &[View<B>],
    into: &[View<B>],
) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    for (name, tensors) in [("parts", parts), ("into", into)] {
        if tensors.len() != size {
            let expected = format!("{size} tensors, one of each rank");
            return Err(CHECK.wrong_tensor(name, expected, &tensors.len().to_string()));
        }
    }
    let parcels = |views: &[View<B>]| {
        let parcels = views.iter().enumerate().filter(|(peer, _)| *peer != rank);
        parcels.filter_map(|(peer, view)| parcel(peer, view.clone())).collect()
    };
    let tag = Tag { call: CALL, step, lane: Lane(0) };
    let ticket = ranks.post(tag, parcels(parts), parcels(into))?;
    parts[rank].backend().copy_lines(&parts[rank], &into[rank])?;
    ranks.wait(ticket)
}

/// Gives every rank the bytes of all, for engines that have no other way: lengths, then what is said,
/// as tensors of `backend`. The meetings of a call are told apart by their numbers.
pub(super) fn gather_by_messages<B: Backend>(
    ranks: &impl Communicator<B>,
    backend: &B,
    (call, number): (u64, u32),
    bytes: &[u8],
) -> Result<Vec<Vec<u8>>> {
    let size = ranks.size();
    let tag = |step| Tag { call, step, lane: Lane(0) };
    let length = (bytes.len() as u64).to_le_bytes();
    let told = exchange_bytes(ranks, backend, tag(2 * number), &length, &vec![8; size])?;
    let length =
        |told: Vec<u8>| told.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let lengths: Vec<usize> = told.into_iter().map(length).collect();
    exchange_bytes(ranks, backend, tag(2 * number + 1), bytes, &lengths)
}

/// Exchanges bytes with all others, so many of each.
fn exchange_bytes<B: Backend>(
    ranks: &impl Communicator<B>,
    backend: &B,
    tag: Tag,
    own: &[u8],
    lengths: &[usize],
) -> Result<Vec<Vec<u8>>> {
    let uploaded = backend.upload(own)?;
    let sent = View::without_gaps(backend, uploaded, DType::U8, &[own.len()])?;
    let room = |&length: &usize| View::new(backend, DType::U8, &[length]);
    let room: Vec<View<B>> = lengths.iter().map(room).collect::<Result<_>>()?;
    let others = || (0..ranks.size()).filter(|&peer| peer != ranks.rank());
    let sends = others().filter_map(|peer| parcel(peer, sent.clone())).collect();
    let receives = others().filter_map(|peer| parcel(peer, room[peer].clone())).collect();
    ranks.wait(ranks.post(tag, sends, receives)?)?;
    let said = |(peer, room): (usize, &View<B>)| match peer == ranks.rank() {
        true => Ok(own.to_vec()),
        false => room.to_bytes(),
    };
    room.iter().enumerate().map(said).collect()
}

/// A message of one tensor, unless there is nothing in it.
fn parcel<B: Backend>(peer: usize, part: View<B>) -> Option<Parcel<B>> {
    (part.elements() > 0).then(|| Parcel { peer, parts: vec![part] })
}

/// Whether a message belongs to a call of this module, and not to one of its callers.
pub(super) fn is_reduction(tag: &Tag) -> bool {
    tag.call == CALL
}
