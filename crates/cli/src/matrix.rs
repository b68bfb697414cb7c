//! Matrix Market files of the command.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use warpwright::Cpu;
use warpwright::sparse::Csr;
use warpwright::sparse::matrix_market::{self, Number, ReadOptions, WriteOptions};

use crate::failure::Failure;
use crate::file::write_whole;

/// Reads a matrix; a pattern has no values.
pub fn read<T: Number>(path: &Path) -> Result<Csr<Cpu, T>, Failure> {
    let wrong = |reason: String| Failure::input(format!("{}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let reader = BufReader::with_capacity(1 << 20, file);
    matrix_market::read(reader, &ReadOptions::default()).map_err(|error| wrong(error.to_string()))
}

/// Writes a matrix.
pub fn write<T: Number>(path: &Path, matrix: &Csr<Cpu, T>) -> Result<(), Failure> {
    write_whole(path, |file| matrix_market::write(matrix, file, &WriteOptions::default()))
}

/// Phases of a command, each with a moving line on a terminal and its time.
#[derive(Default)]
pub struct Phases(Vec<(String, Duration)>);

impl Phases {
    /// Runs a phase.
    pub fn run<R>(
        &mut self,
        name: impl Into<String>,
        work: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let (name, began) = (name.into(), Instant::now());
        let line = ProgressBar::new_spinner().with_message(name.clone());
        line.enable_steady_tick(Duration::from_millis(100));
        let done = work();
        line.finish_and_clear();
        self.0.push((name, began.elapsed()));
        done
    }

    /// A phase that has been timed already.
    pub fn add(&mut self, name: impl Into<String>, time: Duration) {
        self.0.push((name.into(), time));
    }

    /// Name and time of each phase, in their order.
    pub fn times(&self) -> &[(String, Duration)] {
        &self.0
    }
}
