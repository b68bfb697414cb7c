//! What is wrong with a kernel, and where in the sources.

use std::fmt;
use std::path::Path;

/// A place in the sources: a file, and a line where it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: String,
    line: Option<u32>,
}

impl Place {
    /// A line of a file that is named by its path below `kernels/`.
    pub fn line(file: &str, line: u32) -> Self {
        Self { file: format!("kernels/{file}"), line: Some(line) }
    }

    /// A file that is named by its path below `kernels/`.
    pub fn file(file: &str) -> Self {
        Self { file: format!("kernels/{file}"), line: None }
    }

    /// A directory of this machine.
    pub fn directory(path: &Path) -> Self {
        Self { file: path.display().to_string(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// One thing that is wrong: `kernels/rnn/forward.ptx:12: message (variant rnn_f32)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    place: Place,
    message: String,
    /// The variants that fail so.
    variants: Vec<String>,
}

impl Failure {
    /// A failure of no variant in particular. The message is brought onto one line.
    pub fn new(place: Place, message: impl AsRef<str>) -> Self {
        let words: Vec<&str> = message.as_ref().split_whitespace().collect();
        Self { place, message: words.join(" "), variants: Vec::new() }
    }

    /// The same failure, of a variant.
    #[must_use]
    pub fn of(mut self, variant: &str) -> Self {
        self.variants.push(variant.to_owned());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match self.variants.as_slice() {
            [] => Ok(()),
            [one] => write!(f, " (variant {one})"),
            [first, others @ ..] => write!(f, " (variant {first} and {} more)", others.len()),
        }
    }
}

/// Failures that say the same about the same place, told once.
pub fn gathered(failures: Vec<Failure>) -> Vec<Failure> {
    let mut found: Vec<Failure> = Vec::new();
    for failure in failures {
        let same = found
            .iter_mut()
            .find(|one| one.place == failure.place && one.message == failure.message);
        match same {
            Some(one) => one.variants.extend(failure.variants),
            None => found.push(failure),
        }
    }
    found
}
