//! Trains one model, whichever it is, and asks it for the parity of strings that it has not seen.

use std::time::{Duration, Instant};

use fastrand::Rng;
use warpwright::Result;

use crate::bits::{self, CLASSES};
use crate::shared::Model;
use crate::shared::adam::{Adam, Rate};
use crate::shared::batch::Batch;
use crate::shared::parameters::Learnt;

/// Strings are no longer than this in training, and in the test as long as that.
pub const LONGEST: usize = 40;
pub const LONG: usize = 400;

/// Strings of a batch, and of a test.
pub const ROWS: usize = 64;
const TESTED: usize = 100;

/// How a model came out.
pub struct Outcome {
    pub name: &'static str,
    pub parameters: usize,
    /// The share of right answers at strings as long as in training, over all of their steps.
    pub known: f64,
    /// The same at long strings.
    pub long: f64,
    /// The same at their steps behind the longest length of training.
    pub beyond: f64,
    /// What training and tests took.
    pub time: Duration,
}

/// Learns for so many steps. Every model is shown the same strings, which the seed tells.
pub fn learn<M: Model>(
    name: &'static str,
    mut model: M,
    rate: &Rate,
    steps: usize,
    seed: u64,
) -> Result<Outcome>
where
    M::Parameters: Learnt<Number = f32>,
{
    let began = Instant::now();
    let mut random = Rng::with_seed(seed);
    let [known, long] = [LONGEST, LONG].map(|length| bits::batch(&[length; TESTED], &mut random));
    let parameters = model.parameters_mut().tensors().into_iter().map(Vec::len).sum();
    println!("\n{name}\n{:>6} {:>10} {:>14} {:>14}", "step", "loss", "right at 40", "right at 400");
    let mut adam = Adam::new(model.parameters_mut());
    let mut losses = Vec::new();
    let every = (steps / 10).max(1);
    for step in 1..=steps {
        let lengths: Vec<usize> = (0..ROWS).map(|_| random.usize(1..=LONGEST)).collect();
        let batch = bits::batch(&lengths, &mut random);
        losses.push(adam.learn(&mut model, &batch, rate.at(step, steps))?);
        if step % every == 0 {
            let loss = losses.iter().sum::<f64>() / losses.len() as f64;
            let [known, long] = [&known, &long].map(|batch| right(&model, batch, 0));
            let (known, long) = (100.0 * known?, 100.0 * long?);
            println!("{step:>6} {loss:>10.4} {known:>12.2} % {long:>12.2} %");
            losses.clear();
        }
    }
    let (known, beyond) = (right(&model, &known, 0)?, right(&model, &long, LONGEST)?);
    let long = right(&model, &long, 0)?;
    Ok(Outcome { name, parameters, known, long, beyond, time: began.elapsed() })
}

/// The share of right answers from a step on.
fn right<M: Model>(model: &M, batch: &Batch, first: usize) -> Result<f64>
where
    M::Parameters: Learnt<Number = f32>,
{
    let scores = model.scores(&batch.read, batch.rows)?;
    let steps = batch.read.len() / batch.rows;
    let answers = scores.chunks_exact(CLASSES).map(|scores| usize::from(scores[1] > scores[0]));
    let tested = answers.zip(&batch.wanted).enumerate().filter(|(place, _)| place % steps >= first);
    let (right, all) = tested.fold((0, 0), |(right, all), (_, (answer, wanted))| {
        (right + i32::from(Some(answer) == *wanted), all + 1)
    });
    Ok(f64::from(right) / f64::from(all))
}
