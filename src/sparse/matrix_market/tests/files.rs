//! Files that are right.

use super::super::{Field, Format, Symmetry, read_header};
use super::{arrays, dense, parse};
use crate::Error;

#[test]
fn every_combination_of_keywords_that_makes_sense_is_a_header() {
    let formats = [("coordinate", Format::Coordinate), ("array", Format::Array)];
    let fields = [
        ("real", Field::Real),
        ("double", Field::Real),
        ("integer", Field::Integer),
        ("complex", Field::Complex),
        ("pattern", Field::Pattern),
    ];
    let symmetries = [
        ("general", Symmetry::General),
        ("symmetric", Symmetry::Symmetric),
        ("skew-symmetric", Symmetry::SkewSymmetric),
        ("hermitian", Symmetry::Hermitian),
    ];
    let mut right = 0;
    for (format, as_format) in formats {
        for (field, as_field) in fields {
            for (symmetry, as_symmetry) in symmetries {
                let size = if as_format == Format::Array { "3 3" } else { "3 3 4" };
                let text = format!("%%MatrixMarket matrix {format} {field} {symmetry}\n{size}\n");
                let makes_sense = match (as_field, as_symmetry) {
                    (Field::Complex, _) => true,
                    (_, Symmetry::Hermitian) | (Field::Pattern, Symmetry::SkewSymmetric) => false,
                    (field, _) => field != Field::Pattern || as_format == Format::Coordinate,
                };
                for text in [text.to_uppercase(), text.to_lowercase(), text] {
                    let header = read_header(&mut text.as_bytes());
                    assert_eq!(header.is_ok(), makes_sense, "{text}");
                    let Ok(header) = header else { continue };
                    let found = (header.format(), header.field(), header.symmetry());
                    assert_eq!(found, (as_format, as_field, as_symmetry));
                    let entries = match (as_format, as_symmetry) {
                        (Format::Coordinate, _) => 4,
                        (_, Symmetry::General) => 9,
                        (_, Symmetry::SkewSymmetric) => 3,
                        _ => 6,
                    };
                    assert_eq!((header.shape(), header.entries()), ([3, 3], entries));
                    right += 1;
                }
            }
        }
    }
    // Of 2 x 5 x 4, patterns are 2, complex values 2 x 4, and the others 6 x 3; each thrice.
    assert_eq!(right, 3 * (2 + 8 + 18));
}

#[test]
fn a_general_file_is_read_as_it_stands() {
    let text = "%%MatrixMarket matrix coordinate real general\n2 3 3\n2 3 1.5\n1 1 0\n2 1 -4e2\n";
    let matrix = parse::<f64>(text).unwrap();
    assert!(matrix.is_canonical());
    assert_eq!(matrix.shape(), [2, 3]);
    assert_eq!(arrays(matrix), (vec![0, 1, 3], vec![0, 0, 2], Some(vec![0.0, -400.0, 1.5])));
}

#[test]
fn the_other_triangle_follows_from_the_symmetry() {
    let body = "3 3 3\n2 1 5\n3 2 -7\n3 1 9\n";
    let file = |symmetry| format!("%%MatrixMarket matrix coordinate integer {symmetry}\n{body}");
    assert_eq!(dense::<i32>(file("general")), [[0, 0, 0], [5, 0, 0], [9, -7, 0]]);
    assert_eq!(dense::<i32>(file("symmetric")), [[0, 5, 9], [5, 0, -7], [9, -7, 0]]);
    assert_eq!(dense::<i32>(file("skew-symmetric")), [[0, -5, -9], [5, 0, 7], [9, -7, 0]]);
    let diagonal = "%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 1 3\n2 2 4\n";
    assert_eq!(dense::<f32>(diagonal), [[3.0, 0.0], [0.0, 4.0]]);
}

#[test]
fn arrays_are_read_down_their_columns() {
    let file = |kind, body| format!("%%MatrixMarket matrix array real {kind}\n{body}");
    assert_eq!(dense::<f64>(file("general", "2 2\n1\n2\n3\n4\n")), [[1.0, 3.0], [2.0, 4.0]]);
    let symmetric = dense::<f32>(file("symmetric", "3 3\n1\n2\n3\n4\n5\n6\n"));
    assert_eq!(symmetric, [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]);
    let skew = dense::<i32>(file("skew-symmetric", "3 3\n1\n2\n3\n"));
    assert_eq!(skew, [[0, -1, -2], [1, 0, -3], [2, 3, 0]]);
    let zeros = parse::<f64>(file("general", "2 1\n0\n0\n")).unwrap();
    assert_eq!(zeros.nnz(), 2);
}

#[test]
fn a_pattern_has_no_values() {
    let text = "%%MatrixMarket matrix coordinate pattern symmetric\n3 3 2\n2 1\n3 3\n";
    assert_eq!(arrays(parse::<f32>(text).unwrap()), (vec![0, 1, 2, 3], vec![1, 0, 2], None));
    let empty = "%%MatrixMarket matrix coordinate pattern general\n1 1 0\n";
    assert_eq!(arrays(parse::<u8>(empty).unwrap()), (vec![0, 0], vec![], None));
}

