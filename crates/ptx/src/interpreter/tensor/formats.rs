//! The number formats of the tensor cores, decoded exactly to `f64`, which holds all their values and all
//! products of two of them.

use crate::interpreter::row::{LANES, Row};

/// What the matrices A and B hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Multiplicand {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    F64,
    S8,
    U8,
}

impl Multiplicand {
    /// The format of this modifier.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "f16" => Some(Self::F16),
            "bf16" => Some(Self::Bf16),
            "tf32" => Some(Self::Tf32),
            "e4m3" => Some(Self::E4m3),
            "e5m2" => Some(Self::E5m2),
            "f64" => Some(Self::F64),
            "s8" => Some(Self::S8),
            "u8" => Some(Self::U8),
            _ => None,
        }
    }

    /// Bits of an element.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 16,
            Self::Tf32 => 32,
            Self::E4m3 | Self::E5m2 | Self::S8 | Self::U8 => 8,
            Self::F64 => 64,
        }
    }

    /// The values of elements, one in the low bits of each lane.
    pub(crate) fn decode(self, elements: Row) -> [f64; LANES] {
        match self {
            Self::F16 => elements.map(|bits| f16(bits as u16)),
            Self::Bf16 => elements.map(|bits| f64::from(f32::from_bits((bits as u32) << 16))),
            // The hardware does not look at the low 13 bits.
            Self::Tf32 => elements.map(|bits| f64::from(f32::from_bits(bits as u32 & !0x1FFF))),
            Self::E4m3 => elements.map(|bits| e4m3(bits as u8)),
            Self::E5m2 => elements.map(|bits| f16(u16::from(bits as u8) << 8)),
            Self::F64 => elements.map(f64::from_bits),
            Self::S8 => elements.map(|bits| f64::from((bits as u8).cast_signed())),
            Self::U8 => elements.map(|bits| f64::from(bits as u8)),
        }
    }
}

/// What the matrices C and D hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accumulator {
    F16,
    F32,
    F64,
    /// A sum beyond the range is taken modulo 2³², or clamped.
    S32 {
        saturating: bool,
    },
}

impl Accumulator {
    /// The format of this modifier.
    pub(crate) fn from_name(name: &str, saturating: bool) -> Option<Self> {
        match name {
            "f16" => Some(Self::F16),
            "f32" => Some(Self::F32),
            "f64" => Some(Self::F64),
            "s32" => Some(Self::S32 { saturating }),
            _ => None,
        }
    }

    /// Bits of an element.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F16 => 16,
            Self::F32 | Self::S32 { .. } => 32,
            Self::F64 => 64,
        }
    }

    /// The values of elements, one in the low bits of each lane.
    pub(crate) fn decode(self, elements: Row) -> [f64; LANES] {
        match self {
            Self::F16 => elements.map(|bits| f16(bits as u16)),
            Self::F32 => elements.map(|bits| f64::from(f32::from_bits(bits as u32))),
            Self::F64 => elements.map(f64::from_bits),
            Self::S32 { .. } => elements.map(|bits| f64::from((bits as u32).cast_signed())),
        }
    }

    /// The element nearest to a sum, ties to even; a NaN is the canonical one. Integers must be whole.
    pub(crate) fn encode(self, sum: f64) -> u64 {
        match self {
            Self::F16 => u64::from(to_f16(sum)),
            Self::F32 if sum.is_nan() => 0x7FFF_FFFF,
            Self::F32 => u64::from((sum as f32).to_bits()),
            Self::F64 if sum.is_nan() => 0x7FF8_0000_0000_0000,
            Self::F64 => sum.to_bits(),
            // The cast of a float clamps.
            Self::S32 { saturating: true } => u64::from((sum as i32).cast_unsigned()),
            Self::S32 { saturating: false } => u64::from(sum as i64 as u32),
        }
    }
}

/// 2^`exponent`, for the exponents of normal numbers.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// The exponent of a normal number; −1023 for zero and subnormal ones.
pub(super) fn exponent(value: f64) -> i32 {
    (value.to_bits() >> 52 & 0x7FF) as i32 - 1023
}

/// The fields in their places in an `f64`, then scaled by the difference of the biases, subnormal ones too.
fn f16(bits: u16) -> f64 {
    let fields = u64::from(bits & 0x7FFF) << 42;
    let magnitude = if fields < 0x1F << 52 {
        f64::from_bits(fields) * power_of_two(1023 - 15)
    } else {
        f64::from_bits(fields | 0x7FF << 52)
    };
    f64::from_bits(magnitude.to_bits() | u64::from(bits >> 15) << 63)
}

/// The only NaNs are 0x7F and 0xFF, and there is no infinity: else these are the halves of half the bias.
fn e4m3(bits: u8) -> f64 {
    let (sign, magnitude) = (u16::from(bits >> 7), u16::from(bits & 0x7F));
    if magnitude == 0x7F {
        return f64::NAN;
    }
    f16(sign << 15 | magnitude << 7) * power_of_two(8)
}

