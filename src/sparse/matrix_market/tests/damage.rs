//! Damaged files: whatever the bytes, there is an answer.
//!
//! `PROPTEST_CASES` sets how many are tried; 512 by default.

use proptest::prelude::*;

use super::super::{Duplicates, Number, ReadOptions, read};
use crate::Error;

const FILES: [&str; 5] = [
    "%%MatrixMarket matrix coordinate real general\n% one\n3 4 3\n1 1 1.5\n3 4 -2e3\n2 2 nan\n",
    "%%MatrixMarket matrix coordinate integer skew-symmetric\n3 3 2\n2 1 5\n3 2 -6\n",
    "%%MatrixMarket matrix coordinate pattern symmetric\r\n3 3 3\r\n1 1\r\n2 1\r\n3 2\r\n",
    "%%MatrixMarket matrix array double symmetric\n2 2\n1\n2D0\n+3.5\n",
    "%%MatrixMarket matrix array integer general\n2 3\n1\n0\n1\n1\n0\n0\n",
];

/// A change of a file's bytes, at a place that is taken modulo its length.
#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    Insert(usize, u8),
    Delete(usize, usize),
    Repeat(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let likely = prop::sample::select(b"0123456789 \n\r\t+-.eEdD%".to_vec());
    let byte = prop_oneof![3 => likely, 1 => any::<u8>()];
    let at = any::<usize>;
    prop_oneof![
        (at(), byte.clone()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (at(), 1..20usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        (at(), 1..20usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

fn apply(text: &mut Vec<u8>, damage: &Damage) {
    let length = text.len();
    let place = |at: usize| at % (length + 1);
    let span = |at: usize, count: usize| place(at)..(place(at) + count).min(length);
    match *damage {
        Damage::Set(at, byte) => {
            if let Some(old) = text.get_mut(place(at)) {
                *old = byte;
            }
        }
        Damage::Insert(at, byte) => text.insert(place(at), byte),
        Damage::Delete(at, count) => drop(text.drain(span(at, count))),
        Damage::Repeat(at, count) => {
            let repeated = text[span(at, count)].to_vec();
            text.splice(place(at)..place(at), repeated);
        }
    }
}

/// Reads a file in every way; a fault names one of its lines.
fn answer<T: Number>(text: &[u8]) {
    let lines = text.split(|&byte| byte == b'\n').count();
    for duplicates in [Duplicates::Sum, Duplicates::Error, Duplicates::Keep] {
        let options = ReadOptions::default().with_duplicates(duplicates).with_max_side(1 << 16);
        for options in [options.clone(), options.with_lenient(true)] {
            match read::<T, u32>(text, &options) {
                Err(Error::MatrixMarket { line, .. }) => assert!((1..=lines).contains(&line)),
                Ok(matrix) => assert!(matrix.is_canonical() || duplicates == Duplicates::Keep),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_answered(
        file in prop::sample::select(FILES.to_vec()),
        damages in prop::collection::vec(damage(), 0..6),
    ) {
        let mut text = file.as_bytes().to_vec();
        for one in &damages {
            apply(&mut text, one);
        }
        answer::<f32>(&text);
        answer::<f64>(&text);
        answer::<i32>(&text);
        answer::<u32>(&text);
        answer::<u8>(&text);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        answer::<f64>(&bytes);
        let header = b"%%MatrixMarket matrix coordinate real symmetric\n9 9 3\n";
        answer::<f64>(&[header, bytes.as_slice()].concat());
    }
}
