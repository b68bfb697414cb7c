//! Seeded random numbers for cases.

/// A seeded source of numbers; equal seeds give equal cases on every machine.
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// A source that begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The source itself.
    pub(super) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.0
    }

    /// Uniform in [from, to).
    pub fn uniform(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.0.f64()
    }

    /// Normal with mean 0 and standard deviation 1, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.f64()).cos()
    }

    /// A whole number in [0, end).
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(0..end.max(1))
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.0.f64() < probability
    }

    /// One of some choices; there must be one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// `seq_idx` of rows whose documents begin with this chance at each step, a fifth padding.
    pub(super) fn seq_idx(&mut self, positions: usize, often: f64) -> Vec<i32> {
        let mut number = 0;
        (0..positions)
            .map(|_| {
                number += i32::from(self.chance(often));
                if self.chance(0.2) { -1 } else { number }
            })
            .collect()
    }

    /// `cu_seqlens` of this many sequences in `steps` steps; some may be empty.
    pub(super) fn cu_seqlens(&mut self, sequences: usize, steps: usize) -> Vec<i64> {
        let mut bounds: Vec<i64> = (1..sequences).map(|_| self.below(steps + 1) as i64).collect();
        bounds.extend([0, steps as i64]);
        bounds.sort_unstable();
        bounds
    }
}
