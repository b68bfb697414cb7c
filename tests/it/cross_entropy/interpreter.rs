//! What the interpreter counts, and finds under many schedules.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::cross_entropy::Reduction;
use warpwright::ptx::interpreter::{
    Approximations, Options as Interpretation, Schedule as Threads,
};
use warpwright::verify::count::Counted;
use warpwright::verify::cross_entropy::{Case, Targets, count, run_case};
use warpwright::{DType, Device};

fn counted(case: &Case, pass: &str, dtype: DType) -> Counted {
    let case = Case { targets: Targets::Columns, ..case.clone() };
    count(&case, pass, dtype, None, Interpretation::default().unchecked()).expect("it runs")
}

#[track_caller]
fn assert_no_conflicts(counted: &Counted, what: &str) {
    for kernel in &counted.kernels {
        let conflicts = kernel.total().bank_conflicts();
        assert_eq!(conflicts, 0, "bank conflicts in {}, {what}", kernel.kernel);
    }
}

/// Long rows, short ones, and few that are cut: each logit is moved once forward, twice backward. Next
/// to 2000 bytes of a short row in 16 bits its ends, which share sectors with other rows, and its own
/// numbers are a tenth.
#[test]
fn rows_move_no_more_than_they_must() {
    for (tokens, vocabulary, most) in [(8, 16_384, 1.04), (64, 1000, 1.12), (2, 65_536, 1.04)] {
        for pass in ["forward", "backward"] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let case = Case::given(tokens, vocabulary);
                let counted = counted(&case, pass, dtype);
                let bytes = counted.bytes() as f64 / counted.least_bytes as f64;
                let per_logit = counted.instructions_per_element();
                let what = format!("{pass} {dtype}, {}", case.describe());
                println!(
                    "{what}: {bytes:.3} of the least bytes, {per_logit:.1} instructions per logit"
                );
                assert!(bytes <= most, "{what}: {bytes:.3} of the least bytes");
                assert_no_conflicts(&counted, &what);
            }
        }
    }
}

/// A product's inner loop: 64 FMA per 4 loads of shared memory, none of which meet in a bank.
#[test]
fn products_are_mostly_fma() {
    for (pass, products) in [("forward", 1), ("backward", 3)] {
        for dtype in [DType::F32, DType::BF16] {
            let (tokens, vocabulary, width) = (128, 128, 128);
            let counted = counted(&Case::linear(tokens, vocabulary, width), pass, dtype);
            let fma = (products * tokens * vocabulary * width) as f64;
            let share = fma / counted.instructions() as f64;
            let what = format!("{pass} {dtype}");
            println!("{what}: {share:.3} of the instructions are products");
            assert!(share > 0.5, "{what}: {share:.3} of the instructions are products");
            assert_no_conflicts(&counted, &what);
        }
    }
}

#[test]
fn shipped_kernels_raise_nothing_under_ten_schedules() {
    for seed in 0..10 {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Threads::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let driver = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(driver).expect("device"));
        let of = |case| Case {
            label_smoothing: 0.1,
            z_loss: 1e-2,
            softcap: Some(3.0),
            reduction: if seed % 2 == 0 { Reduction::Mean } else { Reduction::None },
            seed,
            ..case
        };
        for case in [of(Case::given(3, 1100)), of(Case::linear(9, 70, 21))] {
            let mut complaints = Vec::new();
            run_case(&device, &case, |report| complaints.extend(report.complaint()));
            assert!(complaints.is_empty(), "schedule {seed}: {complaints:?}");
        }
    }
}
