//! `warpwright compress`: the dense weights of a file as compressed layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use warpwright::group_sparse::compress::{Calibration, Options, compress};
use warpwright::group_sparse::file::{Dtype, Entry, Reader, Writer};
use warpwright::group_sparse::layer::Layer;

use crate::failure::Failure;
use crate::layers::{self, Facts};
use crate::output::{progress, say};
use crate::run;

mod glob;

/// Compress the linear layers of a file: groups of weights kept, in a few bits each
///
/// Every tensor P.weight of two axes (N, K) in f32, f16 or bf16 that the patterns choose becomes a
/// compressed layer P; all others are copied. Patterns are names in which * stands for anything; what
/// is looked up, and not multiplied, such as an embedding, is to be excluded. Examples:
///
///   warpwright compress model.safetensors -o small.safetensors --bits 4 --group 128
///   warpwright compress model.safetensors -o small.safetensors --sparsity 0.5 --group 16 \
///       --include 'model.layers.*' --calibration inputs.safetensors --set row_quantum=4
///
/// A calibration is a file with a tensor P, (samples, K), of inputs of each layer: the error of the
/// outputs is made small, and not that of the weights. With `--outliers 3`, weights three standard
/// deviations from the mean are stored apart. Layers are taken one at a time: memory does not grow
/// with the model.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The file with dense weights
    file: PathBuf,
    /// The file to write; it appears whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Bits of a code: 2, 3, 4 or 8 [default: 4]
    #[arg(long)]
    bits: Option<String>,
    /// Columns of a group: 8, 16, 32, 64 or 128 [default: 16]
    #[arg(long)]
    group: Option<String>,
    /// The fraction of groups to prune, from 0 to below 1 [default: 0]
    #[arg(long)]
    sparsity: Option<String>,
    /// How codes become numbers: sym, asym or affine [default: sym]
    #[arg(long)]
    mode: Option<String>,
    /// Whether groups compete within the whole tensor or each row: tensor or row [default: tensor]
    #[arg(long)]
    scope: Option<String>,
    /// How kept groups are stored: auto, free or dense [default: auto]
    #[arg(long)]
    pattern: Option<String>,
    /// How scales are found: rtn, search or adam [default: search]
    #[arg(long)]
    range: Option<String>,
    /// A file with inputs of the layers
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// A pattern of tensors to compress; may be repeated [default: *]
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// A pattern of tensors to leave as they are; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Store weights apart that are so many standard deviations from the mean; 3 is usual
    #[arg(long, value_name = "N")]
    outliers: Option<String>,
    /// Refit kept weights to make up for pruned ones; it needs a calibration
    #[arg(long, requires = "calibration")]
    refit_weights: bool,
    /// Another option of the compressor, such as row_quantum=4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = Options::from_texts(&texts(arguments)?)?;
    let mut reader = layers::open(&arguments.file)?;
    let chosen = chosen(arguments, &reader)?;
    let mut inputs = arguments.calibration.as_deref().map(layers::open).transpose()?;
    if let (Some(inputs), Some(path)) = (&inputs, &arguments.calibration) {
        let missing = chosen.iter().find(|name| !inputs.entries().contains_key(layer_of(name)));
        if let Some(name) = missing {
            return Err(Failure::input(format!(
                "{}: tensor `{}`: expected inputs of every layer, found none",
                path.display(),
                layer_of(name)
            )));
        }
    }
    let began = Instant::now();
    let mut writer = Writer::create(&arguments.output)?;
    copy(&mut reader, &mut writer, &chosen)?;
    let progress = progress("compressing", chosen.len());
    let mut facts = Vec::new();
    for name in &chosen {
        let calibration = match (&mut inputs, &arguments.calibration) {
            (Some(inputs), Some(path)) => {
                calibration(inputs, name, &options).map_err(|error| layers::input(path, error))?
            }
            _ => Calibration::none(),
        };
        let layer = compressed(&mut reader, name, &calibration, &options)
            .map_err(|error| layers::input(&arguments.file, error))?;
        writer.layer(&layer)?;
        facts.push(Facts::of(&layer));
        progress.inc(1);
    }
    writer.finish()?;
    progress.finish_and_clear();
    say!("{}", layers::shown(&facts));
    say!("{}, in {:.1} s", layers::total(&facts), began.elapsed().as_secs_f64());
    Ok(())
}

