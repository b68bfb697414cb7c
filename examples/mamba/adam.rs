//! Adam (D. Kingma, J. Ba, 2014, arXiv 1412.6980), with a bound on the length of the gradient.

use crate::parameters::Parameters;

const MEAN: f32 = 0.9;
const SQUARE: f32 = 0.99;
const EPSILON: f32 = 1e-8;
/// A longer gradient is shortened to this.
const LONGEST: f32 = 1.0;

pub struct Adam {
    steps: i32,
    means: Parameters,
    squares: Parameters,
}

impl Adam {
    pub fn new(parameters: &Parameters) -> Self {
        Self { steps: 0, means: parameters.zeros(), squares: parameters.zeros() }
    }

    /// Moves the parameters against the gradients.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &Parameters, rate: f32) {
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

fn length(gradients: &Parameters) -> f32 {
    let squares = gradients.tensors().into_iter().flatten().map(|x| x * x);
    squares.sum::<f32>().sqrt()
}
