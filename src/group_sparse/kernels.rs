//! The typed entries of kernels/group_sparse, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/group_sparse.rs"));
