//! What sum and product mean.

use std::fmt;

use super::NAME;
use crate::element::DType;
use crate::sparse::Value;
use crate::{Error, Result};

/// What sum and product mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Semiring {
    /// + and ×.
    #[default]
    PlusTimes,
    /// The smallest sum: shortest ways.
    MinPlus,
    /// The largest product: most likely ways.
    MaxTimes,
    /// Whether there is any: reachability.
    OrAnd,
    /// How many there are.
    PlusPair,
}

impl Semiring {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::PlusTimes, Self::MinPlus, Self::MaxTimes, Self::OrAnd, Self::PlusPair];

    /// The name that case files and the command line use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlusTimes => "plus-times",
            Self::MinPlus => "min-plus",
            Self::MaxTimes => "max-times",
            Self::OrAnd => "or-and",
            Self::PlusPair => "plus-pair",
        }
    }

    /// The ring of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where there is none.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|ring| ring.name() == name).ok_or_else(|| Error::Option {
            operation: NAME,
            option: "semiring".to_owned(),
            expected: Self::ALL.map(Self::name).join(" or "),
            found: name.to_owned(),
        })
    }

    /// The types of values that have these operations.
    pub const fn values(self) -> &'static [DType] {
        match self {
            Self::PlusTimes | Self::MaxTimes => &[DType::F32, DType::F64, DType::I32, DType::U32],
            Self::MinPlus => &[DType::F32, DType::F64, DType::I32],
            Self::OrAnd => &[DType::U8],
            Self::PlusPair => &[DType::U32],
        }
    }

    /// Whether the order of a sum does not show in it.
    pub fn is_exact(self, dtype: DType) -> bool {
        !(self == Self::PlusTimes && dtype.is_float())
    }
}

impl fmt::Display for Semiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The operations of a semiring that the compiler knows.
pub(crate) trait Ring<T>: Copy + Send + Sync {
    /// What changes no sum, not by a bit.
    const NEUTRAL: T;
    fn multiply(a: T, b: T) -> T;
    fn add(sum: T, product: T) -> T;
}

macro_rules! rings {
    ($($(#[$doc:meta])* $name:ident: $neutral:ident, $add:expr, $multiply:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub(crate) struct $name;

            impl<T: Value> Ring<T> for $name {
                const NEUTRAL: T = T::$neutral;
                #[inline(always)]
                fn multiply(a: T, b: T) -> T {
                    $multiply(a, b)
                }
                #[inline(always)]
                fn add(sum: T, product: T) -> T {
                    $add(sum, product)
                }
            }
        )*
    };
}

rings! {
    /// [`Semiring::PlusTimes`], and of truth values [`Semiring::OrAnd`].
    PlusTimes: ABSENT, T::add, T::multiply;
    /// [`Semiring::MinPlus`].
    MinPlus: MOST, T::smaller, T::saturating_sum;
    /// [`Semiring::MaxTimes`].
    MaxTimes: LEAST, T::larger, T::multiply;
    /// [`Semiring::PlusPair`].
    PlusPair: ABSENT, T::add, |_, _| T::ONE;
}

/// Runs one piece of code with the operations of a semiring as a type.
macro_rules! with_ring {
    ($semiring:expr, |$R:ident| $body:expr) => {
        match $semiring {
            $crate::spgemm::Semiring::PlusTimes | $crate::spgemm::Semiring::OrAnd => {
                type $R = $crate::spgemm::semiring::PlusTimes;
                $body
            }
            $crate::spgemm::Semiring::MinPlus => {
                type $R = $crate::spgemm::semiring::MinPlus;
                $body
            }
            $crate::spgemm::Semiring::MaxTimes => {
                type $R = $crate::spgemm::semiring::MaxTimes;
                $body
            }
            $crate::spgemm::Semiring::PlusPair => {
                type $R = $crate::spgemm::semiring::PlusPair;
                $body
            }
        }
    };
}

pub(crate) use with_ring;
