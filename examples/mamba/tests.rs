//! The gradients of a small model, against differences of its loss.

use fastrand::Rng;
use warpwright::Cpu;

use crate::shared::mamba::{Mamba, Parameters, Sizes};
use crate::shared::slopes;
use crate::text::cut;

/// How far the parameters of one tensor go along its gradient, as a vector.
const DISTANCE: f64 = 4e-3;

#[test]
fn each_gradient_is_the_slope_of_the_loss_along_it() {
    let mut random = Rng::with_seed(3);
    let sizes =
        Sizes { symbols: 7, classes: 7, width: 8, channels: 12, states: 4, rank: 3, taps: 4 };
    let characters: Vec<usize> = (0..400).map(|_| random.usize(0..sizes.symbols)).collect();
    let batch = cut(&characters, &[0, 100], 290);
    let parameters = Parameters::random(sizes, &mut random);
    let mut model = Mamba { device: &Cpu, sizes, parameters };
    // Of the third derivative, and of rounding: 1e-7 of the loss over the distance.
    slopes::check(&mut model, &batch, DISTANCE, |slope| 5e-3 * slope + 1e-7 / DISTANCE * 4.0);
}
