//! Trains a small Mamba block on a novel, character by character, and lets it write.
//!
//! ```text
//! cargo run --release --example mamba
//! ```
//!
//! The block is made of this crate's kernels, forward and backward: the causal convolution and the
//! selective scan with its gate (`shared/mamba` has the formulas). Projections are products by `gemm`
//! on the CPU. The text is Jane Austen's *Emma*; its last tenth is held out, and the loss there is
//! compared with that of a table of letter pairs, which knows one character of the past. Then the
//! model writes, one character at a time, by the kernels that move a state on (`writer.rs`), and
//! the scores of all that it wrote are compared with those of one scan over the same text.
//!
//! The program exits with 1 where the model does not beat the table, or stepping does not equal
//! scanning.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fastrand::Rng;
use warpwright::causal_conv1d::{CausalConv1d, update::CausalConv1dUpdate};
use warpwright::selective_scan::{SelectiveScan, state_update::StateUpdate};
use warpwright::{Device, Result};

use shared::Model;
use shared::adam::{Adam, Rate};
use shared::batch::Batch;
use shared::dense::cross_entropy;
use shared::mamba::{Mamba, Parameters, Sizes};
use shared::parameters::Learnt;
use text::{Text, cut};
use writer::Writer;

#[path = "../shared/mod.rs"]
mod shared;
#[cfg(test)]
mod tests;
mod text;
mod writer;

/// Rows of a batch, and characters of a row.
const ROWS: usize = 8;
const STEPS: usize = 256;

const RATE: Rate = Rate { highest: 5e-3, rising: 20 };

const USAGE: &str = "\
Trains a small Mamba block on Jane Austen's Emma, and lets it write.

Usage: mamba [--device DEVICE] [--steps COUNT] [--seed SEED] [--prompt TEXT]

DEVICE  where the kernels run: cpu (the default), wgpu, cuda or auto
COUNT   steps of training, each of 8 rows of 256 characters; 400 by default
SEED    of the first parameters, of the batches and of what is written; 1 by default
TEXT    what the writing begins with; \"Emma \" by default";

/// Characters that the model writes.
const WRITTEN: usize = 400;

/// How far the scores of stepping may lie from those of scanning, over the largest score. The
/// kernels agree to 2e-6; the products behind them sum some hundred roundings more.
const TOLERANCE: f32 = 1e-5;

/// A device that has all of the kernels.
trait Kernels:
    SelectiveScan<f32> + StateUpdate<f32> + CausalConv1d<f32> + CausalConv1dUpdate<f32>
{
}

impl<B> Kernels for B where
    B: SelectiveScan<f32> + StateUpdate<f32> + CausalConv1d<f32> + CausalConv1dUpdate<f32>
{
}

/// What the command line asks for.
struct Arguments {
    device: String,
    steps: usize,
    seed: u64,
    prompt: String,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mamba: {error}");
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
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/emma.txt");
    let text = Text::new(&std::fs::read(path).map_err(|error| format!("{path}: {error}"))?);
    match &Device::open(arguments.device.parse()?)? {
        Device::Cpu(cpu) => train_and_write(cpu, &text, &arguments),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => train_and_write(wgpu, &text, &arguments),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => train_and_write(cuda, &text, &arguments),
        other => Err(format!("{} is unknown to this program", other.name()).into()),
    }
}

/// None where help is asked for.
fn arguments() -> std::result::Result<Option<Arguments>, Box<dyn Error>> {
    let mut found =
        Arguments { device: "cpu".to_owned(), steps: 400, seed: 1, prompt: "Emma ".to_owned() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: its value is missing"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--device" => found.device = value()?,
            "--steps" => found.steps = value()?.parse()?,
            "--seed" => found.seed = value()?.parse()?,
            "--prompt" => found.prompt = value()?,
            _ => return Err(format!("unknown argument `{argument}`\n\n{USAGE}").into()),
        }
    }
    Ok(Some(found))
}

