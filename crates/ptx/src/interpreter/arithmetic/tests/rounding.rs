//! Rounding against its definition: of all numbers of the format, the neighbour that the direction names.

use std::cmp::Ordering;

use super::super::exact::Exact;
use super::super::float::Float;
use super::super::half::{Bf16, E4m3, E5m2, F16, Format, decode, encode};
use super::super::rounding::{Direction, Down, Nearest, Rounding, Up, Zero, integral, single};
use super::Random;

/// The finite numbers of a format that are not negative, in order, so that their index is their encoding.
fn numbers<F: Format>() -> Vec<f64> {
    (0..=F::LARGEST)
        .map(|code| {
            let field = (code >> (F::PRECISION - 1)) as i32;
            let fraction = (code & ((1 << (F::PRECISION - 1)) - 1)) as f64;
            let hidden = if field == 0 { 0.0 } else { 2f64.powi(F::PRECISION as i32 - 1) };
            let quantum = F::LEAST - (F::PRECISION as i32 - 1) + field.max(1) - 1;
            (fraction + hidden) * 2f64.powi(quantum)
        })
        .collect()
}

/// By definition: the encoding of a number that compares so with every f64 and has this sign.
fn slowly<F: Format, R: Rounding>(
    numbers: &[f64],
    negative: bool,
    compare: impl Fn(f64) -> Ordering,
) -> u64 {
    let sign = if negative { F::SIGN } else { 0 };
    // Neighbours of the magnitude; beyond the largest number there is one more, which is infinity.
    let against = |value: f64| match negative {
        true => compare(-value).reverse(),
        false => compare(value),
    };
    let above = numbers.partition_point(|&value| against(value) == Ordering::Greater);
    if above < numbers.len() && against(numbers[above]) == Ordering::Equal {
        return sign | above as u64;
    }
    let below = above - 1;
    let step = numbers[below] - numbers[below.saturating_sub(1)];
    let next = numbers.get(above).copied().unwrap_or(numbers[below] + step);
    let up = match R::DIRECTION {
        Direction::Nearest => match against((numbers[below] + next) / 2.0) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => above % 2 == 0,
        },
        Direction::Zero => false,
        Direction::Down => negative,
        Direction::Up => !negative,
    };
    match (up, F::INFINITY) {
        (true, None) if above == numbers.len() => sign | below as u64,
        _ => sign | (if up { above } else { below }) as u64,
    }
}

/// Values that are hard to round to a format, and random ones.
fn hard<F: Format>(numbers: &[f64], random: &mut Random) -> Vec<f64> {
    let mut values = vec![f64::MAX, f64::MIN_POSITIVE, 1e-310, 2f64.powi(128), 2f64.powi(16)];
    for pair in numbers.windows(2).step_by(numbers.len().div_ceil(20_000)) {
        let middle = (pair[0] + pair[1]) / 2.0;
        values.extend([pair[0], middle, middle.next_up(), middle.next_down(), pair[1].next_down()]);
    }
    let largest = numbers[numbers.len() - 1];
    let half = (largest - numbers[numbers.len() - 2]) / 2.0;
    values.extend([largest.next_up(), (largest + half).next_down(), largest + half]);
    values.extend((0..20_000).map(|_| f64::from(f32::from_bits(random.bits() as u32)).abs()));
    values.retain(|value| value.is_finite() && *value > 0.0);
    values
}

fn check_format<F: Format, R: Rounding>() {
    let mut random = Random(5);
    let numbers = numbers::<F>();
    for value in hard::<F>(&numbers, &mut random).into_iter().flat_map(|value| [value, -value]) {
        let expected = slowly::<F, R>(&numbers, value < 0.0, |other| {
            value.partial_cmp(&other).expect("finite")
        });
        let found = encode::<F, R, false>(value);
        assert_eq!(found, expected, "{value:e}: {found:#X}, not {expected:#X}");
    }
}

