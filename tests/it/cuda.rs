//! CUDA without a GPU: what the launcher asks of a driver. With a GPU, the scan as well.

use std::sync::Arc;

use warpwright::backend::Backend;
use warpwright::backend::cuda::{Cuda, CudaBuffer};
use warpwright::selective_scan::{self, Inputs, Layout, Options, Resets};
use warpwright::{Element, Error, Tensor, bf16, f16};

#[cfg(feature = "interpreter")]
mod interpreted;
mod recorder;

use recorder::{Call, Launched, Recorder};

/// A device that writes down what it is asked, and its driver.
fn recorded() -> (Cuda, Arc<Recorder>) {
    let driver = Arc::new(Recorder::new((9, 0)));
    (Cuda::with_driver(driver.clone()).unwrap(), driver)
}

fn tensor<T: Element>(cuda: &Cuda, shape: &[usize]) -> Tensor<Cuda, T> {
    Tensor::new(cuda, shape).unwrap()
}

/// The tensors of a scan: B = 2, D = 130, L = 10, N = 5, G = 2.
struct Tensors<T: Element, P: Element> {
    u: Tensor<Cuda, T>,
    delta: Tensor<Cuda, T>,
    a: Tensor<Cuda, P>,
    b: Tensor<Cuda, T>,
    c: Tensor<Cuda, P>,
    d: Tensor<Cuda, P>,
    z: Tensor<Cuda, T>,
    h0: Tensor<Cuda, f32>,
}

impl<T: Element, P: Element> Tensors<T, P> {
    fn new(cuda: &Cuda) -> Self {
        // Half of a wider tensor, so that strides and offset are not those of a whole one.
        let z = tensor(cuda, &[2, 260, 12]).narrowed(1, 130..260).unwrap();
        Self {
            u: tensor(cuda, &[2, 130, 10]),
            delta: tensor(cuda, &[2, 130, 10]),
            a: tensor(cuda, &[130, 5]),
            b: tensor(cuda, &[2, 2, 5, 10]),
            c: tensor(cuda, &[130, 5]),
            d: tensor(cuda, &[130]),
            z: z.narrowed(2, 0..10).unwrap(),
            h0: tensor(cuda, &[2, 130, 5]),
        }
    }
}

/// The address of a tensor's first element.
fn address<T: Element>(tensor: &Tensor<Cuda, T>) -> u64 {
    tensor.buffer().address() + tensor.offset()
}

fn check(launched: &Launched, expected: &[(&str, u64)]) {
    for &(name, value) in expected {
        assert_eq!(launched.get(name), value, "{name} of {}", launched.kernel);
    }
}

