//! How an element `c + a₀b₀ + a₁b₁ + …` of a product becomes one number.
//!
//! Products are exact. The order of the additions and their rounding are what the vendor leaves open, and what
//! differs between GPUs; a kernel's result must be right for all of [`Sums`]. NaN, inf − inf and 0·inf give NaN and
//! infinities propagate in each of them, as they do in the `f64` arithmetic used here.

use super::exact::sum_to_odd;
use super::formats::{Accumulator, exponent, power_of_two};

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

/// A number for each of these columns.
pub(super) type Columns = [f64; COLUMNS];

/// The method for one product.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Addition {
    /// Additions in `f64`, which are exact for integers.
    Whole,
    /// A fused multiply-add each.
    Fused,
    /// The exact sum, to be rounded to this format.
    Exact(Accumulator),
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
    pub(super) fn row(&self, a: &[f64], b: &[Columns], c: &Columns) -> Columns {
        match self {
            Self::Whole => plain(a, b, c),
            Self::Exact(format) => exact(*format, a, b, c),
            Self::Fused => fused(a, b, c),
            Self::Aligned(step) => step.all(a, b, c),
            Self::Ordered(order) => ordered(order, a, b, c),
        }
    }
}

fn plain(a: &[f64], b: &[Columns], c: &Columns) -> Columns {
    a.iter().zip(b).fold(*c, |sums, (a, b)| std::array::from_fn(|n| sums[n] + a * b[n]))
}

fn fused(a: &[f64], b: &[Columns], c: &Columns) -> Columns {
    a.iter().zip(b).fold(*c, |sums, (a, b)| std::array::from_fn(|n| a.mul_add(b[n], sums[n])))
}

/// The exact sum lies within a bound of the one that `f64` additions give. Where the whole interval rounds to one
/// number the latter does as well; elsewhere, mostly at ties, the exact sum is formed.
fn exact(format: Accumulator, a: &[f64], b: &[Columns], c: &Columns) -> Columns {
    let (mut sums, mut sizes) = (*c, c.map(f64::abs));
    for (a, b) in a.iter().zip(b) {
        for n in 0..COLUMNS {
            sums[n] += a * b[n];
            sizes[n] += (a * b[n]).abs();
        }
    }
    std::array::from_fn(|n| {
        // Every addition loses at most 2⁻⁵³ of the sum of magnitudes, and there are not more than 33.
        let (sum, bound) = (sums[n], sizes[n] * power_of_two(-47));
        let certain = || format.encode(sum - bound) == format.encode(sum + bound);
        if bound == 0.0 || !sum.is_finite() || certain() {
            return sum;
        }
        let products = a.iter().zip(b).map(|(a, b)| a * b[n]);
        sum_to_odd(std::iter::once(c[n]).chain(products))
    })
}

/// Products have no more bits than an `f32`, and the sum of two such numbers in `f64`, rounded to `f32`, is their
/// rounded sum.
fn ordered(order: &[usize], a: &[f64], b: &[Columns], c: &Columns) -> Columns {
    let mut sums = [-0.0_f32; COLUMNS];
    for &k in order {
        let (a, b) = if k < a.len() { (a[k], &b[k]) } else { (1.0, c) };
        for n in 0..COLUMNS {
            sums[n] = (f64::from(sums[n]) + a * b[n]) as f32;
        }
    }
    sums.map(f64::from)
}

impl Step {
    /// Step after step; between them a sum is an `f32`, as `c` is.
    fn all(self, a: &[f64], b: &[Columns], c: &Columns) -> Columns {
        let steps = a.chunks(self.products).zip(b.chunks(self.products));
        let sums = steps.fold(*c, |sums, (a, b)| self.one(a, b, &sums.map(toward_zero)));
        if self.cut { sums.map(toward_zero) } else { sums }
    }

    /// Cuts all addends to the last of the bits kept of the largest, and adds what is left exactly.
    fn one(self, a: &[f64], b: &[Columns], c: &Columns) -> Columns {
        let mut largest = c.map(f64::abs);
        for (a, b) in a.iter().zip(b) {
            for n in 0..COLUMNS {
                largest[n] = largest[n].max((a * b[n]).abs());
            }
        }
        // No product is below 2⁻⁹⁰⁰.
        let unit = largest.map(|most| power_of_two(exponent(most).max(-900) - (self.bits - 1)));
        let cut = |addend: f64, n: usize| {
            // At this distance from zero, the spacing of `f64` is the unit.
            let far = unit[n] * power_of_two(52);
            let size = addend.abs();
            let nearest = (size + far) - far;
            let below = if nearest > size { nearest - unit[n] } else { nearest };
            below.copysign(addend)
        };
        let mut sums: Columns = std::array::from_fn(|n| cut(c[n], n));
        for (a, b) in a.iter().zip(b) {
            for n in 0..COLUMNS {
                sums[n] += cut(a * b[n], n);
            }
        }
        let plain = plain(a, b, c);
        std::array::from_fn(|n| if plain[n].is_finite() { sums[n] } else { plain[n] })
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
