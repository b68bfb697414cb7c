//! Files that are wrong: each is refused with the line, what was expected there and what came.

use super::super::{Fault, ReadOptions, read, read_header};
use super::{parse, refused};
use crate::Error;

/// Of a file in f64: the line that is wrong, and its message.
fn assert_refused(cases: &[(&str, usize, &str)]) {
    for (text, line, message) in cases {
        let found = refused::<f64>(text, &ReadOptions::default());
        assert_eq!(found, (*line, (*message).to_owned()), "{text}");
    }
}

/// Of a file with this header, in f64.
fn assert_body_refused(kind: &str, cases: &[(&str, usize, &str)]) {
    for (body, line, message) in cases {
        let text = format!("%%MatrixMarket matrix {kind}\n{body}");
        assert_refused(&[(&text, *line, message)]);
    }
}

#[test]
fn headers() {
    let fields = "`real`, `double`, `integer`, `complex` or, in a coordinate file, `pattern`";
    let cases = [
        ("", "`%%MatrixMarket`", "the end of the file"),
        ("\n%%MatrixMarket", "`%%MatrixMarket`", "the end of the line"),
        ("1 1 1\n", "`%%MatrixMarket`", "`1`"),
        ("%MatrixMarket matrix", "`%%MatrixMarket`", "`%MatrixMarket`"),
        ("%%MatrixMarket\n", "`matrix`", "the end of the line"),
        ("%%MatrixMarket vector coordinate", "`matrix`", "`vector`"),
        ("%%MatrixMarket matrix dense", "`coordinate` or `array`", "`dense`"),
        ("%%MatrixMarket matrix array", fields, "the end of the line"),
        ("%%MatrixMarket matrix coordinate bool general", fields, "`bool`"),
        ("%%MatrixMarket matrix array pattern general", fields, "`pattern`"),
        (
            "%%MatrixMarket matrix coordinate pattern skew-symmetric",
            "`general` or `symmetric` for a pattern",
            "`skew-symmetric`",
        ),
        (
            "%%MatrixMarket matrix array real Hermitian",
            "`general`, `symmetric` or `skew-symmetric` for such values",
            "`Hermitian`",
        ),
        (
            "%%MatrixMarket matrix array complex real",
            "`general`, `symmetric`, `skew-symmetric` or `hermitian`",
            "`real`",
        ),
        ("%%MatrixMarket matrix array real general 1", "no fifth keyword", "`1`"),
    ];
    for (text, expected, found) in cases {
        let message = format!("expected {expected} in the header, found {found}");
        assert_refused(&[(text, 1, &message)]);
    }
}

#[test]
fn sizes() {
    let sides = "a number of rows or columns";
    let most = "at most 2147483647 rows or columns";
    let cases = [
        (
            "general",
            "",
            1,
            "rows, columns and, in a coordinate file, entries",
            "the end of the file",
        ),
        (
            "general",
            "%\n\n%\n",
            4,
            "rows, columns and, in a coordinate file, entries",
            "the end of the file",
        ),
        ("general", "\n% a\n2 2\n", 4, "a number of entries", "the end of the line"),
        ("general", "2\n", 2, sides, "the end of the line"),
        ("general", "2 2 2 2\n", 2, "no more numbers", "`2`"),
        ("general", "-1 2 2\n", 2, sides, "`-1`"),
        ("general", "2 two 2\n", 2, sides, "`two`"),
        ("general", "2 2 1.0\n", 2, "a number of entries", "`1.0`"),
        ("general", "2147483648 1 0\n", 2, most, "`2147483648`"),
        ("general", "1 99999999999999999999 0\n", 2, sides, "`99999999999999999999`"),
        ("symmetric", "2 3 0\n", 2, "as many rows as columns", "2 x 3"),
        ("skew-symmetric", "3 2 0\n", 2, "as many rows as columns", "3 x 2"),
        (
            "general",
            "9 9 2147483648\n",
            2,
            "at most 2147483647 entries for row pointers u32",
            "2147483648",
        ),
    ];
    for (symmetry, body, line, expected, found) in cases {
        let message = format!("expected {expected} in the line of the size, found {found}");
        assert_body_refused(&format!("coordinate real {symmetry}"), &[(body, line, &message)]);
    }
}

