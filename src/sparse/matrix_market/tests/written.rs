//! What is written, is read as the same matrix.

use proptest::prelude::*;

use super::super::{Duplicates, Number, ReadOptions, WriteOptions, read, write};
use super::parse;
use crate::sparse::{Csr, Offset};
use crate::{Cpu, Error, Result};

fn text<T: Number, O: Offset>(matrix: &Csr<Cpu, T, O>, symmetric: bool) -> Result<String> {
    let mut text = Vec::new();
    write(matrix, &mut text, &WriteOptions::default().with_symmetric(symmetric))?;
    Ok(String::from_utf8(text).expect("ASCII"))
}

/// Asserts that both have the same bits.
fn assert_same<T: Number>(a: &Csr<Cpu, T>, b: &Csr<Cpu, T>) {
    let bits = |m: &Csr<Cpu, T>| {
        let val = m.val().map(|val| val.to_vec().expect("values"));
        (
            m.shape(),
            m.row_ptr().to_vec().expect("row pointers"),
            m.col().to_vec().expect("columns"),
            val.map(|val| bytemuck::cast_slice::<T, u8>(&val).to_vec()),
            m.is_canonical(),
        )
    };
    assert_eq!(bits(a), bits(b));
}

#[test]
fn values_are_written_as_the_shortest_decimals() {
    let values = vec![0.1f32, 1.0, -0.0, 1e-45, 3.4028235e38, f32::INFINITY, f32::NAN, -f32::NAN];
    let matrix = Csr::<_, _, u32>::new([1, 8], vec![0, 8], (0..8).collect(), values).unwrap();
    let written = text(&matrix, false).unwrap();
    assert_eq!(
        written,
        "%%MatrixMarket matrix coordinate real general\n1 8 8\n1 1 0.1\n1 2 1.0\n1 3 -0.0\n\
         1 4 1e-45\n1 5 3.4028235e38\n1 6 inf\n1 7 nan\n1 8 -nan\n"
    );
    assert_same(&matrix, &parse(written).unwrap());
}

#[test]
fn integers_truth_values_and_patterns_say_what_they_are() {
    let integers = Csr::<_, i32, u32>::new([1, 1], vec![0, 1], vec![0], vec![-7]).unwrap();
    let expected = "%%MatrixMarket matrix coordinate integer symmetric\n1 1 1\n1 1 -7\n";
    assert_eq!(text(&integers, true).unwrap(), expected);
    let truths = Csr::<_, u8, u32>::new([1, 2], vec![0, 2], vec![0, 1], vec![0, 255]).unwrap();
    let expected = "%%MatrixMarket matrix coordinate integer general\n1 2 2\n1 1 0\n1 2 1\n";
    assert_eq!(text(&truths, false).unwrap(), expected);
    let expected = "%%MatrixMarket matrix coordinate pattern general\n1 2 2\n1 1\n1 2\n";
    assert_eq!(text(&truths.to_pattern::<f64>(), false).unwrap(), expected);
}

#[test]
fn only_symmetric_matrices_are_written_as_such() {
    let message = |shape, row_ptr, col, val| {
        text(&Csr::<_, f32, u32>::new(shape, row_ptr, col, val).unwrap(), true)
            .unwrap_err()
            .to_string()
    };
    let differs = "Matrix Market: option `symmetric`: expected a matrix that equals its transpose, \
                   found";
    assert_eq!(
        message([2, 2], vec![0, 1, 2], vec![1, 0], vec![0.0, -0.0]),
        format!("{differs} 0.0 in row 0, column 1, and -0.0 in row 1, column 0")
    );
    assert_eq!(
        message([2, 2], vec![0, 0, 1], vec![0], vec![2.0]),
        format!("{differs} 2.0 in row 1, column 0, and nothing in row 0, column 1")
    );
    assert!(message([1, 2], vec![0, 0], vec![], vec![]).contains("expected a square matrix"));
    let repeated = message([1, 1], vec![0, 2], vec![0, 0], vec![1.0, 1.0]);
    assert!(repeated.contains("make it canonical first"), "{repeated}");
}

#[test]
fn a_writer_that_fails_is_an_error() {
    let matrix = Csr::<_, f32, u32>::identity(9).unwrap();
    let error = write(&matrix, [0u8; 9].as_mut_slice(), &WriteOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Io { what, .. } if what == "Matrix Market, writing"));
}

/// Entries of a matrix of up to 12 x 12, in any order, perhaps repeated.
fn entries<T: std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = ([usize; 2], Vec<(usize, u32, T)>)> {
    let entry = (0..12usize, 0..12u32, value);
    (1..12usize, 1..12usize, prop::collection::vec(entry, 0..40)).prop_map(
        |(rows, cols, entries)| {
            let inside = |(i, j, value)| (i % rows, j % cols as u32, value);
            ([rows, cols], entries.into_iter().map(inside).collect())
        },
    )
}

fn matrix<T: Number>(shape: [usize; 2], mut entries: Vec<(usize, u32, T)>) -> Csr<Cpu, T> {
    entries.sort_by_key(|(row, ..)| *row);
    let row_ptr =
        (0..=shape[0]).map(|row| entries.partition_point(|(i, ..)| *i < row) as u32).collect();
    let (col, val) = entries.into_iter().map(|(_, col, value)| (col, value)).unzip();
    Csr::new(shape, row_ptr, col, val).expect("a matrix")
}

fn assert_comes_back<T: Number>(shape: [usize; 2], entries: Vec<(usize, u32, T)>) {
    let keep = ReadOptions::default().with_duplicates(Duplicates::Keep);
    let all = matrix(shape, entries.clone());
    for matrix in [all.clone(), all.to_pattern()] {
        let written = text(&matrix, false).unwrap();
        assert_same(&matrix, &read(written.as_bytes(), &keep).unwrap());
    }
    let canonical = all.canonical(crate::sparse::Reducer::First).unwrap();
    assert_same(&canonical, &parse(text(&canonical, false).unwrap()).unwrap());

    let side = shape[0].max(shape[1]);
    let mirrored = entries.iter().flat_map(|&(i, j, v)| [(i, j, v), (j as usize, i as u32, v)]);
    let symmetric = matrix([side, side], mirrored.collect());
    let symmetric = symmetric.canonical(crate::sparse::Reducer::First).unwrap();
    for matrix in [symmetric.clone(), symmetric.to_pattern()] {
        assert_same(&matrix, &parse(text(&matrix, true).unwrap()).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f32_comes_back((shape, entries) in entries(any::<u32>().prop_map(f32::from_bits))) {
        let quiet = |v: f32| if v.is_nan() { f32::NAN.copysign(v) } else { v };
        assert_comes_back(shape, entries.into_iter().map(|(i, j, v)| (i, j, quiet(v))).collect());
    }

    #[test]
    fn f64_comes_back((shape, entries) in entries(any::<u64>().prop_map(f64::from_bits))) {
        let quiet = |v: f64| if v.is_nan() { f64::NAN.copysign(v) } else { v };
        assert_comes_back(shape, entries.into_iter().map(|(i, j, v)| (i, j, quiet(v))).collect());
    }

    #[test]
    fn i32_comes_back((shape, entries) in entries(any::<i32>())) {
        assert_comes_back(shape, entries);
    }

    #[test]
    fn u32_comes_back((shape, entries) in entries(any::<u32>())) {
        assert_comes_back(shape, entries);
    }

    #[test]
    fn truth_values_come_back((shape, entries) in entries(0..=1u8)) {
        assert_comes_back(shape, entries);
    }
}
