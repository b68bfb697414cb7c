//! What is particular to WebGPU: the baseline that every device has, devices and buffers that
//! somebody else owns, recording into a caller's encoder. The cases that all backends share run in
//! `cases`.

use std::sync::OnceLock;

use warpwright::backend::Backend;
use warpwright::backend::wgpu::{Wgpu, WgpuBuffer};
use warpwright::selective_scan::{
    self, GradientsMut, Inputs, Layout, Options, OutputGradients, OutputsMut,
};
use warpwright::verify::selective_scan::{Case, ResetForm, Sizes, run_case};
use warpwright::{Cpu, Device, Error, Tensor, wgpu};

/// A device with the default limits of WebGPU and no features; nothing where there is no adapter,
/// which `devices` has told of.
pub fn baseline() -> Option<&'static Wgpu> {
    static BASELINE: OnceLock<Option<Wgpu>> = OnceLock::new();
    let open = || {
        crate::devices::devices().iter().find_map(|device| match device {
            Device::Wgpu(_) => Some(Wgpu::baseline(0).expect("an adapter that opens in full")),
            _ => None,
        })
    };
    BASELINE.get_or_init(open).as_ref()
}

/// The adapter of the baseline device, opened by somebody else.
pub fn foreign(limits: wgpu::Limits) -> Option<(wgpu::Device, wgpu::Queue)> {
    baseline()?;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let request = adapters
        .first()?
        .request_device(&wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() });
    Some(pollster::block_on(request).expect("the default limits are everywhere"))
}

fn check(device: &Wgpu, cases: &[Case]) {
    let device = Device::Wgpu(device.clone());
    let mut complaints = Vec::new();
    for case in cases {
        run_case(&device, case, |report| complaints.extend(report.complaint()));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Odd sizes, all tensors in one buffer, in every form of reset.
fn cases() -> Vec<Case> {
    let plain = Case { one_buffer: true, ..Case::new(2, 7, 301, 16, 1) };
    vec![
        plain.clone(),
        Case { layout: Layout::Bld, resets: ResetForm::SeqIdx, ..plain.clone() },
        Case { resets: ResetForm::Flags, b_constant: true, ..plain.clone() },
        Case { resets: ResetForm::CuSeqlens, narrow_parameters: true, ..plain.clone() },
        Case { sizes: Sizes { steps: 0, ..plain.sizes }, ..plain },
    ]
}

#[test]
fn the_baseline_suffices() {
    let Some(device) = baseline() else { return };
    assert_eq!(device.limits().storage_bindings, 8);
    check(device, &cases());
}

#[test]
fn a_borrowed_device_keeps_its_error_handler() {
    let Some((device, queue)) = foreign(wgpu::Limits::default()) else { return };
    let told = std::sync::Arc::new(OnceLock::new());
    let teller = told.clone();
    device.on_uncaptured_error(std::sync::Arc::new(move |error: wgpu::Error| {
        teller.set(error.to_string()).expect("one error");
    }));
    let borrowed = Wgpu::borrow(device.clone(), queue);
    check(&borrowed, &cases()[..1]);
    assert_eq!(told.get(), None, "our own calls stand between scopes");
    let usage = wgpu::BufferUsages::empty();
    let wrong = wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false };
    drop(device.create_buffer(&wrong));
    assert!(told.get().is_some(), "the owner's handler still listens");
}

#[test]
fn a_batch_that_no_binding_holds_goes_in_parts() {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 16, ..Default::default() };
    let Some((device, queue)) = foreign(limits) else { return };
    let device = Wgpu::borrow(device, queue);
    // A batch entry of u takes 5 * 700 elements: four of them fit as f32, of nine.
    let case = Case::new(9, 5, 700, 3, 1);
    check(&device, &[case.clone(), Case { layout: Layout::Bld, resets: ResetForm::Flags, ..case }]);
    // The backward pass takes the three blocks of channels one after the other.
    check(&device, &[Case::new(2, 40, 130, 16, 1), Case::new(2, 80, 130, 16, 2)]);
    // One that does not fit by itself is an error that says what to do.
    let long = vec![0.5f32; 20_000];
    let u = Tensor::from_slice(&device, &long, &[1, 1, 20_000]).unwrap();
    let a = Tensor::from_slice(&device, &[-1.0f32], &[1, 1]).unwrap();
    let inputs = Inputs::new(&u, &u, &a, &a, &a);
    let error = selective_scan::forward(&inputs, &Options::default()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Unsupported { .. }), "{message}");
    assert!(message.contains("80000 bytes of `u`") && message.contains("h0"), "{message}");
}