/// Rounds to nearest, ties to even.
fn to_f16(value: f64) -> u16 {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let magnitude = value.abs();
    if value.is_nan() {
        return 0x7FFF;
    }
    if magnitude >= 65520.0 {
        return sign | 0x7C00;
    }
    // In units of the spacing of halves at this magnitude: 1024 … 2048, below 1024 for subnormal ones.
    let exponent = exponent(magnitude).max(-14);
    let units = (magnitude * power_of_two(10 - exponent)).round_ties_even() as u16;
    // The leading bit of `units`, and a carry out of it, count in the exponent.
    sign | ((((exponent + 14) as u16) << 10) + units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(format: Multiplicand, bits: u64) -> f64 {
        format.decode([bits; LANES])[7]
    }

    #[test]
    fn halves() {
        let known = [
            (0x0001, 2.0_f64.powi(-24)),
            (0x03FF, 1023.0 * 2.0_f64.powi(-24)),
            (0x0400, 2.0_f64.powi(-14)),
            (0x3C00, 1.0),
            (0xC001, -2.0 - 2.0_f64.powi(-9)),
            (0x7BFF, 65504.0),
            (0xFC00, f64::NEG_INFINITY),
        ];
        for (bits, value) in known {
            assert_eq!(f16(bits), value, "{bits:#06x}");
        }
        assert!(f16(0x7E01).is_nan());
        assert!(f16(0x8000).is_sign_negative());
    }

    #[test]
    fn all_halves_return() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7FFF <= 0x7C00) {
            assert_eq!(to_f16(f16(bits)), bits);
        }
        assert_eq!(to_f16(-f64::NAN), 0x7FFF);
    }

    #[test]
    fn rounding_to_halves() {
        let single = |bits| f64::from(f32::from_bits(bits));
        assert_eq!(to_f16(single(0x477F_EFFF)), 0x7BFF);
        assert_eq!(to_f16(single(0x477F_F000)), 0x7C00);
        assert_eq!(to_f16(single(0x3300_0000)), 0);
        assert_eq!(to_f16(single(0x3300_0001)), 1);
        // Between all neighbours: the tie goes to the even one, the least step off it to the nearer.
        for bits in 0..0x7BFF_u16 {
            let tie = (f16(bits) + f16(bits + 1)) / 2.0;
            assert_eq!(to_f16(tie), bits + bits % 2);
            assert_eq!(to_f16(-tie.next_down()), 0x8000 | bits);
            assert_eq!(to_f16(tie.next_up()), bits + 1);
        }
    }

    #[test]
    fn eight_bits() {
        let e4m3 = |bits| value(Multiplicand::E4m3, bits);
        let e5m2 = |bits| value(Multiplicand::E5m2, bits);
        assert_eq!(
            [0x01, 0x08, 0x38, 0x7E, 0xB8].map(e4m3),
            [2.0_f64.powi(-9), 2.0_f64.powi(-6), 1.0, 448.0, -1.0]
        );
        assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan());
        assert_eq!(
            [0x01, 0x04, 0x3C, 0x7B, 0xFC].map(e5m2),
            [2.0_f64.powi(-16), 2.0_f64.powi(-14), 1.0, 57344.0, f64::NEG_INFINITY]
        );
        assert!(e5m2(0x7D).is_nan());
        assert_eq!([0x80, 0x7F].map(|bits| value(Multiplicand::S8, bits)), [-128.0, 127.0]);
        assert_eq!(value(Multiplicand::U8, 0xFF), 255.0);
    }

    #[test]
    fn wide_formats() {
        assert_eq!(value(Multiplicand::Bf16, 0x4049), 3.140625);
        assert_eq!(value(Multiplicand::Tf32, 0x3F80_3FFF), 1.0 + 2.0_f64.powi(-10));
        let f32 = |value| Accumulator::F32.encode(value);
        assert_eq!(f32(1.0 + 2.0_f64.powi(-24)), 0x3F80_0000);
        assert_eq!(f32(f64::NAN), 0x7FFF_FFFF);
        assert_eq!(f32(2.0_f64.powi(128)), 0x7F80_0000);
    }

    #[test]
    fn integers_wrap_or_clamp() {
        let s32 = |saturating, sum| Accumulator::S32 { saturating }.encode(sum);
        let beyond = 2_147_483_648.0;
        assert_eq!((s32(false, beyond), s32(true, beyond)), (0x8000_0000, 0x7FFF_FFFF));
        assert_eq!(
            (s32(false, -beyond - 1.0), s32(true, -beyond - 1.0)),
            (0x7FFF_FFFF, 0x8000_0000)
        );
        assert_eq!(s32(true, -1.0), 0xFFFF_FFFF);
    }
}
