//! The kernels on the interpreter, in the forms that only many channels choose.

use warpwright::Device;
use warpwright::backend::cuda::Interpreter;
use warpwright::selective_scan::Layout;
use warpwright::verify::selective_scan::{Case, ResetForm, run_case};

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
                clamp: i == 5,
                ..Case::new(2, channels, steps, states, groups)
            };
            run_case(&device, &case, |report| {
                variants.push(report.variant);
                complaints.extend(report.complaint());
            });
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let wide = variants.iter().filter(|name| name.ends_with("_n16x4")).count();
    assert_eq!(wide, 2 * shapes.len() * 3, "each shape in each layout and element type");
}
