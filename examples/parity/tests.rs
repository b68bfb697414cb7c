//! The gradients of small models, against differences of their loss in f64.

use fastrand::Rng;
use warpwright::Cpu;
use warpwright::rnn::Cell;

use crate::bits;
use crate::recurrent::{Parameters, Recurrent, Sizes};
use crate::shared::slopes;

/// How far the parameters of one tensor go along its gradient, as a vector.
const DISTANCE: f64 = 1e-4;

#[test]
fn each_gradient_of_lstm_is_the_slope_of_the_loss_along_it() {
    check(Cell::Lstm);
}

#[test]
fn each_gradient_of_slstm_is_the_slope_of_the_loss_along_it() {
    check(Cell::Slstm);
}

fn check(cell: Cell) {
    let mut random = Rng::with_seed(5);
    let batch = bits::batch(&[7, 1, 12], &mut random);
    let sizes = Sizes { symbols: 2, classes: 2, heads: 2, width: 3 };
    let parameters = Parameters::<f64>::random(sizes, &mut random);
    let mut model = Recurrent { device: &Cpu, cell, sizes, parameters };
    // Of the third derivative: the square of the distance.
    slopes::check(&mut model, &batch, DISTANCE, |slope| 1e-6 * slope);
}

#[test]
fn the_parity_of_every_prefix_is_wanted() {
    let batch = bits::batch(&[3, 50], &mut Rng::with_seed(1));
    for (read, wanted) in batch.read.chunks(50).zip(batch.wanted.chunks(50)) {
        for (step, wanted) in wanted.iter().enumerate() {
            let ones: usize = read[..=step].iter().sum();
            assert!(wanted.is_none_or(|wanted| wanted == ones % 2), "step {step}");
        }
    }
    assert_eq!(batch.wanted.iter().flatten().count(), 53);
}
