//! The types of values and of row pointers.

use crate::element::Element;

/// A type of values. Sums of integers wrap; `u8` holds truth values, 0 or 1, and its sum is "or".
pub trait Value: Element + PartialOrd {
    /// The neutral element of sums.
    const ZERO: Self;
    /// The neutral element of products, and each value of a pattern.
    const ONE: Self;
    /// What changes no sum, not by a bit: -0, for 0 makes 0 of -0.
    const ABSENT: Self;
    /// The smallest value: what changes no choice of the larger one.
    const LEAST: Self;
    /// The largest value: what changes no choice of the smaller one.
    const MOST: Self;
    /// The sum.
    fn add(self, other: Self) -> Self;
    /// The product.
    fn multiply(self, other: Self) -> Self;
    /// The smaller one; NaN where either is, and -0 before 0.
    fn smaller(self, other: Self) -> Self;
    /// The larger one; NaN where either is, and 0 before -0.
    fn larger(self, other: Self) -> Self;
    /// The sum, at the type's limit where it would leave it.
    fn saturating_sum(self, other: Self) -> Self;
    /// Whether it is zero.
    fn is_zero(self) -> bool {
        self == Self::ZERO
    }
    /// The value in f64: exact for every type here.
    fn to_f64(self) -> f64;
    /// The nearest value of this type, at its limit where it would leave it.
    fn from_f64(value: f64) -> Self;
}

macro_rules! floats {
    ($($type:ty),*) => {
        $(
            impl Value for $type {
                const ZERO: Self = 0.0;
                const ONE: Self = 1.0;
                const ABSENT: Self = -0.0;
                const LEAST: Self = Self::NEG_INFINITY;
                const MOST: Self = Self::INFINITY;
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    self + other
                }
                #[inline(always)]
                fn multiply(self, other: Self) -> Self {
                    self * other
                }
                #[inline(always)]
                fn smaller(self, other: Self) -> Self {
                    let first = self < other || self == other && self.is_sign_negative();
                    if first || self.is_nan() { self } else { other }
                }
                #[inline(always)]
                fn larger(self, other: Self) -> Self {
                    let first = self > other || self == other && self.is_sign_positive();
                    if first || self.is_nan() { self } else { other }
                }
                #[inline(always)]
                fn saturating_sum(self, other: Self) -> Self {
                    self + other
                }
                fn to_f64(self) -> f64 {
                    f64::from(self)
                }
                fn from_f64(value: f64) -> Self {
                    value as Self
                }
            }
        )*
    };
}

floats!(f32, f64);

macro_rules! integers {
    ($($type:ty),*) => {
        $(
            impl Value for $type {
                const ZERO: Self = 0;
                const ONE: Self = 1;
                const ABSENT: Self = 0;
                const LEAST: Self = Self::MIN;
                const MOST: Self = Self::MAX;
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    self.wrapping_add(other)
                }
                #[inline(always)]
                fn multiply(self, other: Self) -> Self {
                    self.wrapping_mul(other)
                }
                #[inline(always)]
                fn smaller(self, other: Self) -> Self {
                    self.min(other)
                }
                #[inline(always)]
                fn larger(self, other: Self) -> Self {
                    self.max(other)
                }
                #[inline(always)]
                fn saturating_sum(self, other: Self) -> Self {
                    self.saturating_add(other)
                }
                fn to_f64(self) -> f64 {
                    f64::from(self)
                }
                fn from_f64(value: f64) -> Self {
                    value.round_ties_even() as Self
                }
            }
        )*
    };
}

integers!(i32, u32);

impl Value for u8 {
    const ZERO: Self = 0;
    const ONE: Self = 1;
    const ABSENT: Self = 0;
    const LEAST: Self = 0;
    const MOST: Self = 1;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        u8::from(self | other != 0)
    }
    #[inline(always)]
    fn multiply(self, other: Self) -> Self {
        u8::from(self != 0 && other != 0)
    }
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        Value::multiply(self, other)
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        Value::add(self, other)
    }
    #[inline(always)]
    fn saturating_sum(self, other: Self) -> Self {
        Value::add(self, other)
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        u8::from(value != 0.0)
    }
}

/// A type of row pointers.
pub trait Offset: Element + Ord {
    /// The largest value.
    const MOST: Self;
    /// The most entries that such row pointers count: those of `u32` fit an `i32` as well.
    const MOST_ENTRIES: u64;
    /// The value as a place in memory; one that does not fit there is the largest.
    fn to_usize(self) -> usize;
    /// The value.
    fn to_u64(self) -> u64;
    /// The place as this type, where it fits.
    fn of(place: usize) -> Option<Self>;
    /// The place as this type; one that does not fit is the largest, which no check lets pass.
    fn saturating(place: usize) -> Self {
        Self::of(place).unwrap_or(Self::MOST)
    }
}

impl Offset for u32 {
    const MOST: Self = u32::MAX;
    const MOST_ENTRIES: u64 = i32::MAX as u64;
    #[inline(always)]
    fn to_usize(self) -> usize {
        self as usize
    }
    #[inline(always)]
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn of(place: usize) -> Option<Self> {
        u32::try_from(place).ok()
    }
}

impl Offset for u64 {
    const MOST: Self = u64::MAX;
    const MOST_ENTRIES: u64 = i64::MAX as u64;
    #[inline(always)]
    fn to_usize(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
    #[inline(always)]
    fn to_u64(self) -> u64 {
        self
    }
    #[inline(always)]
    fn of(place: usize) -> Option<Self> {
        Some(place as u64)
    }
}
