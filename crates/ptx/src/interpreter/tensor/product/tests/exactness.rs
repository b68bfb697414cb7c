//! Rounding, against sums in fixed point of 1280 bits.

use super::*;

/// The forms with floating-point products of which the sum is rounded.
const ROUNDED: &[&str] = &[
    "m16n8k16.row.col.f32.f16.f16.f32",
    "m16n8k16.row.col.f16.f16.f16.f16",
    "m16n8k8.row.col.f16.f16.f16.f16",
    "m16n8k16.row.col.f32.bf16.bf16.f32",
    "m16n8k8.row.col.f32.tf32.tf32.f32",
    "m16n8k4.row.col.f32.tf32.tf32.f32",
    "m16n8k32.row.col.f32.e4m3.e4m3.f32",
    "m16n8k32.row.col.f32.e5m2.e4m3.f32",
];

/// A sum in units of 2⁻⁶⁴⁰, in two's complement, lowest word first.
#[derive(Clone)]
struct Fixed([u64; 20]);

impl Fixed {
    fn add(&mut self, value: f64) {
        let field = value.to_bits() >> 52 & 0x7FF;
        if value == 0.0 {
            return;
        }
        assert!(field > 0 && field < 0x7FF, "subnormal and special doubles do not occur");
        let significand = u128::from(value.to_bits() & ((1 << 52) - 1) | 1 << 52);
        let shift = field as usize + 640 - 1075;
        let (word, shifted) = (shift / 64, significand << (shift % 64));
        let mut carry = value < 0.0;
        for (at, slot) in self.0.iter_mut().enumerate() {
            let part = match at.checked_sub(word) {
                Some(0) => shifted as u64,
                Some(1) => (shifted >> 64) as u64,
                _ => 0,
            };
            let part = if value < 0.0 { !part } else { part };
            let (sum, first) = slot.overflowing_add(part);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*slot, carry) = (sum, first || second);
        }
    }

    /// How the sum compares with a number.
    fn compare(&self, value: f64) -> std::cmp::Ordering {
        let mut rest = self.clone();
        rest.add(-value);
        if rest.0[19] >> 63 == 1 {
            std::cmp::Ordering::Less
        } else if rest.0.iter().all(|&word| word == 0) {
            std::cmp::Ordering::Equal
        } else {
            std::cmp::Ordering::Greater
        }
    }
}

/// Whether `bits` is the element of this format nearest to the sum, the even one of two.
fn is_nearest(format: Accumulator, bits: u64, sum: &Fixed) -> bool {
    let sign = 1 << (format.width() - 1);
    let value = |magnitude: u64| match format.value(magnitude) {
        // Beyond the largest number, rounding goes on as if the range did.
        above if above.is_infinite() => {
            2.0 * format.value(magnitude - 1) - format.value(magnitude - 2)
        }
        number => number,
    };
    let (magnitude, negative) = (bits & !sign, bits & sign != 0);
    let toward = if negative { -1.0 } else { 1.0 };
    let middle = |lower: u64| toward * (value(lower) + value(lower + 1)) / 2.0;
    let inside = |boundary: f64, wanted: std::cmp::Ordering| {
        let found = sum.compare(boundary);
        found == wanted || (found.is_eq() && magnitude % 2 == 0)
    };
    let (less, greater) = if negative {
        (std::cmp::Ordering::Greater, std::cmp::Ordering::Less)
    } else {
        (std::cmp::Ordering::Less, std::cmp::Ordering::Greater)
    };
    let infinite = format.value(magnitude).is_infinite();
    let above = infinite || inside(middle(magnitude), less);
    let below = match magnitude {
        // The sum may lie on the other side of zero.
        0 => inside(-middle(0), greater),
        _ => inside(middle(magnitude - 1), greater),
    };
    above && below
}

#[test]
fn fixed_point_tells_neighbours_apart() {
    let mut sum = Fixed([0; 20]);
    for addend in [2.0_f64.powi(250), 1.0, -(2.0_f64.powi(250)), -3.0, 2.0_f64.powi(-270)] {
        sum.add(addend);
    }
    assert!(sum.compare(-2.0).is_gt() && sum.compare((-2.0_f64).next_up()).is_lt());
    sum.add(-(2.0_f64.powi(-270)));
    assert!(sum.compare(-2.0).is_eq());
    assert!(is_nearest(Accumulator::F32, u64::from((-2.0_f32).to_bits()), &sum));
    assert!(!is_nearest(Accumulator::F32, u64::from((-2.0_f32).to_bits()) + 1, &sum));
}

