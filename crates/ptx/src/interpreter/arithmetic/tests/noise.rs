//! Noise moves results, within the documented bound, and leaves special values alone.

use super::*;

/// Results without and with noise over random arguments in ±`range`, with their lanes' arguments.
fn moved(head: &str, range: f32, random: &mut Random) -> Vec<(f32, f32, f32)> {
    let Some(Rule::Approximate(function)) = rule(&parsed(head).expect("exists")) else {
        panic!("{head} is no approximation");
    };
    (0..200)
        .flat_map(|_| {
            let arguments: [f32; LANES] =
                std::array::from_fn(|_| (random.bits() as i32 as f32 / 2f32.powi(31)) * range);
            let source = arguments.map(|x| u64::from(x.to_bits()));
            let noise: Row = std::array::from_fn(|_| random.bits());
            let (mut still, mut noisy) = ([0; LANES], [0; LANES]);
            // Divisions are by three.
            let divisor = [u64::from(3f32.to_bits()); LANES];
            function(&[&source, &divisor, &divisor, &divisor], None, &mut still);
            function(&[&source, &divisor, &divisor, &divisor], Some(&noise), &mut noisy);
            let single = |bits: u64| f32::from_bits(bits as u32);
            (0..LANES)
                .map(|lane| (arguments[lane], single(still[lane]), single(noisy[lane])))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The function, arguments up to here, the exact value and the greatest error of a result.
type Bound = (&'static str, f32, fn(f64) -> f64, fn(f64, f64) -> f64);

const BOUNDS: &[Bound] = &[
    ("ex2.approx.ftz.f32", 120.0, f64::exp2, |_, y| 2.0 * y * 2f64.powi(-23)),
    ("rcp.approx.f32", 1e6, f64::recip, |_, y| y.abs() * 2f64.powi(-23)),
    ("tanh.approx.f32", 12.0, f64::tanh, |_, y| y.abs() * 2f64.powi(-11)),
    ("sin.approx.f32", 6.0, f64::sin, |_, _| (-20.5f64).exp2()),
    ("cos.approx.f32", 300.0, f64::cos, |_, _| (-14.7f64).exp2()),
    ("sqrt.approx.f32", 1e4, f64::sqrt, |_, y| y * 2f64.powi(-23)),
    ("rsqrt.approx.f32", 1e4, |x| x.sqrt().recip(), |_, y| y * (-22.9f64).exp2()),
    ("div.approx.f32", 1e6, |x| x / 3.0, |_, y| 2.0 * y.abs() * 2f64.powi(-23)),
    ("div.full.ftz.f32", 1e6, |x| x / 3.0, |_, y| 2.0 * y.abs() * 2f64.powi(-23)),
    ("lg2.approx.f32", 3.0, f64::log2, |x, y| {
        2f64.powi(-22) * if x > 0.5 && x < 2.0 { 1.0 } else { y.abs() }
    }),
];

#[test]
fn noise_stays_within_the_bound() {
    let mut random = Random(2);
    for (head, range, exact, bound) in BOUNDS {
        let mut different = 0;
        for (x, still, noisy) in moved(head, *range, &mut random) {
            let value = exact(f64::from(x));
            assert_eq!(still.is_nan(), noisy.is_nan());
            if value.is_nan() {
                continue;
            }
            assert_eq!(still, value as f32, "{head} {x} is not the nearest");
            let error = (f64::from(noisy) - value).abs();
            assert!(error <= bound(f64::from(x), value), "{head} {x}: {noisy} for {value}");
            assert_eq!(noisy.is_sign_negative(), still.is_sign_negative());
            different += u32::from(still != noisy);
        }
        assert!(different > 500, "{head} moved {different} results");
    }
}

#[test]
fn noise_keeps_to_the_range_of_the_function() {
    let mut random = Random(14);
    for (head, range) in
        [("tanh.approx.f32", 12.0), ("sin.approx.f32", 1e4), ("cos.approx.f32", 6.0)]
    {
        for (x, _, noisy) in moved(head, range, &mut random) {
            assert!(noisy.abs() <= 1.0, "{head} {x}: {noisy}");
        }
    }
}

#[test]
fn noise_leaves_special_values() {
    let cases = [
        ("ex2.approx.f32", 0, 0x3F80_0000),
        ("ex2.approx.f32", 0xFF80_0000, 0),
        ("ex2.approx.ftz.f32", 0xC2FC_0001, 0),
        ("lg2.approx.f32", 0x3F80_0000, 0),
        ("lg2.approx.f32", 0, 0xFF80_0000),
        ("rcp.approx.f32", 0x8000_0000, 0xFF80_0000),
        ("tanh.approx.f32", 0x7F80_0000, 0x3F80_0000),
        ("tanh.approx.f32", 3, 3),
        ("sin.approx.f32", 0x8000_0000, 0x8000_0000),
        ("tanh.approx.f16", 0x8000, 0x8000),
        ("rcp.approx.ftz.f64", 1 << 63, 0xFFF0_0000_0000_0000),
    ];
    let mut random = Random(3);
    for (head, source, expected) in cases {
        let Some(Rule::Approximate(function)) = rule(&parsed(head).expect("exists")) else {
            panic!("{head} is no approximation");
        };
        let noise: Row = std::array::from_fn(|_| random.bits());
        let mut results = [0; LANES];
        function(&broadcast(&[source]).each_ref(), Some(&noise), &mut results);
        assert_eq!(results, [expected; LANES], "{head} {source:#X}");
    }
}

#[test]
fn both_halves_move_by_themselves() {
    let Some(Rule::Approximate(function)) = rule(&parsed("tanh.approx.bf16x2").expect("exists"))
    else {
        panic!("no approximation");
    };
    let mut random = Random(4);
    let noise: Row = std::array::from_fn(|_| random.bits());
    let mut results = [0; LANES];
    function(&broadcast(&[0x3F00_3F00]).each_ref(), Some(&noise), &mut results);
    assert!(results.iter().any(|bits| bits >> 16 != bits & 0xFFFF));
}
