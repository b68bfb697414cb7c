//! What the PTX does, by the interpreter: schedules, and counts.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::causal_conv1d::{Layout, Pass};
use warpwright::ptx::interpreter::{Approximations, Options as Interpretation, Schedule};
use warpwright::verify::causal_conv1d::{
    Case, ResetForm, UpdateCase, count, run_case, run_update_case,
};
use warpwright::verify::count::Counted;
use warpwright::{DType, Device};

use crate::interpreter::assert_no_atomics;

#[test]
fn kernels_raise_nothing_under_many_schedules() {
    let resets = [(ResetForm::None, 4), (ResetForm::SeqIdx, 3), (ResetForm::CuSeqlens, 7)];
    for seed in 0..12 {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Schedule::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let driver = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(driver).expect("device"));
        let mut complaints = Vec::new();
        let layout = if seed % 2 == 0 { Layout::Bdl } else { Layout::Bld };
        let (resets, width) = resets[seed as usize % 3];
        let case = Case { layout, resets, seed, ..Case::new(2, 35, 261, width) };
        run_case(&device, &case, |report| complaints.extend(report.complaint()));
        let update = UpdateCase { indexed: true, seed, ..UpdateCase::new(5, 35, 4, 5) };
        run_update_case(&device, &update, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "schedule {seed}: {}", complaints.join("\n"));
    }
}

fn counted(case: &Case, pass: Pass, dtype: DType) -> Counted {
    let interpretation = Interpretation::default().unchecked();
    count(case, pass, dtype, &case.options(), interpretation).expect("the convolution runs")
}

/// The setting C1 with as many channels as fill the device with whole rows, and no more.
fn c1(layout: Layout) -> Case {
    let sizes = match layout {
        Layout::Bdl => [1, 2112, 1024, 4],
        // As many spans of 128 steps as there are at the full size: a sixteenth of its channels.
        Layout::Bld => [1, 2048, 16_384, 4],
    };
    let [batch, channels, steps, width] = sizes;
    Case { layout, s0: false, dfinal_state: false, ..Case::new(batch, channels, steps, width) }
}

/// The bounds on instructions keep what was counted. While an H100 moves the bytes of an element of
/// f32 it issues about 71 instructions forward and 106 backward, half as many for 16 bits.
#[test]
fn the_convolution_moves_no_more_than_it_must() {
    for layout in [Layout::Bdl, Layout::Bld] {
        for pass in [Pass::Forward, Pass::Backward] {
            for dtype in [DType::F32, DType::BF16] {
                let counted = counted(&c1(layout), pass, dtype);
                let what = format!("{pass} {layout} {dtype}");
                let bytes = counted.bytes() as f64 / counted.least_bytes as f64;
                assert!(bytes <= 1.10, "{what}: {bytes:.3} of the least bytes");
                let conflicts: u64 =
                    counted.kernels.iter().map(|kernel| kernel.total().bank_conflicts()).sum();
                assert_eq!(conflicts, 0, "{what}: bank conflicts");
                let instructions = counted.instructions_per_element();
                let most = match (pass, layout) {
                    (Pass::Forward, Layout::Bdl) => 24.0,
                    (Pass::Forward, Layout::Bld) => 15.0,
                    (Pass::Backward, Layout::Bdl) => 56.0,
                    (Pass::Backward, Layout::Bld) => 36.0,
                };
                assert!(instructions <= most, "{what}: {instructions:.1} instructions");
            }
        }
    }
}

/// Sums are made in two stages, and without atomics.
#[test]
fn no_kernel_of_the_convolution_has_an_atomic() {
    assert_no_atomics(&["causal_conv1d", "causal_conv1d_update"], 20);
}
