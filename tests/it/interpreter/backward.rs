//! The backward scan on small GPUs, whose plans give a block many channels.

use std::sync::Arc;

use warpwright::backend::cuda::{Cuda, Interpreter, Properties};
use warpwright::ptx::interpreter::{Approximations, Options as Interpretation, Schedule};
use warpwright::selective_scan::{Layout, Options, Problem, run_named};
use warpwright::verify::selective_scan::{Case, Distribution, ResetForm, run_case};
use warpwright::{DType, Device, Float, bf16, f16};

/// An H100 of fewer multiprocessors: kernels of 256 threads need its shared memory, pairs of blocks
/// its clusters.
fn gpu(multiprocessors: u32) -> Properties {
    let mut properties = a100(multiprocessors);
    properties.compute_capability = (9, 0);
    properties.shared_bytes = 227 << 10;
    properties.clusters = true;
    properties
}

/// An A100 of fewer multiprocessors.
fn a100(multiprocessors: u32) -> Properties {
    let mut properties = Interpreter::properties();
    properties.multiprocessors = multiprocessors;
    properties
}

fn open(interpretation: Interpretation, multiprocessors: u32) -> (Device, Arc<Interpreter>) {
    open_as(interpretation, gpu(multiprocessors))
}

fn open_as(interpretation: Interpretation, gpu: Properties) -> (Device, Arc<Interpreter>) {
    let interpreter = Interpreter::with_properties(interpretation, gpu);
    (Device::Cuda(Cuda::with_driver(interpreter.clone()).expect("device")), interpreter)
}

/// All rounds of channels in one block, and the last of them not full; rows of one chunk and of two.
#[test]
fn blocks_of_several_rounds_pass_their_cases() {
    let case = |channels, steps, groups| Case::new(1, channels, steps, 15, groups);
    let cases = [
        case(70, 270, 1),
        Case { layout: Layout::Bld, resets: ResetForm::Flags, ..case(70, 270, 1) },
        Case { resets: ResetForm::SeqIdx, distribution: Distribution::Broad, ..case(140, 33, 2) },
        Case { layout: Layout::Bld, resets: ResetForm::SeqIdx, h0: false, ..case(140, 33, 2) },
        Case { resets: ResetForm::CuSeqlens, gate: false, bias: false, ..case(70, 40, 1) },
        Case {
            layout: Layout::Bld,
            distribution: Distribution::Broad,
            softplus: false,
            one_buffer: true,
            ..case(70, 40, 1)
        },
        Case { narrow_parameters: true, one_buffer: true, skip: false, ..case(70, 40, 1) },
    ];
    let ran = pass(1, &cases);
    for element in ["f32", "bf16", "f16"] {
        for layout in ["bdl", "bld"] {
            for form in ["128", "256", "pairs"] {
                let name = format!("selective_scan_backward_{element}_{layout}_n16_{form}");
                assert!(ran.contains(&name.as_str()), "{name} did not run");
            }
        }
    }
}

/// Two blocks to a group, the second not full, which are a pair where the kernel has pairs.
#[test]
fn pairs_of_blocks_pass_their_cases() {
    let case = |steps, groups| Case::new(1, 70 * groups, steps, 15, groups);
    let cases = [
        Case { resets: ResetForm::Flags, ..case(270, 1) },
        Case { layout: Layout::Bld, resets: ResetForm::SeqIdx, ..case(33, 2) },
        Case { resets: ResetForm::CuSeqlens, one_buffer: true, ..case(40, 1) },
    ];
    let ran = pass(4, &cases);
    assert!(ran.iter().any(|name| name.ends_with("pairs")), "{ran:?}");
}

/// Runs the cases on so many multiprocessors; the variants that ran.
fn pass(multiprocessors: u32, cases: &[Case]) -> Vec<&'static str> {
    let (device, _) = open(Interpretation::default(), multiprocessors);
    let (mut complaints, mut ran) = (Vec::new(), Vec::new());
    for case in cases {
        run_case(&device, case, |report| {
            ran.push(report.variant);
            complaints.extend(report.complaint());
        });
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    ran
}

/// A call of both passes; the names of its gradients.
fn run<T: Float>(device: &Device, case: &Case, options: &Options) {
    let mut named = case.tensors::<T>().expect("tensors");
    named.extend(case.output_gradients::<T>().expect("tensors"));
    run_named(device, &named, options).unwrap_or_else(|error| panic!("{options:?}: {error}"));
}

