//! Compresses the linear layers of a real sentence encoder, at several settings, and tells what it costs.
//!
//! ```text
//! python3 examples/encoder/fetch.py
//! cargo run --release --features safetensors --example encoder
//! ```
//!
//! The model is all-MiniLM-L6-v2: six layers, 36 linear layers of 10.6 million weights. It runs on the CPU by
//! this crate's attention, with packed sentences, and with compressed layers by the products of
//! [`group_sparse`](warpwright::group_sparse). Sentences are of Jane Austen's *Emma*: those of the first half
//! calibrate, others of the last tenth are measured. For each setting:
//!
//! * bits per weight and bytes of the 36 layers,
//! * the error of the weights, ‖W - D‖ / ‖W‖,
//! * that of the layers' outputs, ‖(W - D) x‖ / ‖W x‖ for the inputs x that the layer has in the model as it
//!   came; both as the root of the mean of squares over layers,
//! * the cosine of sentences, whole model by whole model.
//!
//! The model as it came is tried first: similarities of three sentences that its authors published must come
//! out. The program exits with 1 where they do not.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use warpwright::group_sparse::compress::{Calibration, Options, compress};
use warpwright::group_sparse::{self, Weights};
use warpwright::{Cpu, Tensor};

use model::{Compressed, Dense, Encoder, Linears};
use words::Vocabulary;

mod model;
mod words;

const USAGE: &str = "\
Compresses the linear layers of a sentence encoder at several settings, and tells size and errors.

Usage: encoder [FOLDER]

FOLDER  with model.safetensors and vocab.txt, as examples/encoder/fetch.py fetches them;
        target/encoder by default";

/// Sentences that calibrate, and others that are measured.
const CALIBRATING: usize = 128;
const MEASURED: usize = 32;

/// Words of a sentence, at least.
const WORDS: usize = 6;

/// b, G, and the fraction of groups that are pruned.
const SETTINGS: [(u32, usize, f64); 8] = [
    (8, 128, 0.0),
    (4, 128, 0.0),
    (4, 16, 0.0),
    (3, 16, 0.0),
    (2, 16, 0.0),
    (4, 16, 0.25),
    (4, 16, 0.5),
    (2, 16, 0.5),
];

/// What the model's authors publish, as cosines of three sentences.
const KNOWN: [&str; 3] =
    ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
const COSINES: [(usize, usize, f64); 3] = [(0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411)];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.len() > 1 || arguments.first().is_some_and(|first| first.starts_with('-')) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let given = arguments.first().map(PathBuf::from);
    let folder = given.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/encoder"));
    match run(&folder) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("encoder: {error}");
            eprintln!("encoder: the model comes by `python3 examples/encoder/fetch.py`");
            ExitCode::from(2)
        }
    }
}

/// Whether the model is the one that it should be.
fn run(folder: &Path) -> Outcome<bool> {
    let vocabulary = Vocabulary::open(&folder.join("vocab.txt"))?;
    let encoder = Encoder::open(&folder.join("model.safetensors"))?;
    let pieces = |sentences: &[String]| -> Vec<Vec<usize>> {
        sentences.iter().map(|sentence| vocabulary.pieces(sentence)).collect()
    };
    if !is_the_model(&encoder, &pieces(&KNOWN.map(str::to_owned)))? {
        return Ok(false);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/emma.txt");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let sentences = words::sentences(&text, WORDS);
    let calibrating = pieces(&sentences[..CALIBRATING]);
    let measured = pieces(&sentences[sentences.len() - MEASURED..]);
    println!(
        "{CALIBRATING} sentences calibrate ({} pieces), {MEASURED} others are measured ({} pieces)\n",
        calibrating.iter().map(Vec::len).sum::<usize>(),
        measured.iter().map(Vec::len).sum::<usize>()
    );
    let (_, inputs) = traced(&encoder, &calibrating)?;
    let study = Study::new(&encoder, &inputs, &measured)?;
    println!(
        "{:>2} {:>4} {:>4}  {:<11} {:>7} {:>6} {:>9} {:>9} {:>8} {:>8}",
        "b", "G", "S", "calibrated", "bits/W", "MB", "weights", "outputs", "cosine", "seconds"
    );
    for (bits, group, sparsity) in SETTINGS {
        let options = Options::default().with_bits(bits).with_group(group).with_sparsity(sparsity);
        for way in [Way::Not, Way::Diagonal, Way::Refitted] {
            if way == Way::Refitted && sparsity == 0.0 {
                continue;
            }
            let row = study.of(&options.clone().with_refit_weights(way == Way::Refitted), way)?;
            println!(
                "{bits:>2} {group:>4} {:>3}%  {:<11} {:>7.2} {:>6.2} {:>8.2}% {:>8.2}% {:>8.4} {:>8.1}",
                sparsity * 100.0,
                way.name(),
                row.bits,
                row.bytes / 1e6,
                row.weights * 100.0,
                row.outputs * 100.0,
                row.cosine,
                row.seconds
            );
        }
    }
    Ok(true)
}

/// Whether sentences are as similar as they are known to be.
fn is_the_model(encoder: &Encoder, sentences: &[Vec<usize>]) -> Outcome<bool> {
    let embedded = encoder.embed(sentences, &mut Dense { encoder, inputs: None })?;
    let mut agrees = true;
    for (one, other, known) in COSINES {
        let cosine = dot(&embedded[one], &embedded[other]);
        println!(
            "{:?} and {:?}: cosine {cosine:.4}, published {known:.4}",
            KNOWN[one], KNOWN[other]
        );
        agrees &= (cosine - known).abs() < 1e-4;
    }
    Ok(agrees)
}

/// What a layer gets for sentences, by its name.
type Values = BTreeMap<String, Tensor<Cpu, f32>>;

/// Sentences by the model as it came, and what its layers got.
fn traced(encoder: &Encoder, sentences: &[Vec<usize>]) -> Outcome<(Vec<Vec<f32>>, Values)> {
    let mut dense = Dense { encoder, inputs: Some(Values::new()) };
    let embedded = encoder.embed(sentences, &mut dense)?;
    Ok((embedded, dense.inputs.unwrap_or_default()))
}

/// What a calibration is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Not,
    Diagonal,
    Refitted,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Not => "no",
            Self::Diagonal => "yes",
            Self::Refitted => "and refitted",
        }
    }
}