#[test]
fn formats_round_by_definition() {
    check_format::<F16, Nearest>();
    check_format::<F16, Zero>();
    check_format::<F16, Down>();
    check_format::<F16, Up>();
    check_format::<Bf16, Nearest>();
    check_format::<Bf16, Zero>();
    check_format::<Bf16, Down>();
    check_format::<Bf16, Up>();
    check_format::<E5m2, Nearest>();
    check_format::<E4m3, Nearest>();
}

fn check_decoding<F: Format>() {
    for (code, value) in numbers::<F>().into_iter().enumerate() {
        let code = code as u64;
        for (code, value) in [(code, value), (code | F::SIGN, -value)] {
            assert_eq!(decode::<F>(code).to_bits(), value.to_bits(), "{code:#X}");
            assert_eq!(encode::<F, Nearest, false>(value), code);
        }
    }
    let beyond = F::INFINITY.unwrap_or(F::LARGEST) + 1;
    assert!((beyond..F::SIGN).all(|code| decode::<F>(code).is_nan()));
    if let Some(infinity) = F::INFINITY {
        assert_eq!(decode::<F>(infinity), f64::INFINITY);
        assert_eq!(decode::<F>(infinity | F::SIGN), f64::NEG_INFINITY);
        assert_eq!(encode::<F, Zero, false>(f64::INFINITY), infinity);
        assert_eq!(encode::<F, Nearest, true>(f64::INFINITY), F::LARGEST);
    }
    assert_eq!(encode::<F, Nearest, true>(f64::NAN), F::NAN);
}

#[test]
fn every_code_of_every_format_decodes() {
    check_decoding::<F16>();
    check_decoding::<Bf16>();
    check_decoding::<E4m3>();
    check_decoding::<E5m2>();
}

/// a·b + c compared with a number, by exact integers.
fn compared(a: f64, b: f64, c: f64, with: f64) -> Ordering {
    let fma = Exact::sum(Exact::product(Exact::of(a), Exact::of(b)), Exact::of(c));
    let difference = Exact::sum(fma, Exact::of(-with));
    match difference.is_zero() {
        true => Ordering::Equal,
        false if difference.round::<Nearest>().is_sign_negative() => Ordering::Less,
        false => Ordering::Greater,
    }
}

fn check_fma<F: Format + Float>() {
    let mut random = Random(6);
    let numbers = numbers::<F>();
    let mut checked = 0;
    while checked < 200_000 {
        let bits = random.bits();
        let [a, b] = [0, 16].map(|shift| F::of(bits >> shift));
        // Addends of any size, and those that nearly cancel or tie.
        let near = F::of((-a.widen() * b.widen()).to_bits());
        let c = match bits >> 62 {
            0 => F::of(bits >> 32),
            1 => F::of(near.bits() ^ (bits >> 32 & 7)),
            _ => F::of((bits >> 32 & 0x83FF) + (a.bits() & 0x7C00)),
        };
        let [x, y, z] = [a, b, c].map(F::widen);
        let nothing = compared(x, y, z, 0.0);
        if !(x * y).is_finite() || !z.is_finite() || nothing == Ordering::Equal {
            continue;
        }
        let negative = nothing == Ordering::Less;
        let expected = slowly::<F, Nearest>(&numbers, negative, |value| compared(x, y, z, value));
        let found = a.fma::<Nearest>(b, c).bits();
        assert_eq!(found, expected, "{x:e} * {y:e} + {z:e}: {found:#X}, not {expected:#X}");
        checked += 1;
    }
}

#[test]
fn fma_of_halves_rounds_once() {
    check_fma::<F16>();
    check_fma::<Bf16>();
}

/// Random f32 of random and of equal exponents.
fn singles(random: &mut Random) -> [f32; 3] {
    let bits = random.bits();
    let [a, b, c] = [bits, bits >> 32, random.bits()].map(|bits| f32::from_bits(bits as u32));
    match random.bits() % 4 {
        0 => [a, b, c],
        1 => [a, b, -(a * b)],
        2 => [a, f32::from_bits(a.to_bits() ^ (bits >> 40) as u32 & 0xFF), c],
        _ => [
            f32::from_bits(a.to_bits() & 0x807F_FFFF),
            b,
            f32::from_bits(c.to_bits() & 0x80FF_FFFF),
        ],
    }
}

