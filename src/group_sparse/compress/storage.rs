//! The type that scales, offsets and outliers are rounded to.

use half::{bf16, f16};

use crate::element::DType;

/// Types of stored numbers: f16, bf16, else f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage(pub DType);

/// Below this f16 loses bits.
const LEAST_F16: f32 = 1.0 / 16384.0;

impl Storage {
    /// The nearest stored number, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self.0 {
            DType::F16 => f16::from_f32(value).to_f32(),
            DType::BF16 => bf16::from_f32(value).to_f32(),
            _ => value,
        }
    }

    /// Whether the number is 0 or stored with all its bits: in f16 from 2^-14 to 65504, in bf16
    /// up to 3.39e38.
    pub fn holds(self, value: f32) -> bool {
        self.reaches(value) && (self.0 != DType::F16 || value == 0.0 || value.abs() >= LEAST_F16)
    }

    /// Whether the number is not too large.
    pub fn reaches(self, value: f32) -> bool {
        match self.0 {
            DType::F16 => value.abs() <= f16::MAX.to_f32(),
            _ => self.round(value).is_finite(),
        }
    }

    /// What it holds, in words.
    pub fn bounds(self) -> &'static str {
        match self.0 {
            DType::F16 => "magnitudes from 2^-14 to 65504, which f16 holds",
            DType::BF16 => "magnitudes up to 3.39e38, which bf16 holds",
            _ => "finite numbers",
        }
    }
}
