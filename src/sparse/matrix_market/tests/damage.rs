//! Damaged files: whatever the bytes, there is an answer.

use proptest::prelude::*;

use super::super::{Duplicates, Number, ReadOptions, read};
use crate::Error;
use crate::damage::{apply, config, damages};

const FILES: [&str; 5] = [
    "%%MatrixMarket matrix coordinate real general\n% one\n3 4 3\n1 1 1.5\n3 4 -2e3\n2 2 nan\n",
    "%%MatrixMarket matrix coordinate integer skew-symmetric\n3 3 2\n2 1 5\n3 2 -6\n",
    "%%MatrixMarket matrix coordinate pattern symmetric\r\n3 3 3\r\n1 1\r\n2 1\r\n3 2\r\n",
    "%%MatrixMarket matrix array double symmetric\n2 2\n1\n2D0\n+3.5\n",
    "%%MatrixMarket matrix array integer general\n2 3\n1\n0\n1\n1\n0\n0\n",
];

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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_files_are_answered(
        file in prop::sample::select(FILES.to_vec()),
        damages in damages(b"0123456789 \n\r\t+-.eEdD%"),
    ) {
        let mut text = file.as_bytes().to_vec();
        apply(&mut text, &damages);
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
