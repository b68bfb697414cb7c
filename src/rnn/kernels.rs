//! The typed entries of kernels/rnn, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/rnn.rs"));
