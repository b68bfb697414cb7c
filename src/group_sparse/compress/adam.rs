//! The scale by gradient descent, as EasyQuant finds it.
//!
//! ```text
//! dE/ds = 2 Σ h (s c - w) c
//! ```
//!
//! The steps are of s / s0 and E / Σ h w², so that they do not depend on the weights' unit.

use super::lanes::Elements;
use super::range::{Fit, Ranges};

const STEPS: i32 = 300;
const RATE: f64 = 0.01;
const DECAYS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// The best fit on the way from s0, the scale that spans the values, with its sign: the grid of
/// codes is not symmetric, and the other sign may miss by 10 %.
pub(super) fn adam(ranges: &Ranges, elements: &Elements, start: Fit, span: f32) -> Fit {
    let first = f64::from(span);
    let energy = elements.energy();
    let mut best = start;
    let mut least = elements.error(start.line);
    let (mut ratio, mut mean, mut square) = (1.0f64, 0.0, 0.0);
    let mut powers = [1.0, 1.0];
    for _ in 0..STEPS {
        let Some(fit) = ranges.refitted(start, first * ratio, 0.0) else { break };
        let error = elements.error(fit.line);
        if error < least {
            (best, least) = (fit, error);
        }
        let sums = elements.moments(fit.line);
        let slope = 2.0 * (f64::from(fit.line.scale) * sums.hcc - sums.hcw) * first;
        let gradient = if energy > 0.0 { slope / energy } else { 0.0 };
        mean = DECAYS[0] * mean + (1.0 - DECAYS[0]) * gradient;
        square = DECAYS[1] * square + (1.0 - DECAYS[1]) * (gradient * gradient);
        powers = [powers[0] * DECAYS[0], powers[1] * DECAYS[1]];
        let (mean, square) = (mean / (1.0 - powers[0]), square / (1.0 - powers[1]));
        ratio = (ratio - RATE * mean / (square.sqrt() + EPSILON)).clamp(1e-3, 2.0);
    }
    best
}
