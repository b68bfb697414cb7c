//! Recurrent cells against PyTorch.

use std::collections::BTreeMap;

use warpwright::rnn::{
    Cell, Initial, Inputs, LastGradients, Options, Order, OutputGradients, Parameters, Weights,
    reference, run_named,
};
use warpwright::{Cpu, Element, Float, Named, Tensor};

use crate::devices::devices;

/// B, T and H of the stored calls.
const SIZES: [usize; 3] = [3, 6, 5];

const CELLS: [(&str, Cell); 4] =
    [("elman", Cell::ELMAN), ("relu", Cell::RELU), ("lstm", Cell::Lstm), ("gru", Cell::Gru)];

/// What PyTorch was given, and what it gave.
fn stored(cell: &str) -> BTreeMap<String, Vec<f64>> {
    let mut cells: BTreeMap<String, BTreeMap<String, Vec<f64>>> =
        toml::from_str(include_str!("../../data/rnn-torch.toml")).expect("a table for each cell");
    cells.remove(cell).expect("the cell")
}

fn tensor<T: Float>(values: &[f64], shape: &[usize]) -> Tensor<Cpu, T> {
    Tensor::from_vec(values.iter().copied().map(T::from_f64).collect(), shape).expect("they fit")
}

fn numbers<T: Element + Into<f64>>(tensor: &Tensor<Cpu, T>) -> Vec<f64> {
    tensor.to_vec().expect("not in use").into_iter().map(Into::into).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], most: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    for (i, (x, y)) in found.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= most * largest, "{what}[{i}]: {x} instead of {y}");
    }
}

/// The outputs of a call whose inputs are rounded to T, against what is stored.
fn outputs_are_those_of_torch<T: Float + Into<f64>>(h: &str, most: f64) {
    let [batch, steps, width] = SIZES;
    for (name, cell) in CELLS {
        let stored = stored(name);
        let gates = cell.input_gates().len();
        let order = Order::Torch.input_gates(cell).expect("it has this cell");
        assert!(order.is_sorted(), "{cell}: the input's gates lie as PyTorch has them");
        let recurrent = tensor::<T>(&stored["weight_hh"], &[gates * width, width]);
        let bias = |name: &str| tensor::<T>(&stored[name], &[gates * width]);
        let (input_bias, recurrent_bias) = (bias("bias_ih"), bias("bias_hh"));
        let weights = Weights {
            recurrent: &recurrent,
            input_bias: Some(&input_bias),
            recurrent_bias: Some(&recurrent_bias),
        };
        let parameters = Order::Torch.parameters(cell, &weights).expect("they fit");
        let wx = tensor::<T>(&stored["wx"], &[batch, steps, gates, 1, width]);
        let state = |name: &str| -> Option<Tensor<Cpu, T>> {
            Some(tensor(stored.get(name)?, &[batch, 1, width]))
        };
        let (h0, c0) = (state("h0"), state("c0"));
        let initial = Initial {
            h: h0.as_ref().map(Into::into),
            c: c0.as_ref().map(Into::into),
            ..Initial::NONE
        };
        let inputs = Inputs::new(&wx, &parameters.r).with_bias(&parameters.b).with_initial(initial);
        let options = Options::new(cell);
        let ran = reference::forward(&inputs, &options).expect("it runs");
        assert_close(&ran.states[0], &stored[h], most, &format!("{cell}: h"));
        if h != "h" {
            continue;
        }
        for (state, last) in ["last_h", "last_c"].into_iter().zip(&ran.last) {
            assert_close(last, &stored[state], most, &format!("{cell}: {state}"));
        }
        let dh = tensor::<T>(&stored["dh"], &[batch, steps, 1, width]);
        let (dlast_h, dlast_c) = (state("dlast_h"), state("dlast_c"));
        let last = LastGradients {
            h: dlast_h.as_ref().map(Into::into),
            c: dlast_c.as_ref().map(Into::into),
            ..LastGradients::NONE
        };
        let given = OutputGradients::new(&dh).with_last(last);
        let back = reference::backward(&inputs, &options, &given).expect("it runs");
        assert_close(&back.wx, &stored["dwx"], most, &format!("{cell}: dwx"));
        for (state, gradient) in ["dh0", "dc0"].into_iter().zip(&back.initial) {
            assert_close(gradient, &stored[state], most, &format!("{cell}: {state}"));
        }
        let recurrent = tensor::<T>(&stored["dweight_hh"], &[gates * width, width]);
        let bias = |name: &str| tensor::<T>(&stored[name], &[gates * width]);
        // Where one of our biases is the sum of two of theirs, both have its gradient.
        let (input_bias, recurrent_bias) = (bias("dbias_ih"), bias("dbias_hh"));
        let alone = |input, recurrent_bias| {
            let weights = Weights { recurrent: &recurrent, input_bias: input, recurrent_bias };
            Order::Torch.parameters(cell, &weights).expect("they fit")
        };
        let of_recurrent = alone(None, Some(&recurrent_bias));
        assert_close(&back.r, &numbers(&of_recurrent.r), most, &format!("{cell}: dR"));
        let mut db = numbers(&of_recurrent.b);
        if cell == Cell::Gru {
            let of_input = numbers(&alone(Some(&input_bias), None).b);
            db[3 * width..].copy_from_slice(&of_input[3 * width..]);
        }
        assert_close(&back.b, &db, most, &format!("{cell}: db"));
    }
}

#[test]
fn values_and_gradients_are_those_of_torch() {
    outputs_are_those_of_torch::<f64>("h", 1e-13);
}

#[test]
fn values_are_those_of_torch_in_f32() {
    outputs_are_those_of_torch::<f32>("h_f32", 1e-6);
}

/// The same on every device, through names.
#[test]
fn every_device_gives_the_values_of_torch() {
    let [batch, steps, width] = SIZES;
    for (name, cell) in CELLS {
        let stored = stored(name);
        let gates = cell.input_gates().len();
        let recurrent = tensor::<f32>(&stored["weight_hh"], &[gates * width, width]);
        let bias = |name: &str| tensor::<f32>(&stored[name], &[gates * width]);
        let (input_bias, recurrent_bias) = (bias("bias_ih"), bias("bias_hh"));
        let weights = Weights {
            recurrent: &recurrent,
            input_bias: Some(&input_bias),
            recurrent_bias: Some(&recurrent_bias),
        };
        let Parameters { r, b } = Order::Torch.parameters(cell, &weights).expect("they fit");
        let wx = tensor::<f32>(&stored["wx"], &[batch, steps, gates, 1, width]);
        let mut named: Named<Cpu> =
            [("wx", wx), ("R", r), ("b", b)].map(|(n, one)| (n.to_owned(), one.into_view())).into();
        for state in ["h0", "c0"] {
            let values = stored.get(state).map(|one| tensor::<f32>(one, &[batch, 1, width]));
            named.extend(values.map(|one| (state.to_owned(), one.into_view())));
        }
        for device in devices() {
            let ran = run_named(device, &named, &Options::new(cell)).expect("it runs");
            let h = ran.outputs["h"].typed::<f32>().expect("f32");
            let what = format!("{cell} on {}: h", device.name());
            assert_close(&numbers(&h), &stored["h_f32"], 2e-6, &what);
        }
    }
}
