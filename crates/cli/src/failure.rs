//! What ends a command early: one line on standard error, and the exit status.

use std::fmt;
use std::process::ExitCode;

use warpwright::ErrorKind;

/// A line for standard error, and the exit status.
#[derive(Debug)]
pub struct Failure {
    line: String,
    status: u8,
}

impl Failure {
    /// The input or the command line is wrong.
    pub fn input(line: impl Into<String>) -> Self {
        Self { line: line.into(), status: 2 }
    }

    /// Anything else.
    pub fn run(line: impl Into<String>) -> Self {
        Self { line: line.into(), status: 1 }
    }

    /// One that another process tells of.
    #[cfg(feature = "mpi")]
    pub fn untold(status: u8) -> Self {
        Self { line: String::new(), status }
    }

    /// The exit status.
    #[cfg(feature = "mpi")]
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Whether the device is not there or cannot do it.
    pub fn is_ability(&self) -> bool {
        self.status == 3
    }

    /// Writes the line, if there is one, and gives the status.
    pub fn report(&self) -> ExitCode {
        let line: Vec<&str> = self.line.split_whitespace().collect();
        if !line.is_empty() {
            eprintln!("error: {}", line.join(" "));
        }
        ExitCode::from(self.status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl From<warpwright::Error> for Failure {
    fn from(error: warpwright::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Input => 2,
            ErrorKind::Ability => 3,
            ErrorKind::Run => 1,
        };
        Self { line: error.to_string(), status }
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        // Behind the first empty line clap explains the usage, which `--help` tells as well.
        let message = text.split("\n\n").next().unwrap_or(&text);
        let message = message.strip_prefix("error: ").unwrap_or(message);
        Self::input(format!("{message} (see `warpwright --help`)"))
    }
}