#[test]
fn entries() {
    assert_body_refused(
        "coordinate real general",
        &[
            (
                "2 2 1\n0 1 5\n",
                3,
                "expected a row from 1, found 0; the indices of these files begin with 1",
            ),
            (
                "2 2 1\n1 0 5\n",
                3,
                "expected a column from 1, found 0; the indices of these files begin with 1",
            ),
            ("2 3 2\n1 1 5\n3 1 5\n", 4, "expected a row of at most 2, found `3`"),
            ("2 3 2\n1 1 5\n\n1 4 5\n", 5, "expected a column of at most 3, found `4`"),
            (
                "2 2 1\n1 99999999999999999999999 5\n",
                3,
                "expected a column of at most 2, found `99999999999999999999999`",
            ),
            ("2 2 1\n-1 1 5\n", 3, "expected a row from 1, found `-1`"),
            ("2 2 1\n1 1.0 5\n", 3, "expected a column from 1, found `1.0`"),
            ("2 2 1\n+ 1 5\n", 3, "expected a row from 1, found `+`"),
            ("2 2 1\n1\n", 3, "expected a column from 1, found the end of the line"),
            ("2 2 1\n1 1\n", 3, "expected a number, found the end of the line"),
            ("2 2 1\n1 1 x\n", 3, "expected a number, found `x`"),
            ("2 2 1\n1 1 1dd5\n", 3, "expected a number, found `1dd5`"),
            ("2 2 1\n1 1 1_0\n", 3, "expected a number, found `1_0`"),
            ("2 2 1\n1 1 1 1\n", 3, "expected the end of the line, found `1`"),
            ("2 2 1\n% late\n1 1 1\n", 3, "expected a row from 1, found `%`"),
            ("2 2 2\n1 1 1\n", 3, "expected 2 entries, as the size says, found the end after 1"),
            ("2 2 1", 2, "expected 1 entries, as the size says, found the end after 0"),
            (
                "2 2 1\n1 1 1\n\n2 2 2\n",
                5,
                "expected the end after 1 entries, as the size says, found `2`",
            ),
        ],
    );
    assert_body_refused(
        "coordinate pattern general",
        &[("2 2 1\n1 1 1\n", 3, "expected the end of the line, found `1`")],
    );
    assert_body_refused(
        "coordinate integer general",
        &[("2 2 1\n1 1 1.5\n", 3, "expected a number, found `1.5`")],
    );
    assert_body_refused(
        "array real general",
        &[
            ("1 2\n1 2\n", 3, "expected the end of the line, found `2`"),
            ("1 2\n1\n", 3, "expected 2 entries, as the size says, found the end after 1"),
            ("1 1\n1\n2\n", 4, "expected the end after 1 entries, as the size says, found `2`"),
        ],
    );
}

#[test]
fn triangles() {
    let below = "expected an entry below the diagonal, found row";
    let on = "expected an entry on or below the diagonal, found row";
    assert_body_refused(
        "coordinate real symmetric",
        &[("3 3 2\n2 1 5\n2 3 5\n", 4, &format!("{on} 2, column 3"))],
    );
    assert_body_refused(
        "coordinate real skew-symmetric",
        &[
            ("3 3 1\n1 3 5\n", 3, &format!("{below} 1, column 3")),
            ("3 3 1\n2 2 0\n", 3, &format!("{below} 2, column 2")),
        ],
    );
}

