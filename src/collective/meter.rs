//! What a rank really sends.

use std::cell::Cell;

use super::reduce::is_reduction;
use super::{Communicator, Parcel, Tag};
use crate::Result;
use crate::backend::Backend;

/// A communicator that counts the bytes that its rank sends in steps of schedules; what
/// [`all_reduce`](super::all_reduce) and the like send is not counted.
#[derive(Debug)]
pub struct Meter<C> {
    ranks: C,
    sent: Cell<u64>,
}

impl<C> Meter<C> {
    /// Counts what goes through `ranks`.
    pub fn new(ranks: C) -> Self {
        Self { ranks, sent: Cell::new(0) }
    }

    /// Bytes so far.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }
}

impl<B: Backend, C: Communicator<B>> Communicator<B> for Meter<C> {
    type Ticket = C::Ticket;

    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn size(&self) -> usize {
        self.ranks.size()
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<B>>,
        receives: Vec<Parcel<B>>,
    ) -> Result<Self::Ticket> {
        let bytes: u64 = if is_reduction(&tag) { 0 } else { sends.iter().map(Parcel::bytes).sum() };
        let ticket = self.ranks.post(tag, sends, receives)?;
        self.sent.set(self.sent.get() + bytes);
        Ok(ticket)
    }

    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool> {
        self.ranks.test(ticket)
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<()> {
        self.ranks.wait(ticket)
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.ranks.gather_bytes(bytes)
    }

    fn abort(&self, reason: &str) {
        self.ranks.abort(reason);
    }
}
