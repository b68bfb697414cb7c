//! What the interpreter counts, and finds under many schedules.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{
    Approximations, Options as Interpretation, Schedule as Threads,
};
use warpwright::rnn::{Cell, Direction};
use warpwright::verify::rnn::{Before, Case, Given, Lengths, Pass, count, run_case};
use warpwright::{DType, Device};

use crate::interpreter::assert_no_atomics;

#[test]
fn shipped_kernels_raise_nothing_under_many_schedules() {
    for (seed, cell) in (0..).zip(Cell::ALL) {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Threads::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let driver = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(driver).expect("device"));
        let case = Case {
            lengths: Lengths::Drawn,
            direction: Direction::Reverse,
            before: Before::All,
            given: Given::Everything,
            grad_clip: Some(0.5),
            seed,
            ..Case::new(cell, [17, 3, 2, 34])
        };
        let mut complaints = Vec::new();
        run_case(&device, &case, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "schedule {seed}: {complaints:?}");
    }
}

#[test]
fn no_kernel_of_recurrent_cells_has_an_atomic() {
    assert_no_atomics(&["rnn"], 20);
}

#[test]
fn banks_do_not_conflict() {
    for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
        for pass in [Pass::Forward, Pass::Training, Pass::Backward] {
            let case = Case { before: Before::Nothing, ..Case::new(cell, [16, 4, 2, 64]) };
            let options = Interpretation::default().unchecked();
            let counted = count(&case, pass, DType::F32, None, options).expect("it runs");
            for kernel in &counted.kernels {
                let total = kernel.total();
                assert_eq!(total.bank_conflicts(), 0, "{cell} {pass:?}: {}", kernel.kernel);
            }
        }
    }
}
