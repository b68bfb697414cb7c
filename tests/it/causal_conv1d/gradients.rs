//! Gradients: against central differences, and of rows that are cut.

use proptest::prelude::*;
use warpwright::causal_conv1d::Options;
use warpwright::verify::Random;
use warpwright::verify::causal_conv1d::{Case, Distribution, Sizes};
use warpwright::{Cpu, Device, Named, Tensor};

use super::{PATHS, distance, numbers, plain, run, steps_of, without};
use crate::devices::devices;

/// Σ dout out + Σ dfinal_state final_state.
fn loss(named: &Named<Cpu>, options: &Options) -> f64 {
    let inputs = without(named, &["dout", "dfinal_state"]);
    let outputs = run(&Device::Cpu(Cpu), &inputs, options);
    let part = |gradient: &str, output: &str| {
        let Some(gradient) = named.get(gradient) else { return 0.0 };
        let products = numbers(gradient).into_iter().zip(numbers(&outputs[output]));
        products.map(|(x, y)| x * y).sum()
    };
    part("dout", "out") + part("dfinal_state", "final_state")
}

fn with_element(named: &Named<Cpu>, name: &str, at: usize, by: f64) -> Named<Cpu> {
    let mut values = numbers(&named[name]);
    values[at] += by;
    let mut named = named.clone();
    let shape = named[name].shape().to_vec();
    named.insert(name.to_owned(), Tensor::from_vec(values, &shape).expect("shape").into_view());
    named
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The f64 code against central differences, for every input.
    #[test]
    fn gradients_are_the_slopes_of_the_loss(seed in 0u64..10_000) {
        let mut random = Random::new(seed);
        let sizes = Sizes {
            batch: 2,
            channels: 3,
            steps: random.pick(&[1, 5, 13]),
            width: 1 + random.below(8),
        };
        let case = Case { distribution: Distribution::Normal, ..Case::random(sizes, &mut random) };
        let (named, options) = (case.tensors::<f64>().expect("tensors"), case.options());
        let gradients = run(&Device::Cpu(Cpu), &named, &options);
        for (name, view) in &named {
            let Some(gradient) = gradients.get(&format!("d{name}")) else { continue };
            let gradient = numbers(gradient);
            let scale = gradient.iter().fold(1.0f64, |max, x| max.max(x.abs()));
            for _ in 0..6.min(view.elements()) {
                let at = random.below(view.elements());
                const STEP: f64 = 1e-6;
                let above = loss(&with_element(&named, name, at, STEP), &options);
                let below = loss(&with_element(&named, name, at, -STEP), &options);
                let slope = (above - below) / (2.0 * STEP);
                prop_assert!(
                    (slope - gradient[at]).abs() <= 1e-6 * scale,
                    "d{name} at {at}: {} against a slope of {slope}, {}",
                    gradient[at],
                    case.describe()
                );
            }
        }
    }

    /// A row cut anywhere, the state handed on and its gradient handed back, has the gradients of
    /// the whole row.
    #[test]
    fn the_gradients_of_a_split_row_are_those_of_the_whole(
        seed in 0u64..1000, steps in 2usize..400, cut in 0.0..1.0f64, width in 1usize..9,
    ) {
        let cut = (steps as f64 * cut) as usize;
        let case = plain([2, 6, steps, width], seed);
        let (named, options) = (case.tensors::<f32>().expect("tensors"), case.options());
        for device in devices() {
            let whole = run(device, &named, &options);
            let mut first = steps_of(&named, 0..cut);
            let forward = without(&first, &["dout", "dfinal_state"]);
            let state = run(device, &forward, &options)["final_state"].clone();
            let mut second = steps_of(&named, cut..steps);
            second.insert("s0".to_owned(), state);
            let second = run(device, &second, &options);
            first.insert("dfinal_state".to_owned(), second["ds0"].clone());
            let first = run(device, &first, &options);
            for name in ["dx", "dweight", "dbias", "ds0"] {
                let expected = numbers(&whole[name]);
                let (x, y) = (numbers(&first[name]), numbers(&second[name]));
                let joined: Vec<f64> = match name {
                    "dx" => (0..12)
                        .flat_map(|line| {
                            let left = x[line * cut..][..cut].to_vec();
                            let right = &y[line * (steps - cut)..][..steps - cut];
                            [left.as_slice(), right].concat()
                        })
                        .collect(),
                    "ds0" => x,
                    _ => x.iter().zip(&y).map(|(x, y)| x + y).collect(),
                };
                let error = distance(&joined, &expected);
                prop_assert!(error < PATHS, "{name} on {}: {error:e}", device.name());
            }
        }
    }
}

/// Gradients of outputs that are absent are zero; one of the final state alone is enough.
#[test]
fn absent_gradients_are_zero() {
    for device in devices() {
        let case = plain([2, 5, 40, 4], 2);
        let named = case.tensors::<f32>().expect("tensors");
        let found = run(device, &without(&named, &["dout"]), &case.options());
        let dx = numbers(&found["dx"]);
        let dfinal = numbers(&named["dfinal_state"]);
        for (line, (dx, dfinal)) in dx.chunks(40).zip(dfinal.chunks(3)).enumerate() {
            assert!(dx[..37].iter().all(|x| *x == 0.0), "line {line} on {}", device.name());
            assert_eq!(&dx[37..], dfinal, "line {line} on {}", device.name());
        }
        for name in ["dweight", "dbias", "ds0"] {
            let zero = numbers(&found[name]).iter().all(|x| *x == 0.0);
            assert!(zero, "{name} on {}", device.name());
        }
    }
}
