//! Changes of a file's bytes, for tests that hand damaged files to a reader.
//!
//! `PROPTEST_CASES` sets how many are tried; 512 by default.

use proptest::prelude::*;

/// A change of a file's bytes, at a place that is taken modulo its length.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Set(usize, u8),
    Insert(usize, u8),
    Delete(usize, usize),
    Repeat(usize, usize),
}

/// Up to five changes, by bytes that such files are made of, and sometimes by others.
pub(crate) fn damages(likely: &'static [u8]) -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(likely), 0..6)
}

fn damage(likely: &'static [u8]) -> impl Strategy<Value = Damage> {
    let likely = prop::sample::select(likely);
    let byte = prop_oneof![3 => likely, 1 => any::<u8>()];
    let at = any::<usize>;
    prop_oneof![
        (at(), byte.clone()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (at(), 1..20usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        (at(), 1..20usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

pub(crate) fn apply(bytes: &mut Vec<u8>, damages: &[Damage]) {
    damages.iter().for_each(|damage| apply_one(bytes, damage));
}

fn apply_one(bytes: &mut Vec<u8>, damage: &Damage) {
    let length = bytes.len();
    let place = |at: usize| at % (length + 1);
    let span = |at: usize, count: usize| place(at)..(place(at) + count).min(length);
    match *damage {
        Damage::Set(at, byte) => {
            if let Some(old) = bytes.get_mut(place(at)) {
                *old = byte;
            }
        }
        Damage::Insert(at, byte) => bytes.insert(place(at), byte),
        Damage::Delete(at, count) => drop(bytes.drain(span(at, count))),
        Damage::Repeat(at, count) => {
            let repeated = bytes[span(at, count)].to_vec();
            bytes.splice(place(at)..place(at), repeated);
        }
    }
}

/// Cases of such a test.
pub(crate) fn config() -> ProptestConfig {
    let set = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: set.unwrap_or(512),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
