//! What is particular to WebGPU: the baseline that every device has, parts of batches, recording
//! into a caller's encoder.

use warpwright::backend::Backend;
use warpwright::backend::wgpu::Wgpu;
use warpwright::causal_conv1d::{
    self, Gradients, GradientsMut, Inputs, Layout, Options, OutputGradients, OutputsMut, update,
};
use warpwright::verify::causal_conv1d::{Case, ResetForm, UpdateCase, run_case, run_update_case};
use warpwright::{Device, Error, Tensor, wgpu};

use crate::wgpu::{baseline, foreign};

fn check(device: &Wgpu, cases: &[Case]) {
    let device = Device::Wgpu(device.clone());
    let mut complaints = Vec::new();
    for case in cases {
        run_case(&device, case, |report| complaints.extend(report.complaint()));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_baseline_suffices() {
    let Some(device) = baseline() else { return };
    assert_eq!(device.limits().storage_bindings, 8);
    let plain = Case { one_buffer: true, ..Case::new(2, 7, 301, 4) };
    let cases = [
        plain.clone(),
        Case { layout: Layout::Bld, resets: ResetForm::SeqIdx, ..plain.clone() },
        Case { resets: ResetForm::CuSeqlens, narrow_parameters: true, ..plain },
    ];
    check(device, &cases);
    let update = UpdateCase { one_buffer: true, indexed: true, ..UpdateCase::new(5, 7, 4, 5) };
    let mut complaints = Vec::new();
    run_update_case(&Device::Wgpu(device.clone()), &update, |report| {
        complaints.extend(report.complaint());
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_batch_that_no_binding_holds_goes_in_parts() {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 16, ..Default::default() };
    let Some((device, queue)) = foreign(limits) else { return };
    let device = Wgpu::borrow(device, queue);
    // A batch entry takes 5 * 700 elements: four of them fit as f32, of nine.
    let case = Case::new(9, 5, 700, 4);
    let numbered = Case { layout: Layout::Bld, resets: ResetForm::SeqIdx, ..case.clone() };
    check(&device, &[case, numbered]);
    // One that does not fit by itself is an error that says what to do.
    let x = Tensor::from_slice(&device, &vec![0.5f32; 20_000], &[1, 1, 20_000]).unwrap();
    let weight = Tensor::from_slice(&device, &[1.0f32], &[1, 1]).unwrap();
    let inputs = Inputs::new(&x, &weight);
    let error = causal_conv1d::forward(&inputs, &Options::default()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Unsupported { .. }), "{message}");
    assert!(message.contains("80000 bytes of `x`") && message.contains("s0"), "{message}");
}

/// out_t = x_t - x_{t-1} twice, then its gradient and a step, all in one encoder.
#[test]
fn calls_record_one_after_the_other_into_a_callers_encoder() {
    let Some(device) = baseline() else { return };
    let x: Vec<f32> = (0..77).map(|t| ((t * 37) % 11) as f32).collect();
    let shape = [1, 1, x.len()];
    let weight = Tensor::from_slice(device, &[-1.0f32, 1.0], &[1, 2]).unwrap();
    let input = Tensor::from_slice(device, &x, &shape).unwrap();
    let mut middle = Tensor::new(device, &shape).unwrap();
    let mut out = Tensor::new(device, &shape).unwrap();
    let mut encoder = device.device().create_command_encoder(&Default::default());
    let options = Options::default();
    let mut record = |x: &Tensor<Wgpu, f32>, out: &mut Tensor<Wgpu, f32>| {
        let mut outputs = OutputsMut { out, final_state: None };
        let inputs = Inputs::new(x, &weight);
        causal_conv1d::record_forward(device, &mut encoder, &inputs, &options, &mut outputs)
    };
    record(&input, &mut middle).unwrap();
    record(&middle, &mut out).unwrap();
    let mut over = input.clone();
    let error = record(&input, &mut over).unwrap_err();
    assert!(matches!(error, Error::Aliased { .. }), "{error}");

    let mut dx = Tensor::new(device, &shape).unwrap();
    let mut outputs =
        GradientsMut::<_, f32> { dx: Some(&mut dx), dweight: None, dbias: None, ds0: None };
    let (inputs, outer) = (Inputs::new(&input, &weight), OutputGradients::new(&input));
    causal_conv1d::record_backward(device, &mut encoder, &inputs, &outer, &options, &mut outputs)
        .unwrap();
    let mut state = Tensor::from_slice(device, &[2.0f32], &[1, 1, 1]).unwrap();
    let step = Tensor::from_slice(device, &[5.0f32], &[1, 1]).unwrap();
    let mut stepped = Tensor::new(device, &[1, 1]).unwrap();
    let inputs = update::Inputs::new(&step, &weight);
    update::record(device, &mut encoder, &inputs, (&mut state).into(), &options, &mut stepped)
        .unwrap();
    device.queue().submit([encoder.finish()]);

    let before = |x: &[f32], t: usize| if t > 0 { x[t - 1] } else { 0.0 };
    let differences = |x: &[f32]| (0..x.len()).map(|t| x[t] - before(x, t)).collect::<Vec<f32>>();
    assert_eq!(out.to_vec().unwrap(), differences(&differences(&x)));
    let slopes: Vec<f32> =
        (0..x.len()).map(|t| x[t] - x.get(t + 1).copied().unwrap_or(0.0)).collect();
    assert_eq!(dx.to_vec().unwrap(), slopes);
    assert_eq!((stepped.to_vec().unwrap(), state.to_vec().unwrap()), (vec![3.0], vec![5.0]));
}

/// Gradients that are not asked for are not written, and cost nothing.
#[test]
fn some_gradients_can_be_left_out() {
    let Some(device) = baseline() else { return };
    let x = Tensor::from_slice(device, &[1.0f32, 2.0, 3.0], &[1, 1, 3]).unwrap();
    let weight = Tensor::from_slice(device, &[0.5f32, 1.0], &[1, 2]).unwrap();
    let (inputs, outer) = (Inputs::new(&x, &weight), OutputGradients::new(&x));
    let Gradients { dweight: expected, .. } =
        causal_conv1d::backward(&inputs, &outer, &Options::default()).unwrap();
    let mut dweight = Tensor::new(device, &[1, 2]).unwrap();
    let mut outputs =
        GradientsMut::<_, f32> { dx: None, dweight: Some(&mut dweight), dbias: None, ds0: None };
    causal_conv1d::backward_into(&inputs, &outer, &Options::default(), &mut outputs).unwrap();
    assert_eq!(dweight.to_vec().unwrap(), expected.to_vec().unwrap());
    assert_eq!(dweight.to_vec().unwrap(), [1.0 * 2.0 + 2.0 * 3.0, 1.0 + 4.0 + 9.0]);
}
