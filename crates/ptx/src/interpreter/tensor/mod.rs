//! Tensor cores: matrix fragments, products, and the moves that feed them.
