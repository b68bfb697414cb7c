//! What is particular to WebGPU: the baseline that every device has, and recording into a caller's
//! encoder.

use warpwright::backend::Backend;
use warpwright::selective_scan::state_update::{Inputs, Options, OutputsMut, record};
use warpwright::verify::selective_scan::state_update::{Case, Slots, check_case};
use warpwright::{DType, Device, Error, Tensor, wgpu};

use crate::wgpu::baseline;

#[test]
fn the_baseline_suffices() {
    let Some(device) = baseline() else { return };
    assert_eq!(device.limits().storage_bindings, 8);
    let device = Device::Wgpu(device.clone());
    let plain = Case { one_buffer: true, slots: Slots::Moved, ..Case::plain(5, 7, 17) };
    let heads = Case { one_buffer: true, steps: Some(3), ..Case::heads(2, 6, 5, 256, 3) };
    let mut complaints = Vec::new();
    for (index, case) in [plain, heads].into_iter().enumerate() {
        for state in [DType::F32, DType::BF16, DType::F16] {
            let case = Case { state, ..case.clone() };
            check_case(&device, &case, DType::F16, index, &mut |report| {
                complaints.extend(report.complaint());
            });
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Two updates of one state in one submission follow each other.
#[test]
fn updates_are_recorded_into_a_callers_encoder() {
    let Some(device) = baseline() else { return };
    let tensor = |value: f32, shape: &[usize]| {
        Tensor::from_slice(device, &vec![value; shape.iter().product()], shape).unwrap()
    };
    // h = h + x, twice: A is 0, and so is the decay's exponent.
    let (x, dt, a) = (tensor(3.0, &[1, 2]), tensor(1.0, &[1, 2]), tensor(0.0, &[2]));
    let (b, c) = (tensor(1.0, &[1, 1]), tensor(2.0, &[1, 1]));
    let mut state = tensor(1.0, &[1, 2, 1]);
    let mut outs = [tensor(0.0, &[1, 2]), tensor(0.0, &[1, 2])];
    let inputs = Inputs::new(&x, &dt, &a, &b, &c);
    let options = Options::default();
    let descriptor = wgpu::CommandEncoderDescriptor::default();
    let mut encoder = device.device().create_command_encoder(&descriptor);
    for out in &mut outs {
        let mut outputs = OutputsMut { out, states: None };
        record(device, &mut encoder, &mut state, &inputs, &options, &mut outputs).unwrap();
    }
    device.queue().submit([encoder.finish()]);
    assert_eq!(state.to_vec().unwrap(), [7.0, 7.0]);
    assert_eq!(outs[0].to_vec().unwrap(), [8.0, 8.0]);
    assert_eq!(outs[1].to_vec().unwrap(), [14.0, 14.0]);

    let mut over = x.clone();
    let mut encoder = device.device().create_command_encoder(&descriptor);
    let mut outputs = OutputsMut { out: &mut over, states: None };
    let error = record(device, &mut encoder, &mut state, &inputs, &options, &mut outputs);
    assert!(matches!(error, Err(Error::Aliased { .. })), "{error:?}");
}