#[test]
fn arguments_arrive_under_the_kernels_names() {
    let (cuda, driver) = recorded();
    let x = Tensors::<f32, f32>::new(&cuda);
    let inputs =
        Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c).with_d(&x.d).with_z(&x.z).with_h0(&x.h0);
    let options = Options::default().with_delta_softplus(true).with_delta_clamp(0.001, 0.1);
    driver.calls();
    let outputs = selective_scan::forward(&inputs, &options.with_save(true)).unwrap();
    let launches = driver.launches();
    let [forward] = launches.as_slice() else { panic!("{launches:?}") };
    assert_eq!(forward.kernel, "selective_scan_forward_serial_f32_bdl_n8x1");
    // Rows, groups, and 65 channels of a group in blocks of 64.
    assert_eq!((forward.grid, forward.block), ([2 * 2 * 2, 1, 1], [128, 1, 1]));
    assert_eq!(forward.stream, cuda.stream().handle());
    let tensors = [
        ("u", address(&x.u)),
        ("delta", address(&x.delta)),
        ("a", address(&x.a)),
        ("b", address(&x.b)),
        ("c", address(&x.c)),
        ("d", address(&x.d)),
        ("z", address(&x.z)),
        ("delta_bias", 0),
        ("h0", address(&x.h0)),
        ("codes", 0),
        ("cu_seqlens", 0),
        ("out", address(&outputs.out)),
        ("last_state", address(&outputs.last_state)),
        ("saved", address(&outputs.saved.unwrap())),
    ];
    check(forward, &tensors);
    let strides = [
        ("u_batch_stride", 1300),
        ("u_slow_stride", 10),
        ("delta_batch_stride", 1300),
        ("delta_slow_stride", 10),
        ("z_batch_stride", 260 * 12),
        ("z_slow_stride", 12),
        ("out_batch_stride", 1300),
        ("out_slow_stride", 10),
        ("b_batch_stride", 100),
        ("b_group_stride", 50),
        ("b_slow_stride", 10),
        ("c_batch_stride", 0),
        ("c_group_stride", 0),
        ("c_slow_stride", 0),
        ("codes_batch_stride", 0),
    ];
    check(forward, &strides);
    let numbers = [
        ("channels", 130),
        ("groups", 2),
        ("states", 5),
        ("steps", 10),
        ("chunks", 1),
        ("chunk", 10),
        ("save_every", 256),
        // Softplus, clamp, constant C, accurate decays.
        ("flags", 1 | 2 | 8 | 64),
        ("delta_min", u64::from(0.001f32.to_bits())),
        ("delta_max", u64::from(0.1f32.to_bits())),
    ];
    check(forward, &numbers);
    assert_eq!(tensors.len() + strides.len() + numbers.len() + 1, forward.arguments.len());
}

#[test]
fn parameters_of_16_bits_are_widened_into_workspace() {
    let (cuda, driver) = recorded();
    let x = Tensors::<bf16, bf16>::new(&cuda);
    let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c).with_d(&x.d).with_h0(&x.h0);
    let before = driver.allocations();
    driver.calls();
    let outputs = selective_scan::forward(&inputs, &Options::default()).unwrap();
    let calls = driver.calls();
    // A, C and D in f32, each from a multiple of 256 bytes.
    assert!(calls.contains(&Call::Allocate(2 * 2816 + 768)), "{calls:?}");
    assert_eq!(driver.allocations(), before + 2, "only the outputs are left");
    let launches: Vec<&Launched> = calls
        .iter()
        .filter_map(|call| if let Call::Launch(launched) = call { Some(launched) } else { None })
        .collect();
    let [a, c, d, forward] = launches.as_slice() else { panic!("{calls:?}") };
    let expected = [("a", a, address(&x.a), 650), ("c", c, address(&x.c), 650)];
    for (name, widened, source, count) in expected {
        assert_eq!((widened.kernel.as_str(), widened.grid), ("widen_bf16", [1, 1, 1]));
        check(widened, &[("source", source), ("count", count), ("target", forward.get(name))]);
    }
    check(d, &[("source", address(&x.d)), ("count", 130), ("target", forward.get("d"))]);
    assert_eq!(forward.get("c") - forward.get("a"), 2816);
    assert_eq!(forward.kernel, "selective_scan_forward_serial_bf16_bdl_n8x1");
    check(forward, &[("b", address(&x.b)), ("h0", address(&x.h0))]);
    check(forward, &[("out", address(&outputs.out)), ("flags", 8)]);
}

