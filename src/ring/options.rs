//! How a sequence is cut, and how its shards meet.

use super::partition::{Partition, Scheme};
use super::schedule::{Algorithm, Direction, Meetings, Pass, Schedule};
use super::{CHECK, Shards};
use crate::Result;
use crate::attention::Mask;

/// How sequences are cut among ranks, and how shards meet. Made by [`Ring::new`] and the `with_…`
/// methods.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ring {
    /// How queries are cut.
    pub queries: Partition,
    /// How keys are cut.
    pub keys: Partition,
    /// The way of shards; that of the least bytes where absent.
    pub algorithm: Option<Algorithm>,
    /// Where travelling shards go; down in a zigzag and up otherwise where absent. Ways that go in
    /// both directions do not ask.
    pub direction: Option<Direction>,
}

impl Ring {
    /// Queries and keys of one sequence.
    pub fn new(partition: Partition) -> Self {
        Self { queries: partition, keys: partition, algorithm: None, direction: None }
    }

    /// With keys of another sequence than the queries.
    pub fn with_keys(mut self, keys: Partition) -> Self {
        self.keys = keys;
        self
    }

    /// With this way of shards.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// With shards that travel there.
    pub fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// The ranks.
    pub fn ranks(&self) -> usize {
        self.queries.ranks()
    }

    /// What all ranks do in a pass.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) where queries and keys are cut among different
    /// numbers of ranks, or two ways were asked for with less than two heads of keys.
    pub fn schedule(&self, shards: &Shards, mask: &Mask, pass: Pass) -> Result<Schedule> {
        self.check(shards.kv_heads)?;
        let meetings = Meetings::new(mask, &self.queries, &self.keys);
        Ok(Schedule::new(self.chosen(shards, pass), pass, self.direction(), &meetings))
    }

    /// The ring makes sense for so many heads of keys.
    pub(super) fn check(&self, kv_heads: usize) -> Result<()> {
        if self.queries.ranks() != self.keys.ranks() {
            let found = format!("{} and {}", self.queries.ranks(), self.keys.ranks());
            return Err(CHECK.wrong_option("ranks", "as many of queries as of keys", &found));
        }
        if self.algorithm == Some(Algorithm::TwoWay) && kv_heads < 2 {
            let expected = "another than two-way, which shares heads of keys, with one of them";
            return Err(CHECK.wrong_option("schedule", expected, "two-way"));
        }
        Ok(())
    }

    /// The way of shards that a pass takes.
    pub fn chosen(&self, shards: &Shards, pass: Pass) -> Algorithm {
        self.algorithm.unwrap_or_else(|| shards.choose(pass))
    }

    /// Where travelling shards go.
    pub fn direction(&self) -> Direction {
        let zigzag = self.keys.scheme() == Scheme::Zigzag;
        let usual = if zigzag { Direction::Down } else { Direction::Up };
        self.direction.unwrap_or(usual)
    }
}
