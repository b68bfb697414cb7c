//! The inner loops over elements that share a scale, eight lanes at a time.
//!
//! Lanes have sums of their own, which are added up in one order, and products are never fused
//! with sums: the compiler may use any instruction set, the bits stay the same.

use std::ops::Range;

/// Elements in step.
const LANES: usize = 8;

/// 1.5 · 2²³: added and subtracted again it rounds to an integer, half to even.
const ROUND: f32 = 12_582_912.0;

/// Values that share a scale, and how much each one weighs.
#[derive(Default)]
pub(super) struct Elements {
    values: Vec<f32>,
    weights: Vec<f64>,
    count: usize,
}

impl Elements {
    pub fn clear(&mut self) {
        self.values.clear();
        self.weights.clear();
    }

    /// Adds values with their weights; without these each weighs 1.
    pub fn extend(&mut self, values: &[f32], weights: Option<&[f64]>) {
        self.values.extend_from_slice(values);
        match weights {
            Some(weights) => self.weights.extend_from_slice(weights),
            None => self.weights.resize(self.values.len(), 1.0),
        }
    }

    /// Fills the last lanes by zeros that weigh nothing.
    pub fn finish(&mut self) {
        self.count = self.values.len();
        let padded = self.count.next_multiple_of(LANES);
        self.values.resize(padded, 0.0);
        self.weights.resize(padded, 0.0);
    }

    /// The values, without what fills the last lanes.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.count]
    }

    #[inline(always)]
    fn lanes(&self) -> impl Iterator<Item = (&[f32; LANES], &[f64; LANES])> {
        self.values.as_chunks().0.iter().zip(self.weights.as_chunks().0)
    }

    /// Σ h w².
    pub fn energy(&self) -> f64 {
        let mut sums = [0.0; LANES];
        for (w, h) in self.lanes() {
            for i in 0..LANES {
                let w = f64::from(w[i]);
                sums[i] += h[i] * (w * w);
            }
        }
        total(sums)
    }

    /// E = Σ h (s c + m - w)², with the codes nearest to w.
    #[inline(always)]
    pub fn error(&self, line: Line) -> f64 {
        let (scale, offset) = (f64::from(line.scale), f64::from(line.offset));
        let mut sums = [0.0; LANES];
        for (w, h) in self.lanes() {
            for i in 0..LANES {
                let e = scale * f64::from(line.nearest(w[i])) + offset - f64::from(w[i]);
                sums[i] += h[i] * (e * e);
            }
        }
        total(sums)
    }

    /// The sums that a least-squares fit of s and m to the codes needs.
    #[inline(always)]
    pub fn moments(&self, line: Line) -> Moments {
        let [mut h_sum, mut hc, mut hcc, mut hw, mut hcw] = [[0.0; LANES]; 5];
        for (w, h) in self.lanes() {
            for i in 0..LANES {
                let (w, c) = (f64::from(w[i]), f64::from(line.nearest(w[i])));
                h_sum[i] += h[i];
                hc[i] += h[i] * c;
                hcc[i] += h[i] * (c * c);
                hw[i] += h[i] * w;
                hcw[i] += h[i] * (c * w);
            }
        }
        Moments { h: total(h_sum), hc: total(hc), hcc: total(hcc), hw: total(hw), hcw: total(hcw) }
    }

    /// Whether both lines give every element the same code.
    #[inline(always)]
    pub fn same_codes(&self, line: Line, other: Line) -> bool {
        self.values().iter().all(|&w| line.nearest(w) == other.nearest(w))
    }

    /// Elements whose code was clamped.
    pub fn clipped(&self, line: Line) -> u64 {
        let wide = Line { low: line.low - 1.0, high: line.high + 1.0, ..line };
        self.values().iter().filter(|&&w| line.nearest(w) != wide.nearest(w)).count() as u64
    }
}

/// Weighted sums over elements w and their codes c.
pub(super) struct Moments {
    pub h: f64,
    pub hc: f64,
    pub hcc: f64,
    pub hw: f64,
    pub hcw: f64,
}

/// Numbers s c + m with integers c from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub scale: f32,
    pub offset: f32,
    pub low: f32,
    pub high: f32,
}

impl Line {
    /// c = clamp(rint((w - m) / s)). The bounds are integers, so that it may be clamped first.
    #[inline(always)]
    pub fn nearest(&self, w: f32) -> f32 {
        let c = (w - self.offset) / self.scale;
        let c = if c > self.low { c } else { self.low };
        let c = if c < self.high { c } else { self.high };
        (c + ROUND) - ROUND
    }
}

#[inline(always)]
fn total(sums: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Σ a b, in lanes; the last few elements go to the first lanes.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    add_products(&mut sums, a, b);
    total(sums)
}

/// The same over some ranges of both, one after the other.
pub(super) fn dot_within(ranges: &[Range<usize>], a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for range in ranges {
        add_products(&mut sums, &a[range.clone()], &b[range.clone()]);
    }
    total(sums)
}

#[inline(always)]
fn add_products(sums: &mut [f64; LANES], a: &[f64], b: &[f64]) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
}
