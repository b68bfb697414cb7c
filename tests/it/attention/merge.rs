//! The merge of partial results: parts side by side, blocks into running results and into rows of
//! them, and the merge at the end of a forward call.

use warpwright::attention::{
    Attention, Inputs, Layout, Options, OutputsMut, Parts, forward_into, merge, merge_into,
};
use warpwright::verify::attention::{Case, MergeCase};
use warpwright::{
    Cpu, Device, DeviceFloat, ErrorKind, Named, Parameter, Result, Tensor, View, bf16, f16,
};

use super::{assert_close, assert_same_bits, change, copied, everything, numbers, part};
use crate::devices::{devices, on_backend, poison};

/// Sizes that end within vectors and words, H, Sq and Dv.
const SIZES: [usize; 3] = [3, 7, 37];

/// The same merge in all layouts, of batches and of packed sequences.
fn cases() -> Vec<MergeCase> {
    let layouts = [Layout::Bshd, Layout::Bhsd].into_iter();
    let batches = layouts.flat_map(|layout| [(layout, Some(2)), (layout, None)]);
    let case = |(layout, batch)| MergeCase { layout, ..MergeCase::new(batch, SIZES, 4) };
    batches.map(case).collect()
}

/// Tensors as they are named, on a backend.
fn there<B: Attention<T>, T: DeviceFloat>(backend: &B, named: &Named<Cpu>) -> Named<B> {
    let moved = |(name, view): (&String, &View<Cpu>)| {
        (name.clone(), view.to_backend(backend).expect("memory"))
    };
    named.iter().map(moved).collect()
}

fn here<B: Attention<T>, T: DeviceFloat>(views: &[(&str, &View<B>)]) -> Named<Cpu> {
    let moved = |(name, view): &(&str, &View<B>)| {
        ((*name).to_owned(), view.to_backend(&Cpu).expect("read"))
    };
    views.iter().map(moved).collect()
}

/// All `parts` at once; `out` and `lse`.
fn at_once<T: DeviceFloat>(device: &Device, named: &Named<Cpu>, layout: Layout) -> Named<Cpu> {
    on_backend!(device, |backend| {
        let named = there::<_, T>(backend, named);
        let out = Parameter::from_view(&named["parts"]).expect("floats");
        let lse = named["parts_lse"].as_typed().expect("f32");
        let merged = merge::<_, T>(&Parts { out, lse }, layout).expect("it merges");
        here::<_, T>(&[("out", &merged.out), ("lse", &merged.lse)])
    })
}

/// A block into a running result, of rows of it that `narrowed` chooses of `partial` and `lse`.
fn into<T: DeviceFloat>(
    device: &Device,
    running: &Named<Cpu>,
    block: [&View<Cpu>; 2],
    layout: Layout,
    rows: Option<(usize, std::ops::Range<usize>)>,
) -> Named<Cpu> {
    on_backend!(device, |backend| {
        let [out, lse] = block.map(|view| view.to_backend(backend).expect("memory"));
        let running = there::<_, T>(backend, running);
        let (partial, whole_lse) = (&running["partial"], &running["lse"]);
        let narrowed = |view: &View<_>, axis: usize| match &rows {
            None => view.clone(),
            Some((_, rows)) => view.narrowed(axis, rows.clone()).expect("rows"),
        };
        let axis = rows.as_ref().map_or(0, |(axis, _)| *axis);
        let mut some = narrowed(partial, axis).typed().expect("f32");
        let mut some_lse = narrowed(whole_lse, whole_lse.shape().len() - 1).typed().expect("f32");
        let mut rounded = Tensor::<_, T>::new(backend, some.shape()).expect("memory");
        let mut outputs =
            OutputsMut { out: Some(&mut rounded), partial: Some(&mut some), lse: &mut some_lse };
        let out = Parameter::from_view(&out).expect("floats");
        let block = Parts::<_, T> { out, lse: lse.as_typed().expect("f32") };
        merge_into(&mut outputs, &block, layout).expect("it merges");
        here::<_, T>(&[("out", &rounded), ("partial", partial), ("lse", whole_lse)])
    })
}

/// One of the parts, by itself.
fn one(parts: &View<Cpu>, number: usize) -> View<Cpu> {
    let bytes = part(parts, 0, number..number + 1).to_bytes().expect("not in use");
    View::from_bytes(&Cpu, parts.dtype(), &bytes, &parts.shape()[1..]).expect("of this shape")
}

/// The parts of these numbers one after the other, into a running result of nothing.
fn one_by_one<T: DeviceFloat>(
    device: &Device,
    named: &Named<Cpu>,
    layout: Layout,
    order: impl IntoIterator<Item = usize>,
) -> Named<Cpu> {
    order.into_iter().fold(named.clone(), |running, number| {
        let (out, lse) = (one(&named["parts"], number), one(&named["parts_lse"], number));
        into::<T>(device, &running, [&out, &lse], layout, None)
    })
}

