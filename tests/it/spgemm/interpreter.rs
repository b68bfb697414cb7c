//! What the PTX does beyond its results: schedules, bins, plans, memory, and what it counts.

use std::sync::Arc;

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{Approximations, Options as Interpretation, Schedule};
use warpwright::sparse::{Csr, Fault, Value};
use warpwright::spgemm::{
    Hash, Inputs, Matrices, Options, Semiring, SpgemmPlan, Tokens, multiply, multiply_with_summary,
    reference,
};
use warpwright::verify::spgemm::generate::KNOWN;
use warpwright::verify::spgemm::{Case, Places, Values, compare, run_case};
use warpwright::{Cpu, DType, Device, Error, Tensor};

use crate::interpreter::planted::{Edit, Planted};

fn device(interpretation: Interpretation) -> Cuda {
    Cuda::with_driver(Interpreter::new(interpretation)).expect("it needs nothing")
}

fn metered() -> (Arc<Planted>, Cuda) {
    let driver = Planted::untouched(Interpreter::new(Interpretation::default()));
    let device = Cuda::with_driver(driver.clone()).expect("it needs nothing");
    (driver, device)
}

/// Rows of few and many entries, wide and narrow.
fn cases() -> [Case; 4] {
    let masked = Case { mask: Some(false), ..Case::drawn([30, 60, 90], 9.0) };
    let kept = Case { mask: Some(true), beta: Some(2.0), ..Case::drawn([30, 60, 90], 9.0) };
    let arrow = Case { places: [Places::Arrow; 2], ..Case::drawn([150, 150, 150], 1.0) };
    [Case::drawn([40, 120, 700], 12.0), masked, kept, arrow]
}

#[test]
fn shipped_kernels_raise_nothing_under_many_schedules() {
    for seed in 0..3 {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Schedule::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let device = Device::Cuda(device(interpretation));
        for case in cases() {
            let case = Case { seed, deterministic: seed % 2 == 1, ..case };
            let mut complaints = Vec::new();
            run_case(&device, &case, DType::F32, 0, &mut |report| {
                complaints.extend(report.complaint());
            });
            assert!(complaints.is_empty(), "schedule {seed}:\n{}", complaints.join("\n"));
        }
    }
}

/// The product of a case on a device, with options that are changed.
fn made<T: Value>(
    matrices: &Matrices<Cuda, T>,
    case: &Case,
    change: impl Fn(&mut Options),
) -> Csr<Cpu, T> {
    let mut options = case.options();
    change(&mut options);
    let product = multiply(&matrices.inputs(), &options).expect("it runs");
    product.to_backend(&Cpu).expect("it is read")
}

/// Every table there is, each hash, and both ways to rows: the same integers.
#[test]
fn tables_hashes_and_tokens_change_nothing() {
    let device = device(Interpretation::default());
    for case in cases() {
        let here = case.matrices::<i32>().expect("it is drawn");
        let there = here.to_backend(&device).expect("it is copied");
        let expected = reference::dense(&here.inputs(), &case.options()).expect("it runs");
        for hash in Hash::ALL {
            for tokens in [Tokens::Static, Tokens::Dynamic] {
                for least in [32, 64, 256, 1024, 2048, 4096, 8192] {
                    let found = made(&there, &case, |options| {
                        options.tuning.slots = least..=least.max(256);
                        options.tuning.tokens = tokens;
                        options.tuning.hash = hash;
                    });
                    let what = format!("{hash:?}, {tokens:?}, {least} slots, {}", case.describe());
                    super::assert_equal_named(&found, &expected, &what);
                }
            }
        }
    }
}

/// Rows for the largest tables, sorted by the ranks of columns close together, and by a network:
/// the bits of the CPU.
#[test]
fn rows_of_thousands_of_entries_fit_the_largest_tables() {
    let device = device(Interpretation::default());
    for (cols, variant) in [
        (30_000, "spgemm_sum_large_plus_times_f64_4096"),
        (30_000, "spgemm_sum_large_plus_times_f64_8192"),
        (4_000_000, "spgemm_sum_large_plus_times_f64_8192"),
    ] {
        let wanted = if variant.ends_with("_4096") { 1500..2500 } else { 3000..5000 };
        // Forty rows of B for each of A, which share some columns.
        let per_row = f64::from(wanted.start + wanted.end) / 80.0;
        let full = Case { places: [Places::Full; 2], ..Case::drawn([3, 40, 40], 1.0) };
        let a = full.matrices::<f64>().expect("made").a;
        let b = Case::drawn([40, 40, cols], per_row).matrices::<f64>().expect("drawn").b;
        let expected = multiply(&Inputs::new(&a, &b), &Options::default()).expect("it runs");
        let most = expected.entries_per_row().expect("it is read").most;
        assert!(wanted.contains(&(most as u32)), "{most} entries in a row");
        let [a, b] = [a, b].map(|matrix| matrix.to_backend(&device).expect("copied"));
        let mut options = Options::default().with_variant(variant);
        options.deterministic = true;
        let found = multiply(&Inputs::new(&a, &b), &options).expect("it runs");
        let found = found.to_backend(&Cpu).expect("read");
        let compared = compare(&found, &expected, None).expect("they are read");
        assert!(compared.iter().all(|one| one.passed()), "{cols} columns: {compared:?}");
    }
}

