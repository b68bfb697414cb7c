//! Any bytes as a file of compressed layers: what is taken is written, and read as the same again.
//!
//! ```text
//! mkdir -p fuzz/corpus
//! cargo fuzz run compressed_layers fuzz/corpus
//! ```
//!
//! Files are damaged by the tests in `src/group_sparse/file/tests/damage.rs` too, which need no fuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warpwright::group_sparse::file::{Reader, Writer};
use warpwright::group_sparse::layer::Layer;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("warpwright-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("the system's folder takes files");
    // A fault is an answer; a panic, memory without end or another layer is none.
    let Ok(mut reader) = Reader::open(&path) else { return };
    let taken: Vec<Layer> = reader.layers().filter_map(Result::ok).collect();
    let mut writer = Writer::create(&path).expect("a file can be made");
    for layer in &taken {
        writer.layer(layer).expect("names differ");
    }
    writer.finish().expect("the file is written");
    let mut reader = Reader::open(&path).expect("what is written is right");
    let again: Vec<Layer> = reader.layers().map(|layer| layer.expect("it is right")).collect();
    // In text: NaNs differ from themselves.
    assert_eq!(format!("{again:?}"), format!("{taken:?}"));
});