fn train_and_write<B: Kernels>(
    device: &B,
    text: &Text,
    arguments: &Arguments,
) -> std::result::Result<bool, Box<dyn Error>> {
    let prompt = text.encode(&arguments.prompt)?;
    if prompt.is_empty() {
        return Err("--prompt: one character at least".into());
    }
    let mut random = Rng::with_seed(arguments.seed);
    let sizes = Sizes {
        symbols: text.characters.len(),
        classes: text.characters.len(),
        width: 64,
        channels: 128,
        states: 16,
        rank: 8,
        taps: 4,
    };
    let parameters = Parameters::random(sizes, &mut random);
    let mut model = Mamba { device, sizes, parameters };
    let learnt = train(&mut model, text, arguments.steps, &mut random)?;
    let agrees = write(&model, text, &prompt, &mut random)?;
    Ok(learnt && agrees)
}

/// Whether the model knows the text better than a table of pairs does.
fn train<B: Kernels>(
    model: &mut Mamba<'_, B>,
    text: &Text,
    steps: usize,
    random: &mut Rng,
) -> Result<bool> {
    let numbers: usize = model.parameters.tensors().into_iter().map(Vec::len).sum();
    let symbols = model.sizes.symbols;
    println!("{}: {numbers} parameters, {symbols} characters that occur", model.device.name());
    println!("\n{:>6} {:>10} {:>10} {:>16}", "step", "loss", "held out", "characters / s");
    println!("{:>6} {:>10} {:>10.3}", 0, "", held_out(model, text)?);
    let mut adam = Adam::new(&model.parameters);
    let mut losses = Vec::new();
    let mut time = Duration::ZERO;
    let every = (steps / 16).max(1);
    for step in 1..=steps {
        let began = Instant::now();
        let batch = batch(&text.training, random);
        losses.push(adam.learn(model, &batch, RATE.at(step, steps))?);
        time += began.elapsed();
        if step % every == 0 {
            let speed = (step * ROWS * STEPS) as f64 / time.as_secs_f64();
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            println!("{step:>6} {mean:>10.3} {:>10.3} {speed:>16.0}", held_out(model, text)?);
            losses.clear();
        }
    }
    let (pairs, held_out) = (text.loss_of_pairs(), held_out(model, text)?);
    println!(
        "\nHeld out, the model loses {held_out:.3} nats for each character, \
         a table of letter pairs {pairs:.3}."
    );
    Ok(held_out < pairs)
}

/// Writes by steps, and scans what was written: whether the scores agree.
fn write<B: Kernels>(
    model: &Mamba<'_, B>,
    text: &Text,
    prompt: &[usize],
    random: &mut Rng,
) -> Result<bool> {
    let began = Instant::now();
    let (written, stepped) = Writer::new(model)?.write(prompt, WRITTEN, random)?;
    let speed = written.len() as f64 / began.elapsed().as_secs_f64();
    println!("\n{}\n\n{speed:.0} characters / s, one at a time.", text.decode(&written));
    let scanned = model.scores(&written, 1)?;
    let largest = scanned.iter().fold(0.0, |largest: f32, score| largest.max(score.abs()));
    let pairs = stepped.iter().zip(&scanned);
    let apart = pairs.fold(0.0, |apart: f32, (x, y)| apart.max((x - y).abs())) / largest;
    println!(
        "All {} scores of stepping lie within {apart:.0e} of those of one scan; allowed are \
         {TOLERANCE:.0e}.",
        scanned.len()
    );
    Ok(stepped.len() == scanned.len() && apart <= TOLERANCE)
}

/// Rows from random places.
fn batch(text: &[usize], random: &mut Rng) -> Batch {
    let starts: Vec<usize> = (0..ROWS).map(|_| random.usize(0..text.len() - STEPS)).collect();
    cut(text, &starts, STEPS)
}

/// The loss on 4 batches that lie evenly over the held-out text, the same each time.
fn held_out<B: Kernels>(model: &Mamba<'_, B>, text: &Text) -> Result<f64> {
    const BATCHES: usize = 4;
    let apart = (text.held_out.len() - STEPS - 1) / (BATCHES * ROWS);
    let losses = (0..BATCHES).map(|batch| {
        let starts: Vec<usize> = (0..ROWS).map(|row| (batch * ROWS + row) * apart).collect();
        let batch = cut(&text.held_out, &starts, STEPS);
        Ok(cross_entropy(&mut model.scores(&batch.read, batch.rows)?, &batch.wanted))
    });
    Ok(losses.sum::<Result<f64>>()? / BATCHES as f64)
}
