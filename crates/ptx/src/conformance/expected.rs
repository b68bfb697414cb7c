//! What a word must be: bits, or what the ISA leaves open about them.

/// A float format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE half: 5 bits of exponent, 10 of fraction.
    F16,
    /// The upper half of an [`F32`](Self::F32).
    Bf16,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
}

impl Format {
    /// Bits of the exponent and of the fraction.
    fn fields(self) -> (u32, u32) {
        match self {
            Self::F16 => (5, 10),
            Self::Bf16 => (8, 7),
            Self::F32 => (8, 23),
            Self::F64 => (11, 52),
        }
    }

    /// The value of `bits`; every value of every format is one of f64.
    pub fn value(self, bits: u64) -> f64 {
        let (exponent_bits, fraction_bits) = self.fields();
        let top = (1_u64 << exponent_bits) - 1;
        let exponent = bits >> fraction_bits & top;
        let fraction = bits & ((1 << fraction_bits) - 1);
        let negative = bits >> (exponent_bits + fraction_bits) & 1 == 1;
        let bias = (top >> 1) as i32;
        let magnitude = if self == Self::F64 {
            f64::from_bits(bits & (u64::MAX >> 1))
        } else if exponent == top {
            if fraction == 0 { f64::INFINITY } else { f64::NAN }
        } else {
            let significand = if exponent == 0 { fraction } else { fraction | 1 << fraction_bits };
            let scale = exponent.max(1) as i32 - bias - fraction_bits as i32;
            significand as f64 * f64::from(scale).exp2()
        };
        if negative { -magnitude } else { magnitude }
    }

    /// The distance between the neighbours of a normal `value`.
    pub(super) fn ulp(self, value: f64) -> f64 {
        let (exponent_bits, fraction_bits) = self.fields();
        let lowest = 2 - (1_i32 << (exponent_bits - 1));
        let exponent = (value.abs().to_bits() >> 52) as i32 - 1023;
        f64::from(exponent.max(lowest) - fraction_bits as i32).exp2()
    }
}

/// What a word must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// These bits.
    Bits(u64),
    /// Any NaN of the format.
    Nan(Format),
    /// A number that is not farther than `bound` from `value`.
    Near {
        /// The exact result.
        value: f64,
        /// The documented error, absolute.
        bound: f64,
        /// How the word's bits are read.
        format: Format,
    },
    /// Two 16-bit words, the low one first.
    Packed(Box<[Expected; 2]>),
    /// Whatever came.
    Any,
}

impl Expected {
    /// Whether `bits` is what it must be.
    pub fn admits(&self, bits: u64) -> bool {
        match self {
            Self::Bits(wanted) => *wanted == bits,
            Self::Nan(format) => format.value(bits).is_nan(),
            Self::Near { value, bound, format } => (format.value(bits) - value).abs() <= *bound,
            Self::Packed(halves) => {
                bits >> 32 == 0 && halves[0].admits(bits & 0xFFFF) && halves[1].admits(bits >> 16)
            }
            Self::Any => true,
        }
    }
}

impl From<u64> for Expected {
    fn from(bits: u64) -> Self {
        Self::Bits(bits)
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bits(bits) => write!(formatter, "{bits:#x}"),
            Self::Nan(format) => write!(formatter, "a NaN of {format:?}"),
            Self::Near { value, bound, format } => {
                write!(formatter, "within {bound:e} of {value:e} as {format:?}")
            }
            Self::Packed(halves) => write!(formatter, "({}, {})", halves[0], halves[1]),
            Self::Any => formatter.write_str("anything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_their_values() {
        assert_eq!(Format::F16.value(0x3C00), 1.0);
        assert_eq!(Format::F16.value(0x8001), -f64::from(-24).exp2());
        assert_eq!(Format::F16.value(0x7C00), f64::INFINITY);
        assert_eq!(Format::Bf16.value(0x4049), 3.140625);
        assert!(Format::Bf16.value(0x7FFF).is_nan());
        for bits in [0, 1, 0x8000_0000, 0x3F80_0001, 0x7F7F_FFFF, 0xFF80_0000, 0x007F_FFFF_u32] {
            assert_eq!(Format::F32.value(bits.into()), f64::from(f32::from_bits(bits)));
        }
        assert_eq!(Format::F64.value((-2.5_f64).to_bits()), -2.5);
    }

    #[test]
    fn an_ulp_is_the_step_to_the_next_number() {
        assert_eq!(Format::F32.ulp(1.5), f64::from(f32::EPSILON));
        assert_eq!(Format::F32.ulp(0.0), f64::from(f32::from_bits(1)));
        assert_eq!(Format::F16.ulp(1024.0), 1.0);
    }

    #[test]
    fn expectations_admit_what_they_say() {
        assert!(Expected::Bits(7).admits(7) && !Expected::Bits(7).admits(8));
        assert!(Expected::Nan(Format::F32).admits(0x7FC1_2345));
        assert!(!Expected::Nan(Format::F32).admits(0x7F80_0000));
        let near = Expected::Near { value: 1.0, bound: 1e-7, format: Format::F32 };
        assert!(near.admits(0x3F80_0000) && !near.admits(0x3F80_0002) && !near.admits(0x7FFF_FFFF));
        let packed =
            Expected::Packed(Box::new([Expected::Bits(0x4000), Expected::Nan(Format::F16)]));
        assert!(packed.admits(0x7E00_4000) && !packed.admits(0x4000_7E00));
    }
}
