//! Trains an LSTM, an sLSTM and a Mamba block to tell the parity of a string of bits, and shows
//! that the block cannot.
//!
//! ```text
//! cargo run --release --example parity
//! ```
//!
//! The task: after each bit of a random string, say whether the ones so far are even or odd in
//! number. One bit of memory is enough, but it has to be turned over by every one, which is what
//! "state tracking" means. Strings have 1 to 40 bits in training; asked is at 400.
//!
//! The claim: recurrent cells, whose state meets a matrix and a non-linear function at every step,
//! learn such a rule and keep to it at any length; that is what FlashRNN is for. A selective scan
//! cannot express it: the decays of its states are positive and depend on the input alone, so that
//! none turns a state over. What a Mamba block learns of short strings does not reach beyond them.
//!
//! Papers: K. Pöppel, M. Beck, S. Hochreiter, "FlashRNN: I/O-Aware Optimization of Traditional RNNs
//! on modern hardware", 2024, arXiv 2412.07752; W. Merrill, J. Petty, A. Sabharwal, "The Illusion of
//! State in State-Space Models", 2024, arXiv 2404.08819, of state tracking as such; Y. Sarrof,
//! Y. Veitsman, M. Hahn, "The Expressive Capacity of State Space Models: A Formal Language
//! Perspective", 2024, arXiv 2405.17394, of positive decays and parity.
//!
//! The cells run by the crate's kernels, forward and backward (`recurrent.rs` has the formulas),
//! and so does the block (`shared/mamba`), which is that of the example `mamba`. All are shown the
//! same strings.
//!
//! The program exits with 1 where a cell has 95 % of the answers right or less, or the block has
//! more.

use std::error::Error;
use std::process::ExitCode;

use fastrand::Rng;
use warpwright::causal_conv1d::CausalConv1d;
use warpwright::rnn::{Cell, Rnn};
use warpwright::selective_scan::SelectiveScan;
use warpwright::{Device, Result};

use bits::{CLASSES, SYMBOLS};
use recurrent::Recurrent;
use shared::adam::Rate;
use shared::mamba::{self, Mamba};
use training::{LONG, LONGEST, Outcome, ROWS, learn};

mod bits;
mod recurrent;
#[path = "../shared/mod.rs"]
mod shared;
#[cfg(test)]
mod tests;
mod training;

const USAGE: &str = "\
Trains an LSTM, an sLSTM and a Mamba block to tell the parity of bit strings, after every bit.
Training has strings of 1 to 40 bits, the test of 400. The cells have to pass, the block to fail.

Usage: parity [--device DEVICE] [--steps COUNT] [--seed SEED]

DEVICE  where the kernels run: cpu (the default), wgpu, cuda or auto
COUNT   steps of training of each model, each of 64 strings; 500 by default
SEED    of the first parameters and of the strings; 1 by default";

const RATE_OF_CELLS: Rate = Rate { highest: 1e-2, rising: 20 };
const RATE_OF_MAMBA: Rate = Rate { highest: 5e-3, rising: 20 };

/// The share of right answers that passes.
const PASSED: f64 = 0.95;

/// A device that has all of the kernels.
trait Kernels: Rnn<f32> + SelectiveScan<f32> + CausalConv1d<f32> {}

impl<B: Rnn<f32> + SelectiveScan<f32> + CausalConv1d<f32>> Kernels for B {}

/// What the command line asks for.
struct Arguments {
    device: String,
    steps: usize,
    seed: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("parity: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was as it has to be.
fn run() -> std::result::Result<bool, Box<dyn Error>> {
    let Some(arguments) = arguments()? else {
        println!("{USAGE}");
        return Ok(true);
    };
    let outcomes = match &Device::open(arguments.device.parse()?)? {
        Device::Cpu(cpu) => learn_all(cpu, &arguments)?,
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => learn_all(wgpu, &arguments)?,
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => learn_all(cuda, &arguments)?,
        other => return Err(format!("{} is unknown to this program", other.name()).into()),
    };
    Ok(conclude(&outcomes))
}

/// None where help is asked for.
fn arguments() -> std::result::Result<Option<Arguments>, Box<dyn Error>> {
    let mut found = Arguments { device: "cpu".to_owned(), steps: 500, seed: 1 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: its value is missing"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--device" => found.device = value()?,
            "--steps" => found.steps = value()?.parse()?,
            "--seed" => found.seed = value()?.parse()?,
            _ => return Err(format!("unknown argument `{argument}`\n\n{USAGE}").into()),
        }
    }
    Ok(Some(found))
}

/// The two cells, then the block.
fn learn_all<B: Kernels>(device: &B, arguments: &Arguments) -> Result<[Outcome; 3]> {
    let &Arguments { steps, seed, .. } = arguments;
    println!("Parity of bit strings, a label at every step, on {}", device.name());
    println!("{steps} steps of {ROWS} strings of 1 to {LONGEST} bits, seed {seed}");
    let cell = |name, cell| {
        let sizes = recurrent::Sizes { symbols: SYMBOLS, classes: CLASSES, heads: 2, width: 16 };
        let parameters = recurrent::Parameters::random(sizes, &mut Rng::with_seed(seed));
        learn(name, Recurrent { device, cell, sizes, parameters }, &RATE_OF_CELLS, steps, seed)
    };
    let block = || {
        let sizes = mamba::Sizes {
            symbols: SYMBOLS,
            classes: CLASSES,
            width: 32,
            channels: 64,
            states: 16,
            rank: 4,
            taps: 4,
        };
        let parameters = mamba::Parameters::random(sizes, &mut Rng::with_seed(seed));
        learn("Mamba", Mamba { device, sizes, parameters }, &RATE_OF_MAMBA, steps, seed)
    };
    Ok([cell("LSTM", Cell::Lstm)?, cell("sLSTM", Cell::Slstm)?, block()?])
}

/// Prints how all came out; whether that is as the papers say.
fn conclude(outcomes: &[Outcome; 3]) -> bool {
    println!(
        "\n{:<8} {:>12} {:>14} {:>14} {:>16} {:>10}",
        "model", "parameters", "right at 40", "right at 400", "at bits 41..400", "seconds"
    );
    for outcome in outcomes {
        let &Outcome { name, parameters, known, long, beyond, time } = outcome;
        println!(
            "{name:<8} {parameters:>12} {:>12.2} % {:>12.2} % {:>14.2} % {:>10.1}",
            100.0 * known,
            100.0 * long,
            100.0 * beyond,
            time.as_secs_f64()
        );
    }
    let [lstm, slstm, mamba] = outcomes;
    println!(
        "\nBeyond the {LONGEST} bits of training the LSTM has {:.1} % of the answers right, the sLSTM \
         {:.1} %,\nthe Mamba block {:.1} %, where a coin has 50 %.",
        100.0 * lstm.beyond,
        100.0 * slstm.beyond,
        100.0 * mamba.beyond
    );
    let holds = lstm.long > PASSED && slstm.long > PASSED && mamba.long <= PASSED;
    if !holds {
        println!(
            "This is not what the papers say: at {LONG} bits both cells have to be above {} %, the \
             block below.",
            100.0 * PASSED
        );
    }
    holds
}
