//! The narrow formats: f16, bf16 and the 8-bit floats, to and from f64.
//!
//! Their numbers are ±m·2^q with 0 ≤ m < 2^p and q at least q₀: below 2^(q₀+p−1) all are multiples of the
//! *quantum* 2^q₀ (subnormals), above they have p significant bits. Conversion therefore rounds to the
//! multiple of the number's quantum in f64, and the rest is moving bits: f64 has the same layout with
//! p = 53 and another bias. Nothing branches on the value.

use super::lane::Value;
use super::rounding::{Rounding, overflows, quantized};

/// A binary format of at most 16 bits.
pub(super) trait Format {
    /// Significant bits p, the leading one included.
    const PRECISION: u32;
    /// The exponent e of the smallest normal number 2^e; the bias is 1 − e.
    const LEAST: i32;
    /// The encoding of +∞, if there is one.
    const INFINITY: Option<u64>;
    /// The encoding of the largest finite number.
    const LARGEST: u64;
    /// The NaN that instructions give.
    const NAN: u64;
    /// The sign bit.
    const SIGN: u64;
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident $bits:ident: $precision:literal, $least:literal, $infinity:expr,
        $largest:literal, $nan:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name(pub(super) $bits);

        impl Format for $name {
            const PRECISION: u32 = $precision;
            const LEAST: i32 = $least;
            const INFINITY: Option<u64> = $infinity;
            const LARGEST: u64 = $largest;
            const NAN: u64 = $nan;
            const SIGN: u64 = 1 << ($bits::BITS - 1);
        }

        impl Value for $name {
            const BITS: u32 = $bits::BITS;

            #[inline(always)]
            fn of(bits: u64) -> Self {
                Self(bits as $bits)
            }

            #[inline(always)]
            fn bits(self) -> u64 {
                u64::from(self.0)
            }
        }
    )* };
}

formats! {
    /// IEEE half precision.
    F16 u16: 11, -14, Some(0x7C00), 0x7BFF, 0x7FFF;
    /// The upper half of an f32.
    Bf16 u16: 8, -126, Some(0x7F80), 0x7F7F, 0x7FFF;
    /// Four exponent and three fraction bits, no infinity.
    E4m3 u8: 4, -6, None, 0x7E, 0x7F;
    /// Five exponent and two fraction bits.
    E5m2 u8: 3, -14, Some(0x7C), 0x7B, 0x7F;
}

/// 2^e, for a normal f64.
const fn power(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// What an exponent field of f64 exceeds that of `F` by, in place.
const fn rebias<F: Format>() -> u64 {
    ((1022 + F::LEAST) as u64) << 52
}

/// How many fraction bits f64 has more.
const fn narrower<F: Format>() -> u32 {
    53 - F::PRECISION
}

/// The exact value of a number of format `F`.
#[inline(always)]
pub(super) fn decode<F: Format>(bits: u64) -> f64 {
    let least = power(F::LEAST);
    let magnitude = bits & (F::SIGN - 1);
    let value = f64::from_bits((magnitude << narrower::<F>()).wrapping_add(rebias::<F>()));
    // A subnormal lacks the leading 1 that the field of the smallest normal number stands for.
    let subnormal =
        f64::from_bits((magnitude << narrower::<F>()).wrapping_add(least.to_bits())) - least;
    let value = if magnitude < 1 << (F::PRECISION - 1) { subnormal } else { value };
    let value = match F::INFINITY {
        Some(infinity) if magnitude == infinity => f64::INFINITY,
        _ if magnitude > F::INFINITY.unwrap_or(F::LARGEST) => f64::NAN,
        _ => value,
    };
    if bits & F::SIGN == 0 { value } else { -value }
}

/// `exact`, a number to be rounded once, in format `F`. `FINITE` gives the largest finite number instead of
/// an infinity, for an infinite `exact` too.
#[inline(always)]
pub(super) fn encode<F: Format, R: Rounding, const FINITE: bool>(exact: f64) -> u64 {
    let least = power(F::LEAST);
    let binade = f64::from_bits(exact.to_bits() & f64::INFINITY.to_bits());
    let quantum = binade.max(least) * power(1 - F::PRECISION as i32);
    let rounded = quantized::<R>(exact, quantum).abs();

    // Adding the smallest normal number gives subnormals a leading 1 and leaves their quantum.
    let normal = rounded.to_bits().wrapping_sub(rebias::<F>()) >> narrower::<F>();
    let subnormal = ((rounded + least).to_bits() - least.to_bits()) >> narrower::<F>();
    let magnitude = if rounded < least { subnormal } else { normal };

    let negative = exact.is_sign_negative();
    let beyond = match F::INFINITY {
        Some(infinity) if !FINITE && (exact.is_infinite() || overflows::<R>(negative)) => infinity,
        _ => F::LARGEST,
    };
    // `rounded` is NaN where quantizing a huge number overflowed.
    let in_range = rounded <= decode::<F>(F::LARGEST);
    let magnitude = if in_range { magnitude } else { beyond };
    match exact.is_nan() {
        true => F::NAN,
        false if negative => magnitude | F::SIGN,
        false => magnitude,
    }
}
