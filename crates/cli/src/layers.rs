//! Files of compressed layers, as the commands for them read and show them.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, Table};
use warpwright::group_sparse::Format;
use warpwright::group_sparse::file::Reader;
use warpwright::group_sparse::layer::Layer;
use warpwright::{Error, ErrorKind};

use crate::failure::Failure;
use crate::output::size;
use crate::table::table;

/// Opens a file.
pub fn open(path: &Path) -> Result<Reader, Failure> {
    Reader::open(path).map_err(|error| input(path, error))
}

/// Opens a file that has compressed layers.
pub fn open_compressed(path: &Path) -> Result<Reader, Failure> {
    let reader = open(path)?;
    if reader.headers().is_empty() {
        return Err(Failure::input(format!(
            "{}: expected compressed layers, told of in the metadata gqsa.layers, found none",
            path.display()
        )));
    }
    Ok(reader)
}

/// What was read is wrong, or cannot be read at all, unless this version cannot do it.
pub fn input(path: &Path, error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Ability => Failure::from(error),
        _ if matches!(error, Error::Io { .. }) => Failure::input(error.to_string()),
        _ => Failure::input(format!("{}: {error}", path.display())),
    }
}

/// What there is to be told of a layer.
pub struct Facts {
    /// Its name.
    pub name: String,
    /// The sides, the grouping and the coding.
    pub format: Format,
    /// 1 - T / (N ⌈K/G⌉).
    pub sparsity: f64,
    /// Bytes of the weights before, and now.
    pub bytes: [u64; 2],
    /// ‖W - What‖ / ‖W‖, where the compressor has told it.
    pub error: Option<f64>,
    /// The same, weighted by the inputs.
    pub weighted: Option<f64>,
    /// The most kept groups of a row over the mean.
    pub imbalance: f64,
}

impl Facts {
    /// Those of a layer.
    pub fn of(layer: &Layer) -> Self {
        let format = *layer.matrix.format();
        let report = layer.info.get("report");
        let told = |key: &str| report.and_then(|report| report.get(key)?.as_f64());
        let before = format.rows as u64 * format.columns as u64 * layer.source.bytes() as u64;
        Self {
            name: layer.name.clone(),
            format,
            sparsity: layer.matrix.sparsity(),
            bytes: [before, layer.matrix.bytes() as u64],
            error: told("rel_fro"),
            weighted: told("weighted_rel"),
            imbalance: layer.imbalance(),
        }
    }

    /// N K.
    pub fn weights(&self) -> u64 {
        self.format.rows as u64 * self.format.columns as u64
    }

    /// Bits in the file of each weight.
    pub fn bits(&self) -> f64 {
        bits(self.bytes[1], self.weights())
    }
}

fn bits(bytes: u64, weights: u64) -> f64 {
    8.0 * bytes as f64 / weights as f64
}

/// A line for each layer.
pub fn shown(layers: &[Facts]) -> Table {
    let mut table = table([
        "layer",
        "n",
        "k",
        "G",
        "b",
        "mode",
        "pattern",
        "sparsity",
        "bits / weight",
        "before",
        "now",
        "error",
        "weighted",
        "imbalance",
    ]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let number = |number: Option<f64>| number.map_or("-".to_owned(), |x| format!("{x:.4}"));
    for layer in layers {
        let Format { rows, columns, group, bits, mode, pattern, .. } = layer.format;
        table.add_row([
            Cell::new(&layer.name),
            right(rows.to_string()),
            right(columns.to_string()),
            right(group.to_string()),
            right(bits.to_string()),
            Cell::new(mode),
            Cell::new(pattern),
            right(format!("{:.1} %", 100.0 * layer.sparsity)),
            right(format!("{:.2}", layer.bits())),
            right(size(layer.bytes[0])),
            right(size(layer.bytes[1])),
            right(number(layer.error)),
            right(number(layer.weighted)),
            right(format!("{:.2}", layer.imbalance)),
        ]);
    }
    table
}

/// All of them, in a line.
pub fn total(layers: &[Facts]) -> String {
    let sum = |of: fn(&Facts) -> u64| layers.iter().map(of).sum::<u64>();
    let (before, now) = (sum(|layer| layer.bytes[0]), sum(|layer| layer.bytes[1]));
    let weights = sum(Facts::weights);
    let count = match layers.len() {
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    };
    format!(
        "{count}, {weights} weights of {:.2} bits: {}, where {} were before",
        bits(now, weights),
        size(now),
        size(before)
    )
}
