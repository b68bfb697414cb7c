//! The typed entries of kernels/state_update, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/state_update.rs"));