#[test]
fn resets_become_codes() {
    let (cuda, driver) = recorded();
    let x = Tensors::<f32, f32>::new(&cuda);
    let run = |resets| {
        let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c).with_resets(resets);
        driver.calls();
        selective_scan::forward(&inputs, &Options::default()).unwrap();
        driver.launches()
    };

    let flags = tensor::<u8>(&cuda, &[2, 10]);
    let launches = run(Resets::Flags(&flags));
    assert_eq!(launches.len(), 1);
    let expected = [("codes", address(&flags)), ("codes_batch_stride", 10), ("flags", 8 | 32)];
    check(&launches[0], &expected);

    let seq_idx = tensor::<i64>(&cuda, &[2, 10]);
    let launches = run(Resets::SeqIdx((&seq_idx).into()));
    let [codes, forward] = launches.as_slice() else { panic!("{launches:?}") };
    assert_eq!((codes.kernel.as_str(), codes.grid), ("reset_codes", [2, 1, 1]));
    check(codes, &[("seq_idx", address(&seq_idx)), ("seq_idx_bytes", 8), ("sign_at", 4)]);
    check(codes, &[("steps", 10)]);
    check(codes, &[("seq_idx_batch_stride", 10), ("codes_batch_stride", 10)]);
    check(forward, &[("codes", codes.get("codes")), ("codes_batch_stride", 10), ("flags", 8)]);

    // Other widths; only signed ones have padding.
    let all = u64::from(u32::MAX);
    let (i32s, u32s) = (tensor::<i32>(&cuda, &[2, 10]), tensor::<u32>(&cuda, &[2, 10]));
    let (u64s, u8s) = (tensor::<u64>(&cuda, &[2, 10]), tensor::<u8>(&cuda, &[2, 10]));
    let widths = [
        (Resets::SeqIdx((&i32s).into()), 4, 0),
        (Resets::SeqIdx((&u32s).into()), 4, all),
        (Resets::SeqIdx((&u64s).into()), 8, all),
        (Resets::SeqIdx((&u8s).into()), 1, all),
    ];
    for (resets, bytes, sign_at) in widths {
        check(&run(resets)[0], &[("seq_idx_bytes", bytes), ("sign_at", sign_at)]);
    }
}

#[test]
fn packed_sequences_are_rows() {
    let (cuda, driver) = recorded();
    let u = tensor::<f32>(&cuda, &[1, 3, 20]);
    let maps = tensor::<f32>(&cuda, &[1, 1, 16, 20]);
    let a = tensor::<f32>(&cuda, &[3]);
    let bounds = tensor::<i32>(&cuda, &[6]);
    let inputs =
        Inputs::new(&u, &u, &a, &maps, &maps).with_resets(Resets::CuSeqlens((&bounds).into()));
    let outputs = selective_scan::forward(&inputs, &Options::default()).unwrap();
    assert_eq!(**outputs.last_state.shape(), [5, 3, 16]);
    let launches = driver.launches();
    assert_eq!(launches[0].grid, [5, 1, 1]);
    let expected = [("cu_seqlens", address(&bounds)), ("cu_seqlens_bytes", 4), ("flags", 16)];
    check(&launches[0], &expected);

    let narrow = tensor::<u8>(&cuda, &[6]);
    let inputs = inputs.with_resets(Resets::CuSeqlens((&narrow).into()));
    selective_scan::forward(&inputs, &Options::default()).unwrap();
    check(&driver.launches()[0], &[("cu_seqlens", address(&narrow)), ("cu_seqlens_bytes", 1)]);
}

#[test]
fn channels_last_have_strides_of_steps() {
    let (cuda, driver) = recorded();
    let u = tensor::<f16>(&cuda, &[2, 10, 130]);
    let z = tensor::<f16>(&cuda, &[2, 12, 260]).narrowed(1, 1..11).unwrap();
    let z = z.narrowed(2, 0..130).unwrap();
    let maps = tensor::<f16>(&cuda, &[2, 10, 2, 5]);
    let a = tensor::<f32>(&cuda, &[130, 5]);
    let inputs = Inputs::new(&u, &u, &a, &maps, &maps).with_z(&z);
    let options = Options::default().with_layout(Layout::Bld);
    selective_scan::forward(&inputs, &options).unwrap();
    let launches = driver.launches();
    let [forward] = launches.as_slice() else { panic!("{launches:?}") };
    assert_eq!(forward.kernel, "selective_scan_forward_serial_f16_bld_n8x1");
    check(forward, &[("u_batch_stride", 1300), ("u_slow_stride", 130), ("z", address(&z))]);
    check(forward, &[("z_batch_stride", 12 * 260), ("z_slow_stride", 260)]);
    check(forward, &[("b_batch_stride", 100), ("b_slow_stride", 10), ("b_group_stride", 5)]);
}

