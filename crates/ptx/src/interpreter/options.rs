//! How strictly, and in which order, a machine runs kernels.

use super::tensor::sums::Sums;

/// How a [`Machine`](super::Machine) runs kernels. The default is strict and exact.
///
/// A kernel is right if it passes whatever is left open: run it with some seeds of the shuffled schedule, of
/// perturbed approximations and of sums in any order.
///
/// ```
/// use warpwright_ptx::interpreter::{Approximations, Machine, Options, Schedule, Sums};
///
/// for seed in 0..4 {
///     let hostile = Options::default()
///         .with_seed(seed)
///         .with_schedule(Schedule::Shuffled)
///         .with_approximations(Approximations::Perturbed)
///         .with_sums(Sums::Shuffled);
///     let machine = Machine::new(0, hostile);
///     // … launch, and compare with what must come within the bounds that you claim
///     # assert_eq!(machine.options().seed, seed);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Decides whatever is left open: schedules, perturbations, orders of sums.
    pub seed: u64,
    /// The order in which threads run.
    pub schedule: Schedule,
    /// What approximate instructions return.
    pub approximations: Approximations,
    /// How tensor cores add.
    pub sums: Sums,
    /// Whether unordered accesses to the same memory are reported.
    pub races: bool,
    /// Whether the use of unwritten values is reported.
    pub uninitialised: bool,
    /// Host threads that run blocks; 0 stands for as many as there are cores. With one, a launch repeats exactly;
    /// with more, which of several mistakes is reported may change, and the order of atomics.
    pub workers: usize,
    /// Warp instructions without any progress after which a launch counts as stuck.
    pub patience: u64,
    /// Warp instructions of a launch after which it is stopped, progress or not. Unlimited by default.
    pub limit: u64,
}

/// The order in which threads run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// Warps in turn, the lanes of a warp together as far as they can be: fast.
    #[default]
    Converged,
    /// Blocks, warps and lanes in a random order, lanes parted at random: what passes only when
    /// lanes happen to run together fails here.
    Shuffled,
}

/// What approximate instructions return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Approximations {
    /// The correctly rounded value.
    #[default]
    Rounded,
    /// A random value within the documented bound.
    Perturbed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            schedule: Schedule::default(),
            approximations: Approximations::default(),
            sums: Sums::default(),
            races: true,
            uninitialised: true,
            workers: 0,
            patience: 20_000_000,
            limit: u64::MAX,
        }
    }
}

impl Options {
    /// With another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With another order of threads.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// With other results of approximate instructions.
    #[must_use]
    pub fn with_approximations(mut self, approximations: Approximations) -> Self {
        self.approximations = approximations;
        self
    }

    /// With other sums in tensor cores.
    #[must_use]
    pub fn with_sums(mut self, sums: Sums) -> Self {
        self.sums = sums;
        self
    }

    /// Without reports of races and unwritten values, which cost most of the time.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.races = false;
        self.uninitialised = false;
        self
    }

    /// With another number of warp instructions without progress.
    #[must_use]
    pub fn with_patience(mut self, patience: u64) -> Self {
        self.patience = patience;
        self
    }

    /// With a bound on the warp instructions of a launch, for kernels that may never end.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// With another number of host threads.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }
}
