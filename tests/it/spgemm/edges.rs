//! The edge cases of section 20 of the specification, each by its name, on every device.

use warpwright::sparse::{Csr, Fault};
use warpwright::spgemm::{Inputs, Options, Semiring, multiply, multiply_on};
use warpwright::verify::spgemm::{Case, Places, Values, run_case};
use warpwright::verify::{Outcome, Report};
use warpwright::{Cpu, Error, Tensor};

use crate::devices::{devices, ieee_devices};

/// The case passes in all types of its ring and in all variants, on these devices.
#[track_caller]
fn passes_on<'a>(devices: impl IntoIterator<Item = &'a warpwright::Device>, case: &Case) {
    for device in devices {
        let mut complaints = Vec::new();
        let mut ran = 0;
        for &dtype in case.semiring.values() {
            run_case(device, case, dtype, 0, &mut |report: Report| {
                ran += usize::from(!matches!(report.outcome, Outcome::Unsupported(_)));
                complaints.extend(report.complaint());
            });
        }
        assert!(ran > 0, "nothing ran on {}", device.name());
        assert!(complaints.is_empty(), "on {}:\n{}", device.name(), complaints.join("\n"));
    }
}

#[track_caller]
fn passes(case: &Case) {
    passes_on(devices(), case);
}

fn drawn(sizes: [usize; 3]) -> Case {
    Case::drawn(sizes, 4.0)
}

fn placed(sizes: [usize; 3], a: Places, b: Places) -> Case {
    Case { places: [a, b], ..drawn(sizes) }
}

#[test]
fn sides_of_length_zero() {
    for sizes in [[0, 5, 5], [5, 0, 5], [5, 5, 0], [0, 0, 0]] {
        passes(&drawn(sizes));
        passes(&Case { beta: Some(2.0), ..drawn(sizes) });
    }
}

#[test]
fn factors_without_entries_leave_c0() {
    for (a, b) in [(Places::Nowhere, Places::Full), (Places::Full, Places::Nowhere)] {
        passes(&placed([20, 30, 40], a, b));
        passes(&Case { beta: Some(2.0), ..placed([20, 30, 40], a, b) });
    }
}

#[test]
fn empty_rows_and_columns() {
    passes(&Case::drawn([40, 30, 50], 0.4));
    passes(&placed([9, 9, 9], Places::OneRow, Places::Drawn(2.0)));
}

#[test]
fn rows_times_columns() {
    passes(&placed([1, 300, 1], Places::Full, Places::Full));
    passes(&placed([120, 1, 130], Places::Full, Places::Full));
    passes(&placed([1, 1, 1], Places::Full, Places::Full));
}

#[test]
fn an_outer_product_that_row_pointers_cannot_count() {
    const SIDE: u32 = 50_000;
    let column = Csr::<Cpu, u32>::pattern([50_000, 1], (0..=SIDE).collect(), vec![0; 50_000]);
    let row = Csr::pattern([1, 50_000], vec![0, SIDE], (0..SIDE).collect());
    let (column, row) = (column.expect("a matrix"), row.expect("a matrix"));
    let options = Options::default().with_semiring(Semiring::PlusPair);
    for device in devices() {
        let error = multiply_on(device, &Inputs::new(&column, &row), &options);
        let (nnz, limit) = (2_500_000_000, i32::MAX as u64);
        let expected = Error::OutputTooLarge { operation: "spgemm", nnz, limit };
        assert_eq!(error.expect_err("too many"), expected, "{}", device.name());
    }
}

#[test]
fn zeros_that_are_stored_or_come_out_stay() {
    let full = placed([30, 40, 30], Places::Full, Places::Full);
    passes(&Case { values: Values::Cancelling, ..full });
    passes(&Case { values: Values::Cancelling, ..drawn([30, 40, 30]) });
}