/// Random finite elements, most of them within 2^±`spread` of one.
struct Draw {
    state: u64,
    spread: i32,
}

impl Draw {
    fn element(&mut self, width: usize, decode: impl Fn(u64) -> f64) -> u64 {
        loop {
            let bits = random(&mut self.state) >> (64 - width);
            let size = decode(bits).abs();
            if size.is_finite()
                && size <= 2.0_f64.powi(self.spread)
                && (size >= 2.0_f64.powi(-self.spread) || bits & 15 == 0)
            {
                return bits;
            }
        }
    }
}

/// Matrices of bits; the products of odd k nearly cancel those before them.
struct Sample {
    a: Vec<Vec<u64>>,
    b: Vec<Vec<u64>>,
    c: Vec<Vec<u64>>,
}

impl Sample {
    fn new(product: &Product, draw: &mut Draw, cancelling: bool) -> Self {
        let mut fill = |rows: usize, columns: usize, width: usize, decode: &dyn Fn(u64) -> f64| {
            let mut row = || (0..columns).map(|_| draw.element(width, decode)).collect::<Vec<_>>();
            (0..rows).map(|_| row()).collect::<Vec<_>>()
        };
        let (a_width, b_width) = (product.a.width(), product.b.width());
        let mut a = fill(ROWS, product.depth, a_width, &|bits| product.a.value(bits));
        let mut b = fill(product.depth, COLUMNS, b_width, &|bits| product.b.value(bits));
        let c = fill(ROWS, COLUMNS, product.sum.width(), &|bits| product.sum.value(bits));
        for k in (0..product.depth).step_by(2).filter(|_| cancelling) {
            for row in &mut a {
                row[k + 1] = row[k] ^ 1 << (a_width - 1);
            }
            b[k + 1] = b[k].iter().enumerate().map(|(n, b)| b ^ u64::from(n % 3 == 0)).collect();
        }
        Self { a, b, c }
    }

    fn product(&self, product: &Product, sums: Sums, seed: u64) -> [[u64; COLUMNS]; ROWS] {
        product.of_matrices(
            [&|r, k| self.a[r][k], &|k, n| self.b[k][n], &|r, n| self.c[r][n]],
            sums,
            seed,
        )
    }

    /// The addends of an element.
    fn addends(&self, product: &Product, r: usize, n: usize) -> Vec<f64> {
        let products = (0..product.depth)
            .map(|k| product.a.value(self.a[r][k]) * product.b.value(self.b[k][n]));
        products.chain([product.sum.value(self.c[r][n])]).collect()
    }
}

#[test]
fn ideal_sums_are_rounded_once() {
    let mut inexact = 0;
    for (number, modifiers) in ROUNDED.iter().enumerate() {
        let product = named(modifiers);
        for spread in [2, 6, 12, 30, 60, 150] {
            for cancelling in [false, true] {
                let mut draw = Draw { state: number as u64 + 1, spread };
                let sample = Sample::new(&product, &mut draw, cancelling);
                let d = sample.product(&product, Sums::Ideal, 0);
                for (r, n) in (0..ROWS).flat_map(|r| (0..COLUMNS).map(move |n| (r, n))) {
                    let mut sum = Fixed([0; 20]);
                    let addends = sample.addends(&product, r, n);
                    addends.iter().for_each(|&addend| sum.add(addend));
                    assert!(
                        is_nearest(product.sum, d[r][n], &sum),
                        "{modifiers} {:x} {addends:?}",
                        d[r][n]
                    );
                    inexact += usize::from(sum.compare(addends.iter().sum()).is_ne());
                }
            }
        }
    }
    // Sums in f64 would not have done.
    assert!(inexact > 1000, "{inexact}");
}

