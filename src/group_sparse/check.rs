//! The checks of shapes and types, made once for all backends.

use std::ops::Range;

use super::format::Format;
use super::{GroupSparse, NAME};
use crate::check::Check;
use crate::element::DType;
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// The types of activations.
const FLOATS: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The tensors of a product with a matrix of this format fit it.
pub(super) fn product<B: GroupSparse>(
    device: &B,
    format: &Format,
    x: &View<B>,
    bias: Option<&View<B>>,
    y: &View<B>,
) -> Result<()> {
    CHECK.same_device(device, [("x", x), ("y", y)])?;
    if let Some(bias) = bias {
        CHECK.same_device(device, [("bias", bias)])?;
        CHECK.shape("bias", bias, &[("N", format.rows)])?;
        CHECK.contiguous("bias", bias)?;
    }
    let vectors = x.shape().first().copied().unwrap_or(0);
    CHECK.shape("x", x, &[("M", vectors), ("K", format.columns)])?;
    CHECK.shape("y", y, &[("M", vectors), ("N", format.rows)])?;
    // f64 is the reference's type, from one end to the other.
    let allowed: &[DType] = if x.dtype() == DType::F64 { &[DType::F64] } else { &FLOATS };
    CHECK.dtype("x", x, allowed)?;
    CHECK.dtype("y", y, allowed)?;
    for (name, view) in [("x", x), ("y", y)] {
        CHECK.fastest_last(name, view)?;
    }
    let read = [("x", x)].into_iter().chain(bias.map(|bias| ("bias", bias)));
    CHECK.disjoint(&[("y", y)], &read.collect::<Vec<_>>())
}

/// The rows, and the tensor that they are decoded into, fit a matrix of this format.
pub(super) fn dense<B: GroupSparse>(
    device: &B,
    format: &Format,
    rows: &Range<usize>,
    dense: &View<B>,
) -> Result<()> {
    if rows.start > rows.end || rows.end > format.rows {
        return Err(Error::Option {
            operation: NAME,
            option: "rows".to_owned(),
            expected: format!("a range within 0..{}", format.rows),
            found: format!("{rows:?}"),
        });
    }
    CHECK.same_device(device, [("dense", dense)])?;
    CHECK.shape("dense", dense, &[("rows", rows.len()), ("K", format.columns)])?;
    CHECK.dtype("dense", dense, &FLOATS)?;
    CHECK.fastest_last("dense", dense)?;
    CHECK.disjoint(&[("dense", dense)], &[])
}
