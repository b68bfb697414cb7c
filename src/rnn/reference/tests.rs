//! What holds for the recurrence whatever computes it, and the gradients as slopes.

use proptest::prelude::*;

use super::*;
use crate::rnn::{Activation, Cell, Initial, LastGradients};
use crate::tensor::Tensor;

/// A call with all inputs, drawn from a seed.
#[derive(Clone, Debug)]
struct Call {
    /// B, T, N, D.
    sizes: [usize; 4],
    options: Options,
    wx: Vec<f64>,
    r: Vec<f64>,
    b: Vec<f64>,
    /// As many as the cell has states.
    initial: Vec<Vec<f64>>,
    lengths: Option<Vec<i32>>,
    /// Gradients of h, c and n, as far as the cell has them.
    given: Vec<Vec<f64>>,
    given_last: Vec<Vec<f64>>,
}

/// Numbers between -1 and 1 that look like noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}

impl Call {
    fn new(sizes: [usize; 4], options: Options, seed: u64) -> Self {
        let [batch, steps, heads, width] = sizes;
        let cell = options.cell;
        let mut noise = Noise(seed);
        let (row, sequence) = (batch * heads * width, batch * steps * heads * width);
        let mut call = Self {
            sizes,
            wx: noise.take(sequence * cell.input_gates().len()),
            r: noise.take(cell.recurrent_gates().len() * heads * width * width),
            b: noise.take(cell.bias_gates().len() * heads * width),
            initial: cell.states().iter().map(|_| noise.take(row)).collect(),
            lengths: None,
            given: cell.states().iter().take(3).map(|_| noise.take(sequence)).collect(),
            given_last: cell.states().iter().take(3).map(|_| noise.take(row)).collect(),
            options,
        };
        // A normaliser between 1 and 2.
        for n in call.initial.get_mut(2).into_iter().flatten() {
            *n = 1.5 + 0.5 * *n;
        }
        call
    }

    fn with_lengths(mut self, lengths: &[i32]) -> Self {
        self.lengths = Some(lengths.to_vec());
        self
    }

    fn cell(&self) -> Cell {
        self.options.cell
    }

    /// The tensors, for the time of a call.
    fn with_inputs<R>(&self, run: impl FnOnce(&Inputs<'_, Cpu, f64>) -> R) -> R {
        let [batch, steps, heads, width] = self.sizes;
        let tensor =
            |values: &[f64], shape: &[usize]| Tensor::from_slice(&Cpu, values, shape).unwrap();
        let gates = self.cell().input_gates().len();
        let wx = tensor(&self.wx, &[batch, steps, gates, heads, width]);
        let r = tensor(&self.r, &[self.cell().recurrent_gates().len(), heads, width, width]);
        let b = tensor(&self.b, &[self.cell().bias_gates().len(), heads, width]);
        let states: Vec<_> =
            self.initial.iter().map(|state| tensor(state, &[batch, heads, width])).collect();
        let state = |i: usize| states.get(i).map(Parameter::from);
        let initial = Initial { h: state(0), c: state(1), n: state(2), m: state(3) };
        let lengths = self.lengths.as_ref();
        let lengths = lengths.map(|lengths| Tensor::from_slice(&Cpu, lengths, &[batch]).unwrap());
        let mut inputs = Inputs::new(&wx, &r).with_bias(&b).with_initial(initial);
        if let Some(lengths) = &lengths {
            inputs = inputs.with_lengths(lengths);
        }
        run(&inputs)
    }

    fn forward(&self) -> Exact {
        self.with_inputs(|inputs| forward(inputs, &self.options)).unwrap()
    }

    fn backward(&self) -> ExactGradients {
        let [batch, steps, heads, width] = self.sizes;
        let tensor =
            |values: &Vec<f64>, shape: &[usize]| Tensor::from_slice(&Cpu, values, shape).unwrap();
        let of_steps = |given: &Vec<f64>| tensor(given, &[batch, steps, heads, width]);
        let given: Vec<_> = self.given.iter().map(of_steps).collect();
        let last: Vec<_> =
            self.given_last.iter().map(|given| tensor(given, &[batch, heads, width])).collect();
        let state = |states: &[Tensor<Cpu, f64>], i: usize| states.get(i).cloned();
        let (c, n) = (state(&given, 1), state(&given, 2));
        let [last_h, last_c, last_n] = [0, 1, 2].map(|i| state(&last, i));
        let gradients = OutputGradients {
            h: given.first(),
            c: c.as_ref().map(Parameter::from),
            n: n.as_ref().map(Parameter::from),
            last: LastGradients {
                h: last_h.as_ref().map(Parameter::from),
                c: last_c.as_ref().map(Parameter::from),
                n: last_n.as_ref().map(Parameter::from),
            },
        };
        self.with_inputs(|inputs| backward(inputs, &self.options, &gradients)).unwrap()
    }

    /// Σ dh h + … of all outputs whose gradients are given.
    fn loss(&self) -> f64 {
        let ran = self.forward();
        let dot = |given: &Vec<Vec<f64>>, found: &Vec<Vec<f64>>| -> f64 {
            let pairs = given.iter().flatten().zip(found.iter().take(3).flatten());
            pairs.map(|(x, y)| x * y).sum()
        };
        dot(&self.given, &ran.states) + dot(&self.given_last, &ran.last)
    }

    /// The loss's slope along one number of the call.
    fn slope(&self, number: impl Fn(&mut Self) -> &mut f64) -> f64 {
        let at = |by: f64| {
            let mut call = self.clone();
            *number(&mut call) += by;
            call.loss()
        };
        // Of fourth order.
        let step = 2e-3;
        (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step)
    }
}

fn close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error < 1e-8, "{what}: {found} instead of {expected}, {error:.1e} apart");
}

