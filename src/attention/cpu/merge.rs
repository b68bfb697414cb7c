//! The merge of partial results, a row at a time.

use super::parts::{self, Written};
use super::tensors::PartSource;
use crate::Result;
use crate::attention::Merge;
use crate::backend::Cpu;
use crate::element::DeviceFloat;

/// Merges results of parts in T or f32.
pub(super) fn run<T: DeviceFloat>(merge: &Merge<Cpu>) -> Result<()> {
    let (out, lse) = (merge.parts.read()?, merge.parts_lse.read()?);
    let sources = [
        PartSource::<T>::new("parts.out", &out, &merge.parts)?,
        PartSource::new("parts.lse", &lse, &merge.parts_lse)?,
    ];
    let mut written = Written::new(&merge.outputs)?;
    parts::merge(merge.sizes(), sources, &written.ends(merge.accumulate, None)?);
    Ok(())
}

/// Merges a partial result into another.
///
/// One that has seen nothing contributes nothing, whatever it holds, and leaves the other as it is,
/// to the bit. In either order the result has the same bits: nothing is fused.
#[inline(always)]
pub(in crate::attention) fn merge_row(
    (out, lse): (&mut [f32], &mut f32),
    (other, other_lse): (&[f32], f32),
) {
    match (*lse == f32::NEG_INFINITY, other_lse == f32::NEG_INFINITY) {
        (true, true) => out.fill(0.0),
        (false, true) => {}
        (true, false) => {
            out.copy_from_slice(other);
            *lse = other_lse;
        }
        (false, false) => {
            let most = lse.max(other_lse);
            let (own, others) = ((*lse - most).exp(), (other_lse - most).exp());
            let sum = own + others;
            let (own, others) = (own / sum, others / sum);
            for (out, other) in out.iter_mut().zip(other) {
                *out = own * *out + others * other;
            }
            *lse = most + sum.ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::reference;

    fn merged(first: (&[f32], f32), second: (&[f32], f32)) -> (Vec<f32>, f32) {
        let (mut out, mut lse) = (first.0.to_vec(), first.1);
        merge_row((&mut out, &mut lse), second);
        (out, lse)
    }

    const NOTHING: f32 = f32::NEG_INFINITY;

    #[test]
    fn what_has_seen_nothing_contributes_nothing() {
        let row = [0.1f32, -2.0, 3e30];
        let junk = [f32::NAN, f32::INFINITY, 1.0];
        for lse in [-200.0, 0.0, 77.5, f32::MAX] {
            assert_eq!(merged((&row, lse), (&junk, NOTHING)), (row.to_vec(), lse));
            assert_eq!(merged((&junk, NOTHING), (&row, lse)), (row.to_vec(), lse));
        }
        assert_eq!(merged((&junk, NOTHING), (&junk, NOTHING)), (vec![0.0; 3], NOTHING));
    }

    #[test]
    fn merging_agrees_with_the_reference_in_either_order() {
        let (first, second) = ([0.25f32, -2.0, 3.0], [1.5f32, 0.75, -4.0]);
        for (l1, l2) in [(0.0, 0.0), (1.5, -0.5), (200.0, 0.0), (0.0, 200.0), (-90.0, -91.0)] {
            let (out, lse) = merged((&first, l1), (&second, l2));
            assert_eq!((out.clone(), lse), merged((&second, l2), (&first, l1)));
            let [first, second] = [first, second].map(|row| row.map(f64::from));
            let (exact, exact_lse) = reference::merge((&first, l1.into()), (&second, l2.into()));
            for (found, exact) in out.iter().zip(&exact) {
                assert!((f64::from(*found) - exact).abs() <= 1e-6 * exact.abs().max(1.0));
            }
            assert!((f64::from(lse) - exact_lse).abs() <= 2e-7 * (1.0 + exact_lse.abs()));
        }
    }
}