/// h_t = e^{-Δ_t} h_{t-1} + Δ_t u_t over `u`, with Δ = 1/2, on the CPU.
fn by_hand(u: &[f32]) -> Vec<f32> {
    let decay = (-0.5f32).exp();
    let mut h = 0.0;
    let step = |&u: &f32| {
        h = decay * h + 0.5 * u;
        h
    };
    u.iter().map(step).collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5, "{found} is not {expected}");
    }
}

#[test]
fn scans_record_one_after_the_other_into_a_callers_encoder() {
    let Some(device) = baseline() else { return };
    let u: Vec<f32> = (0..77).map(|t| ((t * 37) % 11) as f32 / 11.0).collect();
    let shape = [1, 1, u.len()];
    let input = Tensor::from_slice(device, &u, &shape).unwrap();
    let delta = Tensor::from_slice(device, &vec![0.5f32; u.len()], &shape).unwrap();
    let a = Tensor::from_slice(device, &[-1.0f32], &[1, 1]).unwrap();
    let one = Tensor::from_slice(device, &[1.0f32], &[1, 1]).unwrap();
    let mut middle = Tensor::new(device, &shape).unwrap();
    let mut out = Tensor::new(device, &shape).unwrap();
    let mut encoder = device.device().create_command_encoder(&Default::default());
    let mut record = |u: &Tensor<Wgpu, f32>, out: &mut Tensor<Wgpu, f32>| {
        let inputs = Inputs::new(u, &delta, &a, &one, &one);
        let mut outputs = OutputsMut { out, last_state: None, saved: None };
        selective_scan::record_forward(
            device,
            &mut encoder,
            &inputs,
            &Options::default(),
            &mut outputs,
        )
    };
    record(&input, &mut middle).unwrap();
    record(&middle, &mut out).unwrap();
    // An output may not lie over an input.
    let mut over = input.clone();
    let error = record(&input, &mut over).unwrap_err();
    assert!(matches!(error, Error::Aliased { .. }), "{error}");
    device.queue().submit([encoder.finish()]);
    assert_close(&out.to_vec().unwrap(), &by_hand(&by_hand(&u)));
}

#[test]
fn both_passes_record_into_a_callers_encoder() {
    let Some(device) = baseline() else { return };
    let shape = [1, 1, 300];
    let tensor = |x: f32| Tensor::from_slice(device, &[x; 300], &shape).unwrap();
    let (u, delta, dout) = (tensor(1.0), tensor(0.5), tensor(1.0));
    let one = Tensor::from_slice(device, &[1.0f32], &[1, 1]).unwrap();
    let a = Tensor::from_slice(device, &[-1.0f32], &[1, 1]).unwrap();
    let inputs = Inputs::new(&u, &delta, &a, &one, &one);
    let options = Options::default().with_save(true);
    let (mut out, mut du) = (tensor(0.0), tensor(0.0));
    let mut saved = Tensor::new(device, &[1, 1, 2, 1]).unwrap();
    let mut encoder = device.device().create_command_encoder(&Default::default());
    let mut outputs = OutputsMut { out: &mut out, last_state: None, saved: Some(&mut saved) };
    selective_scan::record_forward(device, &mut encoder, &inputs, &options, &mut outputs).unwrap();
    let outer = OutputGradients::new(&dout);
    let mut record = |du: &mut Tensor<Wgpu, f32>| {
        let mut gradients = GradientsMut { du: Some(du), ..GradientsMut::default() };
        selective_scan::record_backward(
            device,
            &mut encoder,
            &inputs,
            &options,
            &saved,
            &outer,
            &mut gradients,
        )
    };
    record(&mut du).unwrap();
    // A gradient may not lie over what is read.
    let error = record(&mut u.clone()).unwrap_err();
    assert!(matches!(error, Error::Aliased { .. }), "{error}");
    device.queue().submit([encoder.finish()]);
    // out is linear in u, and the same backwards in time.
    let ones = by_hand(&[1.0; 300]);
    let expected: Vec<f32> = ones.iter().rev().copied().collect();
    assert_close(&out.to_vec().unwrap(), &ones);
    assert_close(&du.to_vec().unwrap(), &expected);
}

