//! The kernels of the crate.

use std::fs;
use std::path::Path;

use crate::generator::{self, Depth};
use crate::workplace::folder;

/// Every instruction of the PTX is known and typed, the WGSL passes naga's validator; and what
/// the build reads from headers alone is what the whole modules say.
#[test]
fn every_kernel_is_valid() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let out = folder("kernels");
    let [whole, headers] = [Depth::Everything, Depth::Headers].map(|depth| {
        if let Err(failures) = generator::generate(&kernels, &out, depth) {
            let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
            panic!("broken kernels:\n{}", told.join("\n"));
        }
        let mut written: Vec<_> = fs::read_dir(&out)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file())
            .map(|path| (fs::read_to_string(&path).expect("a text"), path))
            .collect();
        written.sort();
        written
    });
    assert_eq!(whole, headers);
    assert!(!whole.is_empty());
}
