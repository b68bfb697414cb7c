//! Where the tests expand kernels, and fixtures that are broken on purpose.

use std::fs;
use std::path::{Path, PathBuf};

use crate::generator::{self, Depth};

/// The fixture kernels.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator/kernels")
}

/// An empty folder for one test.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generator").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an old folder goes");
    }
    fs::create_dir_all(&folder).expect("a new folder comes");
    folder
}

/// The fixture with one text of one file replaced, expanded; and the line of that text.
pub struct Changed {
    /// What the generator wrote.
    pub out: PathBuf,
    /// What it refused, as build.rs prints it.
    pub failures: Vec<String>,
    /// Where the text is, as failures name it: `kernels/demo/scale.ptx:12`.
    pub place: String,
}

impl Changed {
    /// Expands the fixture `name`, in which `from`, found once in `file`, is `to`.
    pub fn new(name: &str, file: &str, from: &str, to: &str, depth: Depth) -> Self {
        let folder = folder(name);
        let (kernels, out) = (folder.join("kernels"), folder.join("out"));
        let mut place = None;
        for operation in ["demo", "common"] {
            fs::create_dir_all(kernels.join(operation)).expect("a folder");
            for entry in fs::read_dir(fixture().join(operation)).expect("the fixture") {
                let path = entry.expect("an entry").path();
                let below = format!("{operation}/{}", path.file_name().unwrap().display());
                let mut text = fs::read_to_string(&path).expect("a text");
                if below == file {
                    assert_eq!(text.matches(from).count(), 1, "`{from}` once in {file}");
                    let before = text.split(from).next().unwrap_or_default();
                    place = Some(format!("kernels/{file}:{}", before.matches('\n').count() + 1));
                    text = text.replace(from, to);
                }
                fs::write(kernels.join(&below), text).expect("a copy");
            }
        }
        fs::create_dir_all(&out).expect("a folder");
        let failures = match generator::generate(&kernels, &out, depth) {
            Ok(()) => Vec::new(),
            Err(failures) => failures.iter().map(ToString::to_string).collect(),
        };
        Self { out, failures, place: place.expect("the file is in the fixture") }
    }
}
