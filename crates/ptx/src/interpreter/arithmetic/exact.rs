//! f64 arithmetic rounded in any direction, by integers.
//!
//! Hardware rounds to nearest only, and f64 has no wider format to fall back on. A finite number is ±m·2^e
//! with an integer m; sum, product, quotient and root are computed in 128-bit integers, with what falls off
//! below kept as an odd last bit ([`rounding`](super::rounding): rounding to odd), and rounded once.

use std::cmp::Ordering;

use super::rounding::{Direction, Rounding, overflows};

/// ±`mantissa`·2^`exponent`, exactly or rounded to odd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    negative: bool,
    mantissa: u128,
    exponent: i32,
}

/// The exponent of the smallest subnormal.
const LEAST: i32 = -1074;

impl Exact {
    /// The value of a finite number.
    pub(super) fn of(x: f64) -> Self {
        let fraction = x.to_bits() & ((1 << 52) - 1);
        let field = (x.to_bits() >> 52 & 0x7FF) as i32;
        let hidden = u64::from(field != 0) << 52;
        Self {
            negative: x.is_sign_negative(),
            mantissa: u128::from(fraction | hidden),
            exponent: field.max(1) - 1 + LEAST,
        }
    }

    /// An integer.
    pub(super) fn integer(value: i128) -> Self {
        Self { negative: value < 0, mantissa: value.unsigned_abs(), exponent: 0 }
    }

    /// a·b, of numbers that [`of`](Self::of) made.
    pub(super) fn product(a: Self, b: Self) -> Self {
        Self {
            negative: a.negative != b.negative,
            mantissa: a.mantissa * b.mantissa,
            exponent: a.exponent + b.exponent,
        }
    }

    /// a + b, of mantissas below 2¹⁰⁶.
    pub(super) fn sum(a: Self, b: Self) -> Self {
        let (a, b) = (a.normalized(), b.normalized());
        let (large, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        // The 20 low bits of `large` are zero: an odd last bit of `small` makes the sum odd.
        let small_mantissa = shifted_to_odd(small.mantissa, large.exponent - small.exponent);
        if large.negative == small.negative {
            return Self { mantissa: large.mantissa + small_mantissa, ..large };
        }
        Self {
            negative: large.negative != (large.mantissa < small_mantissa),
            mantissa: large.mantissa.abs_diff(small_mantissa),
            exponent: large.exponent,
        }
    }

    /// Whether it is an exact zero, whose sign follows rules of its own.
    pub(super) fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// a / b, of numbers that [`of`](Self::of) made; b is not zero.
    pub(super) fn quotient(a: Self, b: Self) -> Self {
        let a = a.normalized();
        let quotient = a.mantissa / b.mantissa;
        let rest = a.mantissa % b.mantissa;
        Self {
            negative: a.negative != b.negative,
            mantissa: quotient | u128::from(rest != 0),
            exponent: a.exponent - b.exponent,
        }
    }

    /// √a, of a number that [`of`](Self::of) made and that is not negative.
    pub(super) fn root(a: Self) -> Self {
        let a = a.normalized();
        // An even exponent halves.
        let (mantissa, exponent) = match a.exponent % 2 {
            0 => (a.mantissa, a.exponent),
            _ => (a.mantissa << 1, a.exponent - 1),
        };
        let root = mantissa.isqrt();
        Self {
            negative: false,
            mantissa: root | u128::from(root * root != mantissa),
            exponent: exponent / 2,
        }
    }

    /// The same with its leading bit at 125, which leaves room for a carry; zero stays.
    fn normalized(self) -> Self {
        let shift = self.mantissa.leading_zeros().saturating_sub(2);
        match self.mantissa {
            0 => Self { exponent: i32::MIN / 4, ..self },
            _ => Self {
                mantissa: self.mantissa << shift,
                exponent: self.exponent - shift as i32,
                ..self
            },
        }
    }

    /// The f64 in direction `R`. A zero keeps its sign.
    pub(super) fn round<R: Rounding>(self) -> f64 {
        let sign = u64::from(self.negative) << 63;
        let top = 128 - self.mantissa.leading_zeros() as i32;
        let quantum = (self.exponent + top - 53).max(LEAST);
        let shift = quantum - self.exponent;
        let (kept, up) = match shift {
            _ if self.mantissa == 0 => return f64::from_bits(sign),
            ..=0 => (self.mantissa << -shift, false),
            _ => self.cut::<R>(shift as u32),
        };
        // A normal number's leading 1 adds one to the exponent field, as a carry out of rounding does.
        let field = (quantum - LEAST) as u64;
        let magnitude = (field << 52).saturating_add(kept as u64 + u64::from(up));
        let infinity = f64::INFINITY.to_bits();
        match field < 0x7FF && magnitude < infinity {
            true => f64::from_bits(sign | magnitude),
            false => f64::from_bits(sign | (infinity - u64::from(!overflows::<R>(self.negative)))),
        }
    }

    /// The mantissa without its last `shift` bits, at least one, and whether it rounds up.
    fn cut<R: Rounding>(self, shift: u32) -> (u128, bool) {
        // Below everything: less than half of the last place.
        if shift > 127 {
            return (0, rounds_up::<R>(self.negative, false, Ordering::Less));
        }
        let kept = self.mantissa >> shift;
        let rest = self.mantissa & ((1 << shift) - 1);
        if rest == 0 {
            return (kept, false);
        }
        (kept, rounds_up::<R>(self.negative, kept & 1 == 1, rest.cmp(&(1 << (shift - 1)))))
    }
}

/// Whether a magnitude of this sign goes up whose last bit is odd or not and whose discarded part, not
/// zero, compares so to one half.
fn rounds_up<R: Rounding>(negative: bool, odd: bool, rest: Ordering) -> bool {
    match R::DIRECTION {
        Direction::Nearest => rest == Ordering::Greater || (rest == Ordering::Equal && odd),
        Direction::Zero => false,
        Direction::Down => negative,
        Direction::Up => !negative,
    }
}

/// `mantissa`·2^−`shift` rounded to odd.
fn shifted_to_odd(mantissa: u128, shift: i32) -> u128 {
    match shift {
        0..=127 => {
            let kept = mantissa >> shift;
            kept | u128::from(kept << shift != mantissa)
        }
        _ => u128::from(mantissa != 0),
    }
}
