//! What the examples that learn have in common.

use warpwright::Result;

use batch::Batch;
use parameters::Learnt;

pub mod adam;
pub mod batch;
pub mod dense;
pub mod mamba;
pub mod parameters;
#[cfg(test)]
pub mod slopes;

/// A model that reads symbols and gives scores at every step, and can learn to.
pub trait Model {
    type Parameters: Learnt;

    fn parameters_mut(&mut self) -> &mut Self::Parameters;

    /// The scores of each symbol or class at each step of rows of equal length, row by row. A step
    /// knows what is before it, not what is behind.
    fn scores(
        &self,
        read: &[usize],
        rows: usize,
    ) -> Result<Vec<<Self::Parameters as Learnt>::Number>>;

    /// The mean loss of a batch, in nats for each step that has one, and its gradients.
    fn gradients(&self, batch: &Batch) -> Result<(f64, Self::Parameters)>;
}
