//! Products of sparse matrices on WebGPU: what is particular to it.

use warpwright::backend::wgpu::{Wgpu, WgpuBuffer};
use warpwright::sparse::{Csr, Fault, Value};
use warpwright::spgemm::{
    Hash, Inputs, Matrices, Options, Problem, Semiring, Spgemm, SpgemmPlan, multiply, reference,
};
use warpwright::verify::spgemm::generate::with_values;
use warpwright::verify::spgemm::{Case, Places, Values, cases, run_case};
use warpwright::verify::{Outcome, Size};
use warpwright::{Cpu, DType, Device, Error, Tensor, wgpu};

use super::assert_same_bits;
use crate::wgpu::{baseline, foreign};

#[test]
fn the_baseline_suffices() {
    let Some(device) = baseline() else { return };
    let device = Device::Wgpu(device.clone());
    let mut complaints = Vec::new();
    for case in cases(Size::Quick) {
        let narrow = case.semiring.values().iter().filter(|&&dtype| dtype != DType::F64);
        for &dtype in narrow {
            run_case(&device, &case, dtype, 0, &mut |report| {
                let ran = matches!(report.outcome, Outcome::Compared(_));
                assert!(ran, "{}: {:?}", report.case, report.outcome);
                complaints.extend(report.complaint());
            });
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Rows of one entry and of many, some far apart, with whatever can be asked for.
fn mixed() -> Vec<Case> {
    let plain = Case::drawn([60, 50, 3000], 12.0);
    let arrow = Case { places: [Places::Arrow; 2], ..Case::drawn([900; 3], 1.0) };
    vec![
        plain.clone(),
        Case { mask: Some(false), ..plain.clone() },
        Case { mask: Some(true), beta: Some(2.0), ..plain.clone() },
        Case { mask: Some(false), beta: Some(2.0), replace: true, ..plain.clone() },
        Case { values: Values::Large, alpha: 3.0, ..arrow.clone() },
        Case { semiring: Semiring::MinPlus, disorder: [true, true], ..plain.clone() },
        Case { semiring: Semiring::MaxTimes, values: Values::Pattern, ..arrow },
    ]
}

#[test]
fn how_rows_are_shared_out_does_not_show() {
    let Some(device) = baseline() else { return };
    for case in mixed() {
        let matrices = case.matrices::<i32>().expect("it is drawn");
        let expected = reference::dense(&matrices.inputs(), &case.options()).expect("it runs");
        let there = matrices.to_backend(device).expect("memory");
        let hashed = Hash::ALL.map(|hash| [(hash, 0..=64), (hash, 0..=512), (hash, 256..=1024)]);
        let hashed = hashed.into_iter().flatten().map(|(hash, slots)| (hash, slots, None));
        let windows = [(0..=0, 32), (0..=0, 256), (0..=64, 64)];
        let windows = windows.map(|(slots, window)| (Hash::default(), slots, Some(window)));
        for (hash, slots, window) in hashed.chain(windows) {
            let mut options = case.options();
            options.tuning.hash = hash;
            options.tuning.slots = slots;
            options.tuning.window = window;
            let found = multiply(&there.inputs(), &options).expect("it runs");
            assert_same_bits(&found.to_backend(&Cpu).expect("memory"), &expected);
        }
    }
}

#[test]
fn sums_in_order_have_the_same_bits_each_time() {
    let Some(device) = baseline() else { return };
    let case = Case { deterministic: true, ..Case::drawn([80, 300, 400], 40.0) };
    let there = case.matrices::<f32>().expect("it is drawn").to_backend(device).expect("memory");
    let product = || {
        let product = multiply(&there.inputs(), &case.options()).expect("it runs");
        product.to_backend(&Cpu).expect("memory")
    };
    let first = product();
    (0..5).for_each(|_| assert_same_bits(&product(), &first));
}

/// The values of a case of another seed at the places of this one.
fn other_values<T: Value>(case: &Case) -> Matrices<Cpu, T> {
    let mut matrices = case.matrices::<T>().expect("it is drawn");
    let shifted = |matrix: &Csr<Cpu, T>| {
        with_values(&matrix.to_pattern::<u32>(), |row, col| {
            T::from_f64(f64::from(row as u32 ^ col))
        })
    };
    matrices.a = shifted(&matrices.a).expect("as many values as places");
    matrices.c0 = matrices.c0.as_ref().map(|c0| shifted(c0).expect("as many values"));
    matrices
}

#[track_caller]
fn a_plan_serves<T: Value>(device: &Wgpu, case: &Case) {
    let first = case.matrices::<T>().expect("it is drawn");
    let there = first.to_backend(device).expect("memory");
    let problem = Problem::check(&there.inputs(), &case.options()).expect("it fits");
    for variant in Spgemm::<T>::variants(device, &problem, &case.options()).expect("some fit") {
        let options = case.options().with_variant(variant);
        let (plan, product) = SpgemmPlan::new(&there.inputs(), &options).expect("it runs");
        let expected = multiply(&first.inputs(), &case.options()).expect("it runs");
        assert_same_bits(&product.to_backend(&Cpu).expect("memory"), &expected);
        let other = other_values::<T>(case);
        let expected = multiply(&other.inputs(), &case.options()).expect("it runs");
        let other = other.to_backend(device).expect("memory");
        for _ in 0..2 {
            let product = plan.execute(&other.inputs(), &options).expect("it runs");
            assert_same_bits(&product.to_backend(&Cpu).expect("memory"), &expected);
        }
    }
}

#[test]
fn a_plan_serves_all_values_at_its_places() {
    let Some(device) = baseline() else { return };
    let plain = Case::drawn([60, 50, 3000], 12.0);
    a_plan_serves::<i32>(device, &plain);
    a_plan_serves::<i32>(device, &Case { beta: Some(2.0), mask: Some(true), ..plain.clone() });
    a_plan_serves::<u8>(device, &Case { semiring: Semiring::OrAnd, ..plain.clone() });
    a_plan_serves::<f32>(device, &Case { semiring: Semiring::MinPlus, ..plain.clone() });
    let there = |case: &Case| {
        case.matrices::<i32>().expect("it is drawn").to_backend(device).expect("memory")
    };
    let (first, other) = (there(&plain), there(&Case { seed: 2, ..plain.clone() }));
    let (plan, _) = SpgemmPlan::new(&first.inputs(), &plain.options()).expect("it runs");
    let wrong = Inputs::new(&first.a, &other.b);
    let error = plan.execute(&wrong, &plain.options()).expect_err("other places");
    let (matrix, fault) = ("B".to_owned(), Fault::PatternMismatch);
    assert_eq!(error, Error::Sparse { operation: "spgemm", matrix, fault });
}

/// Matrices in the middle of buffers, at places that bindings do not begin at.
#[test]
fn matrices_may_lie_anywhere_in_a_buffer() {
    let Some(device) = baseline() else { return };
    let case = Case { semiring: Semiring::OrAnd, ..Case::drawn([30, 30, 30], 4.0) };
    let a = case.matrices::<u8>().expect("it is drawn").a;
    let expected = multiply(&Inputs::new(&a, &a), &case.options()).expect("it runs");
    let bytes = [a.row_ptr().to_bytes(), a.col().to_bytes(), a.val().expect("values").to_bytes()];
    let bytes = bytes.map(|bytes| bytes.expect("they are read"));
    let mut all = vec![255; 12];
    let starts = bytes.each_ref().map(|part| {
        all.extend(part);
        all.len() - part.len()
    });
    // Truth values begin at an odd byte.
    all.insert(starts[2], 255);
    all.resize(all.len().next_multiple_of(4), 255);
    let buffer = warpwright::backend::Backend::upload(device, &all).expect("memory");
    let part = |i: usize| {
        let start = starts[i] as u64 + u64::from(i == 2);
        let range = start..start + bytes[i].len() as u64;
        WgpuBuffer::wrap(buffer.buffer().clone(), range).expect("a range of the buffer")
    };
    let words = |i: usize| {
        let length = bytes[i].len() / 4;
        Tensor::<_, u32>::from_buffer(device, part(i), 0, &[length], &[1]).expect("a tensor")
    };
    let val = Tensor::from_buffer(device, part(2), 0, &[a.nnz()], &[1]).expect("a tensor");
    // SAFETY: the arrays are those of a matrix that was checked.
    let there = unsafe { Csr::from_tensors([30, 30], words(0), words(1), Some(val), [true, true]) };
    let there = there.expect("a matrix");
    let found = multiply(&Inputs::new(&there, &there), &case.options()).expect("it runs");
    assert_same_bits(&found.to_backend(&Cpu).expect("memory"), &expected);
}

#[test]
fn what_webgpu_cannot_hold_is_refused() {
    let Some(device) = baseline() else { return };
    let case = Case::drawn([6, 5, 4], 3.0);
    let wide = case.matrices::<f64>().expect("it is drawn").to_backend(device).expect("memory");
    let error = multiply(&wide.inputs(), &case.options()).expect_err("no such values");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("values f64") && message.contains("f32"), "{message}");

    let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 14, ..Default::default() };
    let Some((device, queue)) = foreign(limits) else { return };
    let device = Wgpu::borrow(device, queue);
    let large = Case::drawn([1000, 1000, 1000], 10.0);
    let there = large.matrices::<f32>().expect("it is drawn").to_backend(&device).expect("memory");
    let message = multiply(&there.inputs(), &Options::default()).expect_err("too long").to_string();
    assert!(message.contains("bytes of columns of A") && message.contains("split"), "{message}");
}
