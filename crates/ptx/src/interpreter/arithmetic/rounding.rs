//! Rounding in four directions, and rounding to odd.
//!
//! A real number x between two neighbouring f64 is *rounded to odd* by taking the one whose last bit is 1;
//! a representable one stays. No f64 that is even, and therefore no boundary or midpoint of a format with at
//! most 51 bits, is ever hit by an x that is not equal to it, so rounding the odd value to such a format in
//! any direction gives what rounding x gives (Boldo and Melquiond, 2008).

/// The direction in which an inexact result goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the nearest, ties to even.
    Nearest,
    /// Towards zero.
    Zero,
    /// Towards −∞.
    Down,
    /// Towards +∞.
    Up,
}

/// A direction as a type.
pub(super) trait Rounding {
    /// The direction.
    const DIRECTION: Direction;
}

macro_rules! directions {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        pub(super) struct $name;

        impl Rounding for $name {
            const DIRECTION: Direction = Direction::$name;
        }
    )* };
}

directions! {
    /// `.rn`, `.rni`
    Nearest
    /// `.rz`, `.rzi`
    Zero
    /// `.rm`, `.rmi`
    Down
    /// `.rp`, `.rpi`
    Up
}

/// `rounded!(instruction, R => …)`: the expression with `R` as the instruction's rounding.
macro_rules! rounded {
    ($instruction:expr, $R:ident => $result:expr) => {{
        use $crate::interpreter::arithmetic::rounding;
        match $instruction.chosen("rnd") {
            Some("rz" | "rzi") => {
                type $R = rounding::Zero;
                $result
            }
            Some("rm" | "rmi") => {
                type $R = rounding::Down;
                $result
            }
            Some("rp" | "rpi") => {
                type $R = rounding::Up;
                $result
            }
            // `.rn` alone is no choice in forms that admit nothing else.
            _ => {
                type $R = rounding::Nearest;
                $result
            }
        }
    }};
}
pub(super) use rounded;

/// a + b to nearest. Where it is an exact zero of unlike signs, that zero is −0 downwards and +0 otherwise.
#[inline(always)]
pub(super) fn nearest_sum<R: Rounding>(a: f64, b: f64) -> f64 {
    // The mirrored sum differs in nothing but that sign.
    if R::DIRECTION == Direction::Down { -(-a - b) } else { a + b }
}

/// a + b to odd; the sign of an exact zero is that of direction `R`.
#[inline(always)]
pub(super) fn odd_sum<R: Rounding>(a: f64, b: f64) -> f64 {
    let sum = nearest_sum::<R>(a, b);
    // Knuth's two-sum; NaN where the sum is infinite, which is then neither above nor below.
    let part = sum - a;
    let rest = (a - (sum - part)) + (b - part);
    let inexact = rest.abs() > 0.0;
    let bits = sum.to_bits();
    let outwards = (rest > 0.0) == (sum > 0.0);
    let odd = if outwards { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if inexact && bits & 1 == 0 { odd } else { bits })
}

/// Whether an overflowing result of this sign becomes infinite; else it is the largest finite number.
#[inline(always)]
pub(super) fn overflows<R: Rounding>(negative: bool) -> bool {
    match R::DIRECTION {
        Direction::Nearest => true,
        Direction::Zero => false,
        Direction::Down => negative,
        Direction::Up => !negative,
    }
}

/// `exact` rounded to a multiple of `quantum`, a power of two; ±0 keeps the sign of `exact`.
///
/// |`exact`| must be below 2⁵¹ quanta.
#[inline(always)]
pub(super) fn quantized<R: Rounding>(exact: f64, quantum: f64) -> f64 {
    // The spacing of f64 just above 2⁵² quanta is one quantum.
    let magic = quantum * (1.5 / f64::EPSILON);
    let nearest = (exact + magic) - magic;
    let step = match R::DIRECTION {
        Direction::Nearest => 0.0,
        Direction::Zero if nearest.abs() > exact.abs() => -quantum.copysign(exact),
        Direction::Down if nearest > exact => -quantum,
        Direction::Up if nearest < exact => quantum,
        _ => 0.0,
    };
    (nearest + step).copysign(exact)
}

/// `x` rounded to an integer.
#[inline(always)]
pub(super) fn integral<R: Rounding>(x: f64) -> f64 {
    const QUANTIZED: f64 = 0.5 / f64::EPSILON;
    match R::DIRECTION {
        _ if x.abs() < QUANTIZED => quantized::<R>(x, 1.0),
        Direction::Nearest => x.round_ties_even(),
        Direction::Zero => x.trunc(),
        Direction::Down => x.floor(),
        Direction::Up => x.ceil(),
    }
}

/// `exact` as the f32 in direction `R`; NaN is canonical.
#[inline(always)]
pub(super) fn single<R: Rounding>(exact: f64) -> f32 {
    let nearest = exact as f32;
    let value = f64::from(nearest);
    let rounded = match R::DIRECTION {
        // A nearest beyond `exact` is not zero, and its neighbour towards zero is the bits below.
        Direction::Zero if value.abs() > exact.abs() => f32::from_bits(nearest.to_bits() - 1),
        Direction::Down if value > exact => nearest.next_down(),
        Direction::Up if value < exact => nearest.next_up(),
        _ => nearest,
    };
    if exact.is_nan() { CANONICAL } else { rounded }
}

/// The NaN that f32 instructions give.
pub(super) const CANONICAL: f32 = f32::from_bits(0x7FFF_FFFF);
