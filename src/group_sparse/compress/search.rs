//! The scale of the least error: narrower spans, then least squares in turn with rounding.
//!
//! ```text
//! a_i = 1 - 0.8 i / 63, i = 0 … 63      of sym on s, else on lo and hi
//! s* = Σ h w c / Σ h c²                 with the codes c held; affine: s and m together
//! ```

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{Elements, Moments};
use super::range::{Ends, Fit, Ranges};
use crate::group_sparse::format::Mode;

/// Narrower spans that are tried.
const FACTORS: u32 = 64;

/// Fits of the scale to the codes, at most.
const ALTERNATIONS: usize = 10;

/// Determinants below this, relative to the product of the diagonal, count as singular.
const SINGULAR: f64 = 1e-12;

/// The fit of the least error, and never a greater one than that of `start`.
///
/// The loops are compiled for each set of instructions; as nothing is fused, their bits agree.
pub(super) fn search(ranges: &Ranges, elements: &Elements, ends: Ends, start: Fit) -> Fit {
    Arch::new().dispatch(Search { ranges, elements, ends, start })
}

struct Search<'a> {
    ranges: &'a Ranges,
    elements: &'a Elements,
    ends: Ends,
    start: Fit,
}

impl WithSimd for Search<'_> {
    type Output = Fit;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Fit {
        best(self.ranges, self.elements, self.ends, self.start)
    }
}

#[inline(always)]
fn best(ranges: &Ranges, elements: &Elements, ends: Ends, start: Fit) -> Fit {
    let mut best = start;
    let mut least = elements.error(start.line);
    for i in 1..FACTORS {
        let factor = 1.0 - 0.8 * f64::from(i) / f64::from(FACTORS - 1);
        let Some(fit) = ranges.shrunk(ends, factor) else { continue };
        let error = elements.error(fit.line);
        if error < least {
            (best, least) = (fit, error);
        }
    }
    for _ in 0..ALTERNATIONS {
        let Some(fit) = least_squares(ranges, elements, best) else { break };
        let error = elements.error(fit.line);
        if error >= least {
            break;
        }
        let repeats = elements.same_codes(best.line, fit.line);
        (best, least) = (fit, error);
        if repeats {
            break;
        }
    }
    best
}

/// The scale, and the offset, that suit the codes best.
#[inline(always)]
fn least_squares(ranges: &Ranges, elements: &Elements, fit: Fit) -> Option<Fit> {
    let Moments { h, hc, hcc, hw, hcw } = elements.moments(fit.line);
    if ranges.mode != Mode::Affine {
        return (hcc > 0.0).then(|| ranges.refitted(fit, hcw / hcc, 0.0)).flatten();
    }
    let determinant = h * hcc - hc * hc;
    if determinant <= SINGULAR * (h * hcc) {
        return None;
    }
    let scale = (h * hcw - hc * hw) / determinant;
    let offset = (hcc * hw - hc * hcw) / determinant;
    ranges.refitted(fit, scale, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::group_sparse::compress::Options;
    use crate::group_sparse::compress::storage::Storage;

    #[test]
    fn instruction_sets_agree_to_the_bit() {
        let mut random = fastrand::Rng::with_seed(40);
        for mode in Mode::ALL {
            for dtype in [DType::F16, DType::F32] {
                let ranges = Ranges::new(&Options::default().with_mode(mode), Storage(dtype));
                for count in 1..40 {
                    let values: Vec<f32> = (0..count).map(|_| random.f32() - 0.3).collect();
                    let weights: Vec<f64> = (0..count).map(|_| random.f64()).collect();
                    let mut elements = Elements::default();
                    elements.extend(&values, Some(&weights));
                    elements.finish();
                    let ends = Ends::of(&values);
                    let Some(start) = ranges.shrunk(ends, 1.0) else { continue };
                    let (ranges, elements) = (&ranges, &elements);
                    let search = || Search { ranges, elements, ends, start };
                    let scalar = search().with_simd(pulp::Scalar::new());
                    assert_eq!(Arch::new().dispatch(search()), scalar, "{mode}, {count} elements");
                }
            }
        }
    }
}