#[track_caller]
fn assert_same<const N: usize>(
    found: &Named<Cpu>,
    expected: &Named<Cpu>,
    names: [&str; N],
    what: &str,
) {
    for name in names {
        assert_same_bits(&found[name], &expected[name], &format!("{name}, {what}"));
    }
}

#[test]
fn parts_at_once_are_blocks_one_after_the_other() {
    for device in devices() {
        for case in cases() {
            for (narrow, blind) in [(true, true), (true, false), (false, true)] {
                let case = MergeCase { narrow, blind, ..case.clone() };
                at_once_is_one_by_one::<f32>(device, &case);
                at_once_is_one_by_one::<bf16>(device, &case);
                at_once_is_one_by_one::<f16>(device, &case);
            }
        }
    }
}

fn at_once_is_one_by_one<T: DeviceFloat>(device: &Device, case: &MergeCase) {
    let what = format!("{} {} on {}", T::DTYPE, case.describe(), device.name());
    let named = case.tensors::<T>().expect("tensors");
    let found = at_once::<T>(device, &named, case.layout);
    let expected = one_by_one::<T>(device, &named, case.layout, 0..case.parts);
    assert_same(&found, &expected, ["out", "lse"], &what);
}

/// A result of nothing, whatever it holds, leaves the other as it is, on either side.
#[test]
fn merging_with_nothing_changes_no_bit() {
    for device in devices() {
        for case in cases() {
            let mut named = case.tensors::<f32>().expect("tensors");
            let of_part = numbers(&named["parts"]).len() / case.parts;
            let rows = numbers(&named["parts_lse"]).len() / case.parts;
            let poison = f64::from(poison(device));
            change::<f32>(&mut named, "parts", |i, x| if i / of_part == 1 { x } else { poison });
            let nothing = f64::NEG_INFINITY;
            change::<f32>(&mut named, "parts_lse", |i, x| if i / rows == 1 { x } else { nothing });
            let what = format!("{} on {}", case.describe(), device.name());
            let found = at_once::<f32>(device, &named, case.layout);
            for order in [vec![0, 1, 2], vec![1, 0], vec![1]] {
                let one_by_one = one_by_one::<f32>(device, &named, case.layout, order);
                assert_same(&one_by_one, &found, ["out", "lse"], &what);
            }
            assert_same_bits(&found["out"], &one(&named["parts"], 1), &what);
            assert_same_bits(&found["lse"], &one(&named["parts_lse"], 1), &what);
        }
    }
}

#[test]
fn nothing_at_all_is_0_and_minus_infinity() {
    for device in devices() {
        for case in cases() {
            let mut named = case.tensors::<f32>().expect("tensors");
            change::<f32>(&mut named, "parts", |_, _| poison(device).into());
            change::<f32>(&mut named, "parts_lse", |_, _| f64::NEG_INFINITY);
            for parts in [0, 1, 4] {
                let mut some = named.clone();
                for name in ["parts", "parts_lse"] {
                    some.insert(name.to_owned(), part(&named[name], 0, 0..parts));
                }
                let what = format!("{parts} of {} on {}", case.describe(), device.name());
                let found = at_once::<f32>(device, &some, case.layout);
                assert!(numbers(&found["out"]).iter().all(|x| x.to_bits() == 0), "{what}");
                assert!(numbers(&found["lse"]).iter().all(|x| *x == f64::NEG_INFINITY), "{what}");
            }
        }
    }
}

/// In either order, close together, far apart and side by side.
#[test]
fn the_order_of_two_results_does_not_matter() {
    for device in devices() {
        for spread in [0.0, 1.0, 200.0] {
            let case = MergeCase { spread, ..MergeCase::new(Some(2), [3, 70, 37], 2) };
            let named = case.tensors::<bf16>().expect("tensors");
            let what = format!("{} on {}", case.describe(), device.name());
            let [found, turned] = [[0, 1], [1, 0]]
                .map(|order| one_by_one::<bf16>(device, &named, case.layout, order));
            assert_same(&turned, &found, ["out", "partial", "lse"], &what);
        }
    }
}

