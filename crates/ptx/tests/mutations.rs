//! Damaged kernels: whatever the text, `parse` answers, and soon.
//!
//! `PROPTEST_CASES` sets how many are tried; 512 by default.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use warpwright_ptx::parse;

const KERNELS: [&str; 4] = [
    include_str!("kernels/skeleton.ptx"),
    include_str!("kernels/tile.ptx"),
    include_str!("kernels/product.ptx"),
    include_str!("kernels/cluster.ptx"),
];

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Delete(usize, usize),
    Duplicate(usize, usize),
    Move(usize, usize, usize),
    Truncate(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        4 => (at(), b' '..b'~').prop_map(|(at, byte)| Damage::Flip(at, byte)),
        2 => (at(), 1..60usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        2 => (at(), 1..60usize).prop_map(|(at, length)| Damage::Duplicate(at, length)),
        2 => (at(), 1..60usize, at()).prop_map(|(at, length, to)| Damage::Move(at, length, to)),
        1 => at().prop_map(Damage::Truncate),
    ]
}

fn apply(text: &mut Vec<u8>, damage: &Damage) {
    let size = text.len().max(1);
    let span = |at: usize, length: usize| {
        let from = (at % size).min(text.len());
        from..(from + length).min(text.len())
    };
    match *damage {
        Damage::Flip(at, byte) => {
            if let Some(place) = text.get_mut(at % size) {
                *place = byte;
            }
        }
        Damage::Delete(at, length) => drop(text.drain(span(at, length))),
        Damage::Duplicate(at, length) => {
            let copied = text[span(at, length)].to_vec();
            let from = span(at, length).start;
            text.splice(from..from, copied);
        }
        Damage::Move(at, length, to) => {
            let moved: Vec<u8> = text.drain(span(at, length)).collect();
            let to = to % (text.len() + 1);
            text.splice(to..to, moved);
        }
        Damage::Truncate(at) => text.truncate(at % size),
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_kernels_are_answered(
        kernel in 0..KERNELS.len(),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut text = KERNELS[kernel].as_bytes().to_vec();
        for one in &damages {
            apply(&mut text, one);
        }
        let text = String::from_utf8_lossy(&text);
        let started = Instant::now();
        if let Err(why) = parse(&text) {
            let lines = text.split('\n').count();
            prop_assert!(why.line >= 1 && why.line as usize <= lines, "{why}");
            prop_assert!(why.column >= 1, "{why}");
            prop_assert!(!why.message.is_empty());
        }
        prop_assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn arbitrary_text_is_answered(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let body = format!(".version 7.0 .target sm_80 .address_size 64 .visible .entry k() {{ {text} }}");
        let _ = parse(&body);
    }
}

/// A kernel around `body`.
fn around(body: &str) -> String {
    format!(".version 7.0 .target sm_80 .address_size 64 .visible .entry k() {{ {body} }}")
}

#[test]
fn huge_texts_finish_fast() {
    let names: String = (0..20_000).map(|n| format!(".reg .b32 %a{n};")).collect();
    let ranges: String = (0..20_000).map(|n| format!(".reg .b32 %a{n}x<4000000000>;")).collect();
    let labels: String = (0..20_000).map(|n| format!("bra L{n}; L{n}:")).collect();
    for body in [
        names,
        ranges,
        labels,
        "{".repeat(100_000),
        format!(".reg .b32 %{};", "9".repeat(200_000)),
        format!("mov.u32 {};", "{".repeat(100_000)),
        format!("add{} ;", ".rn".repeat(50_000)),
        "/*".repeat(100_000),
        format!("bra {};", "!".repeat(100_000)),
    ] {
        let started = Instant::now();
        let _ = parse(&around(&body));
        assert!(started.elapsed() < Duration::from_secs(10), "{}", &body[..40]);
    }
}
