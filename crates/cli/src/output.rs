//! Standard output: whole lines, and what becomes of them where nobody reads on; and what is shown
//! meanwhile.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::exit;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// A count of bytes, in a unit that suits it.
pub fn size(bytes: u64) -> String {
    let scaled = |shift: u32, unit| {
        let number = format!("{:.1}", bytes as f64 / (1u64 << shift) as f64);
        format!("{} {unit}", number.trim_end_matches(".0"))
    };
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=0xF_FFFF => scaled(10, "KiB"),
        0x10_0000..=0x3FFF_FFFF => scaled(20, "MiB"),
        _ => scaled(30, "GiB"),
    }
}

/// A bar on a terminal, nothing elsewhere.
pub fn progress(message: impl Into<Cow<'static, str>>, count: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(count as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg}  [{bar:30}] {pos}/{len}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}
