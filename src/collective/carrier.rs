//! What gets messages between ranks of one process from one memory to the other.

use std::fmt::Debug;

use super::{Lane, Lines};
use crate::Result;
use crate::backend::Backend;
use crate::tensor::View;

/// Carries messages for a rank that is a thread, by a device that works by itself: what is queued
/// there is ordered by marks, so that nobody waits for it.
pub trait Carrier<B: Backend>: Debug + Send {
    /// A point in the work of a device.
    type Mark: Clone + Debug + Send;

    /// What is to be sent, as it can be carried.
    ///
    /// # Errors
    ///
    /// The device's refusal, as of all that follows.
    fn pack(&self, part: &View<B>) -> Result<View<B>>;

    /// Where what is received into a tensor is carried to.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    fn room(&self, part: &View<B>) -> Result<View<B>>;

    /// Brings what has come to its place, if it is not there.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    fn unpack(&self, room: &View<B>, part: &View<B>) -> Result<()>;

    /// After what this rank has queued.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    fn mark(&self) -> Result<Self::Mark>;

    /// Carries a message from where it was packed to its room, after these marks of the sender and
    /// of this rank; the mark behind it.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    fn carry<'a>(
        &self,
        lane: Lane,
        parts: impl Iterator<Item = (&'a View<B>, &'a View<B>)>,
        after: [&Self::Mark; 2],
    ) -> Result<Self::Mark>;

    /// What this rank queues from now on waits for a mark.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    fn after(&self, mark: &Self::Mark) -> Result<()>;

    /// Waits until all that was to be carried, by any rank, has been.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    fn settle(&self) -> Result<()>;
}

/// All ranks are on one device, whose work is done in the order in which it is queued: messages are
/// copied from where they lie to where they are wanted.
#[derive(Debug)]
pub struct OneDevice;

impl<B: Lines> Carrier<B> for OneDevice {
    type Mark = ();

    fn pack(&self, part: &View<B>) -> Result<View<B>> {
        Ok(part.clone())
    }

    fn room(&self, part: &View<B>) -> Result<View<B>> {
        Ok(part.clone())
    }

    fn unpack(&self, _room: &View<B>, _part: &View<B>) -> Result<()> {
        Ok(())
    }

    fn mark(&self) -> Result<()> {
        Ok(())
    }

    fn carry<'a>(
        &self,
        _lane: Lane,
        mut parts: impl Iterator<Item = (&'a View<B>, &'a View<B>)>,
        _after: [&(); 2],
    ) -> Result<()> {
        parts.try_for_each(|(from, to)| to.backend().copy_lines(from, to))
    }

    fn after(&self, _mark: &()) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
