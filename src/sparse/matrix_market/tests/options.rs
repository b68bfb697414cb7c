//! What options change.

use super::super::{Duplicates, ReadOptions, read};
use super::{arrays, parse, refused};
use crate::Cpu;
use crate::sparse::Csr;

fn keep() -> ReadOptions {
    ReadOptions::default().with_duplicates(Duplicates::Keep)
}

fn forbid() -> ReadOptions {
    ReadOptions::default().with_duplicates(Duplicates::Error)
}

fn file(kind: &str, body: &str) -> String {
    format!("%%MatrixMarket matrix coordinate {kind}\n{body}")
}

#[test]
fn duplicates_are_summed_kept_or_errors() {
    let text = file("real general", "2 2 4\n2 1 1\n1 2 8\n\n2 1 2\n2 1 4\n");
    let summed = parse::<f64>(&text).unwrap();
    assert!(summed.is_canonical());
    assert_eq!(arrays(summed), (vec![0, 1, 2], vec![1, 0], Some(vec![8.0, 7.0])));
    let kept: Csr<Cpu, f64> = read(text.as_bytes(), &keep()).unwrap();
    assert!(!kept.is_unique());
    assert_eq!(arrays(kept), (vec![0, 1, 4], vec![1, 0, 0, 0], Some(vec![8.0, 1.0, 2.0, 4.0])));
    let message = "expected each entry once, found row 2, column 1 again".to_owned();
    assert_eq!(refused::<f64>(text, &forbid()), (6, message));
}

#[test]
fn the_first_duplicate_of_the_file_is_reported() {
    let text = file("pattern symmetric", "3 3 5\n3 3\n2 1\n3 2\n3 3\n2 1\n");
    let message = "expected each entry once, found row 3, column 3 again".to_owned();
    assert_eq!(refused::<f32>(text, &forbid()), (6, message));
    let text = file("pattern symmetric", "3 3 3\n3 3\n2 1\n3 2\n");
    assert!(read::<f32, u32>(text.as_bytes(), &forbid()).unwrap().is_canonical());
}

#[test]
fn entries_of_a_row_stay_in_order_where_duplicates_are_kept() {
    let text = file("integer general", "1 3 3\n1 3 1\n1 1 2\n1 2 3\n");
    let kept: Csr<Cpu, i32> = read(text.as_bytes(), &keep()).unwrap();
    assert_eq!(arrays(kept), (vec![0, 3], vec![2, 0, 1], Some(vec![1, 2, 3])));
}

#[test]
fn lenience_takes_either_triangle() {
    let lenient = ReadOptions::default().with_lenient(true);
    for (symmetry, mirrored) in [("symmetric", "5"), ("skew-symmetric", "-5")] {
        let kind = format!("integer {symmetry}");
        let right = parse::<i32>(file(&kind, "2 2 1\n2 1 5\n")).unwrap();
        let text = file(&kind, &format!("2 2 1\n1 2 {mirrored}\n"));
        assert_eq!(arrays(read(text.as_bytes(), &lenient).unwrap()), arrays(right));
    }
    let both = file("real symmetric", "2 2 2\n2 1 5\n1 2 5\n");
    let both = refused::<f64>(both, &forbid().with_lenient(true));
    assert_eq!(both, (4, "expected each entry once, found row 2, column 1 again".to_owned()));
    let diagonal = refused::<f64>(file("real skew-symmetric", "1 1 1\n1 1 0\n"), &lenient);
    assert_eq!(diagonal.0, 3);
}

#[test]
fn row_pointers_may_be_long() {
    let text = file("real general", "2 2 1\n2 1 1\n");
    let matrix: Csr<Cpu, f32, u64> = read(text.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(matrix.row_ptr().to_vec().unwrap(), [0u64, 0, 1]);
}
