//! Gradients against differences of the loss.

use warpwright::Float;

use super::Model;
use super::batch::Batch;
use super::dense::cross_entropy;
use super::parameters::Learnt;

/// Each gradient has to be the slope of the loss along it. The parameters of one tensor after the
/// other go so far along their gradient, as a vector, and as far against it; the tolerance is that
/// of a slope.
pub fn check<M: Model>(
    model: &mut M,
    batch: &Batch,
    distance: f64,
    tolerance: impl Fn(f64) -> f64,
) {
    let (_, gradients) = model.gradients(batch).expect("the model runs");
    for (place, gradient) in gradients.tensors().into_iter().enumerate() {
        let slope = gradient.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt();
        assert!(slope > 1e-4, "tensor {place} has no gradient worth a test: {slope:e}");
        let before = model.parameters_mut().tensors()[place].clone();
        let mut loss_at = |distance: f64| {
            let moved = before
                .iter()
                .zip(gradient)
                .map(|(x, dx)| <_>::from_f64(x.to_f64() + distance / slope * dx.to_f64()));
            *model.parameters_mut().tensors_mut()[place] = moved.collect();
            let mut scores = model.scores(&batch.read, batch.rows).expect("the model runs");
            cross_entropy(&mut scores, &batch.wanted)
        };
        let found = (loss_at(distance) - loss_at(-distance)) / (2.0 * distance);
        assert!(
            (found - slope).abs() <= tolerance(slope),
            "tensor {place}: a slope of {found:.9}, a gradient of {slope:.9}"
        );
        *model.parameters_mut().tensors_mut()[place] = before;
    }
}
