//! The gradients of a small model, against differences of its loss.

use fastrand::Rng;
use warpwright::Cpu;

use crate::model::Model;
use crate::parameters::{Parameters, Sizes};
use crate::text::Batch;

/// How far the parameters of one tensor go along its gradient, as a vector.
const DISTANCE: f32 = 4e-3;

#[test]
fn each_gradient_is_the_slope_of_the_loss_along_it() {
    let mut random = Rng::with_seed(3);
    let sizes = Sizes { symbols: 7, width: 8, channels: 12, states: 4, rank: 3, taps: 4 };
    let characters: Vec<usize> = (0..400).map(|_| random.usize(0..sizes.symbols)).collect();
    let batch = Batch::cut(&characters, &[0, 100], 290);
    let parameters = Parameters::random(sizes, &mut random);
    let mut model = Model { device: &Cpu, sizes, parameters };
    let (_, gradients) = model.gradients(&batch).expect("the model runs");
    for (place, gradient) in gradients.tensors().into_iter().enumerate() {
        let slope = gradient.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        assert!(slope > 1e-4, "tensor {place} has no gradient worth a test: {slope:e}");
        let before = model.parameters.tensors()[place].clone();
        let mut loss_at = |distance: f32| {
            let along = distance / slope as f32;
            let moved = before.iter().zip(gradient).map(|(x, dx)| x + along * dx).collect();
            *model.parameters.tensors_mut()[place] = moved;
            model.loss(&batch).expect("the model runs")
        };
        let found = (loss_at(DISTANCE) - loss_at(-DISTANCE)) / f64::from(2.0 * DISTANCE);
        // Of the third derivative, and of rounding: 1e-7 of the loss over the distance.
        let tolerance = 5e-3 * slope + 1e-7 / f64::from(DISTANCE) * 4.0;
        assert!(
            (found - slope).abs() <= tolerance,
            "tensor {place}: a slope of {found:.6}, a gradient of {slope:.6}"
        );
        *model.parameters.tensors_mut()[place] = before;
    }
}
