//! What a launch has done, counted, and what that means for a named GPU.
//!
//! Everything is counted per instruction of the text and per warp, because a warp is what a machine issues:
//!
//! * a *warp instruction* occupies an issue slot whether one lane runs it or 32 ([`Tally::partial`] counts those
//!   that some lanes missed);
//! * global memory moves in *sectors* of 32 bytes, shared memory in *wavefronts* of one word per bank;
//! * an instruction belongs to one [`Class`], the unit that executes it, and costs as many issue slots as ptxas
//!   makes machine instructions of it ([`Cost`]).
//!
//! The interpreter keeps a [`Tally`] per instruction and worker and folds them into the [`Counters`] of the
//! launch; counters of several launches of a kernel add up. An [`Estimate`] divides the counted work by the
//! rates of a [`Gpu`]: a bound from below, with caches, latencies and clocks as they never are.

mod class;
mod columns;
mod estimate;
mod gpu;
mod launch;
mod occupancy;
mod request;
mod slots;
mod tally;

#[cfg(test)]
mod tests;

pub use class::{Class, Format};
pub use estimate::{Estimate, NoEstimate, Unit};
pub use gpu::{GPUS, Gpu, Limits, Rates, Tensor, UnknownGpu};
pub use launch::{Counters, Launch, Line};
pub use occupancy::{Limit, Occupancy};
pub use slots::Cost;
pub use tally::{Tally, Traffic};

pub(crate) use class::{class, products};
pub(crate) use gpu::H100;
pub(crate) use slots::cost;
