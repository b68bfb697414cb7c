//! What a product took.

use std::time::{Duration, Instant};

/// A phase of a product, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// How long it took.
    pub time: Duration,
}

/// What a product took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The variant that ran.
    pub variant: &'static str,
    /// Products a ⊗ b that rows of A and B have; a mask may let fewer through.
    pub products: u64,
    /// Entries of the product.
    pub entries: u64,
    /// The phases, in their order.
    pub phases: Vec<Phase>,
}

impl Summary {
    /// Products for each entry; none where there is no entry.
    pub fn compression(&self) -> Option<f64> {
        (self.entries > 0).then(|| self.products as f64 / self.entries as f64)
    }

    /// Runs a phase, and notes its time.
    pub(super) fn phase<R>(&mut self, name: &'static str, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = work();
        self.phases.push(Phase { name, time: began.elapsed() });
        result
    }

    /// Runs what still belongs to the last phase.
    pub(super) fn go_on<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = work();
        if let Some(last) = self.phases.last_mut() {
            last.time += began.elapsed();
        }
        result
    }
}
