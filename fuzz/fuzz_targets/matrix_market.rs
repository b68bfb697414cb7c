//! Any bytes: whatever is read as a matrix is written, and read as the same again.
//!
//! ```text
//! mkdir -p fuzz/corpus
//! cargo fuzz run matrix_market fuzz/corpus tests/data
//! ```
//!
//! The same is done to damaged files by the tests in `src/sparse/matrix_market/tests/damage.rs`,
//! which need no fuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warpwright::Cpu;
use warpwright::sparse::Csr;
use warpwright::sparse::matrix_market::{
    Duplicates, Number, ReadOptions, WriteOptions, read, write,
};

fuzz_target!(|bytes: &[u8]| {
    for duplicates in [Duplicates::Sum, Duplicates::Error, Duplicates::Keep] {
        let options = ReadOptions::default().with_duplicates(duplicates).with_max_side(1 << 16);
        for options in [options.clone(), options.with_lenient(true)] {
            round::<f32>(bytes, &options);
            round::<f64>(bytes, &options);
            round::<i32>(bytes, &options);
            round::<u32>(bytes, &options);
            round::<u8>(bytes, &options);
        }
    }
});

/// A fault is an answer; a panic, memory without end or another matrix is none.
fn round<T: Number>(bytes: &[u8], options: &ReadOptions) {
    let Ok(matrix) = read::<T, u32>(bytes, options) else { return };
    let mut written = Vec::new();
    write(&matrix, &mut written, &WriteOptions::default()).expect("memory takes all");
    let keep = ReadOptions::default().with_duplicates(Duplicates::Keep);
    let again = read::<T, u32>(written.as_slice(), &keep).expect("what is written is right");
    assert_eq!(bits(matrix), bits(again));
}

/// Row pointers, columns and the bits of values, in text: NaNs differ from themselves.
fn bits<T: Number>(matrix: Csr<Cpu, T>) -> (Vec<u32>, Vec<u32>, String) {
    let (row_ptr, col, val) = matrix.into_arrays().expect("nobody else uses it");
    (row_ptr, col, format!("{val:?}"))
}