#[test]
fn all_modes_stay_within_the_bound() {
    let mut differing = [0; 4];
    for (number, modifiers) in ROUNDED.iter().enumerate() {
        let product = named(modifiers);
        for spread in [2, 6, 12] {
            let mut draw = Draw { state: 99 + number as u64, spread };
            let sample = Sample::new(&product, &mut draw, spread == 6);
            let ideal = sample.product(&product, Sums::Ideal, 0);
            for (at, sums) in MODES.into_iter().enumerate() {
                let d = sample.product(&product, sums, spread as u64);
                differing[at] += usize::from(d != ideal);
                for (r, n) in (0..ROWS).flat_map(|r| (0..COLUMNS).map(move |n| (r, n))) {
                    let addends = sample.addends(&product, r, n);
                    let size: f64 = addends.iter().map(|addend| addend.abs()).sum();
                    let exact: f64 = addends.iter().sum();
                    let mut bound = product.depth as f64 * 2.0_f64.powi(-22) * size;
                    if product.sum == Accumulator::F16 {
                        bound += exact.abs() * 2.0_f64.powi(-11) + 2.0_f64.powi(-24);
                        if exact.abs() > 65000.0 {
                            continue;
                        }
                    }
                    let error = (product.sum.value(d[r][n]) - exact).abs();
                    assert!(error <= bound, "{modifiers} {sums:?} {error:e} > {bound:e}");
                }
            }
        }
    }
    // The modes are different, or the test says nothing.
    assert_eq!(differing[0], 0);
    assert!(differing[1..].iter().all(|&count| count >= ROUNDED.len()), "{differing:?}");
}

#[test]
fn zeros_keep_the_sign_they_share() {
    for sums in MODES {
        let product = named("m16n8k8.row.col.f32.f16.f16.f32");
        let of = |a: u64, c: u64| product.of_matrices([&|_, _| a, &|_, _| 0, &|_, _| c], sums, 0);
        assert_eq!(of(0xBC00, 0x8000_0000), [[0x8000_0000; COLUMNS]; ROWS], "{sums:?}");
        assert_eq!(of(0xBC00, 0), [[0; COLUMNS]; ROWS], "{sums:?}");
    }
}

/// Σ aₖ + c with B all ones, in the first element.
fn sum_of(a: &[u64], c: f32, sums: Sums) -> f32 {
    let product = named("m16n8k16.row.col.f32.bf16.bf16.f32");
    let d = product.of_matrices(
        [&|_, k| a.get(k).copied().unwrap_or(0), &|_, _| 0x3F80, &|_, _| u64::from(c.to_bits())],
        sums,
        0,
    );
    f32::from_bits(d[0][0] as u32)
}

#[test]
fn what_tells_the_modes_apart() {
    let power = |exponent: i64| ((127 + exponent) << 7) as u64;
    let last = 1.0 + f32::EPSILON;
    // A bit below the 24 kept on an A100: 25 are kept on an H100, where two of them make a last bit.
    let halves = [power(-24), power(-24)];
    assert_eq!(sum_of(&halves, 1.0, Sums::Ideal), last);
    assert_eq!(sum_of(&halves, 1.0, Sums::Ampere), 1.0);
    assert_eq!(sum_of(&halves, 1.0, Sums::Hopper), last);
    // The result is cut, not rounded.
    let most = [power(-24), power(-25), power(-26)];
    assert_eq!(sum_of(&most, 1.0, Sums::Ideal), last);
    assert_eq!(sum_of(&most, 1.0, Sums::Hopper), 1.0);
    // Eight products in a step on an A100, sixteen on an H100: c is gone when the ninth takes the large one away.
    let mut far = [0; 16];
    (far[0], far[8]) = (power(30), power(30) | 0x8000);
    assert_eq!(sum_of(&far, 128.0, Sums::Ideal), 128.0);
    assert_eq!(sum_of(&far, 65.0, Sums::Ampere), 0.0);
    assert_eq!(sum_of(&far, 65.0, Sums::Hopper), 64.0);
}

#[test]
fn seeds_order_the_shuffled_sums() {
    let product = named("m16n8k16.row.col.f32.bf16.bf16.f32");
    let sample = Sample::new(&product, &mut Draw { state: 5, spread: 12 }, false);
    let of = |seed| sample.product(&product, Sums::Shuffled, seed);
    assert_eq!(of(1), of(1));
    assert!((2..10).any(|seed| of(seed) != of(1)));
}
