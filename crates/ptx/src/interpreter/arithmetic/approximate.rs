//! Approximate instructions: what the special-function unit gives, within its documented error.
//!
//! Without noise the result is the value in f64 rounded once ([`special`](super::special) says how nearly
//! that is the correctly rounded one). With noise it is moved by a random part of the documented bound, so
//! that no kernel depends on luck; but zeros, infinities, NaN and values that the ISA states stay, and no
//! result is moved to or across one, nor to a value that `.ftz` flushes.

use super::Rule;
use super::float::Float;
use super::half::{Bf16, F16};
use super::lane::{Value, elements, flagged};
use super::rounding::Nearest;
use super::special::{Cosine, Exp2, Function, Log2, Reciprocal, ReciprocalRoot, Root, Sine, Tanh};
use crate::ast::Instruction;
use crate::interpreter::row::{LANES, Row};
use crate::table::Opcode;
use crate::types::Type;

/// The rule of an approximate instruction.
pub(super) fn rule(instruction: &Instruction) -> Option<Rule> {
    let ty = instruction.ty("t")?;
    match instruction.opcode {
        Opcode::Div => quotient(instruction),
        Opcode::Rcp if ty == Type::F64 => Some(seed::<Reciprocal>()),
        Opcode::Rsqrt if ty == Type::F64 => Some(seed::<ReciprocalRoot>()),
        Opcode::Ex2 => of::<Exp2>(instruction, ty),
        Opcode::Lg2 => of::<Log2>(instruction, ty),
        Opcode::Rcp => of::<Reciprocal>(instruction, ty),
        Opcode::Rsqrt => of::<ReciprocalRoot>(instruction, ty),
        Opcode::Sqrt => of::<Root>(instruction, ty),
        Opcode::Sin => of::<Sine>(instruction, ty),
        Opcode::Cos => of::<Cosine>(instruction, ty),
        Opcode::Tanh => of::<Tanh>(instruction, ty),
        _ => None,
    }
}

fn of<F: Function>(instruction: &Instruction, ty: Type) -> Option<Rule> {
    elements!(ty, [
        F32 => f32: 1, F16 => F16: 1, F16x2 => F16: 2, Bf16 => Bf16: 1, Bf16x2 => Bf16: 2,
    ], E, N => flagged!(instruction.has("ftz"), FTZ => Some(Rule::Approximate(
        |sources, noise, results| match noise {
            None => function::<F, E, N, FTZ>(sources[0], results),
            Some(noise) => noisy_function::<F, E, N, FTZ>(sources[0], noise, results),
        }
    ))))
}

/// F of the `N` elements of every lane.
fn function<F: Function, E: Float, const N: usize, const FTZ: bool>(
    source: &Row,
    results: &mut Row,
) {
    for (result, source) in results.iter_mut().zip(source) {
        *result = 0;
        for element in 0..N {
            let x = E::of(source >> (16 * element)).flushed::<FTZ>().widen();
            let rounded = E::round::<Nearest>(F::value(x)).flushed::<FTZ>();
            *result |= rounded.bits() << (16 * element);
        }
    }
}

/// The same, moved; each element takes its own half of the random bits.
fn noisy_function<F: Function, E: Float, const N: usize, const FTZ: bool>(
    source: &Row,
    noise: &Row,
    results: &mut Row,
) {
    for lane in 0..LANES {
        results[lane] = 0;
        for element in 0..N {
            let x = E::of(source[lane] >> (16 * element)).flushed::<FTZ>().widen();
            let exact = F::value(x);
            let rounded = E::round::<Nearest>(exact).flushed::<FTZ>();
            let bound = F::bound(E::TYPE, x, exact, ulp(rounded));
            let moved = match F::stated(x) {
                true => rounded,
                false => {
                    moved::<E, FTZ>(exact, rounded, bound, F::LIMIT, noise[lane] >> (32 * element))
                }
            };
            results[lane] |= moved.bits() << (16 * element);
        }
    }
}