#[test]
fn backward_kernels_raise_nothing_under_ten_schedules() {
    for seed in 0..10 {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Schedule::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let layout = if seed % 2 == 0 { Layout::Bdl } else { Layout::Bld };
        let resets = if seed % 4 < 2 { ResetForm::None } else { ResetForm::Flags };
        // Two rounds, or a pair of blocks, the second with idle lanes; and two chunks.
        let (form, columns, multiprocessors) =
            [("256", 64, 1), ("128", 32, 1), ("pairs", 64, 2)][seed as usize % 3];
        let (device, _) = open(interpretation, multiprocessors);
        let case = Case { seed, layout, resets, ..Case::new(1, columns + 3, 270, 16, 1) };
        let name = ["bdl", "bld"][usize::from(layout == Layout::Bld)];
        let variant = |element| format!("selective_scan_backward_{element}_{name}_n16_{form}");
        match seed % 5 {
            0 => run::<bf16>(&device, &case, &case.options().with_variant(variant("bf16"))),
            1 => run::<f16>(&device, &case, &case.options().with_variant(variant("f16"))),
            _ => run::<f32>(&device, &case, &case.options().with_variant(variant("f32"))),
        }
    }
}

/// What the kernels of both passes did, against the least.
struct Moved {
    both: f64,
    backward: f64,
    instructions: f64,
    conflicts: u64,
    atomics: u64,
}

fn moved(dtype: DType, layout: Layout, gpu: Properties) -> Moved {
    let sizes @ [batch, channels, steps, states, groups] = [1, 2048, 1024, 16, 1];
    let case = Case { layout, ..Case::new(batch, channels, steps, states, groups) };
    let (device, interpreter) = open_as(Interpretation::default().unchecked(), gpu);
    match dtype {
        DType::F32 => run::<f32>(&device, &case, &case.options()),
        DType::F16 => run::<f16>(&device, &case, &case.options()),
        _ => run::<bf16>(&device, &case, &case.options()),
    }
    let problem = Problem::new(dtype, sizes, &case.options()).expect("a problem");
    let (mut all, mut backward) = (0, 0);
    let (mut instructions, mut conflicts, mut atomics) = (0, 0, 0);
    for kernel in interpreter.take_counters() {
        let total = kernel.total();
        all += total.global_bytes();
        if kernel.kernel.starts_with("selective_scan_backward") {
            backward += total.global_bytes();
            instructions += total.threads;
            conflicts += total.bank_conflicts();
            atomics += total.atomics.requests;
        }
    }
    let least = problem.least_backward_bytes(true);
    Moved {
        both: all as f64 / (problem.least_bytes(true) + least) as f64,
        backward: backward as f64 / least as f64,
        instructions: instructions as f64 / (channels * steps * states) as f64,
        conflicts,
        atomics,
    }
}

/// S1 of the specification has eight rows of 2048 channels: a row for an eighth of the multiprocessors
/// gives blocks as many channels, 128 on an H100, where two share their sums for dB and dC, and 160 on
/// an A100.
#[test]
fn the_backward_scan_moves_and_does_no_more_than_it_must() {
    use Layout::{Bdl, Bld};
    let h100 = || ("H100", gpu(132 / 8), 43.5);
    let a100 = || ("A100", a100(108 / 8), 44.5);
    for ((name, gpu, budget), dtype, layout) in [
        (h100(), DType::F32, Bdl),
        (h100(), DType::BF16, Bld),
        (h100(), DType::F16, Bdl),
        (a100(), DType::F32, Bld),
        (a100(), DType::BF16, Bdl),
        (a100(), DType::F16, Bld),
    ] {
        let Moved { both, backward, instructions, conflicts, atomics } = moved(dtype, layout, gpu);
        let call = format!("{name}, {dtype}, {layout:?}");
        println!("{call}: {both:.3}, {backward:.3}, {instructions:.2}");
        assert!(both <= 1.20, "{call}: {both:.3} of the least bytes");
        assert!(backward <= 1.20, "{call}, backward: {backward:.3}");
        assert!(instructions <= budget, "{call}: {instructions:.2} instructions");
        assert_eq!((conflicts, atomics), (0, 0), "{call}");
    }
}
