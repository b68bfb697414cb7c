//! Sums that are rounded once, however far apart their addends lie.
//!
//! [`two_sum`] gives a rounded sum together with what rounding lost. Carrying every loss along as a further part
//! (Shewchuk's growing expansion) keeps the sum exact as a list of `f64` of which none overlaps the next.

/// The rounded sum, and what must be added to it to make it exact.
fn two_sum(x: f64, y: f64) -> (f64, f64) {
    let sum = x + y;
    let of_y = sum - x;
    let of_x = sum - of_y;
    (sum, (x - of_x) + (y - of_y))
}

/// The exact sum of finite numbers, rounded to odd: an inexact one becomes the neighbour with an odd
/// significand, so that rounding it to a format two bits narrower gives what rounding the exact sum would.
///
/// The addends must be far from the ends of the `f64` range.
pub(super) fn sum_to_odd(addends: impl IntoIterator<Item = f64>) -> f64 {
    // Smallest first, none zero.
    let mut parts: Vec<f64> = Vec::new();
    for addend in addends {
        let mut carried = addend;
        parts.retain_mut(|part| {
            let (sum, lost) = two_sum(carried, *part);
            carried = sum;
            *part = lost;
            lost != 0.0
        });
        if carried != 0.0 {
            parts.push(carried);
        }
    }
    let (mut sum, mut lost) = (parts.pop().unwrap_or(0.0), 0.0);
    // Parts below the first loss are too small to change its sign.
    while lost == 0.0
        && let Some(part) = parts.pop()
    {
        (sum, lost) = two_sum(sum, part);
    }
    to_odd(sum, lost)
}

/// `sum`, which was rounded to nearest and lost `lost`, rounded to odd instead.
fn to_odd(sum: f64, lost: f64) -> f64 {
    let bits = sum.to_bits();
    if lost == 0.0 || bits & 1 == 1 {
        sum
    } else if (lost > 0.0) == (sum > 0.0) {
        f64::from_bits(bits + 1)
    } else {
        f64::from_bits(bits - 1)
    }
}
