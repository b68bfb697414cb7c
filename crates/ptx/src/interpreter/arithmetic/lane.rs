//! From a scalar function to one over a row: the macros that make every [`Rule`](super::Rule).
//!
//! A rule is a plain function pointer, so whatever an instruction's modifiers choose must be a type or a
//! constant inside it: [`typed`], [`flagged`] and `rounded` turn modifiers into those.

/// A value that a lane's bits encode, or one element of a packed one.
pub(super) trait Value: Copy {
    /// Its size.
    const BITS: u32;

    /// The value in the low bits; those above are ignored.
    fn of(bits: u64) -> Self;

    /// Its bits, zero-extended.
    fn bits(self) -> u64;
}

macro_rules! values {
    ($($ty:ident $unsigned:ident: $of:expr, $bits:expr;)*) => { $(
        impl Value for $ty {
            const BITS: u32 = $unsigned::BITS;

            #[inline(always)]
            fn of(bits: u64) -> Self {
                $of(bits as $unsigned)
            }

            #[inline(always)]
            fn bits(self) -> u64 {
                u64::from($bits(self))
            }
        }
    )* };
}

values! {
    u8 u8: |bits| bits, |value| value;
    u16 u16: |bits| bits, |value| value;
    u32 u32: |bits| bits, |value| value;
    u64 u64: |bits| bits, |value| value;
    i8 u8: |bits| bits as i8, |value| value as u8;
    i16 u16: |bits| bits as i16, |value| value as u16;
    i32 u32: |bits| bits as i32, |value| value as u32;
    i64 u64: |bits| bits as i64, |value| value as u64;
    f32 u32: f32::from_bits, f32::to_bits;
    f64 u64: f64::from_bits, f64::to_bits;
}

/// `map!(|a: T, b: T| …)`: a rule that computes in every lane; `map!(N, |a: T, b: T| …)` in each of the N
/// 16-bit elements of a lane, or in the whole lane if N is 1.
macro_rules! map {
    (|$($closure:tt)+) => { map!(1, |$($closure)+) };
    ($N:expr, |$($source:ident: $ty:ty),+| $result:expr) => {
        $crate::interpreter::arithmetic::Rule::Map(|sources, result| {
            use $crate::interpreter::arithmetic::lane::Value;
            let [$($source,)+ ..] = *sources;
            for lane in 0..$crate::interpreter::row::LANES {
                let mut bits = 0;
                for element in 0..$N {
                    $(let $source = <$ty as Value>::of($source[lane] >> (16 * element));)+
                    bits |= Value::bits($result) << (16 * element);
                }
                result[lane] = bits;
            }
        })
    };
}

/// `test!(|a: T, b: T| …)`: a rule that gives the predicate and its complement; `test!(N, …)` with N = 2
/// that of the low and that of the high element.
macro_rules! test {
    (|$($closure:tt)+) => { test!(1, |$($closure)+) };
    ($N:expr, |$($source:ident: $ty:ty),+| $holds:expr) => {
        $crate::interpreter::arithmetic::Rule::Test(|sources| {
            use $crate::interpreter::arithmetic::lane::Value;
            let [$($source,)+ ..] = *sources;
            let mut masks = [0, 0];
            for element in 0..$N {
                for lane in 0..$crate::interpreter::row::LANES {
                    $(let $source = <$ty as Value>::of($source[lane] >> (16 * element));)+
                    masks[element] |= u32::from($holds) << lane;
                }
            }
            if $N == 1 { [masks[0], !masks[0]] } else { masks }
        })
    };
}

/// `typed!(ty: [S32 => i32, …], T => …)`: the expression with `T` as the type listed for `ty`, or `None`.
macro_rules! typed {
    ($ty:expr, [$($variant:ident => $lane:ty),+ $(,)?], $T:ident => $result:expr) => {
        match $ty {
            $($crate::types::Type::$variant => {
                type $T = $lane;
                $result
            })+
            _ => None,
        }
    };
}

/// `elements!(ty, [F16x2 => F16: 2, …], E, N => …)`: the expression with `E` as the type of an element and `N`
/// as their number, or `None`.
macro_rules! elements {
    ($ty:expr, [$($variant:ident => $element:ty: $count:literal),+ $(,)?], $E:ident, $N:ident => $result:expr) => {
        match $ty {
            $($crate::types::Type::$variant => {
                type $E = $element;
                const $N: usize = $count;
                $result
            })+
            _ => None,
        }
    };
}

/// `flagged!(condition, FLAG => …)`: the expression with the condition as a constant.
macro_rules! flagged {
    ($condition:expr, $FLAG:ident => $result:expr) => {
        if $condition {
            const $FLAG: bool = true;
            $result
        } else {
            const $FLAG: bool = false;
            $result
        }
    };
}

pub(super) use {elements, flagged, map, test, typed};
