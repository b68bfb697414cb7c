//! The gradients as slopes, and parts of keys as the whole.

use super::*;
use crate::attention::{Alignment, Layout, Mask, Positions, Segment};
use crate::tensor::Tensor;

/// Numbers between -1 and 1 that look like noise.
struct Noise(u64);

impl Noise {
    fn take(&mut self, count: usize) -> Vec<f64> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }
}

/// B, H, Hk, Sq, Sk, D, Dv.
const SIZES: [usize; 7] = [2, 4, 2, 5, 6, 3, 2];

/// A call with all inputs.
#[derive(Clone)]
struct Call {
    options: Options,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// (B or 1, H or 1, Sq, Sk); empty where absent, as those below.
    bias: Vec<f64>,
    bias_shape: [usize; 4],
    sink: Vec<f64>,
    slopes: Vec<f64>,
    dout: Vec<f64>,
    dlse: Vec<f64>,
}

impl Call {
    fn new(options: Options, bias: [usize; 2], extras: bool) -> Self {
        let [batch, heads, kv_heads, queries, keys, width, value_width] = SIZES;
        let (mut noise, rows) = (Noise(7), batch * heads * queries);
        let bias_shape = [bias[0], bias[1], queries, keys];
        let mut extra = |count| if extras { noise.take(count) } else { Vec::new() };
        let (sink, slopes) = (extra(heads), extra(heads));
        Self {
            options,
            q: noise.take(rows * width),
            k: noise.take(batch * kv_heads * keys * width),
            v: noise.take(batch * kv_heads * keys * value_width),
            bias: noise.take(bias_shape.iter().product()),
            bias_shape,
            sink,
            slopes: slopes.into_iter().map(f64::abs).collect(),
            dout: noise.take(rows * value_width),
            dlse: noise.take(rows),
        }
    }

    /// The tensors, for the time of a call.
    fn with<R>(
        &self,
        run: impl FnOnce(&Inputs<'_, Cpu, f64>, &OutputGradients<'_, Cpu, f64>) -> R,
    ) -> R {
        let [batch, heads, kv_heads, queries, keys, width, value_width] = SIZES;
        let tensor =
            |values: &[f64], shape: &[usize]| Tensor::from_slice(&Cpu, values, shape).unwrap();
        let of = |values: &[f64], heads, tokens, width| {
            tensor(values, &self.options.layout.axes([batch, heads, tokens, width]))
        };
        let q = of(&self.q, heads, queries, width);
        let (k, v) = (of(&self.k, kv_heads, keys, width), of(&self.v, kv_heads, keys, value_width));
        let dout = of(&self.dout, heads, queries, value_width);
        let bias = tensor(&self.bias, &self.bias_shape);
        let (sink, slopes) =
            (tensor(&self.sink, &[self.sink.len()]), tensor(&self.slopes, &[self.slopes.len()]));
        let dlse = tensor(&self.dlse, &[batch, heads, queries]);
        let mut inputs = Inputs::new(&q, &k, &v);
        if !self.bias.is_empty() {
            inputs = inputs.with_bias(&bias);
        }
        if !self.sink.is_empty() {
            inputs = inputs.with_sink(&sink).with_alibi_slopes(&slopes);
        }
        run(&inputs, &OutputGradients::new(&dout).with_lse(&dlse))
    }

    /// Σ dout · out + Σ dlse lse; what has seen nothing counts nothing.
    fn loss(&self) -> f64 {
        self.with(|inputs, given| {
            let exact = forward(inputs, &self.options, None, Rounding::NONE).unwrap();
            let dout = self.options.layout.heads_first(given.out).unwrap().to_f64().unwrap();
            let finite = |(lse, dlse): (&f64, &f64)| if lse.is_finite() { lse * dlse } else { 0.0 };
            Rounding::NONE.dot(&dout, &exact.out)
                + exact.lse.iter().zip(&self.dlse).map(finite).sum::<f64>()
        })
    }

    fn gradients(&self) -> ExactGradients {
        self.with(|inputs, given| {
            let problem = Problem::check(inputs, &self.options).unwrap();
            let exact = forward(inputs, &self.options, None, Rounding::NONE).unwrap();
            let delta = row_terms(&problem, &exact, given, Rounding::NONE).unwrap();
            let rows = [&*delta, &*exact.lse];
            backward(inputs, &self.options, rows, given.out, Rounding::NONE).unwrap()
        })
    }
}

/// Central differences of the loss in each number that `tensor` picks.
fn slopes(call: &Call, tensor: impl Fn(&mut Call) -> &mut Vec<f64>) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let count = tensor(&mut call.clone()).len();
    let slope = |i| {
        let moved = |by: f64| {
            let mut call = call.clone();
            tensor(&mut call)[i] += by;
            call.loss()
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
    };
    (0..count).map(slope).collect()
}

#[track_caller]
fn assert_close(found: &[f64], slopes: &[f64], what: &str) {
    assert_eq!(found.len(), slopes.len(), "{what}");
    for (i, (x, y)) in found.iter().zip(slopes).enumerate() {
        assert!((x - y).abs() <= 2e-8 * (1.0 + y.abs()), "{what}[{i}]: {x} instead of {y}");
    }
}

