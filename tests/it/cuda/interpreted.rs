//! The kernels on the interpreter, in forms that the common cases do not choose.

use warpwright::Device;
use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{Approximations, Options as Interpretation};
use warpwright::selective_scan::Layout;
use warpwright::verify::selective_scan::{Case, Distribution, ResetForm, run_case};

/// The variants that ran, and what is wrong with their results.
fn reports(device: &Device, case: &Case) -> (Vec<&'static str>, Vec<String>) {
    let (mut variants, mut complaints) = (Vec::new(), Vec::new());
    run_case(device, case, |report| {
        variants.push(report.variant);
        complaints.extend(report.complaint());
    });
    (variants, complaints)
}

/// Threads that take four channels need blocks full of them, which the common cases have not.
#[test]
fn full_blocks_of_channels_are_scanned_as_the_reference() {
    let device = Device::Cuda(Interpreter::open().unwrap());
    let forms = [ResetForm::None, ResetForm::Flags, ResetForm::SeqIdx, ResetForm::CuSeqlens];
    let shapes = [
        (128, 1, 40, 16),
        (256, 2, 17, 12),
        (128, 1, 300, 9),
        (128, 1, 16, 13),
        (384, 1, 33, 15),
        (128, 1, 64, 11),
    ];
    let (mut variants, mut complaints) = (Vec::new(), Vec::new());
    for layout in [Layout::Bdl, Layout::Bld] {
        for (i, (channels, groups, steps, states)) in shapes.into_iter().enumerate() {
            let case = Case {
                layout,
                resets: forms[i % forms.len()],
                one_buffer: i % 3 == 1,
                bias: i != 3,
                gate: i != 4,
                skip: i != 5,
                ..Case::new(2, channels, steps, states, groups)
            };
            let (ran, wrong) = reports(&device, &case);
            variants.extend(ran);
            complaints.extend(wrong);
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let wide = variants.iter().filter(|name| name.ends_with("_n16x4")).count();
    assert_eq!(wide, 2 * shapes.len() * 3, "each shape in each layout and element type");
}

/// Clamped, most step sizes are equal, and so are the errors of their decays, which would add up
/// over all that a state remembers. Here `ex2` is as wrong as a GPU's may be.
#[test]
fn equal_step_sizes_do_not_add_up_the_errors_of_decays() {
    let interpretation =
        Interpretation::default().with_seed(7).with_approximations(Approximations::Perturbed);
    let cuda = Cuda::with_driver(Interpreter::new(interpretation)).expect("device");
    let device = Device::Cuda(cuda);
    let forms = [ResetForm::None, ResetForm::Flags, ResetForm::SeqIdx, ResetForm::CuSeqlens];
    for (i, states) in [15, 3, 40, 200].into_iter().enumerate() {
        let case = Case {
            distribution: Distribution::Broad,
            clamp: true,
            softplus: false,
            resets: forms[i],
            a_per_channel: i == 1,
            c_constant: i == 2,
            ..Case::new(1, 9, 1025, states, 1)
        };
        let (variants, complaints) = reports(&device, &case);
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
        assert!(i == 3 || variants.iter().any(|name| name.contains("chunked")), "{variants:?}");
    }
}