/// The lower of two results that are far apart is nothing beside the other.
#[test]
fn results_far_apart_merge() {
    for device in devices() {
        for gap in [-200.0, 200.0] {
            let case = MergeCase { spread: 0.0, ..MergeCase::new(Some(2), SIZES, 2) };
            let mut named = case.tensors::<f32>().expect("tensors");
            let rows = numbers(&named["parts_lse"]).len() / 2;
            change::<f32>(&mut named, "parts_lse", |i, x| if i < rows { x } else { x + gap });
            let higher = usize::from(gap > 0.0);
            let what = format!("a gap of {gap} on {}", device.name());
            let found = at_once::<f32>(device, &named, case.layout);
            let (out, lse) = (one(&named["parts"], higher), one(&named["parts_lse"], higher));
            assert_close(out.dtype(), "out", &found["out"], &out, &what);
            assert_close(out.dtype(), "lse", &found["lse"], &lse, &what);
        }
    }
}

/// The early or the late half of the queries, as a ring in zigzag merges them, and a few within.
#[test]
fn blocks_merge_into_rows_of_running_results() {
    for device in devices() {
        for case in cases() {
            for rows in [0..3, 3..7, 2..5, 4..4] {
                rows_merge::<f32>(device, &case, rows.clone());
                rows_merge::<f16>(device, &case, rows);
            }
        }
    }
}

fn rows_merge<T: DeviceFloat>(device: &Device, case: &MergeCase, rows: std::ops::Range<usize>) {
    let what = format!("rows {rows:?} {} {} on {}", T::DTYPE, case.describe(), device.name());
    let named = case.tensors::<T>().expect("tensors");
    let running = one_by_one::<T>(device, &named, case.layout, 0..2);
    let axis = usize::from(case.batch.is_some()) + usize::from(case.layout == Layout::Bhsd);
    let of_lse = 1 + usize::from(case.batch.is_some());
    let some = |view: &View<Cpu>, axis| part(view, axis, rows.clone());
    let block = some(&one(&named["parts"], 2), axis);
    let block_lse = some(&one(&named["parts_lse"], 2), of_lse);
    let chosen = Some((axis, rows.clone()));
    let found = into::<T>(device, &running, [&block, &block_lse], case.layout, chosen);
    // The rows as tensors of their own.
    let mut alone = running.clone();
    alone.insert("partial".to_owned(), some(&running["partial"], axis));
    alone.insert("lse".to_owned(), some(&running["lse"], of_lse));
    let alone = into::<T>(device, &alone, [&block, &block_lse], case.layout, None);
    assert_same_bits(&found["out"], &alone["out"], &what);
    for (name, axis) in [("partial", axis), ("lse", of_lse)] {
        let (found, before) = (&found[name], &running[name]);
        let tokens = found.shape()[axis];
        let what = format!("{name}, {what}");
        assert_same_bits(&some(found, axis), &alone[name], &what);
        for others in [0..rows.start, rows.end..tokens] {
            let [found, before] = [found, before].map(|view| part(view, axis, others.clone()));
            assert_same_bits(&found, &before, &what);
        }
    }
}

/// A block that is merged by itself, and one that is merged by the call that computes it.
#[test]
fn a_forward_call_that_accumulates_merges_alike() {
    for device in devices() {
        let case = Case { seed: 3, ..Case::causal(everything().sizes) };
        accumulates_alike::<f32>(device, &case);
        accumulates_alike::<bf16>(device, &case);
    }
}

fn accumulates_alike<T: DeviceFloat>(device: &Device, case: &Case) {
    let first = case.tensors::<T>().expect("tensors");
    let second = Case { seed: 4, ..case.clone() }.tensors::<T>().expect("tensors");
    let options = case.options().with_splits(1);
    let before = block::<T>(device, &first, &options, None);
    let other = block::<T>(device, &second, &options, None);
    let merged =
        into::<T>(device, &before, [&other["partial"], &other["lse"]], options.layout, None);
    let options = options.with_accumulate(true);
    let accumulated = block::<T>(device, &second, &options, Some(&before));
    assert_same(&accumulated, &merged, ["partial", "lse"], &device.name());
}

/// `partial` and `lse` of a forward call, merged into what came before.
fn block<T: DeviceFloat>(
    device: &Device,
    named: &Named<Cpu>,
    options: &Options,
    before: Option<&Named<Cpu>>,
) -> Named<Cpu> {
    let mut inputs = named.clone();
    inputs.retain(|name, _| name != "dout");
    on_backend!(device, |backend| {
        let inputs = there::<_, T>(backend, &inputs);
        let inputs = Inputs::<_, T>::from_named(&inputs).expect("they fit");
        let problem = warpwright::attention::Problem::check(&inputs, options).expect("it fits");
        let begun = |name: &str, shape: &[usize]| -> Result<Tensor<_, f32>> {
            match before {
                Some(before) => before[name].to_backend(backend)?.typed(),
                None => Tensor::new(backend, shape),
            }
        };
        let mut partial = begun("partial", &problem.output_shape()).expect("memory");
        let mut lse = begun("lse", &problem.lse_shape()).expect("memory");
        let mut outputs = OutputsMut { out: None, partial: Some(&mut partial), lse: &mut lse };
        forward_into(&inputs, options, &mut outputs).expect("it runs");
        here::<_, T>(&[("partial", &partial), ("lse", &lse)])
    })
}