/// Windows of every size, so that rows have one, some and many.
#[test]
fn windows_of_any_size_change_nothing() {
    let device = device(Interpretation::default());
    for case in cases() {
        let here = case.matrices::<i32>().expect("it is drawn");
        let there = here.to_backend(&device).expect("it is copied");
        let expected = reference::dense(&here.inputs(), &case.options()).expect("it runs");
        for columns in [32, 64, 256, 1024] {
            for tokens in [Tokens::Static, Tokens::Dynamic] {
                let found = made(&there, &case, |options| {
                    options.tuning.slots = 0..=0;
                    options.tuning.window = Some(columns);
                    options.tuning.tokens = tokens;
                });
                let what = format!("windows of {columns}, {tokens:?}, {}", case.describe());
                super::assert_equal_named(&found, &expected, &what);
            }
        }
    }
}

/// As the CPU's, and again the same.
#[test]
fn ordered_sums_have_the_bits_of_the_cpu() {
    let device = device(Interpretation::default());
    for case in cases() {
        let case = Case { deterministic: true, values: Values::Plain, ..case };
        let here = case.matrices::<f64>().expect("it is drawn");
        let there = here.to_backend(&device).expect("it is copied");
        let expected = multiply(&here.inputs(), &case.options()).expect("it runs");
        for _ in 0..3 {
            let found = made(&there, &case, |_| {});
            let compared = compare(&found, &expected, None).expect("they are read");
            assert!(compared.iter().all(|one| one.passed()), "{compared:?}");
        }
    }
}

#[test]
fn squares_have_the_numbers_of_the_specification() {
    let device = device(Interpretation::default().unchecked());
    let known = KNOWN.iter().find(|known| known.name == "g500-12").expect("it is known");
    let pattern = known.family.pattern(1).expect("it is made");
    let there = pattern.to_backend(&device).expect("it is copied");
    let options = Options::default().with_semiring(Semiring::PlusPair);
    let inputs = Inputs::new(&there, &there);
    let (square, summary) = multiply_with_summary(&inputs, &options).expect("it runs");
    assert_eq!(summary.products, known.products, "products");
    assert_eq!(square.nnz() as u64, known.square, "entries");
    let counts = square.val().expect("values").to_vec().expect("they are read");
    assert_eq!(counts.into_iter().map(u64::from).sum::<u64>(), known.products);
}

#[test]
fn a_plan_takes_no_more_memory_and_refuses_other_places() {
    let (driver, device) = metered();
    let case = Case { beta: Some(2.0), ..Case::drawn([60, 50, 400], 12.0) };
    let here = case.matrices::<f32>().expect("it is drawn");
    let there = here.to_backend(&device).expect("it is copied");
    let (plan, first) = SpgemmPlan::new(&there.inputs(), &case.options()).expect("it runs");
    let expected = made(&there, &case, |options| options.deterministic = true);
    let mut val = Tensor::new(&device, &[plan.nnz()]).expect("memory");
    driver.peak();
    let before = driver.peak();
    for _ in 0..5 {
        let options = case.options().with_deterministic(true);
        // SAFETY: the entries lie where they did.
        unsafe { plan.execute_trusted(&there.inputs(), &options, &mut val) }.expect("it runs");
    }
    assert_eq!(driver.peak(), before, "bytes");
    let again = first.with_values(val).expect("as many values").to_backend(&Cpu).expect("read");
    let compared = compare(&again, &expected, None).expect("they are read");
    assert!(compared.iter().all(|one| one.passed()), "{compared:?}");
    let executed = plan.execute(&there.inputs(), &case.options()).expect("the same places");
    assert_eq!(executed.nnz(), plan.nnz());
    let other = Case { seed: 2, ..case.clone() }.matrices::<f32>().expect("it is drawn");
    let other = other.to_backend(&device).expect("it is copied");
    let mut inputs = there.inputs();
    inputs.b = &other.b;
    let error = plan.execute(&inputs, &case.options()).expect_err("other places");
    let (matrix, fault) = ("B".to_owned(), Fault::PatternMismatch);
    assert_eq!(error, Error::Sparse { operation: "spgemm", matrix, fault });
}

