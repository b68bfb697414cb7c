//! Group-sparse quantized weights (GQSA, EasyQuant).

pub mod compress;
mod format;

pub use format::{
    BITS, Coding, Floats, Format, GROUPS, Matrix, Mode, Outliers, Parts, Pattern, ScaleScope,
};

/// The operation, as messages and the command name it.
pub const NAME: &str = "group-sparse";