/// What is the same for all settings.
struct Study<'a> {
    encoder: &'a Encoder,
    diagonal: BTreeMap<String, Calibration>,
    full: BTreeMap<String, Calibration>,
    sentences: &'a [Vec<usize>],
    embedded: Vec<Vec<f32>>,
    inputs: Values,
    outputs: Values,
}

/// What a setting gave, over all layers.
struct Row {
    bits: f64,
    bytes: f64,
    weights: f64,
    outputs: f64,
    cosine: f64,
    seconds: f64,
}

impl<'a> Study<'a> {
    fn new(encoder: &'a Encoder, samples: &Values, sentences: &'a [Vec<usize>]) -> Outcome<Self> {
        let (mut diagonal, mut full) = (BTreeMap::new(), BTreeMap::new());
        for (layer, x) in samples {
            let columns = x.shape()[1];
            let mut calibrations = [Calibration::new(columns), Calibration::full(columns)?];
            calibrations.iter_mut().try_for_each(|calibration| calibration.add(x))?;
            let [of_squares, of_products] = calibrations;
            diagonal.insert(layer.clone(), of_squares);
            full.insert(layer.clone(), of_products);
        }
        let (embedded, inputs) = traced(encoder, sentences)?;
        let mut outputs = Values::new();
        let mut dense = Dense { encoder, inputs: None };
        for (layer, x) in &inputs {
            outputs.insert(layer.clone(), dense.forward(layer, x)?);
        }
        Ok(Self { encoder, diagonal, full, sentences, embedded, inputs, outputs })
    }

    fn of(&self, options: &Options, way: Way) -> Outcome<Row> {
        let began = Instant::now();
        let mut weights = BTreeMap::new();
        let (mut elements, mut bytes, mut squares, mut of_outputs) = (0.0, 0.0, 0.0, 0.0);
        for layer in self.encoder.linears() {
            let name = format!("{layer}.weight");
            let none = Calibration::none();
            let calibration = match way {
                Way::Not => &none,
                Way::Diagonal => &self.diagonal[layer],
                Way::Refitted => &self.full[layer],
            };
            let compressed = compress(&name, self.encoder.tensor(&name)?, calibration, options)?;
            elements += (compressed.report.n * compressed.report.k) as f64;
            bytes += compressed.report.bytes as f64;
            squares += compressed.report.rel_fro.powi(2);
            weights.insert(layer.to_owned(), Weights::new(&Cpu, &compressed.matrix)?);
        }
        let seconds = began.elapsed().as_secs_f64();
        for (layer, weights) in &weights {
            let bias = self.encoder.tensor(&format!("{layer}.bias"))?;
            let y =
                group_sparse::forward(weights, &self.inputs[layer], Some(bias.into()))?.to_vec()?;
            of_outputs += relative(&y, &self.outputs[layer].to_vec()?, &bias.to_vec()?).powi(2);
        }
        let layers = weights.len() as f64;
        let mut compressed = Compressed { encoder: self.encoder, weights };
        let embedded = self.encoder.embed(self.sentences, &mut compressed)?;
        let cosines = embedded.iter().zip(&self.embedded).map(|(one, other)| dot(one, other));
        Ok(Row {
            bits: bytes * 8.0 / elements,
            bytes,
            weights: (squares / layers).sqrt(),
            outputs: (of_outputs / layers).sqrt(),
            cosine: cosines.sum::<f64>() / embedded.len() as f64,
            seconds,
        })
    }
}

/// ‖y - right‖ / ‖right - bias‖.
fn relative(y: &[f32], right: &[f32], bias: &[f32]) -> f64 {
    let (mut wrong, mut all) = (0.0, 0.0);
    for (row, expected) in y.chunks_exact(bias.len()).zip(right.chunks_exact(bias.len())) {
        for (i, (y, right)) in row.iter().zip(expected).enumerate() {
            wrong += f64::from(y - right).powi(2);
            all += f64::from(right - bias[i]).powi(2);
        }
    }
    (wrong / all).sqrt()
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