/// Gradients against slopes at some numbers of every input.
fn check_slopes(call: &Call) {
    let gradients = call.backward();
    let spread = |length: usize| (0..length).step_by(length.div_ceil(7).max(1));
    for i in spread(call.wx.len()) {
        close(gradients.wx[i], call.slope(|call| &mut call.wx[i]), &format!("dwx[{i}]"));
    }
    for i in spread(call.r.len()) {
        close(gradients.r[i], call.slope(|call| &mut call.r[i]), &format!("dR[{i}]"));
    }
    for i in spread(call.b.len()) {
        close(gradients.b[i], call.slope(|call| &mut call.b[i]), &format!("db[{i}]"));
    }
    for (s, gradient) in gradients.initial.iter().enumerate() {
        for i in spread(gradient.len()) {
            let slope = call.slope(|call| &mut call.initial[s][i]);
            close(gradient[i], slope, &format!("d{}0[{i}]", call.cell().states()[s]));
        }
    }
}

/// Of sLSTM a loss in h alone: its other states are known but for a shift.
fn in_h(mut call: Call) -> Call {
    if call.cell() == Cell::Slstm {
        call.given[1..].iter_mut().for_each(|given| given.fill(0.0));
        call.given_last[1..].iter_mut().for_each(|given| given.fill(0.0));
    }
    call
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn gradients_are_the_slopes_of_the_loss(seed in 0u64..10_000) {
        for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
            for direction in [Direction::Forward, Direction::Reverse] {
                let options = Options::new(cell).with_direction(direction);
                let call = Call::new([3, 4, 2, 3], options, seed).with_lengths(&[4, 0, 3]);
                check_slopes(&in_h(call));
            }
        }
    }
}

#[test]
fn gradients_of_relu_are_the_slopes_of_the_loss() {
    let mut call = Call::new([2, 3, 2, 3], Options::new(Cell::RELU), 5);
    // One unit in three is off at every step, the others are on.
    call.r.iter_mut().for_each(|r| *r = 0.1 * r.abs());
    call.wx.iter_mut().enumerate().for_each(|(i, x)| *x = if i % 3 == 0 { -9.0 } else { 2.0 + *x });
    check_slopes(&call);
}

#[test]
fn gradients_with_clipped_outputs_are_the_slopes_of_the_loss() {
    const CLIP: f32 = 0.25;
    for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
        // Slopes exist where no output lies at the edge.
        let is_clipped_off_the_edge = |call: &Call| {
            let free = Call { options: Options::new(cell), ..call.clone() };
            let (found, free) = (call.forward(), free.forward());
            let at_edge = |h: &f64| h.abs() != 0.25 && (h.abs() - 0.25).abs() < 0.01;
            let clipped = found.states[0].iter().any(|h| h.abs() == 0.25);
            clipped && !found.states[0].iter().chain(&free.states[0]).any(at_edge)
        };
        let drawn =
            |seed| in_h(Call::new([1, 3, 1, 2], Options::new(cell).with_output_clip(CLIP), seed));
        let call = (0..1000).map(drawn).find(is_clipped_off_the_edge).expect("such a call");
        check_slopes(&call);
    }
}