fn zeros<T: DeviceFloat>(shape: &[usize]) -> Tensor<Cpu, T> {
    let zeros = vec![T::from_f32(0.0); shape.iter().product()];
    Tensor::from_vec(zeros, shape).expect("of this shape")
}

#[track_caller]
fn refused<R>(result: Result<R>, message: &str) {
    let error = result.err().expect(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn parts_that_do_not_fit_are_told() {
    let lse = zeros(&[3, 2, 4, 5]);
    let out = zeros::<f32>(&[3, 2, 5, 4, 8]);
    let told = |out: &View<Cpu>, lse: &Tensor<Cpu, f32>, layout, message| {
        let out = Parameter::from_view(out).expect("floats");
        refused(merge::<_, bf16>(&Parts { out, lse }, layout), message);
    };
    assert!(merge::<_, bf16>(&Parts::new(&out, &lse), Layout::Bshd).is_ok());
    told(
        &zeros::<f32>(&[5, 4, 8]),
        &lse,
        Layout::Bshd,
        "merge: tensor `parts.out`: expected shape (N, B, Sq, H, Dv), or (N, Tq, H, Dv) if packed, \
         found shape (5, 4, 8)",
    );
    told(
        &zeros::<f32>(&[5]),
        &lse,
        Layout::Bhsd,
        "merge: tensor `parts.out`: expected shape (N, B, H, Sq, Dv), or (N, H, Tq, Dv) if packed, \
         found shape (5)",
    );
    told(
        &out,
        &lse,
        Layout::Bhsd,
        "merge: tensor `parts.lse`: expected shape (N, B, H, Sq) = (3, 2, 5, 4), found shape \
         (3, 2, 4, 5)",
    );
    told(
        &zeros::<f32>(&[3, 5, 4, 8]),
        &lse,
        Layout::Bshd,
        "merge: tensor `parts.lse`: expected shape (N, H, Sq) = (3, 4, 5), found shape (3, 2, 4, 5)",
    );
    told(
        &zeros::<f16>(&[3, 2, 5, 4, 8]),
        &lse,
        Layout::Bshd,
        "merge: tensor `parts.out`: expected elements f32 or bf16, found f16",
    );
    told(
        &zeros::<f32>(&[3, 2, 5, 4, 513]),
        &lse,
        Layout::Bshd,
        "merge: tensor `parts.out`: expected 1 to 512 features, Dv, found shape (3, 2, 5, 4, 513)",
    );
    told(
        &zeros::<f32>(&[3, 2, 5, 8, 4]).transposed(3, 4).expect("axes"),
        &lse,
        Layout::Bshd,
        "merge: tensor `parts.out`: expected stride 1 along the last axis, found strides \
         (320, 160, 32, 1, 4) for shape (3, 2, 5, 4, 8)",
    );
}

#[test]
fn running_results_that_do_not_fit_are_told() {
    let (out, lse) = (zeros::<f32>(&[2, 5, 4, 8]), zeros::<f32>(&[2, 4, 5]));
    let told = |partial: Option<&View<Cpu>>, running: &Tensor<Cpu, f32>, message| {
        let mut partial = partial.map(|partial| partial.typed().expect("f32"));
        let mut running = running.clone();
        let mut outputs = OutputsMut { out: None, partial: partial.as_mut(), lse: &mut running };
        let block = Parts::<_, f32>::new(&out, &lse);
        refused(merge_into(&mut outputs, &block, Layout::Bshd), message);
    };
    let (partial, running) = (copied(&out), zeros(&[2, 4, 5]));
    told(
        None,
        &running,
        "merge: tensor `partial`: expected what earlier parts of the keys gave, to be merged into, \
         found none",
    );
    told(
        Some(&zeros::<f32>(&[2, 6, 4, 8])),
        &running,
        "merge: tensor `partial`: expected shape (B, Sq, H, Dv) = (2, 5, 4, 8), found shape \
         (2, 6, 4, 8)",
    );
    told(
        Some(&partial),
        &zeros(&[2, 5, 4]),
        "merge: tensor `lse`: expected shape (B, H, Sq) = (2, 4, 5), found shape (2, 5, 4)",
    );
    told(
        Some(&out),
        &running,
        "merge: tensor `partial` is written, but shares memory with `block.out`: give it memory of \
         its own",
    );
    told(
        Some(&partial),
        &lse,
        "merge: tensor `lse` is written, but shares memory with `block.lse`: give it memory of its \
         own",
    );
}