#[test]
fn chunks_of_time_take_three_launches() {
    let (cuda, driver) = recorded();
    let x = Tensors::<f32, f32>::new(&cuda);
    let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c).with_h0(&x.h0);
    let options = Options::default().with_variant("selective_scan_forward_chunked_f32_bdl_n8x1");
    driver.calls();
    let outputs = selective_scan::forward(&inputs, &options).unwrap();
    let launches = driver.launches();
    let [ends, carry, scan] = launches.as_slice() else { panic!("{launches:?}") };
    // 10 steps make one chunk.
    assert_eq!(ends.kernel, "selective_scan_forward_chunked_f32_bdl_n8x1");
    assert_eq!((ends.grid, ends.block), (scan.grid, scan.block));
    check(ends, &[("u", address(&x.u)), ("chunks", 1), ("chunk", 64), ("steps", 10)]);
    // The states between the chunks pass from launch to launch, from h0 to last_state.
    assert_eq!((carry.kernel.as_str(), carry.grid), ("selective_scan_forward_carry", [11, 1, 1]));
    check(carry, &[("carries", ends.get("last_state")), ("sums", ends.get("sums"))]);
    check(carry, &[("h0", address(&x.h0)), ("last_state", address(&outputs.last_state))]);
    check(carry, &[("lines", 260), ("channels", 130), ("states", 5), ("a_per_channel", 0)]);
    assert_eq!(scan.kernel, "selective_scan_forward_serial_f32_bdl_n8x1");
    check(scan, &[("h0", carry.get("carries")), ("last_state", 0), ("chunks", 1), ("chunk", 64)]);
    assert_eq!(ends.get("sums") - carry.get("carries"), (2u64 * 130 * 5 * 4).next_multiple_of(256));
}

#[test]
fn a_call_only_queues_work() {
    let (cuda, driver) = recorded();
    let x = Tensors::<bf16, bf16>::new(&cuda);
    let seq_idx = tensor::<i32>(&cuda, &[2, 10]);
    let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c)
        .with_resets(Resets::SeqIdx((&seq_idx).into()));
    driver.calls();
    for _ in 0..2 {
        selective_scan::forward(&inputs, &Options::default()).unwrap();
    }
    let calls = driver.calls();
    let queues = |call: &Call| {
        matches!(call, Call::Load(_) | Call::Allocate(_) | Call::Free | Call::Launch(_))
    };
    assert!(calls.iter().all(queues), "{calls:?}");
    let loads = calls.iter().filter(|call| matches!(call, Call::Load(_))).count();
    assert_eq!(loads, 3, "widen, codes and forward are loaded once: {calls:?}");
}

#[test]
fn preloading_leaves_nothing_to_load() {
    let (cuda, driver) = recorded();
    let x = Tensors::<bf16, bf16>::new(&cuda);
    let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c);
    let plan = selective_scan::plan_forward(&inputs, &Options::default()).unwrap();
    selective_scan::preload::<_, bf16>(&cuda, &plan).unwrap();
    driver.calls();
    selective_scan::forward(&inputs, &Options::default()).unwrap();
    assert!(!driver.calls().iter().any(|call| matches!(call, Call::Load(_))));
}

#[test]
fn a_failed_launch_gives_its_memory_back() {
    for failing in ["widen", "selective_scan_forward"] {
        let (cuda, driver) = recorded();
        let x = Tensors::<bf16, bf16>::new(&cuda);
        let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c);
        let before = driver.allocations();
        driver.fail_launches_of(failing);
        let error = selective_scan::forward(&inputs, &Options::default()).unwrap_err();
        assert!(matches!(error, Error::Driver { call: "launch", .. }), "{error}");
        assert_eq!(driver.allocations(), before);
    }
}

#[test]
fn a_full_device_is_told_apart() {
    let (cuda, driver) = recorded();
    let x = Tensors::<f32, f32>::new(&cuda);
    let inputs = Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c);
    driver.fail_allocations_over(10_399);
    let error = selective_scan::forward(&inputs, &Options::default()).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { asked: 10_400, .. }), "{error}");
}

