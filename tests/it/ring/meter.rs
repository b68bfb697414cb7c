//! A communicator that counts what its rank sends in steps of a schedule.

use std::cell::Cell;

use warpwright::Result;
use warpwright::backend::Backend;
use warpwright::collective::{Communicator, Parcel, Tag, is_reduction};

pub struct Meter<C> {
    ranks: C,
    sent: Cell<u64>,
}

impl<C> Meter<C> {
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
        if !is_reduction(&tag) {
            let bytes: u64 = sends.iter().map(Parcel::bytes).sum();
            self.sent.set(self.sent.get() + bytes);
        }
        self.ranks.post(tag, sends, receives)
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
