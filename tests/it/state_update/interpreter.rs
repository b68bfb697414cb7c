//! What the PTX does, by the interpreter: schedules, and counts.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{Approximations, Options as Interpretation, Schedule};
use warpwright::verify::selective_scan::state_update::{Case, Slots, check_case, count};
use warpwright::{DType, Device};

#[test]
fn kernels_raise_nothing_under_many_schedules() {
    let mamba = Case { slots: Slots::Chosen, ..Case::plain(9, 70, 16) };
    let mamba2 = Case { steps: Some(3), slots: Slots::Moved, ..Case::heads(3, 6, 20, 100, 3) };
    let cases = [mamba.clone(), mamba2.clone(), Case { states: 3, steps: Some(16), ..mamba }];
    for seed in 0..8 {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Schedule::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let driver = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(driver).expect("device"));
        let mut complaints = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            for state in [DType::F32, DType::BF16] {
                let case = Case { state, seed, ..case.clone() };
                check_case(&device, &case, DType::F32, index, &mut |report| {
                    complaints.extend(report.complaint());
                });
            }
        }
        assert!(complaints.is_empty(), "schedule {seed}: {}", complaints.join("\n"));
    }
}

/// The settings U1, with as many channels and entries as fill the device, and no more. While an
/// H100 moves the bytes of a state of f32 it issues about 68 instructions, half as many for 16
/// bits.
#[test]
fn an_update_moves_no_more_than_it_must() {
    let mamba = Case::plain(64, 3456, 16);
    let mamba2 = Case::heads(8, 56, 64, 128, 8);
    let half = Case { state: DType::BF16, ..mamba2.clone() };
    for (case, dtype, most) in [
        (mamba, DType::F32, 45.0),
        (mamba2.clone(), DType::F32, 28.0),
        (mamba2, DType::BF16, 28.0),
        (half, DType::BF16, 32.0),
    ] {
        let counted = count(&case, dtype, Interpretation::default().unchecked()).expect("it runs");
        let what = format!("{} {dtype}", case.describe());
        let bytes = counted.bytes() as f64 / counted.least_bytes as f64;
        assert!(bytes <= 1.10, "{what}: {bytes:.3} of the least bytes");
        let conflicts: u64 =
            counted.kernels.iter().map(|kernel| kernel.total().bank_conflicts()).sum();
        assert_eq!(conflicts, 0, "{what}: bank conflicts");
        assert_eq!(counted.kernels.len(), 1, "{what}: one launch");
        let instructions = counted.instructions_per_element();
        assert!(instructions <= most, "{what}: {instructions:.1} instructions");
    }
}

#[test]
fn no_kernel_of_the_update_has_an_atomic() {
    let kernels = warpwright::backend::kernel::all();
    let ours = kernels.filter(|info| {
        info.operation == "state_update"
            && matches!(info.language, warpwright::backend::Language::Ptx(_))
    });
    let mut looked_at = 0;
    for info in ours {
        let text = info.text();
        let atomic = text.lines().find(|line| {
            let mut words = line.split("//").next().unwrap_or_default().split_whitespace();
            words.any(|word| word.starts_with("atom.") || word.starts_with("red."))
        });
        assert_eq!(atomic, None, "{}", info.name);
        looked_at += 1;
    }
    assert_eq!(looked_at, 9);
}
