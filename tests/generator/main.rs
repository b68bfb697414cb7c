//! The generator of `build/`, on the fixture kernels beside this file and on the real ones.

#[path = "../../build/mod.rs"]
mod generator;

mod broken;
mod kernels;
mod typed;
mod workplace;