/// The call's steps in a range, from given states, and with given gradients of the last ones.
fn piece(call: &Call, range: std::ops::Range<usize>, initial: Vec<Vec<f64>>) -> Call {
    let [batch, steps, heads, width] = call.sizes;
    let cut = |values: &Vec<f64>, gates: usize| -> Vec<f64> {
        let step = gates * heads * width;
        let row = |b: usize| values[b * steps * step..][..steps * step].to_vec();
        (0..batch).flat_map(|b| row(b)[range.start * step..range.end * step].to_vec()).collect()
    };
    Call {
        sizes: [batch, range.len(), heads, width],
        wx: cut(&call.wx, call.cell().input_gates().len()),
        given: call.given.iter().map(|given| cut(given, 1)).collect(),
        initial,
        ..call.clone()
    }
}

#[test]
fn pieces_give_the_bits_of_the_whole() {
    for cell in Cell::ALL {
        let whole = Call::new([2, 7, 2, 3], Options::new(cell).with_grad_clip(1e9), 11);
        let first = piece(&whole, 0..3, whole.initial.clone());
        let second = piece(&whole, 3..7, first.forward().last);
        assert_eq!(second.forward().last, whole.forward().last, "{cell}");
        let (back_second, back) = (second.backward(), whole.backward());
        let first = Call { given_last: back_second.initial, ..first };
        let back_first = first.backward();
        assert_eq!(back_first.initial, back.initial, "{cell}");
        let step = whole.wx.len() / 14;
        assert_eq!(back_first.wx[..3 * step], back.wx[..3 * step], "{cell}");
        assert_eq!(back_second.wx[..4 * step], back.wx[3 * step..7 * step], "{cell}");
        for (i, r) in back.r.iter().enumerate() {
            close(back_first.r[i] + back_second.r[i], *r, &format!("{cell}: dR[{i}]"));
        }
    }
}

#[test]
fn reverse_is_forward_on_reversed_steps() {
    for cell in Cell::ALL {
        let call = Call::new([1, 5, 1, 3], Options::new(cell), 3);
        let flip = |values: &[f64], step: usize| -> Vec<f64> {
            values.chunks(step).rev().flatten().copied().collect()
        };
        let mut reversed = call.clone();
        reversed.options.direction = Direction::Reverse;
        reversed.wx = flip(&call.wx, 3 * cell.input_gates().len());
        reversed.given = call.given.iter().map(|given| flip(given, 3)).collect();
        let (forward, found) = (call.forward(), reversed.forward());
        assert_eq!(found.last, forward.last, "{cell}");
        assert_eq!(flip(&found.states[0], 3), forward.states[0], "{cell}");
        assert_eq!(reversed.backward().r, call.backward().r, "{cell}");
    }
}

#[test]
fn rows_end_where_their_lengths_say() {
    for cell in Cell::ALL {
        for direction in [Direction::Forward, Direction::Reverse] {
            let options = Options::new(cell).with_direction(direction);
            let mut call = Call::new([3, 4, 1, 2], options, 8).with_lengths(&[0, 4, 2]);
            let short = piece(
                &Call { lengths: Some(vec![0, 2, 2]), ..call.clone() },
                0..2,
                call.initial.clone(),
            );
            // What lies behind the end is neither read nor let through.
            let poisoned = |values: &mut Vec<f64>| {
                let row = values.len() / 3;
                values[..row].fill(f64::NAN);
                values[2 * row + row / 2..].fill(f64::NAN);
            };
            poisoned(&mut call.wx);
            call.given.iter_mut().for_each(poisoned);
            let (ran, back) = (call.forward(), call.backward());
            let expected = short.forward();
            for (s, name) in cell.states().iter().enumerate() {
                assert_eq!(ran.last[s][..2], call.initial[s][..2], "{cell} {name}: an empty row");
                assert_eq!(ran.last[s][4..], expected.last[s][4..], "{cell} {name}: a short row");
                assert_eq!(ran.states[s][..8], [0.0; 8], "{cell} {name}: an empty row");
                assert_eq!(ran.states[s][20..], [0.0; 4], "{cell} {name}: behind the end");
            }
            for (s, initial) in back.initial.iter().enumerate() {
                assert_eq!(initial[..2], call.given_last[s][..2], "{cell}: ds0 of an empty row");
            }
            let numbers = back.wx.iter().chain(&back.r).chain(&back.b);
            assert!(numbers.into_iter().all(|x| x.is_finite()), "{cell}: NaN came through");
        }
    }
}

