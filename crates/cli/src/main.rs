//! The command `warpwright`: verifies, runs, times and explains the kernels of the crate.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::{CommandFactory, Parser, Subcommand};

mod bench;
mod compress;
#[cfg(feature = "interpreter")]
mod conformance;
#[cfg(feature = "interpreter")]
mod count;
mod decompress;
mod devices;
mod failure;
mod file;
mod inspect;
mod layers;
mod list;
mod matrix;
mod output;
mod plan;
mod run;
mod spgemm;
mod svg;
mod table;
mod target;
mod triangles;
mod verify;

use failure::Failure;
use output::say;

/// Hand-written GPU kernels (CUDA PTX and WGSL), each checked against a plain CPU reference.
///
/// Where to begin:
///   warpwright devices       what this machine has
///   warpwright verify        check and time every kernel on every device
///   warpwright run OP --input X.safetensors --output Y.safetensors
///
/// Devices: `cpu`; `wgpu` or `wgpu:INDEX`; `cuda` or `cuda:INDEX`; `ptx`, the CUDA kernels on an
/// interpreter; `reference`, the f64 reference, where the command says so; `auto`, the best that
/// there is.
///
/// Exit status: 0 done; 2 the input or the command line is wrong; 3 the device is not there or
/// cannot do it; 1 anything else.
#[derive(Parser)]
#[command(name = "warpwright", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Devices(devices::Arguments),
    List(list::Arguments),
    Verify(verify::Arguments),
    Run(run::Arguments),
    Bench(bench::Arguments),
    Plan(plan::Arguments),
    Spgemm(spgemm::Arguments),
    Triangles(triangles::Arguments),
    Compress(compress::Arguments),
    Inspect(inspect::Arguments),
    Decompress(decompress::Arguments),
}

fn main() -> ExitCode {
    quieten_vulkan();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help or version: what was asked for.
            return print(&error.render());
        }
        Err(error) => return Failure::from(error).report(),
    };
    let done = match cli.command {
        None => return print(&Cli::command().render_long_help()),
        Some(Command::Devices(arguments)) => devices::run(&arguments),
        Some(Command::List(arguments)) => list::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Run(arguments)) => run::run(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Plan(arguments)) => plan::run(&arguments),
        Some(Command::Spgemm(arguments)) => spgemm::run(&arguments),
        Some(Command::Triangles(arguments)) => triangles::run(&arguments),
        Some(Command::Compress(arguments)) => compress::run(&arguments),
        Some(Command::Inspect(arguments)) => inspect::run(&arguments),
        Some(Command::Decompress(arguments)) => decompress::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Mesa's layer that sorts devices complains on standard error where there is no desktop session;
/// errors of this command are one line, its own.
fn quieten_vulkan() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Prints to standard output, in colour on a terminal.
fn print(text: &StyledStr) -> ExitCode {
    let colours = std::io::stdout().is_terminal();
    let text = if colours { text.ansi().to_string() } else { text.to_string() };
    say!("{}", text.trim_end());
    ExitCode::SUCCESS
}
