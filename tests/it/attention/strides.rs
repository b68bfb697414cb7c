//! Where tensors lie does not matter, to the bit.

use warpwright::attention::{
    Attention, Gradients, Inputs, Layout, Options, OutputGradients, Outputs, backward_into,
    forward, forward_into,
};
use warpwright::verify::attention::{Case, Sizes};
use warpwright::{Cpu, Device, DeviceFloat, Float, Named, Tensor, View, f16};

use super::{assert_all_same_bits, copied, everything, part, run, ways};
use crate::devices::{devices, on_backend};

/// Tensors that have heads and tokens, with these two exchanged.
fn turned(named: &Named<Cpu>) -> Named<Cpu> {
    let turn = |(name, view): (&String, &View<Cpu>)| {
        let turned = match name.as_str() {
            "q" | "k" | "v" | "dout" | "out" | "dq" | "dk" | "dv" => {
                copied(&view.transposed(1, 2).expect("axes"))
            }
            _ => view.clone(),
        };
        (name.clone(), turned)
    };
    named.iter().map(turn).collect()
}

#[test]
fn both_layouts_give_equal_bits() {
    for device in devices() {
        layouts_agree::<f32>(device);
        layouts_agree::<f16>(device);
    }
}

fn layouts_agree<T: DeviceFloat>(device: &Device) {
    let case = everything();
    let named = case.tensors::<T>().expect("tensors");
    for options in ways::<T>(device, &named, &case.options()) {
        let expected = run(device, &named, &options);
        let what = format!("{options:?} on {}", device.name());
        let found = run(device, &turned(&named), &options.with_layout(Layout::Bhsd));
        assert_all_same_bits(&turned(&found), &expected, &what);
    }
}

/// Queries, keys and values of a token side by side, and results with heads before tokens.
#[test]
fn one_buffer_of_queries_keys_and_values_gives_equal_bits() {
    for device in devices() {
        // Lines that begin at even places, and at any.
        for width in [24, 17] {
            let case = Case::causal(Sizes::square([2, 4, 2, 37, width]));
            one_buffer_is_three::<f32>(device, &case);
            one_buffer_is_three::<f16>(device, &case);
        }
    }
}

fn one_buffer_is_three<T: DeviceFloat>(device: &Device, case: &Case) {
    let named = case.tensors::<T>().expect("tensors");
    for options in ways::<T>(device, &named, &case.options()) {
        let expected = run(device, &named, &options);
        let found = on_backend!(device, |backend| in_one_buffer::<_, T>(backend, &named, &options));
        let what = format!("{options:?} on {}", device.name());
        assert_all_same_bits(&found, &expected, &what);
    }
}

fn in_one_buffer<B: Attention<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    options: &Options,
) -> Named<Cpu> {
    let lines = |name: &str| {
        let view = &named[name];
        let line = view.shape()[2] * view.shape()[3];
        (view.typed::<T>().expect("of this type").to_vec().expect("not in use"), line)
    };
    let parts = ["q", "k", "v"].map(lines);
    let [batch, tokens, heads, width] = [0, 1, 2, 3].map(|axis| named["q"].shape()[axis]);
    let kv_heads = named["k"].shape()[2];
    let all: Vec<T> = (0..batch * tokens)
        .flat_map(|token| {
            parts.iter().flat_map(move |(values, line)| &values[token * line..][..*line])
        })
        .copied()
        .collect();
    let all = Tensor::from_slice(backend, &all, &[batch, tokens, heads + 2 * kv_heads, width]);
    let all = all.expect("memory");
    let of = |heads| all.narrowed(2, heads).expect("within the axis");
    let (q, k) = (of(0..heads), of(heads..heads + kv_heads));
    let v = of(heads + kv_heads..heads + 2 * kv_heads);
    let inputs = Inputs::new(&q, &k, &v);
    let mut outputs = Outputs {
        out: heads_first(&q),
        lse: Tensor::new(backend, &[batch, heads, tokens]).expect("memory"),
    };
    forward_into(&inputs, options, &mut outputs.as_mut()).expect("it runs");
    let dout = copied(&named["dout"].transposed(1, 2).expect("axes")).to_backend(backend);
    let dout = dout.and_then(|dout| dout.transposed(1, 2)?.typed::<T>()).expect("memory");
    let mut gradients = Gradients {
        q: heads_first(&q),
        k: heads_first(&k),
        v: heads_first(&v),
        bias: None,
        sink: None,
    };
    let (saved, given) = (outputs.saved(), OutputGradients::new(&dout));
    backward_into(&inputs, options, &saved, &given, &mut gradients.as_mut()).expect("it runs");
    let views: [(&str, &View<B>); 5] = [
        ("out", &outputs.out),
        ("lse", &outputs.lse),
        ("dq", &gradients.q),
        ("dk", &gradients.k),
        ("dv", &gradients.v),
    ];
    views
        .into_iter()
        .map(|(name, view)| (name.to_owned(), view.to_backend(&Cpu).expect("read")))
        .collect()
}

/// A new tensor like (B, S, H, D) whose memory is (B, H, S, D).
fn heads_first<B: Attention<T>, T: Float>(like: &Tensor<B, T>) -> Tensor<B, T> {
    let [batch, tokens, heads, width] = [0, 1, 2, 3].map(|axis| like.shape()[axis]);
    let memory = Tensor::new(like.backend(), &[batch, heads, tokens, width]).expect("memory");
    memory.transposed(1, 2).expect("axes")
}

/// Keys and values that batch entries share by a stride of 0, against copies of them.
#[test]
fn a_batch_stride_of_nothing_shares_keys_and_values() {
    for device in devices() {
        shared_are_copies::<f32>(device);
        shared_are_copies::<f16>(device);
    }
}

fn shared_are_copies<T: DeviceFloat>(device: &Device) {
    const BATCH: usize = 3;
    let case = Case::causal(Sizes { batch: BATCH, ..everything().sizes });
    let mut named = case.tensors::<T>().expect("tensors");
    named.remove("dout");
    for name in ["k", "v"] {
        let first = part(&named[name], 0, 0..1);
        let bytes = first.to_bytes().expect("not in use").repeat(BATCH);
        let repeated = View::from_bytes(&Cpu, T::DTYPE, &bytes, named[name].shape());
        named.insert(name.to_owned(), repeated.expect("of this shape"));
    }
    for options in ways::<T>(device, &named, &case.options()) {
        let expected = run(device, &named, &options);
        let found = on_backend!(device, |backend| sharing::<_, T>(backend, &named, &options));
        let what = format!("{options:?} on {}", device.name());
        assert_all_same_bits(&found, &expected, &what);
    }
}

fn sharing<B: Attention<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    options: &Options,
) -> Named<Cpu> {
    let q = named["q"].to_backend(backend).and_then(|q| q.typed::<T>()).expect("memory");
    let [k, v] = ["k", "v"].map(|name| {
        let one = part(&named[name], 0, 0..1).to_backend(backend).expect("memory");
        let mut strides = one.strides().to_vec();
        strides[0] = 0;
        let (shape, buffer) = (named[name].shape(), one.buffer().clone());
        Tensor::<B, T>::from_buffer(backend, buffer, 0, shape, &strides).expect("within the buffer")
    });
    let Outputs { out, lse } = forward(&Inputs::new(&q, &k, &v), options).expect("it runs");
    let (out, lse) = (out.to_backend(&Cpu).expect("read"), lse.to_backend(&Cpu).expect("read"));
    [("out".to_owned(), out), ("lse".to_owned(), lse)].into()
}
