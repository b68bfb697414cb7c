//! Keys in parts: blocks that are merged into what earlier ones gave, and parts side by side.

use warpwright::attention::{
    Alignment, Attention, Inputs, Mask, Options, OutputsMut, Positions, Problem, Segment,
    forward_into,
};
use warpwright::verify::attention::{Bias, Case, Sizes};
use warpwright::{Cpu, Device, DeviceFloat, Named, Parameter, Tensor, View, bf16};

use super::{assert_all_same_bits, assert_close, change, everything, run, ways};
use crate::devices::{devices, on_backend, poison};

/// `partial` and `lse` of blocks of the keys between cuts, each merged into those before it, and the
/// first one into `before` if there is something.
pub fn in_blocks<T: DeviceFloat>(
    device: &Device,
    named: &Named<Cpu>,
    options: &Options,
    cuts: &[usize],
    before: Option<&Named<Cpu>>,
) -> Named<Cpu> {
    let mut inputs = named.clone();
    inputs.retain(|name, _| !matches!(name.as_str(), "dout" | "dlse"));
    on_backend!(device, |backend| blocks_on::<_, T>(backend, &inputs, options, cuts, before))
}

fn blocks_on<B: Attention<T>, T: DeviceFloat>(
    backend: &B,
    inputs: &Named<Cpu>,
    options: &Options,
    cuts: &[usize],
    before: Option<&Named<Cpu>>,
) -> Named<Cpu> {
    let there: Named<B> = inputs
        .iter()
        .map(|(name, view)| (name.clone(), view.to_backend(backend).expect("memory")))
        .collect();
    let inputs = Inputs::<B, T>::from_named(&there).expect("they fit");
    let problem = Problem::check(&inputs, options).expect("it fits");
    let begun = |name: &str, shape: &[usize]| -> Tensor<B, f32> {
        match before {
            Some(before) => before[name].to_backend(backend).and_then(|view| view.typed::<f32>()),
            None => Tensor::new(backend, shape),
        }
        .expect("memory")
    };
    let mut partial = begun("partial", &problem.output_shape());
    let mut lse = begun("lse", &problem.lse_shape());
    for (i, cuts) in cuts.windows(2).enumerate() {
        let keys = cuts[0]..cuts[1];
        let [k, v] = [inputs.k, inputs.v].map(|one| one.narrowed(1, keys.clone()).expect("keys"));
        let bias = inputs.bias.map(|bias| bias.narrowed(3, keys.clone()).expect("keys"));
        let mut block = Inputs::new(inputs.q, &k, &v);
        block.bias = bias.as_ref().map(|bias| Parameter::from_view(bias).expect("a float"));
        block.alibi_slopes = inputs.alibi_slopes;
        let segments = [Segment::contiguous(keys.clone())];
        let positions = Positions::new(problem.keys, &segments).expect("within the keys");
        let accumulate = i > 0 || before.is_some();
        let options = options.clone().with_keys(positions).with_accumulate(accumulate);
        let mut outputs = OutputsMut { out: None, partial: Some(&mut partial), lse: &mut lse };
        forward_into(&block, &options, &mut outputs).expect("it runs");
    }
    let views: [(&str, &View<B>); 2] = [("partial", &partial), ("lse", &lse)];
    views
        .into_iter()
        .map(|(name, view)| (name.to_owned(), view.to_backend(&Cpu).expect("read")))
        .collect()
}

#[track_caller]
fn assert_all_close<T: DeviceFloat>(found: &Named<Cpu>, expected: &Named<Cpu>, what: &str) {
    for (name, view) in expected {
        assert_close(T::DTYPE, name, &found[name], view, what);
    }
}

/// What every call of this file has, beside its mask and sizes.
fn case(mask: Mask, sizes: Sizes) -> Case {
    Case { alibi: true, bias: Bias::OfHead, softcap: Some(1.5), mask, ..Case::new(sizes) }
}

#[test]
fn blocks_of_keys_merge_into_the_undivided_call() {
    for device in devices() {
        // Some queries see nothing of some blocks.
        let window = Mask::default().with_window(Some(20), Some(3));
        for mask in [Mask::default(), Mask::causal(), window] {
            blocks_merge::<f32>(device, mask);
            blocks_merge::<bf16>(device, mask);
        }
    }
}

