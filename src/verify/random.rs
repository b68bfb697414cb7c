//! Seeded random numbers for cases.

/// A seeded source of numbers; equal seeds give equal cases on every machine.
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// A source that begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
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
}
