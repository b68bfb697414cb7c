//! Matrix Market files.

mod fault;

pub use fault::Fault;