#[test]
fn lengths_outside_of_the_steps_are_refused() {
    let call = Call::new([2, 3, 1, 1], Options::new(Cell::Gru), 1).with_lengths(&[3, 4]);
    let error = call.with_inputs(|inputs| forward(inputs, &call.options)).unwrap_err();
    assert_eq!(error.to_string(), "rnn: tensor `lengths`: expected 0 to T = 3, found 4 in row 1");
}

#[test]
fn without_steps_nothing_changes() {
    for cell in Cell::ALL {
        let call = Call::new([2, 0, 1, 3], Options::new(cell), 4);
        assert_eq!(call.forward().last, call.initial);
        let back = call.backward();
        assert_eq!(back.initial, call.given_last);
        assert!(back.r.iter().chain(&back.b).all(|x| *x == 0.0));
    }
}

#[test]
fn nan_stays_in_its_row_and_head() {
    for cell in Cell::ALL {
        let mut call = Call::new([2, 3, 2, 2], Options::new(cell), 6);
        let clean = call.forward();
        // Row 0, step 1, the last gate, head 0, unit 1.
        let gates = cell.input_gates().len();
        call.wx[((gates + gates - 1) * 2) * 2 + 1] = f64::NAN;
        let (ran, back) = (call.forward(), call.backward());
        for (i, (h, clean)) in ran.states[0].iter().zip(&clean.states[0]).enumerate() {
            let (row, step, head, unit) = (i / 12, i / 4 % 3, i / 2 % 2, i % 2);
            let reached = row == 0 && head == 0 && (step == 2 || step == 1 && unit == 1);
            assert_eq!(h.is_nan(), reached, "{cell}: h[{row}, {step}, {head}, {unit}] = {h}");
            assert!(reached || h == clean, "{cell}: another value changed");
        }
        let row = back.wx.len() / 2;
        assert!(back.wx[row..].iter().all(|x| x.is_finite()), "{cell}: dwx of the other row");
        let other_head = back.wx.chunks(2).skip(1).step_by(2).flatten();
        assert!(other_head.into_iter().all(|x| x.is_finite()), "{cell}: dwx of the other head");
    }
}

#[test]
fn a_cut_gradient_comes_from_its_own_step() {
    let call = Call::new([1, 4, 1, 3], Options::new(Cell::ELMAN).with_grad_cut(true), 2);
    let (ran, back) = (call.forward(), call.backward());
    for i in 0..12 {
        let total = call.given[0][i] + if i >= 9 { call.given_last[0][i - 9] } else { 0.0 };
        let h = ran.states[0][i];
        close(back.wx[i], total * (1.0 - h * h), &format!("dwx[{i}]"));
    }
    assert_eq!(back.initial[0], [0.0; 3]);
}

#[test]
fn clipped_gradients_do_not_reach_the_step_before() {
    let options = Options::new(Cell::ELMAN);
    let cut = Call::new([1, 4, 1, 3], options.clone().with_grad_cut(true), 2);
    let clipped = Call { options: options.with_grad_clip(1e-30), ..cut.clone() };
    let (expected, back) = (cut.backward(), clipped.backward());
    for (i, (found, expected)) in back.wx.iter().zip(&expected.wx).enumerate() {
        close(*found, *expected, &format!("dwx[{i}]"));
    }
    // That of the state before the first step is not clipped.
    for p in 0..3 {
        let sum: f64 = (0..3).map(|d| clipped.r[3 * d + p] * back.wx[d]).sum();
        close(back.initial[0][p], sum, &format!("dh0[{p}]"));
    }
}

#[test]
fn gradients_that_are_no_numbers_become_zero_where_asked() {
    let mut call = Call::new([1, 3, 1, 2], Options::new(Cell::Gru).with_nan_to_zero(true), 9);
    call.given_last[0] = vec![f64::NAN; 2];
    let back = call.backward();
    // The last step has them; they do not go on.
    assert!(back.wx[12..].iter().any(|x| x.is_nan()));
    assert!(back.wx[..12].iter().all(|x| x.is_finite()));
}

