//! Adam (D. Kingma, J. Ba, 2014, arXiv 1412.6980), with a bound on the length of the gradient.

use warpwright::Result;

use super::Model;
use super::batch::Batch;
use super::parameters::Learnt;

const MEAN: f32 = 0.9;
const SQUARE: f32 = 0.99;
const EPSILON: f32 = 1e-8;
/// A longer gradient is shortened to this.
const LONGEST: f32 = 1.0;

/// The rate of learning: it rises in a line over the first steps, then falls along a cosine, to a
/// tenth.
pub struct Rate {
    pub highest: f32,
    pub rising: usize,
}

impl Rate {
    /// At a step, counted from 1, of so many.
    pub fn at(&self, step: usize, steps: usize) -> f32 {
        let risen = (step as f32 / self.rising as f32).min(1.0);
        let done = step as f32 / steps as f32;
        self.highest * risen * (0.55 + 0.45 * (std::f32::consts::PI * done).cos())
    }
}

pub struct Adam<P> {
    steps: i32,
    means: P,
    squares: P,
}

impl<P: Learnt<Number = f32>> Adam<P> {
    pub fn new(parameters: &P) -> Self {
        Self { steps: 0, means: parameters.zeros(), squares: parameters.zeros() }
    }

    /// Moves the parameters of a model against their gradients; gives the loss before.
    pub fn learn<M: Model<Parameters = P>>(
        &mut self,
        model: &mut M,
        batch: &Batch,
        rate: f32,
    ) -> Result<f64> {
        let (loss, gradients) = model.gradients(batch)?;
        self.step(model.parameters_mut(), &gradients, rate);
        Ok(loss)
    }

    fn step(&mut self, parameters: &mut P, gradients: &P, rate: f32) {
        self.steps += 1;
        let shorter = (LONGEST / length(gradients)).min(1.0);
        let [mean_so_far, square_so_far] = [MEAN, SQUARE].map(|decay| 1.0 - decay.powi(self.steps));
        let tensors = parameters.tensors_mut().into_iter().zip(gradients.tensors());
        let moments = self.means.tensors_mut().into_iter().zip(self.squares.tensors_mut());
        for ((parameter, gradient), (means, squares)) in tensors.zip(moments) {
            for (i, gradient) in gradient.iter().enumerate() {
                let gradient = gradient * shorter;
                means[i] += (1.0 - MEAN) * (gradient - means[i]);
                squares[i] += (1.0 - SQUARE) * (gradient * gradient - squares[i]);
                let (mean, square) = (means[i] / mean_so_far, squares[i] / square_so_far);
                parameter[i] -= rate * mean / (square.sqrt() + EPSILON);
            }
        }
    }
}

fn length(gradients: &impl Learnt<Number = f32>) -> f32 {
    let squares = gradients.tensors().into_iter().flatten().map(|x| x * x);
    squares.sum::<f32>().sqrt()
}