#[test]
fn columns_out_of_order_and_repeated() {
    for disorder in [[true, false], [false, true], [true, true]] {
        for semiring in Semiring::ALL {
            passes(&Case { disorder, semiring, ..Case::drawn([30, 20, 25], 8.0) });
        }
        passes(&Case { disorder, deterministic: true, ..Case::drawn([30, 20, 25], 8.0) });
    }
    let case = Case { disorder: [false, true], ..drawn([10, 10, 10]) };
    let matrices = case.matrices::<f32>().expect("it is drawn");
    let options = Options::default().with_auto_canonical(false);
    for device in devices() {
        let error = multiply_on(device, &matrices.inputs(), &options).expect_err("no copies");
        let (matrix, fault) = ("B".to_owned(), Fault::NotCanonical);
        assert_eq!(error, Error::Sparse { operation: "spgemm", matrix, fault });
    }
}

/// One row of A with so many entries, rows of B with as many columns each.
fn heavy_row(per_row: u32, cols: u32, column: impl Fn(u32, u32) -> u32) -> [Csr<Cpu, u32>; 2] {
    let a = Csr::pattern([1, per_row as usize], vec![0, per_row], (0..per_row).collect());
    let col = (0..per_row).flat_map(|row| (0..per_row).map(move |i| (row, i)));
    let col: Vec<u32> = col.map(|(row, i)| column(row, i)).collect();
    let row_ptr = (0..=per_row).map(|row| row * per_row).collect();
    let b = Csr::pattern([per_row as usize, cols as usize], row_ptr, col);
    [a.expect("a matrix"), b.expect("a matrix")]
}

#[test]
fn a_row_of_many_products() {
    const EACH: u32 = 100;
    let options = Options::default().with_semiring(Semiring::PlusPair);
    let same = heavy_row(EACH, 5000, |_, i| 7 * i);
    let distinct = heavy_row(EACH, 1 << 15, |row, i| 3 * (EACH * row + i));
    let spread = heavy_row(EACH, 1 << 24, |row, i| 1677 * (EACH * i + row));
    for (name, [a, b]) in [("same", same), ("distinct", distinct), ("spread", spread)] {
        let inputs = Inputs::new(&a, &b);
        let expected = multiply(&inputs, &options).expect("it runs");
        for device in devices() {
            let (found, summary) = multiply_on(device, &inputs, &options).expect("it runs");
            let what = format!("{name} columns on {}", device.name());
            assert_eq!(summary.products, u64::from(EACH * EACH), "{what}");
            super::assert_equal_named(&found, &expected, &what);
        }
    }
}

#[test]
fn patterns_with_a_name() {
    let square = [30, 30, 30];
    let drawn = Places::Drawn(4.0);
    for (a, b) in [
        (Places::Diagonal, drawn),
        (drawn, Places::Diagonal),
        (Places::Permutation, drawn),
        (drawn, Places::Permutation),
        (Places::OneRow, drawn),
        (Places::OneColumn, Places::OneRow),
        (Places::Arrow, Places::Arrow),
        (Places::Full, Places::Full),
        (Places::Upper, Places::Upper),
    ] {
        passes(&placed(square, a, b));
    }
}

#[test]
fn columns_that_are_congruent_or_share_their_high_bits() {
    passes(&placed([12, 50, 1 << 18], Places::Drawn(4.0), Places::Strided));
}

#[test]
fn columns_near_the_last_there_is() {
    passes(&placed([12, 30, i32::MAX as usize], Places::Drawn(3.0), Places::Drawn(3.0)));
}

#[test]
fn more_products_than_32_bits_count() {
    // No place of the mask is asked for, so that nothing is multiplied.
    const ROWS: u32 = 70_000;
    const COLS: u32 = 65_536;
    let a = Csr::<Cpu, u32>::pattern([70_000, 1], (0..=ROWS).collect(), vec![0; 70_000]);
    let b = Csr::pattern([1, 65_536], vec![0, COLS], (0..COLS).collect());
    let mask = Csr::pattern([70_000, 65_536], vec![0; 70_001], Vec::new());
    let (a, b, mask) = (a.expect("a matrix"), b.expect("a matrix"), mask.expect("a matrix"));
    let options = Options::default().with_semiring(Semiring::PlusPair);
    for device in devices() {
        let inputs = Inputs::new(&a, &b).with_mask(&mask);
        let (product, summary) = multiply_on(device, &inputs, &options).expect("it runs");
        assert_eq!(product.nnz(), 0, "{}", device.name());
        assert_eq!(summary.products, u64::from(ROWS) * u64::from(COLS), "{}", device.name());
    }
}