#[test]
fn gates_saturate() {
    for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
        let mut call = Call::new([2, 6, 1, 2], Options::new(cell), 12);
        call.wx.iter_mut().enumerate().for_each(|(i, x)| {
            *x = [1e4, -1e4, 3e38, -3e38, 0.5][(i * 7 + i / 5) % 5];
        });
        let (ran, back) = (call.forward(), call.backward());
        for (s, states) in ran.states.iter().enumerate() {
            assert!(states.iter().all(|x| x.is_finite()), "{cell}: state {s}");
        }
        assert!(back.wx.iter().chain(&back.r).all(|x| x.is_finite()), "{cell}: gradients");
    }
}

#[test]
fn shifted_states_of_slstm_are_the_same() {
    let call = Call::new([2, 5, 2, 3], Options::new(Cell::Slstm).with_n_floor(0.0), 13);
    let mut shifted = call.clone();
    for (i, shift) in (0..12).map(|i| (i, [-3.0, 0.5, 40.0][i % 3])) {
        shifted.initial[1][i] *= f64::exp(-shift);
        shifted.initial[2][i] *= f64::exp(-shift);
        shifted.initial[3][i] += shift;
    }
    let (expected, found) = (call.forward(), shifted.forward());
    for (i, (found, expected)) in found.states[0].iter().zip(&expected.states[0]).enumerate() {
        assert!((found - expected).abs() < 1e-12, "h[{i}]: {found} instead of {expected}");
    }
}

#[test]
fn empty_elements_of_slstm_begin_anew() {
    let mut call = Call::new([1, 3, 1, 4], Options::new(Cell::Slstm), 14);
    for d in [0, 2] {
        call.initial[1][d] = f64::INFINITY;
        call.initial[2][d] = 0.0;
        call.initial[3][d] = f64::NEG_INFINITY;
    }
    let mut fresh = call.clone();
    for d in [0, 2] {
        (fresh.initial[1][d], fresh.initial[3][d]) = (0.0, 0.0);
    }
    assert_eq!(call.forward(), fresh.forward());
    let back = call.backward();
    for d in [0, 2] {
        assert_eq!((back.initial[1][d], back.initial[2][d]), (0.0, 0.0), "unit {d}");
    }
}

#[test]
fn slstm_remembers_for_a_long_time() {
    // z̄ = 1, gates wide open, but for one step with z̄ = -1 in the middle.
    const STEPS: usize = 100_001;
    let mut call = Call::new([1, STEPS, 1, 1], Options::new(Cell::Slstm), 1);
    call.r.fill(0.0);
    call.b.fill(0.0);
    call.initial.iter_mut().for_each(|state| state.fill(0.0));
    for step in call.wx.chunks_mut(4) {
        step.copy_from_slice(&[0.0, 60.0, 1.0, 60.0]);
    }
    call.wx[4 * 50_000 + 2] = -1.0;
    let ran = call.forward();
    let expected = 1f64.tanh() * (STEPS as f64 - 2.0) / STEPS as f64;
    assert!((ran.last[0][0] - expected).abs() < 1e-11, "{} for {expected}", ran.last[0][0]);
    assert!((ran.last[2][0] - STEPS as f64).abs() < 1e-6);
}

#[test]
fn tensors_that_a_cell_lacks_are_refused() {
    let call = Call::new([1, 1, 1, 1], Options::new(Cell::Lstm), 1);
    let gru = Options::new(Cell::Gru);
    let state = Tensor::from_vec(vec![0.0f64], &[1, 1, 1]).unwrap();
    let message = call.with_inputs(|inputs| {
        let initial = Initial { n: Some((&state).into()), ..Initial::NONE };
        let inputs = Inputs { initial, lengths: None, ..*inputs };
        forward(&inputs, &call.options).unwrap_err().to_string()
    });
    assert_eq!(message, "rnn: tensor `n0`: expected no such tensor: lstm has h, c, found one");
    let message = call.with_inputs(|inputs| forward(inputs, &gru).unwrap_err().to_string());
    assert!(message.contains("shape (B, T, Gw, N, D) = (1, 1, 3, 1, 1)"), "{message}");
    assert_eq!(Cell::Elman(Activation::Relu).to_string(), "elman (relu)");
}
