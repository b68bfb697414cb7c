//! What the interpreter counts, and finds under many schedules.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{
    Approximations, Options as Interpretation, Schedule as Threads,
};
use warpwright::verify::count::Counted;
use warpwright::verify::scan_attention::{Case, Distribution, Documents, Pass, count, run_case};
use warpwright::{DType, Device};

/// Like A1: full blocks, long rows.
fn counted(pass: Pass, dtype: DType, keyed: bool) -> Counted {
    let case = match keyed {
        true => Case::keys(1, [2, 2], 1024, 64),
        false => Case::scores(1, 2, 1024, 64),
    };
    let case = Case { carry: false, carry_gradients: false, ..case };
    count(&case, pass, dtype, None, Interpretation::default().unchecked()).expect("it runs")
}

#[test]
fn passes_move_no_more_than_they_must() {
    for (pass, most) in [(Pass::Forward, 1.10), (Pass::Backward, 1.20)] {
        for dtype in [DType::F32, DType::BF16] {
            for keyed in [false, true] {
                let counted = counted(pass, dtype, keyed);
                let bytes = counted.bytes() as f64 / counted.least_bytes as f64;
                println!("{pass:?} {dtype} keyed {keyed}: {bytes:.3}");
                assert!(bytes <= most, "{pass:?} {dtype} keyed {keyed}: {bytes:.3}");
                for kernel in &counted.kernels {
                    let conflicts = kernel.total().bank_conflicts();
                    assert_eq!(conflicts, 0, "bank conflicts in {}", kernel.kernel);
                }
            }
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
        let case = Case {
            documents: Documents::SeqIdx,
            mask: true,
            distribution: Distribution::Normal(1.0),
            seed,
            ..Case::keys(1, [2, 1], 300, 66)
        };
        let mut complaints = Vec::new();
        run_case(&device, &case, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "schedule {seed}: {complaints:?}");
    }
}
