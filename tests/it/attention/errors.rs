//! Wrong input gets one clear line.

use warpwright::attention::{
    Gradients, Inputs, Layout, MAX_TOKENS, Options, OutputGradients, OutputsMut, Positions, Saved,
    Segment, backward, backward_into, check_named, forward, forward_into,
};
use warpwright::verify::attention::{Bias, Case, Shard, Sizes};
use warpwright::{Cpu, Element, ErrorKind, Named, Result, Tensor, View, f16};

/// B, H, Hk, S, D and Dv of the calls of this file.
const SIZES: Sizes =
    Sizes { batch: 2, heads: 4, kv_heads: 2, queries: 5, keys: 7, width: 6, value_width: 3 };

fn zeros(shape: &[usize]) -> View<Cpu> {
    of::<f32>(shape).into_view()
}

fn of<T: Element>(shape: &[usize]) -> Tensor<Cpu, T> {
    let zeros = vec![T::zeroed(); shape.iter().product()];
    Tensor::from_vec(zeros, shape).expect("of this shape")
}

fn bounds(values: &[i32], shape: &[usize]) -> View<Cpu> {
    Tensor::from_slice(&Cpu, values, shape).expect("of this shape").into_view()
}

#[track_caller]
fn assert_refused<R>(result: Result<R>, message: &str) {
    let error = result.err().expect(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn changed(case: &Case, change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let mut tensors = case.tensors::<f32>().expect("tensors");
    check_named(&tensors, &case.options()).expect("it is good");
    change(&mut tensors);
    assert_refused(check_named(&tensors, &case.options()), message);
}

/// Puts other tensors in place of a good call's, and expects this message.
#[track_caller]
fn replaced<const N: usize>(case: &Case, with: [(&str, View<Cpu>); N], message: &str) {
    let with = with.map(|(name, view)| (name.to_owned(), view));
    changed(case, |tensors| tensors.extend(with), message);
}

fn plain() -> Case {
    Case { bias: Bias::Full, sink: true, alibi: true, dlse: true, ..Case::new(SIZES) }
}

/// Four sequences.
fn packed() -> Case {
    let sizes = Sizes { batch: 1, ..SIZES };
    Case { shard: Shard::Packed, bias: Bias::Nothing, sizes, ..plain() }
}

#[test]
fn wrong_queries_keys_and_values_are_told() {
    replaced(
        &plain(),
        [("q", zeros(&[2, 5, 24]))],
        "attention: tensor `q`: expected shape (B, S, H, D), found shape (2, 5, 24)",
    );
    replaced(
        &Case { layout: Layout::Bhsd, ..plain() },
        [("v", zeros(&[2, 7, 6]))],
        "attention: tensor `v`: expected shape (B, H, S, D), found shape (2, 7, 6)",
    );
    replaced(
        &packed(),
        [("k", zeros(&[1, 7, 2, 6]))],
        "attention: tensor `k`: expected shape (T, H, D), as sequences are packed, found shape \
         (1, 7, 2, 6)",
    );
    replaced(
        &Case { layout: Layout::Bhsd, ..packed() },
        [("q", zeros(&[24]))],
        "attention: tensor `q`: expected shape (H, T, D), as sequences are packed, found shape (24)",
    );
    replaced(
        &plain(),
        [("k", zeros(&[2, 7, 3, 6])), ("v", zeros(&[2, 7, 3, 3]))],
        "attention: option `shape`: expected heads of keys, Hk, that divide those of queries, H, \
         found Hk = 3 and H = 4",
    );
    replaced(
        &plain(),
        [("k", zeros(&[2, 7, 0, 6]))],
        "attention: option `shape`: expected heads of keys, Hk, that divide those of queries, H, \
         found Hk = 0 and H = 4",
    );
    replaced(
        &plain(),
        [("q", zeros(&[2, 5, 0, 6]))],
        "attention: option `shape`: expected no heads of keys, Hk, where queries have none, found \
         Hk = 2 and H = 0",
    );
    replaced(
        &plain(),
        [("k", zeros(&[2, 7, 2, 5]))],
        "attention: tensor `k`: expected shape (B, Sk, Hk, D) = (2, 7, 2, 6), found shape \
         (2, 7, 2, 5)",
    );
    replaced(
        &Case { layout: Layout::Bhsd, ..plain() },
        [("v", zeros(&[2, 2, 8, 3]))],
        "attention: tensor `v`: expected shape (B, Hk, Sk, Dv) = (2, 2, 7, 3), found shape \
         (2, 2, 8, 3)",
    );
    replaced(
        &packed(),
        [("v", zeros(&[7, 1, 3]))],
        "attention: tensor `v`: expected shape (Sk, Hk, Dv) = (7, 2, 3), found shape (7, 1, 3)",
    );
    replaced(
        &plain(),
        [("k", of::<f16>(&[2, 7, 2, 6]).into_view())],
        "attention: tensor `k`: expected elements f32, found f16",
    );
    replaced(
        &plain(),
        [("q", zeros(&[2, 5, 6, 4]).transposed(2, 3).expect("axes"))],
        "attention: tensor `q`: expected stride 1 along the last axis, found strides \
         (120, 24, 1, 4) for shape (2, 5, 4, 6)",
    );
}

#[test]
fn too_few_and_too_many_features_are_told() {
    replaced(
        &plain(),
        [("q", zeros(&[2, 5, 4, 0])), ("k", zeros(&[2, 7, 2, 0]))],
        "attention: option `shape`: expected 1 to 512 features, D, found 0",
    );
    replaced(
        &plain(),
        [("q", zeros(&[2, 5, 4, 513])), ("k", zeros(&[2, 7, 2, 513]))],
        "attention: option `shape`: expected 1 to 512 features, D, found 513",
    );
    replaced(
        &plain(),
        [("v", zeros(&[2, 7, 2, 513]))],
        "attention: option `shape`: expected 1 to 512 features, Dv, found 513",
    );
}

#[test]
fn wrong_parameters_are_told() {
    replaced(
        &plain(),
        [("bias", zeros(&[2, 3, 5, 7]))],
        "attention: tensor `bias`: expected shape (B or 1, H or 1, Sq, Sk) = (2, 4, 5, 7), found \
         shape (2, 3, 5, 7)",
    );
    replaced(
        &plain(),
        [("bias", zeros(&[1, 1, 1, 7]))],
        "attention: tensor `bias`: expected shape (B or 1, H or 1, Sq, Sk) = (1, 1, 5, 7), found \
         shape (1, 1, 1, 7)",
    );
    replaced(
        &plain(),
        [("bias", zeros(&[2, 4, 7, 5]).transposed(2, 3).expect("axes"))],
        "attention: tensor `bias`: expected stride 1 along the last axis, found strides \
         (140, 35, 1, 5) for shape (2, 4, 5, 7)",
    );
    replaced(
        &plain(),
        [("bias", of::<f16>(&[1, 1, 5, 7]).into_view())],
        "attention: tensor `bias`: expected elements f32, found f16",
    );
    replaced(
        &packed(),
        [("bias", zeros(&[1, 1, 5, 7]))],
        "attention: tensor `bias`: expected no such tensor, as sequences are packed, found one",
    );
    replaced(
        &plain(),
        [("sink", zeros(&[2]))],
        "attention: tensor `sink`: expected shape (H) = (4), found shape (2)",
    );
    replaced(
        &plain(),
        [("sink", of::<f64>(&[4]).into_view())],
        "attention: tensor `sink`: expected elements f32, found f64",
    );
    replaced(
        &plain(),
        [("alibi_slopes", zeros(&[2]))],
        "attention: tensor `alibi_slopes`: expected shape (H) = (4), found shape (2)",
    );
    replaced(
        &plain(),
        [("alibi_slopes", zeros(&[4, 2]))],
        "attention: tensor `alibi_slopes`: expected shape (B, H) = (2, 4), found shape (4, 2)",
    );
    replaced(
        &packed(),
        [("alibi_slopes", zeros(&[1, 4]))],
        "attention: tensor `alibi_slopes`: expected shape (S, H) = (4, 4), found shape (1, 4)",
    );
    replaced(
        &plain(),
        [("alibi_slopes", zeros(&[4, 2]).transposed(0, 1).expect("axes"))],
        "attention: tensor `alibi_slopes`: expected strides (4, 1), found strides (1, 2) for shape \
         (2, 4)",
    );
}

#[test]
fn wrong_gradients_of_outputs_are_told() {
    replaced(
        &plain(),
        [("dout", zeros(&[2, 5, 4, 6]))],
        "attention: tensor `dout`: expected shape (B, Sq, H, Dv) = (2, 5, 4, 3), found shape \
         (2, 5, 4, 6)",
    );
    replaced(
        &plain(),
        [("dlse", zeros(&[2, 5, 4]))],
        "attention: tensor `dlse`: expected shape (B, H, Sq) = (2, 4, 5), found shape (2, 5, 4)",
    );
    replaced(
        &packed(),
        [("dlse", zeros(&[5, 4]))],
        "attention: tensor `dlse`: expected shape (H, Sq) = (4, 5), found shape (5, 4)",
    );
    replaced(
        &plain(),
        [("dlse", of::<f64>(&[2, 4, 5]).into_view())],
        "attention: tensor `dlse`: expected elements f32, found f64",
    );
}

#[test]
fn wrong_bounds_of_packed_sequences_are_told() {
    replaced(
        &packed(),
        [("cu_seqlens_q", bounds(&[0, 3, 2, 4, 5], &[5]))],
        "attention: tensor `cu_seqlens_q`: expected values that rise from 0 to T = 5, found 2 after \
         3 at position 2",
    );
    replaced(
        &packed(),
        [("cu_seqlens_k", bounds(&[0, 1, 2, 3, 6], &[5]))],
        "attention: tensor `cu_seqlens_k`: expected values that rise from 0 to T = 7, found 0 first, \
         6 last",
    );
    replaced(
        &packed(),
        [("cu_seqlens_k", bounds(&[1, 1, 2, 3, 7], &[5]))],
        "attention: tensor `cu_seqlens_k`: expected values that rise from 0 to T = 7, found 1 first, \
         7 last",
    );
    replaced(
        &packed(),
        [("cu_seqlens_q", bounds(&[0, 1, 2, 5], &[2, 2]))],
        "attention: tensor `cu_seqlens_q`: expected shape (S + 1), found shape (2, 2)",
    );
    replaced(
        &packed(),
        [("cu_seqlens_q", bounds(&[], &[0]))],
        "attention: tensor `cu_seqlens_q`: expected shape (S + 1), found shape (0)",
    );
    replaced(
        &packed(),
        [("cu_seqlens_k", bounds(&[0, 7], &[2]))],
        "attention: tensor `cu_seqlens_k`: expected shape (S + 1) = (5), as cu_seqlens_q has, found \
         shape (2)",
    );
    replaced(
        &packed(),
        [("cu_seqlens_k", zeros(&[5]))],
        "attention: tensor `cu_seqlens_k`: expected elements i32 or i64 or u32 or u64, found f32",
    );
    for missing in ["cu_seqlens_q", "cu_seqlens_k"] {
        changed(
            &packed(),
            |tensors| drop(tensors.remove(missing)),
            &format!(
                "attention: tensor `{missing}`: expected both cu_seqlens_q and cu_seqlens_k, or \
                 neither, found none"
            ),
        );
    }
}

#[test]
fn missing_and_unknown_tensors_are_told() {
    changed(
        &plain(),
        |tensors| drop(tensors.remove("v")),
        "attention: tensor `v`: expected this tensor, found none",
    );
    replaced(
        &plain(),
        [("mask", zeros(&[5, 7]))],
        "attention: tensor `mask`: expected one of q k v bias sink alibi_slopes cu_seqlens_q \
         cu_seqlens_k, found an unknown tensor",
    );
}

/// The tensors of both passes of a plain call.
struct Call {
    q: Tensor<Cpu, f32>,
    k: Tensor<Cpu, f32>,
    v: Tensor<Cpu, f32>,
    out: Tensor<Cpu, f32>,
    partial: Tensor<Cpu, f32>,
    lse: Tensor<Cpu, f32>,
    dout: Tensor<Cpu, f32>,
}

impl Call {
    fn new() -> Self {
        let Sizes { batch, heads, kv_heads, queries, keys, width, value_width } = SIZES;
        let of_queries = |width| of(&[batch, queries, heads, width]);
        let of_keys = |width| of(&[batch, keys, kv_heads, width]);
        Self {
            q: of_queries(width),
            k: of_keys(width),
            v: of_keys(value_width),
            out: of_queries(value_width),
            partial: of_queries(value_width),
            lse: of(&[batch, heads, queries]),
            dout: of_queries(value_width),
        }
    }

    fn inputs(&self) -> Inputs<'_, Cpu, f32> {
        Inputs::new(&self.q, &self.k, &self.v)
    }

    /// Runs the forward pass into `out` and `partial`, as far as they are wanted, and expects this
    /// message.
    #[track_caller]
    fn outputs(&mut self, options: &Options, [out, partial]: [bool; 2], message: &str) {
        let mut outputs = OutputsMut {
            out: if out { Some(&mut self.out) } else { None },
            partial: if partial { Some(&mut self.partial) } else { None },
            lse: &mut self.lse,
        };
        let inputs = Inputs::new(&self.q, &self.k, &self.v);
        assert_refused(forward_into(&inputs, options, &mut outputs), message);
    }

    /// Runs the backward pass of some inputs into changed gradients, and expects this message.
    #[track_caller]
    fn gradients(
        &self,
        inputs: &Inputs<'_, Cpu, f32>,
        change: impl FnOnce(&mut Gradients<Cpu, f32>),
        message: &str,
    ) {
        let [q, k, v] = [inputs.q, inputs.k, inputs.v].map(|input| of(input.shape()));
        let mut gradients = Gradients { q, k, v, bias: None, sink: None };
        change(&mut gradients);
        let (saved, given) = (Saved::new(&self.out, &self.lse), OutputGradients::new(&self.dout));
        let options = Options::default();
        let ran = backward_into(inputs, &options, &saved, &given, &mut gradients.as_mut());
        assert_refused(ran, message);
    }
}

#[test]
fn wrong_outputs_are_told() {
    let (plain, accumulating) = (Options::default(), Options::default().with_accumulate(true));
    Call::new().outputs(
        &accumulating,
        [true, false],
        "attention: tensor `partial`: expected what earlier parts of the keys gave, to be merged \
         into, found none",
    );
    Call::new().outputs(
        &plain,
        [false, false],
        "attention: tensor `out`: expected out, or partial, or both, found neither",
    );
    Call { out: of(&[2, 5, 4, 6]), ..Call::new() }.outputs(
        &plain,
        [true, true],
        "attention: tensor `out`: expected shape (B, Sq, H, Dv) = (2, 5, 4, 3), found shape \
         (2, 5, 4, 6)",
    );
    Call { partial: of(&[2, 4, 5, 3]), ..Call::new() }.outputs(
        &plain,
        [true, true],
        "attention: tensor `partial`: expected shape (B, Sq, H, Dv) = (2, 5, 4, 3), found shape \
         (2, 4, 5, 3)",
    );
    Call { lse: of(&[2, 5, 4]), ..Call::new() }.outputs(
        &plain,
        [true, true],
        "attention: tensor `lse`: expected shape (B, H, Sq) = (2, 4, 5), found shape (2, 5, 4)",
    );
    let turned = of::<f32>(&[2, 5, 4]).transposed(1, 2).expect("axes");
    Call { lse: turned, ..Call::new() }.outputs(
        &plain,
        [true, true],
        "attention: tensor `lse`: expected strides (20, 5, 1), found strides (20, 1, 4) for shape \
         (2, 4, 5)",
    );
}

#[test]
fn outputs_that_share_memory_are_told() {
    let plain = Options::default();
    let call = Call::new();
    Call { partial: call.out.clone(), ..call }.outputs(
        &plain,
        [true, true],
        "attention: tensor `out` is written, but shares memory with `partial`: give it memory of \
         its own",
    );
    // Values are as wide as half of the features of a query.
    let call = Call::new();
    Call { out: call.q.narrowed(3, 0..3).expect("within the axis"), ..call }.outputs(
        &plain,
        [true, true],
        "attention: tensor `out` is written, but shares memory with `q`: give it memory of its own",
    );
    let call = Call::new();
    Call { partial: call.q.narrowed(3, 3..6).expect("within the axis"), ..call }.outputs(
        &plain,
        [false, true],
        "attention: tensor `partial` is written, but shares memory with `q`: give it memory of its \
         own",
    );
    let call = Call::new();
    let spread = [0, 12, 3, 1];
    let buffer = call.out.buffer().clone();
    let spread = Tensor::from_buffer(&Cpu, buffer, 0, &[2, 5, 4, 3], &spread).expect("within it");
    Call { out: spread, ..call }.outputs(
        &plain,
        [true, true],
        "attention: tensor `out`: expected elements that do not share memory, found strides \
         (0, 12, 3, 1) for shape (2, 5, 4, 3)",
    );
}

#[test]
fn wrong_gradients_are_told() {
    let call = Call::new();
    let (bias, sink) = (of::<f32>(&[1, 4, 5, 7]), of::<f32>(&[4]));
    let inputs = call.inputs().with_bias(&bias).with_sink(&sink);
    call.gradients(
        &inputs,
        |gradients| gradients.q = of(&[2, 5, 4, 3]),
        "attention: tensor `dq`: expected shape (B, Sq, H, D) = (2, 5, 4, 6), found shape \
         (2, 5, 4, 3)",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.k = of(&[2, 7, 4, 6]),
        "attention: tensor `dk`: expected shape (B, Sk, Hk, D) = (2, 7, 2, 6), found shape \
         (2, 7, 4, 6)",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.v = of(&[2, 7, 2, 6]),
        "attention: tensor `dv`: expected shape (B, Sk, Hk, Dv) = (2, 7, 2, 3), found shape \
         (2, 7, 2, 6)",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.bias = Some(of(&[2, 4, 5, 7])),
        "attention: tensor `dbias`: expected shape (B or 1, H or 1, Sq, Sk) = (1, 4, 5, 7), found \
         shape (2, 4, 5, 7)",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.sink = Some(of(&[2])),
        "attention: tensor `dsink`: expected shape (H) = (4), found shape (2)",
    );
    call.gradients(
        &call.inputs(),
        |gradients| gradients.bias = Some(of(&[1, 4, 5, 7])),
        "attention: tensor `dbias`: expected none, as there is no input, found one",
    );
    call.gradients(
        &call.inputs(),
        |gradients| gradients.sink = Some(of(&[4])),
        "attention: tensor `dsink`: expected none, as there is no input, found one",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.q = call.q.clone(),
        "attention: tensor `dq` is written, but shares memory with `q`: give it memory of its own",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.v = gradients.k.narrowed(3, 0..3).expect("within the axis"),
        "attention: tensor `dk` is written, but shares memory with `dv`: give it memory of its own",
    );
    call.gradients(
        &inputs,
        |gradients| gradients.sink = Some(sink.clone()),
        "attention: tensor `dsink` is written, but shares memory with `sink`: give it memory of \
         its own",
    );
}

#[test]
fn row_terms_that_do_not_fit_are_told() {
    let call = Call::new();
    let rows = of::<f32>(&[2, 4, 5]);
    let refused = |saved: &Saved<'_, Cpu, f32>, given: &OutputGradients<'_, Cpu, f32>, message| {
        assert_refused(backward(&call.inputs(), &Options::default(), saved, given), message);
    };
    refused(
        &Saved::with_delta(&rows, &call.lse),
        &OutputGradients::new(&call.dout).with_lse(&rows),
        "attention: tensor `dlse`: expected no gradient of lse besides delta, which holds it, \
         found both",
    );
    refused(
        &Saved::with_delta(&of(&[2, 5, 4]), &call.lse),
        &OutputGradients::new(&call.dout),
        "attention: tensor `delta`: expected shape (B, H, Sq) = (2, 4, 5), found shape (2, 5, 4)",
    );
    refused(
        &Saved::new(&of(&[2, 5, 4, 6]), &call.lse),
        &OutputGradients::new(&call.dout),
        "attention: tensor `out`: expected shape (B, Sq, H, Dv) = (2, 5, 4, 3), found shape \
         (2, 5, 4, 6)",
    );
    refused(
        &Saved::new(&call.out, &of(&[4, 5])),
        &OutputGradients::new(&call.dout),
        "attention: tensor `lse`: expected shape (B, H, Sq) = (2, 4, 5), found shape (4, 5)",
    );
}

#[test]
fn positions_that_do_not_fit_are_told() {
    let call = Call::new();
    let refused = |options: &Options, message| {
        assert_refused(forward(&call.inputs(), options), message);
    };
    refused(
        &Options::default().with_queries(Positions::whole(4)),
        "attention: option `queries`: expected as many positions as queries, 5, found 4",
    );
    refused(
        &Options::default().with_keys(Positions::whole(8)),
        "attention: option `keys`: expected as many positions as keys, 7, found 8",
    );
    let long = Positions::new(MAX_TOKENS + 1, &[Segment::contiguous(0..7)]).expect("they rise");
    refused(
        &Options::default().with_keys(long),
        "attention: option `keys`: expected a sequence of at most 536870912 tokens, found 536870913",
    );
    let options = packed().options().with_queries(Positions::whole(5));
    assert_refused(
        check_named(&packed().tensors::<f32>().expect("tensors"), &options),
        "attention: option `positions`: expected whole sequences, as they are packed, found parts \
         of one",
    );
}

#[test]
fn options_without_sense_are_told() {
    let call = Call::new();
    let refused = |options: &Options, message| {
        assert_refused(forward(&call.inputs(), options), message);
    };
    refused(
        &Options::default().with_scale(f32::NAN),
        "attention: option `scale`: expected a finite number, found NaN",
    );
    refused(
        &Options::default().with_softcap(0.0),
        "attention: option `softcap`: expected a positive number, or 0 for none, found 0",
    );
    refused(
        &Options::default().with_splits(0),
        "attention: option `splits`: expected at least one part of the keys, found 0",
    );
}