#[test]
fn six_hundred_squared_takes_little_memory() {
    let (driver, device) = metered();
    let case = Case { places: [Places::Full; 2], ..Case::drawn([600, 600, 600], 1.0) };
    let there = case.matrices::<f32>().expect("it is made").to_backend(&device).expect("copied");
    driver.peak();
    let before = driver.peak();
    // 216 million products take the interpreter minutes: but for a thorough test, only rows 0 to
    // 29, which take the same memory for each row.
    let thorough = std::env::var_os("WARPWRIGHT_THOROUGH").is_some();
    let rows = if thorough { 600 } else { 30 };
    let some = Case { places: [Places::Full; 2], ..Case::drawn([rows, 600, 600], 1.0) };
    let some = some.matrices::<f32>().expect("it is made").to_backend(&device).expect("copied");
    let inputs = Inputs::new(&some.a, &there.b);
    let product = multiply(&inputs, &Options::default()).expect("it runs");
    assert_eq!(product.nnz(), rows * 600);
    let of_inputs = (rows * 600 + 600 * 600) * 8 + (rows + 1 + 601) * 4;
    let of_product = rows * 600 * 8 + (rows + 1) * 4;
    let workspace = driver.peak().saturating_sub(before + (of_inputs + of_product) as u64);
    let share = (8 << 20) * rows as u64 / 600;
    assert!(workspace <= share, "{workspace} bytes for {rows} rows");
}

#[test]
fn a_failure_leaves_all_that_is_needed_to_go_on() {
    let (driver, device) = metered();
    let case = Case::drawn([40, 50, 60], 6.0);
    let there = case.matrices::<i32>().expect("it is drawn").to_backend(&device).expect("copied");
    let expected = made(&there, &case, |_| {});
    for launches in [true, false] {
        for after in 0.. {
            match launches {
                true => driver.fail_launch(after),
                false => driver.fail_allocation(after),
            }
            let made = multiply(&there.inputs(), &case.options());
            if driver.waits() {
                assert!(after > 3, "only {after} could fail");
                break;
            }
            let error = made.expect_err("it was made to fail");
            let right = match launches {
                true => matches!(error, Error::DeviceLost { .. }),
                false => matches!(error, Error::OutOfMemory { .. }),
            };
            assert!(right, "{error}");
        }
        // What still waits is taken back by what can bear it.
        while driver.waits() {
            drop(multiply(&there.inputs(), &case.options()));
        }
        super::assert_equal_named(&made(&there, &case, |_| {}), &expected, "after failures");
    }
}

/// A fault in a copy of a kernel that sums in tables, and what the report calls it.
const FAULTS: [(&str, &str, &str, &str); 4] = [
    ("keys read without order", "ld.relaxed.cta.shared.b32 %found", "ld.shared.b32 %found", "race"),
    ("slots of other groups", "and.b32 %slot, %slot, %slot_mask;", "", "race"),
    ("a sum without an atomic", "red.relaxed.cta.shared.add.u32", "st.shared.u32", "race"),
    ("no look at the row's end", "setp.ge.u64 %more, %at, %end;", "setp.eq.u64 %more, 0, 1;", ""),
];

#[test]
fn planted_faults_are_noticed() {
    for (name, line, change, report) in FAULTS {
        let edit: Edit = Box::new(move |text| match text.contains(".entry spgemm_sum_small") {
            true => text.replace(line, change),
            false => text.to_owned(),
        });
        let interpreter = Interpreter::new(Interpretation::default().with_patience(200_000));
        let device = Cuda::with_driver(Arc::new(Planted::new(interpreter, edit))).expect("device");
        // With a complement every probe begins with a look.
        let case = Case { mask: Some(true), ..Case::drawn([40, 60, 400], 4.0) };
        let there = case.matrices::<i32>().expect("drawn").to_backend(&device).expect("copied");
        let mut options = case.options().with_variant("spgemm_sum_small_plus_times_i32");
        options.tuning.hash = Hash::LowBits;
        match multiply(&there.inputs(), &options) {
            Ok(_) => panic!("{name}: not noticed"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("[kernels/spgemm/"), "{name}: {error}");
                assert!(error.contains(report), "{name}: {error}");
            }
        }
    }
}
