//! Runs kernels on any machine, strictly.
#![allow(dead_code)] // while its parts are being joined

mod arithmetic;
mod counters;
mod exchange;
mod memory;
mod row;
mod tensor;
