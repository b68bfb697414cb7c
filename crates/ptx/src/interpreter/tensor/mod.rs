//! Tensor cores: matrix fragments, products, and the moves that feed them.

pub(crate) mod descriptor;
mod exact;
mod formats;
mod fragments;
pub(crate) mod matrices;
pub(crate) mod product;
pub(crate) mod sums;