fn blocks_merge<T: DeviceFloat>(device: &Device, mask: Mask) {
    let case = case(mask, everything().sizes);
    let named = case.tensors::<T>().expect("tensors");
    for options in ways::<T>(device, &named, &case.options()) {
        let what = format!("{options:?} on {}", device.name());
        let whole = in_blocks::<T>(device, &named, &options, &[0, 70], None);
        let blocks = in_blocks::<T>(device, &named, &options, &[0, 13, 50, 70], None);
        assert_all_close::<T>(&blocks, &whole, &what);
    }
}

/// A block without keys, and one that no query sees.
#[test]
fn a_block_of_nothing_changes_nothing() {
    for device in devices() {
        let mask = Mask::causal().with_alignment(Alignment::TopLeft);
        let case = case(mask, everything().sizes);
        let named = case.tensors::<f32>().expect("tensors");
        for options in ways::<f32>(device, &named, &case.options()) {
            let before = in_blocks::<f32>(device, &named, &options, &[0, 50], None);
            for block in [[50, 50], [50, 70]] {
                let what = format!("keys {block:?}, {options:?} on {}", device.name());
                let after = in_blocks::<f32>(device, &named, &options, &block, Some(&before));
                assert_all_same_bits(&after, &before, &what);
            }
        }
    }
}

/// A running result whose lse is -∞ is none, whatever it holds.
#[test]
fn a_running_result_of_nothing_counts_as_none() {
    for device in devices() {
        // Some queries see nothing either.
        let case = case(Mask::causal(), Sizes { queries: 43, keys: 29, ..everything().sizes });
        let named = case.tensors::<f32>().expect("tensors");
        for options in ways::<f32>(device, &named, &case.options()) {
            let what = format!("{options:?} on {}", device.name());
            let fresh = in_blocks::<f32>(device, &named, &options, &[0, 29], None);
            let mut junk = fresh.clone();
            change::<f32>(&mut junk, "partial", |_, _| poison(device).into());
            change::<f32>(&mut junk, "lse", |_, _| f64::NEG_INFINITY);
            let found = in_blocks::<f32>(device, &named, &options, &[0, 29], Some(&junk));
            assert_all_same_bits(&found, &fresh, &what);
        }
    }
}

/// Blocks whose scores are far apart: the lower one is nothing beside the other.
#[test]
fn blocks_far_apart_merge() {
    const CUT: usize = 40;
    for device in devices() {
        let case = case(Mask::default(), everything().sizes);
        for gap in [-200.0, 200.0] {
            let mut named = case.tensors::<f32>().expect("tensors");
            let keys = case.sizes.keys;
            change::<f32>(&mut named, "bias", |i, x| if i % keys < CUT { x } else { x + gap });
            let higher = if gap > 0.0 { [CUT, keys] } else { [0, CUT] };
            for options in ways::<f32>(device, &named, &case.options()) {
                let what = format!("a gap of {gap}, {options:?} on {}", device.name());
                let merged = in_blocks::<f32>(device, &named, &options, &[0, CUT, keys], None);
                let alone = in_blocks::<f32>(device, &named, &options, &higher, None);
                assert_all_close::<f32>(&merged, &alone, &what);
                let whole = in_blocks::<f32>(device, &named, &options, &[0, keys], None);
                assert_all_close::<f32>(&merged, &whole, &what);
            }
        }
    }
}

/// However many parts the keys are cut into, results are the same within the roundings, and repeat
/// their bits.
#[test]
fn parts_side_by_side_agree() {
    for device in devices() {
        // In a narrow window, most parts are out of a query's sight.
        for mask in [Mask::causal(), Mask::default().with_window(Some(100), Some(5))] {
            splits_agree::<f32>(device, mask);
            splits_agree::<bf16>(device, mask);
        }
    }
}

fn splits_agree<T: DeviceFloat>(device: &Device, mask: Mask) {
    let sizes = Sizes { batch: 1, queries: 7, keys: 1061, width: 24, ..everything().sizes };
    let case = Case { mask, sink: true, dlse: true, ..Case::new(sizes) };
    let named = case.tensors::<T>().expect("tensors");
    for options in ways::<T>(device, &named, &case.options()) {
        let what = format!("{options:?} on {}", device.name());
        let [one, four] = [1, 4].map(|splits| {
            let options = options.clone().with_splits(splits);
            let [first, second] = [(); 2].map(|()| run(device, &named, &options));
            assert_all_same_bits(&second, &first, &format!("{splits} splits, {what}"));
            first
        });
        assert_all_close::<T>(&four, &one, &what);
    }
}