#[test]
fn a_long_row_goes_in_several_dispatches() {
    let Some(baseline) = baseline() else { return };
    let full = Wgpu::new(0).expect("the adapter opens in full");
    let u: Vec<f32> = (0..9001).map(|t| ((t * 37) % 11) as f32 / 11.0).collect();
    let expected = by_hand(&u);
    for device in [baseline, &full] {
        let shape = [1, 1, u.len()];
        let input = Tensor::from_slice(device, &u, &shape).unwrap();
        let delta = Tensor::from_slice(device, &vec![0.5f32; u.len()], &shape).unwrap();
        let a = Tensor::from_slice(device, &[-1.0f32], &[1, 1]).unwrap();
        let one = Tensor::from_slice(device, &[1.0f32], &[1, 1]).unwrap();
        let inputs = Inputs::new(&input, &delta, &a, &one, &one);
        let kind = if device.limits().storage_bindings < 16 { "serial" } else { "direct" };
        let variant = format!("selective_scan_forward_{kind}_wgsl_f32_1x1");
        let options = Options::default().with_variant(variant);
        // With and without a place where the state could lie in between.
        let mut out = Tensor::new(device, &shape).unwrap();
        let mut outputs = OutputsMut { out: &mut out, last_state: None, saved: None };
        selective_scan::forward_into(&inputs, &options, &mut outputs).unwrap();
        assert_close(&out.to_vec().unwrap(), &expected);
        let scanned = selective_scan::forward(&inputs, &options).unwrap();
        assert_close(&scanned.out.to_vec().unwrap(), &expected);
        assert_close(&scanned.last_state.to_vec().unwrap(), &expected[9000..]);
    }
}

#[test]
fn a_range_of_a_callers_buffer_is_a_tensor() {
    let Some(device) = baseline() else { return };
    let u = [1.0f32, 0.0, 2.0, 0.0, 0.0];
    let buffer = device.upload(bytemuck::cast_slice(&u)).unwrap();
    let wrap = |usage, range: std::ops::Range<u64>| {
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
        WgpuBuffer::wrap(device.device().create_buffer(&descriptor), range).unwrap()
    };
    let shape = [1, 1, 5];
    let tensor = |buffer| Tensor::<_, f32>::from_buffer(device, buffer, 4, &shape, &[5, 5, 1]);
    let input = Tensor::from_buffer(device, buffer, 0, &shape, &[5, 5, 1]).unwrap();
    let delta = Tensor::from_slice(device, &[0.5f32; 5], &shape).unwrap();
    let one = Tensor::from_slice(device, &[1.0f32], &[1, 1]).unwrap();
    let a = Tensor::from_slice(device, &[-1.0f32], &[1, 1]).unwrap();
    let inputs = Inputs::new(&input, &delta, &a, &one, &one);
    let into = |out: &mut Tensor<Wgpu, f32>| {
        let mut outputs = OutputsMut { out, last_state: None, saved: None };
        selective_scan::forward_into(&inputs, &Options::default(), &mut outputs)
    };
    let mut out = tensor(wrap(WgpuBuffer::USAGES, 20..44)).unwrap();
    into(&mut out).unwrap();
    assert_close(&out.to_vec().unwrap(), &by_hand(&u));
    let mut whole = [1; 64];
    let all = WgpuBuffer::wrap(out.buffer().buffer().clone(), 0..64).unwrap();
    device.download(&all, 0, &mut whole).unwrap();
    assert!(whole[..24].iter().chain(&whole[44..]).all(|&byte| byte == 0));

    let mut lacking = tensor(wrap(wgpu::BufferUsages::STORAGE, 0..64)).unwrap();
    let message = into(&mut lacking).unwrap_err().to_string();
    assert!(message.contains("`out`") && message.contains("COPY_SRC"), "{message}");
}

#[test]
fn downloads_need_not_block() {
    let Some(device) = baseline() else { return };
    let bytes: Vec<u8> = (0..100).collect();
    let x = Tensor::from_slice(device, &bytes, &[100]).unwrap();
    let some = pollster::block_on(device.download_async(x.buffer(), 3, 50)).unwrap();
    assert_eq!(some, bytes[3..53]);
    assert_eq!(x.to_backend(&Cpu).unwrap().to_bytes().unwrap(), bytes);
}