#[test]
fn layout_does_not_matter() {
    let plain = "%%MatrixMarket matrix coordinate real general\n2 2 2\n1 2 3\n2 1 4\n";
    let loose = "%%matrixmarket  MATRIX\tCoordinate Double GENERAL \r\n%\r\n\r\n % two\r\n\t2  2 \
                 2 \r\n\r\n+1\t2 +3\r\n \t\r\n2 1   4.\r\n\r\n\r\n";
    assert_eq!(arrays(parse::<f64>(plain).unwrap()), arrays(parse(loose).unwrap()));
    assert_eq!(arrays(parse::<f64>(plain).unwrap()), arrays(parse(plain.trim_end()).unwrap()));
}

#[test]
fn a_stream_may_come_byte_by_byte() {
    let text = "%%MatrixMarket matrix coordinate real general\r\n2 2 2\n1 2 3.25\n\n2 1 -4e-3";
    let options = super::ReadOptions::default();
    let stream = std::io::BufReader::with_capacity(1, text.as_bytes());
    assert_eq!(arrays(super::read(stream, &options).unwrap()), arrays(parse::<f64>(text).unwrap()));
}

#[test]
fn numbers_come_in_many_forms() {
    let words = "1.5 +1.5 -1.5 .5 5. 15e-1 15E-1 15d-1 -1.5D+0 inf -Infinity 1e-320 -0";
    let words: Vec<&str> = words.split(' ').collect();
    let body = words.join("\n");
    let text =
        format!("%%MatrixMarket matrix array real general\n{} 1\n{body}\nNaN\n", words.len() + 1);
    let (_, _, val) = arrays(parse::<f64>(text).unwrap());
    let mut val = val.unwrap();
    assert!(val.pop().unwrap().is_nan());
    let (inf, small) = (f64::INFINITY, 1e-320);
    let expected =
        [1.5, 1.5, -1.5, 0.5, 5.0, 1.5, 1.5, 1.5, -1.5, inf, -inf, small, -0.0].map(f64::to_bits);
    assert_eq!(val.into_iter().map(f64::to_bits).collect::<Vec<_>>(), expected);
}

#[test]
fn values_are_converted_where_they_fit() {
    let file = |field, value| {
        format!("%%MatrixMarket matrix coordinate {field} general\n1 1 1\n1 1 {value}\n")
    };
    assert_eq!(dense::<f32>(file("integer", "16777217")), [[16777216.0]]);
    assert_eq!(dense::<f64>(file("integer", "+16777217")), [[16777217.0]]);
    assert_eq!(dense::<f32>(file("real", "0.1")), [[0.1]]);
    assert_eq!(dense::<i32>(file("real", "-2.147483648D9")), [[i32::MIN]]);
    assert_eq!(dense::<u32>(file("real", "4294967295.0")), [[u32::MAX]]);
    assert_eq!(dense::<u32>(file("integer", "4294967295")), [[u32::MAX]]);
    assert_eq!(dense::<u8>(file("real", "1e0")), [[1]]);
    assert_eq!(dense::<u8>(file("integer", "0")), [[0]]);
}

#[test]
fn empty_matrices_are_matrices() {
    for (size, shape) in
        [("0 0 0", [0, 0]), ("0 7 0", [0, 7]), ("7 0 0", [7, 0]), ("2 3 0", [2, 3])]
    {
        let matrix = parse::<f32>(format!("%%MatrixMarket matrix coordinate real general\n{size}"));
        let matrix = matrix.unwrap();
        assert_eq!((matrix.shape(), matrix.nnz()), (shape, 0));
        assert_eq!(arrays(matrix), (vec![0; shape[0] + 1], vec![], Some(vec![])));
    }
    for (symmetry, size) in [("general", "0 5"), ("symmetric", "0 0"), ("skew-symmetric", "1 1")] {
        let text = format!("%%MatrixMarket matrix array real {symmetry}\n{size}\n");
        assert_eq!(parse::<f64>(text).unwrap().nnz(), 0);
    }
}

#[test]
fn real_graphs_are_read() {
    for (name, vertices, edges) in [("karate", 34, 78), ("lesmis", 77, 254)] {
        let path = format!("{}/examples/data/{name}.mtx", env!("CARGO_MANIFEST_DIR"));
        let matrix = parse::<u32>(std::fs::read(path).unwrap()).unwrap();
        assert!(matrix.is_canonical() && matrix.val().is_none());
        assert_eq!((matrix.shape(), matrix.nnz()), ([vertices, vertices], 2 * edges));
        assert_eq!(arrays(matrix.transposed().unwrap()), arrays(matrix));
    }
}

#[test]
fn a_reader_that_fails_is_an_error() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let reader = std::io::BufReader::new(Broken);
    let error = super::read::<f32, u32>(reader, &super::ReadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert_eq!(error.to_string(), "Matrix Market, reading line 1: the disk is gone");
}