/// The options of the compressor, as its texts.
fn texts(arguments: &Arguments) -> Result<BTreeMap<String, String>, Failure> {
    let mut texts = BTreeMap::new();
    let mut set = |key: &str, value: &Option<String>| {
        texts.extend(value.clone().map(|value| (key.to_owned(), value)));
    };
    set("bits", &arguments.bits);
    set("group", &arguments.group);
    set("sparsity", &arguments.sparsity);
    set("mode", &arguments.mode);
    set("scope", &arguments.scope);
    set("pattern", &arguments.pattern);
    set("range", &arguments.range);
    set("outliers", &arguments.outliers.as_ref().map(|_| "true".to_owned()));
    set("n_sigma", &arguments.outliers);
    set("refit_weights", &arguments.refit_weights.then(|| "true".to_owned()));
    texts.extend(run::options(&arguments.set)?);
    Ok(texts)
}

/// The name of a weight's layer.
fn layer_of(weight: &str) -> &str {
    weight.strip_suffix(WEIGHT).unwrap_or(weight)
}

const WEIGHT: &str = ".weight";

/// The weights to be compressed.
fn chosen(arguments: &Arguments, reader: &Reader) -> Result<BTreeSet<String>, Failure> {
    let is_any = |patterns: &[String], name: &str| {
        patterns.iter().any(|pattern| glob::matches(pattern, name))
    };
    let is_included = |name: &str| arguments.include.is_empty() || is_any(&arguments.include, name);
    let is_weight = |name: &str, entry: &Entry| {
        let is_float = matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        name.ends_with(WEIGHT) && entry.shape.len() == 2 && is_float
    };
    let chosen: BTreeSet<String> = reader
        .entries()
        .iter()
        .filter(|(name, entry)| is_weight(name, entry) && is_included(name))
        .map(|(name, _)| name.clone())
        .filter(|name| !is_any(&arguments.exclude, name))
        .collect();
    match chosen.is_empty() {
        false => Ok(chosen),
        true => Err(Failure::input(format!(
            "{}: expected a tensor NAME.weight of two axes in f32, f16 or bf16 that the patterns \
             choose, found none",
            arguments.file.display()
        ))),
    }
}

/// Copies what is not to be compressed, and what is said of it.
fn copy(
    reader: &mut Reader,
    writer: &mut Writer,
    chosen: &BTreeSet<String>,
) -> Result<(), Failure> {
    for (key, value) in reader.metadata() {
        writer.set(key, value);
    }
    for (name, header) in reader.headers() {
        writer.describe(name, header.clone());
    }
    let names: Vec<String> = reader.entries().keys().cloned().collect();
    for name in names.iter().filter(|name| !chosen.contains(*name)) {
        writer.copy(reader, name)?;
    }
    Ok(())
}

/// What is known of the inputs of a weight.
fn calibration(
    inputs: &mut Reader,
    weight: &str,
    options: &Options,
) -> warpwright::Result<Calibration> {
    let x = inputs.tensor(layer_of(weight))?;
    let columns = x.shape().last().copied().unwrap_or(0);
    let mut calibration = match options.refit_weights {
        true => Calibration::full(columns)?,
        false => Calibration::new(columns),
    };
    calibration.add(&x)?;
    Ok(calibration)
}

/// The layer of a weight.
fn compressed(
    reader: &mut Reader,
    name: &str,
    calibration: &Calibration,
    options: &Options,
) -> warpwright::Result<Layer> {
    let weight = reader.tensor(name)?;
    let compressed = compress(name, &weight, calibration, options)?;
    Ok(Layer::compressed(layer_of(name), compressed, weight.dtype(), options))
}
