//! Standard output: whole lines, and what becomes of them where nobody reads on.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::exit;

use crate::failure::Failure;

/// Prints a line, like `println!`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::line(format_args!($($text)*))
    };
}

pub(crate) use say;

/// Prints a line. A reader that has gone away (`warpwright list | head`) ends the command and is
/// no failure; anything else that hinders it is one.
pub fn line(text: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            Failure::run(format!("standard output: {error}")).report();
            exit(1)
        }
    }
}
