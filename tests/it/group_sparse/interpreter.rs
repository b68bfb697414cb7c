//! What the interpreter counts, and finds under many schedules.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::group_sparse::{Format, Mode, Pattern, ScaleScope, Scheme};
use warpwright::ptx::interpreter::{
    Approximations, Options as Interpretation, Schedule as Threads,
};
use warpwright::verify::group_sparse::{Case, Rows, count, run_case};
use warpwright::{DType, Device};

fn case(rows: usize, columns: usize, group: usize, pruned: usize) -> Case {
    let pattern = if pruned == 0 { Pattern::Dense } else { Pattern::Free };
    let (mode, scope) = (Mode::Sym, ScaleScope::Group);
    let format = Format { rows, columns, group, bits: 4, mode, pattern, scope };
    let all = rows * format.column_groups();
    let rows = Rows::Kept(all - all * pruned / 100);
    Case { rows, scales: DType::F16, y: DType::F16, ..Case::new(format) }
}

/// One vector and 4 bits. So many workers have a share each that x, which each block reads once, is
/// small next to it; the planned number of them on a large device reads x from its second cache.
///
/// At most 5 instructions per weight are wanted. Dense matrices keep to it; where half is pruned, rows
/// are half as long, and what ends a row counts twice: the bounds for these, and for zeros of groups'
/// own, are what there is, and are to fall, not to rise.
#[test]
fn products_read_what_is_kept_and_little_else() {
    for group in [16, 32] {
        for pruned in [0, 50] {
            for mode in [Mode::Sym, Mode::Asym] {
                let mut case = case(2048, 4096, group, pruned);
                case.format.mode = mode;
                case.workers = Some(64);
                case.scheme = Some(Scheme::TaskCentric);
                let counted = count(&case, DType::F16, None, Interpretation::default().unchecked())
                    .expect("it runs");
                let kept = counted.elements as usize / group;
                let zeros = if mode == Mode::Asym { kept } else { 0 };
                let least = counted.least_bytes + zeros as u64;
                let bytes = counted.bytes() as f64 / least as f64;
                let per_weight = counted.instructions_per_element();
                let what = format!("{}, {}", counted.variant, case.describe());
                println!(
                    "{what}: {bytes:.3} of the least bytes, {per_weight:.2} instructions per weight"
                );
                assert!(bytes <= 1.05, "{what}: {bytes:.3} of the least bytes");
                let most = match (mode, pruned) {
                    (Mode::Sym, 0) => 5.0,
                    (Mode::Sym, _) => 5.2,
                    (_, 0) => 5.25,
                    _ => 5.45,
                };
                assert!(per_weight <= most, "{what}: {per_weight:.2} instructions per weight");
                for kernel in &counted.kernels {
                    assert_eq!(kernel.total().bank_conflicts(), 0, "{}, {what}", kernel.kernel);
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
        // Rows that go on over several workers, with outliers.
        let long = Case {
            workers: Some(1 + seed as usize),
            scheme: Some(Scheme::TaskCentric),
            outliers: Some((DType::F16, 0.02)),
            seed,
            vectors: [1, 3][seed as usize % 2],
            ..case(3, 4000, 16, 50)
        };
        let mut complaints = Vec::new();
        run_case(&device, &long, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "schedule {seed}: {complaints:?}");
    }
}