/// Values of a tensor in the order of the reference, as they lie in the call's layout.
fn in_layout(call: &Call, values: &[f64], [heads, tokens, width]: [usize; 3]) -> Vec<f64> {
    let batch = SIZES[0];
    let values = Tensor::from_slice(&Cpu, values, &[batch, heads, tokens, width]).unwrap();
    match call.options.layout {
        Layout::Bhsd => values.to_vec().unwrap(),
        Layout::Bshd => values.transposed(1, 2).unwrap().to_vec().unwrap(),
    }
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    let causal = Options::default().with_mask(Mask::causal());
    let window = Mask::default().with_window(Some(2), Some(1));
    let top_left = Mask::causal().with_alignment(Alignment::TopLeft);
    let odd = Positions::new(15, &[Segment { start: 1, stride: 3, length: 5 }]).unwrap();
    for (options, bias, extras) in [
        (Options::default(), [0, 0], false),
        (causal.clone(), [2, 4], true),
        (causal.clone().with_softcap(0.75).with_layout(Layout::Bhsd), [1, 1], true),
        (Options::default().with_mask(window).with_scale(-0.7), [1, 4], false),
        (Options::default().with_mask(top_left).with_queries(odd), [2, 1], true),
    ] {
        let call = Call::new(options, bias, extras);
        let ExactGradients { q, k, v, bias, sink } = call.gradients();
        let [_, heads, kv_heads, queries, keys, width, value_width] = SIZES;
        let what = |name: &str| format!("{name} of {:?}", call.options);
        let found = in_layout(&call, &q, [heads, queries, width]);
        assert_close(&found, &slopes(&call, |call| &mut call.q), &what("dq"));
        let found = in_layout(&call, &k, [kv_heads, keys, width]);
        assert_close(&found, &slopes(&call, |call| &mut call.k), &what("dk"));
        let found = in_layout(&call, &v, [kv_heads, keys, value_width]);
        assert_close(&found, &slopes(&call, |call| &mut call.v), &what("dv"));
        assert_close(&bias, &slopes(&call, |call| &mut call.bias), &what("dbias"));
        assert_close(&sink, &slopes(&call, |call| &mut call.sink), &what("dsink"));
    }
}

/// Keys in two parts, merged, and their gradients under the lse over all keys.
#[test]
fn parts_of_the_keys_make_the_whole() {
    let options = Options::default().with_mask(Mask::causal());
    let call = Call::new(options.clone(), [0, 0], false);
    call.with(|inputs, given| {
        let problem = Problem::check(inputs, &options).unwrap();
        let whole = forward(inputs, &options, None, Rounding::NONE).unwrap();
        let delta = row_terms(&problem, &whole, given, Rounding::NONE).unwrap();
        let mut before = None;
        let mut dq = vec![0.0; whole.out.len() / SIZES[6] * SIZES[5]];
        for keys in [0..4, 4..6] {
            let (k, v) = (
                inputs.k.narrowed(1, keys.clone()).unwrap(),
                inputs.v.narrowed(1, keys.clone()).unwrap(),
            );
            let part = Positions::new(SIZES[4], &[Segment::contiguous(keys)]).unwrap();
            let (inputs, options) =
                (Inputs::new(inputs.q, &k, &v), options.clone().with_keys(part));
            before = Some(forward(&inputs, &options, before.as_ref(), Rounding::NONE).unwrap());
            let rows = [&*delta, &*whole.lse];
            let of_part = backward(&inputs, &options, rows, given.out, Rounding::NONE).unwrap();
            dq.iter_mut().zip(of_part.q).for_each(|(sum, x)| *sum += x);
        }
        let merged = before.unwrap();
        assert_close(&merged.out, &whole.out, "out");
        assert_close(&merged.lse, &whole.lse, "lse");
        assert_close(&dq, &call.gradients().q, "dq");
    });
}

#[test]
fn merging_is_associative_and_has_a_neutral_element() {
    let rows = [vec![1.0, -2.0], vec![0.5, 4.0], vec![-3.0, 0.25]];
    let nothing = (&[f64::NAN, f64::INFINITY][..], f64::NEG_INFINITY);
    for lses in [[0.0, 1.0, 2.0], [-200.0, 200.0, 199.0], [5.0, f64::NEG_INFINITY, 5.0]] {
        let at = |i: usize| (&*rows[i], lses[i]);
        let left = merge(at(0), at(1));
        let left = merge((&left.0, left.1), at(2));
        let right = merge(at(1), at(2));
        let right = merge(at(0), (&right.0, right.1));
        assert_close(&left.0, &right.0, "o");
        assert_close(&[left.1], &[right.1], "lse");
        for i in [0, 2] {
            assert_eq!(merge(at(i), nothing), (rows[i].clone(), lses[i]));
            assert_eq!(merge(nothing, at(i)), (rows[i].clone(), lses[i]));
        }
    }
    assert_eq!(merge(nothing, nothing), (vec![0.0; 2], f64::NEG_INFINITY));
}