#[test]
fn values_that_do_not_fit() {
    fn found<T: super::Number>(kind: &str, value: &str) -> String {
        let text = format!("%%MatrixMarket matrix coordinate {kind}\n2 2 1\n2 1 {value}\n");
        let (line, message) = refused::<T>(text, &ReadOptions::default());
        assert_eq!(line, 3);
        message
    }
    let signed = "expected an integer from -2147483648 to 2147483647, found";
    let unsigned = "expected an integer from 0 to 4294967295, found";
    let truth = "expected a truth value, 0 or 1, found";
    for value in ["2147483648", "-2147483649", "99999999999999999999", "1.5", "nan", "inf"] {
        assert_eq!(found::<i32>("integer general", value), format!("{signed} `{value}`"));
        assert_eq!(found::<i32>("real general", value), format!("{signed} `{value}`"));
    }
    for value in ["4294967296", "-1", "0.5"] {
        assert_eq!(found::<u32>("integer general", value), format!("{unsigned} `{value}`"));
        assert_eq!(found::<u32>("real general", value), format!("{unsigned} `{value}`"));
    }
    for value in ["2", "256", "-1"] {
        assert_eq!(found::<u8>("integer general", value), format!("{truth} `{value}`"));
        assert_eq!(found::<u8>("real general", value), format!("{truth} `{value}`"));
    }
    let negative = "expected a number whose negative is of the type of values, too, found";
    assert_eq!(found::<u32>("integer skew-symmetric", "1"), format!("{negative} `1`"));
    let least = format!("{negative} `-2147483648`");
    assert_eq!(found::<i32>("integer skew-symmetric", "-2147483648"), least);
}

#[test]
fn complex_values_are_not_supported() {
    let text = "%%MatrixMarket matrix coordinate complex hermitian\n1 1 1\n1 1 1 0\n";
    assert_eq!(read_header(&mut text.as_bytes()).unwrap().entries(), 1);
    assert_eq!(
        parse::<f32>(text).unwrap_err().to_string(),
        "Matrix Market, line 1: complex values are not supported; keep real and imaginary parts \
         in two files"
    );
}

#[test]
fn sizes_are_not_believed() {
    let text = "%%MatrixMarket matrix coordinate real general\n9 9 1000000000000000000\n1 1 1\n";
    let error = read::<f64, u64>(text.as_bytes(), &ReadOptions::default()).unwrap_err();
    let kind = Fault::TooFewEntries { expected: 1_000_000_000_000_000_000, found: 1 };
    assert_eq!(error, Error::MatrixMarket { line: 3, kind });
    let text = "%%MatrixMarket matrix array real general\n2147483647 2147483647\n1\n";
    assert!(read::<f64, u64>(text.as_bytes(), &ReadOptions::default()).is_err());
    // Rows without entries are a matrix, but of a size that the caller may forbid.
    let options = ReadOptions::default().with_max_side(1000);
    let text = "%%MatrixMarket matrix coordinate real general\n1 1001 0\n";
    let message = "expected at most 1000 rows or columns in the line of the size, found 1001";
    assert_eq!(refused::<f32>(text, &options), (2, message.to_owned()));
}

#[test]
fn endless_lines_are_cut() {
    let long = "0".repeat(1 << 20);
    let header = "%%MatrixMarket matrix coordinate real general\n";
    for (text, line) in [
        (format!("%%{long}"), 1),
        (format!("{header}%{long}\n1 1 0\n"), 2),
        (format!("{header}1 1 1\n1 1 {long}"), 3),
    ] {
        let message = "expected lines of at most 1048576 bytes, found a longer one";
        assert_eq!(refused::<f32>(text, &ReadOptions::default()), (line, message.to_owned()));
    }
    assert_eq!(parse::<f32>(format!("{header}1 1 1\n1 1 {}1\n", &long[5..])).unwrap().nnz(), 1);
    let shown = refused::<f32>(format!("{header}{}", &long[1..]), &ReadOptions::default()).1;
    assert!(shown.len() < 200, "{shown}");
}