#[test]
fn empty_problems_launch_only_what_hands_the_state_over() {
    let (cuda, driver) = recorded();
    let run = |batch: usize, channels: usize, steps: usize| {
        let u = tensor::<f32>(&cuda, &[batch, channels, steps]);
        let a = tensor::<f32>(&cuda, &[channels, 4]);
        let inputs = Inputs::new(&u, &u, &a, &a, &a);
        driver.calls();
        selective_scan::forward(&inputs, &Options::default()).unwrap();
        driver.launches()
    };
    assert!(run(0, 3, 5).is_empty());
    assert!(run(2, 0, 5).is_empty());
    let launches = run(2, 3, 0);
    assert_eq!(launches.len(), 1);
    check(&launches[0], &[("steps", 0), ("u", 0), ("h0", 0)]);
    assert_ne!(launches[0].get("last_state"), 0);
}

#[test]
fn tensors_of_one_call_share_a_stream() {
    let (cuda, driver) = recorded();
    let (other, _driver) = recorded();
    assert_eq!(cuda, cuda.clone());
    assert_ne!(cuda, other);
    let u = tensor::<f32>(&cuda, &[1, 3, 20]);
    let a = tensor::<f32>(&other, &[3, 4]);
    let inputs = Inputs::new(&u, &u, &a, &a, &a);
    let error = selective_scan::forward(&inputs, &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Tensor { .. }), "{error}");

    // This one says that it is of the right device, but its memory is not.
    let memory = a.buffer().clone();
    let a = Tensor::<_, f32>::from_buffer(&cuda, memory, 0, &[3, 4], &[4, 1]).unwrap();
    let inputs = Inputs::new(&u, &u, &a, &a, &a);
    let error = selective_scan::forward(&inputs, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("`A`: expected memory of stream"), "{error}");
    assert!(driver.launches().is_empty());
}

#[test]
fn buffers_hold_what_is_uploaded_and_go_back_to_the_pool() {
    let (cuda, driver) = recorded();
    let values: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let x = Tensor::from_slice(&cuda, &values, &[10, 10]).unwrap();
    assert_eq!(x.to_vec().unwrap(), values);
    assert_eq!(x.narrowed(0, 3..4).unwrap().to_vec().unwrap(), values[30..40]);
    let y = cuda.allocate(400).unwrap();
    cuda.copy(x.buffer(), &y).unwrap();
    let y = Tensor::<_, f32>::from_buffer(&cuda, y, 0, &[100], &[1]).unwrap();
    assert_eq!(y.to_vec().unwrap(), values);
    assert!(cuda.copy(x.buffer(), x.buffer()).is_err());
    assert!(cuda.copy(x.buffer(), &cuda.allocate(401).unwrap()).is_err());
    drop(y);
    let mut outside = [0; 8];
    let error = cuda.download(x.buffer(), 396, &mut outside).unwrap_err();
    assert!(error.to_string().contains("outside the buffer's 400"), "{error}");

    let (start, bytes) = driver.allocation_of(address(&x));
    assert_eq!((start, bytes), (address(&x), 400));
    // SAFETY: `x` lives longer than the borrowed buffer, on the same stream.
    let borrowed = unsafe { CudaBuffer::borrow(&cuda, start + 40, 80) };
    let part = Tensor::<_, f32>::from_buffer(&cuda, borrowed, 0, &[20], &[1]).unwrap();
    assert_eq!(part.to_vec().unwrap(), values[10..30]);
    assert!(part.overlaps(&x));
    drop(part);
    assert_eq!(driver.allocations(), 1, "what is borrowed is not freed");
    drop(x);
    assert_eq!(driver.allocations(), 0);

    let empty = tensor::<f32>(&cuda, &[0, 3]);
    assert_eq!((address(&empty), driver.allocations()), (0, 0));
    assert!(empty.to_vec().unwrap().is_empty());
}

