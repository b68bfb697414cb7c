//! Element types: which numbers a tensor may hold, at compile time and at run time.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// An element type at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// 8-bit unsigned integer; flags.
    U8,
    /// 16-bit unsigned integer; columns of compressed matrices.
    U16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// 16-bit IEEE float: 5 exponent bits, 10 fraction bits.
    F16,
    /// 16-bit brain float: 8 exponent bits, 7 fraction bits.
    BF16,
    /// 32-bit IEEE float.
    F32,
    /// 64-bit IEEE float; on the CPU only, where it runs the reference.
    F64,
}

impl DType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::U8,
        Self::U16,
        Self::I32,
        Self::U32,
        Self::I64,
        Self::U64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
    ];

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Whether elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// The name that the command and the kernels' tables use: `f32`, `bf16`, `i64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A type that a tensor may hold.
pub trait Element: sealed::Sealed + bytemuck::Pod + fmt::Debug + PartialEq + Send + Sync {
    /// The same type at run time.
    const DTYPE: DType;
}

/// A floating-point element.
pub trait Float: Element {
    /// The type of states that run through time, of parameters and of their gradients:
    /// f32, and f64 for f64.
    type State: Float;

    /// The exact value in f64.
    fn to_f64(self) -> f64;
    /// The nearest value of this type, ties to even.
    fn from_f64(value: f64) -> Self;
    /// The value in f32: exact but for f64, which is rounded.
    fn to_f32(self) -> f32;
    /// The nearest value of this type, ties to even.
    fn from_f32(value: f32) -> Self;
}

/// A floating-point element that the kernels run in: f32, f16 or bf16, with f32 state.
pub trait DeviceFloat: Float<State = f32> {
    /// Converts every element of `from` into its place in `to`; the lengths are equal.
    fn widen(from: &[Self], to: &mut [f32]);
    /// Rounds every element of `from` into its place in `to`; the lengths are equal.
    fn narrow(from: &[f32], to: &mut [Self]);
}

/// An integer element, for indices.
pub trait Index: Element {
    /// The value; `None` where it does not fit.
    fn to_i64(self) -> Option<i64>;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {
        $(
            impl sealed::Sealed for $type {}
            impl Element for $type {
                const DTYPE: DType = DType::$dtype;
            }
        )*
    };
}

elements!(
    u8 => U8, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    f16 => F16, bf16 => BF16, f32 => F32, f64 => F64,
);

macro_rules! indices {
    ($($type:ty),*) => {
        $(
            impl Index for $type {
                fn to_i64(self) -> Option<i64> {
                    i64::try_from(self).ok()
                }
            }
        )*
    };
}

indices!(u8, u16, i32, u32, i64, u64);

macro_rules! half_floats {
    ($($type:ty),*) => {
        $(
            impl Float for $type {
                type State = f32;
                fn to_f64(self) -> f64 {
                    <$type>::to_f64(self)
                }
                fn from_f64(value: f64) -> Self {
                    <$type>::from_f64(value)
                }
                #[inline(always)]
                fn to_f32(self) -> f32 {
                    <$type>::to_f32(self)
                }
                #[inline(always)]
                fn from_f32(value: f32) -> Self {
                    <$type>::from_f32(value)
                }
            }
        )*
    };
}

half_floats!(f16, bf16);

impl DeviceFloat for f16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// Shifts of bits, in loops that become vectors where they are inlined; the slices' own
/// conversions go element by element.
impl DeviceFloat for bf16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [Self]) {
        for (to, from) in to.iter_mut().zip(from) {
            let bits = from.to_bits();
            let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
            // A NaN keeps its upper bits, with the one set that makes it quiet.
            let kept = if from.is_nan() { bits | 0x40_0000 } else { rounded };
            *to = Self::from_bits((kept >> 16) as u16);
        }
    }
}

impl Float for f32 {
    type State = Self;
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

/// In loops, which are inlined for certain: a slice's own `copy_from_slice` may be called.
impl DeviceFloat for f32 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        assert!(from.len() == to.len(), "as many places as elements");
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [Self]) {
        Self::widen(from, to);
    }
}

impl Float for f64 {
    type State = Self;
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f32(self) -> f32 {
        self as f32
    }
    fn from_f32(value: f32) -> Self {
        Self::from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_agree_with_the_types() {
        fn check<T: Element>() {
            assert_eq!(T::DTYPE.bytes(), size_of::<T>(), "{}", T::DTYPE);
        }
        check::<u8>();
        check::<u16>();
        check::<i32>();
        check::<u32>();
        check::<i64>();
        check::<u64>();
        check::<f16>();
        check::<bf16>();
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        assert_eq!(<bf16 as Float>::from_f32(1.0 + 2f32.powi(-8)).to_f32(), 1.0);
        assert_eq!(
            <bf16 as Float>::from_f32(1.0 + 3.0 * 2f32.powi(-8)).to_f32(),
            1.0 + 2f32.powi(-6)
        );
        assert_eq!(<f16 as Float>::from_f32(65519.9).to_f32(), 65504.0);
    }

    #[test]
    fn runs_are_converted_as_single_elements() {
        let bits = (0..=u16::MAX).flat_map(|high| {
            [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF].map(|low| u32::from(high) << 16 | low)
        });
        let numbers: Vec<f32> = bits.map(f32::from_bits).collect();
        let mut narrow = vec![bf16::ZERO; numbers.len()];
        bf16::narrow(&numbers, &mut narrow);
        for (found, number) in narrow.iter().zip(&numbers) {
            assert_eq!(found.to_bits(), bf16::from_f32(*number).to_bits(), "{number:e}");
        }
        let mut wide = vec![0.0; narrow.len()];
        bf16::widen(&narrow, &mut wide);
        for (found, narrow) in wide.iter().zip(&narrow) {
            assert!(found.to_bits() == bf16::to_f32(*narrow).to_bits() || found.is_nan());
        }
    }
}