/// `div.approx div.full`, 2 ulp. The first gives zero for divisors beyond 2¹²⁶, whose reciprocal is
/// subnormal.
fn quotient(instruction: &Instruction) -> Option<Rule> {
    let full = instruction.has("full");
    flagged!(instruction.has("ftz"), FTZ => flagged!(full, FULL => {
        Some(Rule::Approximate(|&[a, b, ..], noise, results| {
            for lane in 0..LANES {
                let [a, b] = [a, b].map(|row| f32::of(row[lane]).flushed::<FTZ>().widen());
                let huge = !FULL && b.abs() > 2f64.powi(126) && b.is_finite();
                let exact = if huge { a * 0f64.copysign(b) } else { a / b };
                let rounded = <f32 as Float>::round::<Nearest>(exact).flushed::<FTZ>();
                let moved = noise.map_or(rounded, |noise| {
                    let bound = 2.0 * ulp(rounded);
                    moved::<f32, FTZ>(exact, rounded, bound, f64::INFINITY, noise[lane])
                });
                results[lane] = moved.bits();
            }
        }))
    }))
}

/// `rounded` moved by a random part of `bound` around `exact`, if anything else there may be the result.
fn moved<E: Float, const FTZ: bool>(
    exact: f64,
    rounded: E,
    bound: f64,
    limit: f64,
    random: u64,
) -> E {
    let candidate = E::round::<Nearest>(exact + part(random) * bound).flushed::<FTZ>();
    let settled = rounded.widen() == 0.0 || !rounded.widen().is_finite();
    match !settled && admissible(candidate.widen(), exact, bound, limit) {
        true => candidate,
        false => rounded,
    }
}

/// Whether `value` may stand for `exact`, which is neither zero nor infinite.
fn admissible(value: f64, exact: f64, bound: f64, limit: f64) -> bool {
    let within = (value - exact).abs() <= bound && value.abs() <= limit;
    within && value.is_finite() && value != 0.0 && value.signum() == exact.signum()
}

/// The low 32 bits as a number in [−1, 1).
fn part(random: u64) -> f64 {
    f64::from(random as i32) / 2f64.powi(31)
}

/// The distance from `x` to the next number away from zero.
fn ulp<E: Float>(x: E) -> f64 {
    let x = x.magnitude();
    E::of(x.bits() + 1).widen() - x.widen()
}

/// `rcp rsqrt .approx.ftz.f64`: of the upper 32 bits of the source, 20 bits of fraction, the rest zero.
fn seed<F: Function>() -> Rule {
    Rule::Approximate(|&[a, ..], noise, results| {
        for lane in 0..LANES {
            let x = f64::of(a[lane] & UPPER).flushed::<true>();
            let x = if f64::of(a[lane]).is_nan() { f64::NAN } else { x };
            let exact = F::value(x);
            let rounded = cut(exact);
            let bound = rounded.abs() * 2f64.powi(-20);
            let candidate = cut(exact + noise.map_or(0.0, |noise| part(noise[lane]) * bound));
            let settled = rounded == 0.0 || !rounded.is_finite();
            let admitted = !settled && admissible(candidate, exact, bound, f64::INFINITY);
            let result = if admitted { candidate } else { rounded };
            results[lane] = if result.is_nan() { SEED_NAN } else { result.to_bits() };
        }
    })
}

/// The upper 32 bits of an f64.
const UPPER: u64 = !0 << 32;

/// The NaN of the f64 seeds.
const SEED_NAN: u64 = 0x7FFF_FFFF_0000_0000;

/// To 20 bits of fraction, subnormals to zero.
fn cut(x: f64) -> f64 {
    match x.is_finite() {
        true => f64::of((x.to_bits() + (1 << 31)) & UPPER).flushed::<true>(),
        false => x,
    }
}