fn same(found: f32, expected: f32, what: &str) {
    let equal = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
    assert!(equal, "{what}: {found:e}, not {expected:e}");
}

#[test]
fn f32_to_nearest_is_the_hardware() {
    let mut random = Random(7);
    for _ in 0..400_000 {
        let [a, b, c] = singles(&mut random);
        same(a.fma::<Nearest>(b, c), a.mul_add(b, c), &format!("{a:e} * {b:e} + {c:e}"));
        same(Float::div::<Nearest>(a, b), a / b, &format!("{a:e} / {b:e}"));
        same(Float::sqrt::<Nearest>(a), a.sqrt(), &format!("sqrt {a:e}"));
        same(Float::add::<Nearest>(a, b), a + b, &format!("{a:e} + {b:e}"));
    }
}

/// Rounding down twice is rounding down once, so f64 in the same direction is the way to a result.
fn check_f32_directed<R: Rounding>() {
    let mut random = Random(8);
    for _ in 0..100_000 {
        let [a, b, c] = singles(&mut random);
        let [x, y, z] = [a, b, c].map(f64::from);
        let text = format!("{a:e} {b:e} {c:e}");
        same(a.fma::<R>(b, c), single::<R>(x.fma::<R>(y, z)), &text);
        same(Float::add::<R>(a, b), single::<R>(Float::add::<R>(x, y)), &text);
        same(Float::div::<R>(a, b), single::<R>(Float::div::<R>(x, y)), &text);
        same(Float::sqrt::<R>(a), single::<R>(Float::sqrt::<R>(x)), &text);
    }
}

#[test]
fn f32_in_other_directions() {
    check_f32_directed::<Zero>();
    check_f32_directed::<Down>();
    check_f32_directed::<Up>();
}

#[test]
fn single_takes_the_neighbour_of_its_direction() {
    let mut random = Random(9);
    for _ in 0..200_000 {
        let low = f32::from_bits(random.bits() as u32 & 0x7F7F_FFFF);
        let high = low.next_up();
        // Strictly between both; above the largest f32 there is nothing but infinity.
        let gap =
            if high.is_infinite() { 2f64.powi(104) } else { f64::from(high) - f64::from(low) };
        let between = f64::from(low) + gap * ((random.bits() % 1023 + 1) as f64 / 1024.0);
        assert_eq!(single::<Zero>(between), low);
        assert_eq!(single::<Down>(between), low);
        assert_eq!(single::<Up>(between), high);
        assert_eq!(single::<Zero>(-between), -low);
        assert_eq!(single::<Down>(-between), -high);
        assert_eq!(single::<Up>(-between).to_bits(), (-low).to_bits());
    }
}

/// Random f64, many with subnormal results or operands that nearly cancel.
fn doubles(random: &mut Random) -> [f64; 3] {
    let [a, b, c] = [(); 3].map(|()| f64::from_bits(random.bits()));
    match random.bits() % 4 {
        0 => [a, b, c],
        1 => [a, b, -(a * b)],
        2 => [a, f64::from_bits(a.to_bits() ^ (random.bits() & 0x8000_0000_0000_00FF)), c],
        _ => {
            let tiny = f64::from_bits(random.bits() & 0x801F_FFFF_FFFF_FFFF);
            [f64::from_bits(b.to_bits() & 0x800F_FFFF_FFFF_FFFF | 0x3FE0 << 48), tiny, tiny / 3.0]
        }
    }
}