#[test]
fn values_that_are_no_usual_numbers() {
    for semiring in [Semiring::PlusTimes, Semiring::MinPlus, Semiring::MaxTimes] {
        let case = Case { semiring, values: Values::Hostile, ..drawn([40, 50, 60]) };
        passes_on(ieee_devices(), &case);
        passes_on(ieee_devices(), &Case { deterministic: true, ..case });
    }
}

#[test]
fn factors_of_zero_read_nothing() {
    let case = Case { values: Values::Hostile, ..drawn([30, 40, 50]) };
    passes(&Case { alpha: 0.0, ..case });
    passes(&Case { beta: Some(0.0), poisoned: true, ..drawn([30, 40, 50]) });
}

#[test]
fn one_matrix_in_all_roles() {
    let case = Case::drawn([60, 60, 60], 5.0);
    let a = case.matrices::<i32>().expect("it is drawn").a;
    let options = Options::default().with_beta(2.0).with_replace(true);
    let expected = multiply(&Inputs::new(&a, &a).with_c0(&a).with_mask(&a), &options);
    let expected = expected.expect("it runs");
    for device in devices() {
        let inputs = Inputs::new(&a, &a).with_c0(&a).with_mask(&a);
        let (found, _) = multiply_on(device, &inputs, &options).expect("it runs");
        super::assert_equal_named(&found, &expected, &device.name());
    }
}

#[test]
fn masks_that_let_all_pass_or_nothing() {
    let matrices = Case::drawn([40, 30, 50], 5.0).matrices::<i32>().expect("it is drawn");
    let empty = Csr::pattern([40, 50], vec![0; 41], Vec::new()).expect("a mask");
    let all = (0..=40).map(|row| row * 50).collect();
    let full = Csr::pattern([40, 50], all, (0..40).flat_map(|_| 0..50).collect());
    let full = full.expect("a mask");
    let whole = multiply(&matrices.inputs(), &Options::default()).expect("it runs");
    for device in devices() {
        for (mask, complement, passes) in [
            (&empty, false, false),
            (&full, false, true),
            (&empty, true, true),
            (&full, true, false),
        ] {
            let options = Options::default().with_complement(complement);
            let inputs = matrices.inputs().with_mask(mask);
            let (found, _) = multiply_on(device, &inputs, &options).expect("it runs");
            match passes {
                true => super::assert_equal_named(&found, &whole, &device.name()),
                false => assert_eq!(found.nnz(), 0, "{}", device.name()),
            }
        }
    }
}

#[test]
fn integers_wrap_and_saturate() {
    for semiring in [Semiring::PlusTimes, Semiring::MinPlus, Semiring::MaxTimes] {
        passes(&Case { semiring, values: Values::Large, ..drawn([40, 50, 60]) });
    }
}

#[test]
fn a_plan_for_a_thousand_products() {
    let case = Case { beta: Some(2.0), ..drawn([20, 20, 20]) };
    let matrices = case.matrices::<f32>().expect("it is drawn");
    let (plan, _) =
        warpwright::spgemm::SpgemmPlan::new(&matrices.inputs(), &case.options()).expect("it runs");
    let mut val = Tensor::new(&Cpu, &[plan.nnz()]).expect("memory");
    for _ in 0..1000 {
        plan.execute_into(&matrices.inputs(), &case.options(), &mut val).expect("it runs");
    }
    let expected = multiply(&matrices.inputs(), &case.options()).expect("it runs");
    super::assert_equal(&expected.with_values(val).expect("as many values"), &expected);
}