#[test]
fn events_tell_the_time_of_one_stream() {
    let (cuda, driver) = recorded();
    let start = cuda.stream().record().unwrap();
    let end = cuda.stream().record().unwrap();
    assert!(end.since(&start).unwrap() > std::time::Duration::ZERO);
    let (other, _driver) = recorded();
    let foreign = other.stream().record().unwrap();
    assert!(matches!(foreign.since(&start), Err(Error::Driver { .. })));
    drop((start, end));
    assert_eq!(driver.living_events(), 0);
}

#[test]
fn everything_is_given_back_with_the_last_handle() {
    let (cuda, driver) = recorded();
    let x = Tensors::<f32, f32>::new(&cuda);
    selective_scan::forward(&Inputs::new(&x.u, &x.delta, &x.a, &x.b, &x.c), &Options::default())
        .unwrap();
    driver.calls();
    drop(cuda);
    assert!(driver.calls().is_empty(), "tensors keep stream and modules alive");
    drop(x);
    assert_eq!(driver.allocations(), 0);
    let calls = driver.calls();
    assert_eq!(calls[calls.len() - 2..], [Call::DestroyStream, Call::Unload]);
}

#[test]
fn old_devices_are_sent_to_wgpu() {
    let error = Cuda::with_driver(Arc::new(Recorder::new((7, 5)))).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }));
    let message = error.to_string();
    assert!(message.contains("7.5, 8.0 is needed; use wgpu"), "{message}");
    assert!(Cuda::with_driver(Arc::new(Recorder::new((12, 0)))).is_ok());
}

/// The first GPU; without one the test is skipped, or fails where it is required.
fn gpu() -> Option<Cuda> {
    match Cuda::new(0) {
        Ok(cuda) => Some(cuda),
        Err(error) => {
            let required = std::env::var("WARPWRIGHT_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "cuda"), "{error}");
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn a_machine_without_a_gpu_says_so() {
    if gpu().is_none() {
        let error = Cuda::devices().unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    assert!(Cuda::new(usize::MAX).is_err());
}

#[test]
fn a_gpu_scans_as_the_reference() {
    let Some(cuda) = gpu() else { return };
    assert_eq!(Cuda::new(0).unwrap(), cuda);
    let numbers = |elements: usize, scale: f32| -> Vec<f32> {
        (0..elements).map(|i| scale * ((i * 7919 % 1000) as f32 / 500.0 - 1.0)).collect()
    };
    let (u, delta) = (numbers(2 * 70 * 100, 1.0), numbers(2 * 70 * 100, 0.5));
    let (maps, a) = (numbers(2 * 16 * 100, 1.0), vec![-0.5; 70 * 16]);
    let options = Options::default().with_delta_softplus(true);
    let host = |values: &[f32], shape: &[usize]| Tensor::from_vec(values.to_vec(), shape).unwrap();
    let (hu, hd) = (host(&u, &[2, 70, 100]), host(&delta, &[2, 70, 100]));
    let (hm, ha) = (host(&maps, &[2, 1, 16, 100]), host(&a, &[70, 16]));
    let exact = selective_scan::reference::forward(&Inputs::new(&hu, &hd, &ha, &hm, &hm), &options)
        .unwrap();

    let device =
        |values: &[f32], shape: &[usize]| Tensor::from_slice(&cuda, values, shape).unwrap();
    let (u, delta) = (device(&u, &[2, 70, 100]), device(&delta, &[2, 70, 100]));
    let (maps, a) = (device(&maps, &[2, 1, 16, 100]), device(&a, &[70, 16]));
    let start = cuda.stream().record().unwrap();
    let outputs =
        selective_scan::forward(&Inputs::new(&u, &delta, &a, &maps, &maps), &options).unwrap();
    let end = cuda.stream().record().unwrap();
    assert!(end.since(&start).unwrap() > std::time::Duration::ZERO);
    let largest = exact.out.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    for (found, exact) in outputs.out.to_vec().unwrap().iter().zip(&exact.out) {
        assert!((f64::from(*found) - exact).abs() <= 2e-6 * largest, "{found} for {exact}");
    }
}
