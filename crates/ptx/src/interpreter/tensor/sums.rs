//! How an element `c + a₀b₀ + a₁b₁ + …` of a product becomes one number.
//!
//! Products are exact. The order of the additions and their rounding are what the vendor leaves open, and what
//! differs between GPUs; a kernel's result must be right for all of [`Sums`]. NaN, inf − inf and 0·inf give NaN and
//! infinities propagate in each of them, as they do in the `f64` arithmetic used here.

use super::exact::{sum_to_odd, two_sum};
use super::formats::{exponent, power_of_two};

/// How tensor cores form the sums of floating-point products. Integers are exact, and `f64` takes a fused
/// multiply-add for each product in order, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sums {
    /// The exact sum, rounded once, to nearest.
    #[default]
    Ideal,
    /// As measured on an A100: 128 bits of each factor at a time (eight halves), the addends aligned to the
    /// largest and cut to 24 bits, sums in `f32` cut too, those in `f16` rounded to nearest.
    Ampere,
    /// As measured on an H100: the same with 256 bits of each factor at a time, and 25 bits kept.
    Hopper,
    /// Additions in `f32`, each rounded to nearest, in an order drawn from a seed.
    Shuffled,
}

/// Columns of a product that are summed together.
pub(super) const COLUMNS: usize = 8;

/// The method for one product.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Addition {
    /// The exact sum.
    Exact,
    /// A fused multiply-add each.
    Fused,
    /// Steps of fixed point.
    Aligned(Step),
    /// `f32` additions: the numbers of the products, and one more for `c`, in the order they are added.
    Ordered(Vec<usize>),
}

/// One step of the hardware: `c` and some products are added in fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Products in a step.
    pub products: usize,
    /// Bits kept of the largest addend.
    pub bits: i32,
    /// Whether the last sum is cut to `f32`; else it is left to be rounded.
    pub cut: bool,
}

impl Addition {
    /// For a row of A and eight columns of B and C: the sums, to be rounded to nearest by whoever stores them.
    pub(super) fn row(
        &self,
        a: &[f64],
        b: &[[f64; COLUMNS]],
        c: &[f64; COLUMNS],
    ) -> [f64; COLUMNS] {
        let each = |sum: &dyn Fn(usize) -> f64| std::array::from_fn(sum);
        match self {
            Self::Exact => exact(a, b, c),
            Self::Fused => {
                each(&|n| a.iter().zip(b).fold(c[n], |sum, (a, b)| a.mul_add(b[n], sum)))
            }
            Self::Aligned(step) => each(&|n| step.column(a, b, c[n], n)),
            Self::Ordered(order) => each(&|n| {
                let addends = order.iter().map(|&k| a.get(k).map_or(c[n], |a| a * b[k][n]));
                // The sum of two f32 in f64, rounded to f32, is their rounded sum.
                f64::from(addends.fold(-0.0, |sum: f32, next| (f64::from(sum) + next) as f32))
            }),
        }
    }
}

/// Adds in `f64` and watches for losses; only where there is one, the exact sum is formed.
fn exact(a: &[f64], b: &[[f64; COLUMNS]], c: &[f64; COLUMNS]) -> [f64; COLUMNS] {
    let mut sums = *c;
    let mut losses = [0; COLUMNS];
    for (a, b) in a.iter().zip(b) {
        for n in 0..COLUMNS {
            let (sum, lost) = two_sum(sums[n], a * b[n]);
            sums[n] = sum;
            losses[n] |= lost.abs().to_bits();
        }
    }
    std::array::from_fn(|n| {
        if losses[n] == 0 || !sums[n].is_finite() {
            return sums[n];
        }
        let products = a.iter().zip(b).map(|(a, b)| a * b[n]);
        sum_to_odd(std::iter::once(c[n]).chain(products))
    })
}

impl Step {
    /// The sum in column n, step after step; between them it is an `f32`, as `c` is.
    fn column(self, a: &[f64], b: &[[f64; COLUMNS]], c: f64, n: usize) -> f64 {
        let steps = a.chunks(self.products).zip(b.chunks(self.products));
        let sum = steps.fold(c, |sum, (a, b)| {
            self.one(toward_zero(sum), a.iter().zip(b).map(|(a, b)| a * b[n]))
        });
        if self.cut { toward_zero(sum) } else { sum }
    }

    /// Cuts all addends to the last of the bits kept of the largest, and adds what is left exactly.
    fn one(self, c: f64, products: impl Iterator<Item = f64> + Clone) -> f64 {
        let addends = std::iter::once(c).chain(products);
        let largest = addends.clone().fold(0.0, |most: f64, addend| most.max(addend.abs()));
        let plain = addends.clone().sum::<f64>();
        if largest == 0.0 || !plain.is_finite() {
            return plain;
        }
        let last = exponent(largest) - (self.bits - 1);
        let (unit, units) = (power_of_two(last), power_of_two(-last));
        addends.map(|addend| (addend * units).trunc()).sum::<f64>() * unit
    }
}

/// The `f32` next to a finite number towards zero.
fn toward_zero(value: f64) -> f64 {
    let nearest = value as f32;
    if f64::from(nearest).abs() > value.abs() {
        f64::from(f32::from_bits(nearest.to_bits() - 1))
    } else {
        f64::from(nearest)
    }
}

/// An order of `count` addends, the same for the same seed.
pub(super) fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut order: Vec<usize> = (0..count).collect();
    for end in (1..count).rev() {
        order.swap(end, (random(&mut state) % (end as u64 + 1)) as usize);
    }
    order
}

/// SplitMix64.
pub(super) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
