//! Text in columns.

use std::fmt;

/// Rows of cells, the header first; every column is as wide as its widest cell.
pub(super) struct Columns<const N: usize> {
    rows: Vec<[String; N]>,
    /// Columns that are flushed left; numbers stand right.
    left: [bool; N],
}

impl<const N: usize> Columns<N> {
    pub fn new(header: [&str; N], left: [bool; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned)], left }
    }

    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for Columns<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: [usize; N] = std::array::from_fn(|column| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in &self.rows {
            let cells = row.iter().zip(widths).zip(self.left).map(|((cell, width), left)| {
                if left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