/// Integers that round to nearest give what hardware gives.
#[test]
fn exact_integers_to_nearest_are_the_hardware() {
    let mut random = Random(10);
    let mut checked = 0;
    while checked < 400_000 {
        let [a, b, c] = doubles(&mut random);
        if ![a, b, c].iter().all(|x| x.is_finite()) || b == 0.0 {
            continue;
        }
        let [x, y, z] = [a, b, c].map(Exact::of);
        let equal = |found: Exact, expected: f64| {
            let found = found.round::<Nearest>();
            // The signs of exact zeros are not the integers' business.
            assert!(found == expected, "{a:e} {b:e} {c:e}: {found:e}, not {expected:e}");
        };
        equal(Exact::sum(x, y), a + b);
        equal(Exact::product(x, y), a * b);
        equal(Exact::quotient(x, y), a / b);
        equal(Exact::root(Exact::of(a.abs())), a.abs().sqrt());
        equal(Exact::sum(Exact::product(x, y), z), a.mul_add(b, c));
        checked += 1;
    }
}

/// Down and up enclose the nearest, are neighbours unless the result is exact, and mirror each other.
#[test]
fn f64_directions_enclose_the_nearest() {
    let mut random = Random(11);
    for _ in 0..200_000 {
        let [a, b, c] = doubles(&mut random);
        let [nearest, zero, down, up] =
            [a.fma::<Nearest>(b, c), a.fma::<Zero>(b, c), a.fma::<Down>(b, c), a.fma::<Up>(b, c)];
        if nearest.is_nan() {
            assert!(zero.is_nan() && down.is_nan() && up.is_nan());
            continue;
        }
        assert!(down == up || down.next_up() == up, "{a:e} {b:e} {c:e}: {down:e} {up:e}");
        assert!(nearest == down || nearest == up);
        assert_eq!(zero, if nearest.is_sign_negative() { up } else { down });
        let mirrored = (-a).fma::<Up>(b, -c);
        assert_eq!(down.to_bits(), (-mirrored).to_bits());
        // Where nothing underflows the error of a product is exact too.
        let product = a * b;
        if product.abs() > 1e-200 && product.is_finite() {
            let error = a.mul_add(b, -product);
            assert_eq!(Float::mul::<Down>(a, b) == product, error >= 0.0);
            assert_eq!(Float::mul::<Up>(a, b) == product, error <= 0.0);
        }
    }
}

#[test]
fn integral_rounds_by_definition() {
    let mut random = Random(12);
    for _ in 0..200_000 {
        let x = f64::from_bits(random.bits());
        let scaled = (random.bits() as i64 as f64) / 2f64.powi((random.bits() % 70) as i32);
        for x in [x, scaled, scaled.floor() + 0.5] {
            if x.is_nan() {
                continue;
            }
            assert_eq!(integral::<Nearest>(x).to_bits(), x.round_ties_even().to_bits(), "{x:e}");
            assert_eq!(integral::<Zero>(x).to_bits(), x.trunc().to_bits(), "{x:e}");
            assert_eq!(integral::<Down>(x).to_bits(), x.floor().to_bits(), "{x:e}");
            assert_eq!(integral::<Up>(x).to_bits(), x.ceil().to_bits(), "{x:e}");
        }
    }
}

/// 64-bit integers keep their side of midpoints on the way to f32.
#[test]
fn long_integers_round_once() {
    let mut random = Random(13);
    for _ in 0..200_000 {
        let bits = random.bits() >> (random.bits() % 40);
        // Near a midpoint of f32.
        let near = (bits | 1 << 63) & !0xFF_FFFF_FFFF | 0x80_0000_0000;
        for integer in [bits, near, near + 1, near - 1] {
            same(f32::from_integer::<u64, Nearest>(integer), integer as f32, "u64");
            let signed = integer as i64;
            same(f32::from_integer::<i64, Nearest>(signed), signed as f32, "s64");
            assert_eq!(f64::from_integer::<i64, Nearest>(signed), signed as f64);
            let down = f64::from_integer::<i64, Down>(signed);
            assert!(down as i128 <= i128::from(signed));
            let exact = down as i128 == i128::from(signed);
            assert!(exact || down.next_up() as i128 > i128::from(signed));
        }
    }
}
