//! The kept groups of a matrix, made small enough to be seen at once.

use warpwright::group_sparse::Matrix;

/// The most cells of a row and of a column.
const MOST_COLUMNS: usize = 96;
const MOST_ROWS: usize = 64;

/// A matrix cut into cells, each some rows of some column groups.
pub struct Grid {
    /// Cells of a row, and of a column.
    pub sides: [usize; 2],
    /// How much of each cell is kept, 0 to 1, row by row.
    pub kept: Vec<f32>,
}

impl Grid {
    /// That of a matrix.
    pub fn of(matrix: &Matrix) -> Self {
        let (groups, rows) = (matrix.format().column_groups(), matrix.format().rows);
        let sides = [groups.min(MOST_COLUMNS), rows.min(MOST_ROWS)];
        let cell = |at: usize, length: usize, cells: usize| at * cells / length;
        let mut counts = vec![0u32; sides[0] * sides[1]];
        for row in 0..rows {
            let first = cell(row, rows, sides[1]) * sides[0];
            for kept in matrix.row(row) {
                counts[first + cell(matrix.column_group(kept), groups, sides[0])] += 1;
            }
        }
        // What lies in cell i of a side: from the first place that falls into it to the next one's.
        let within = |i: usize, length: usize, cells: usize| {
            ((i + 1) * length).div_ceil(cells) - (i * length).div_ceil(cells)
        };
        let share = |(i, count): (usize, u32)| {
            let wide = within(i % sides[0], groups, sides[0]);
            let high = within(i / sides[0], rows, sides[1]);
            count as f32 / (wide * high) as f32
        };
        Self { sides, kept: counts.into_iter().enumerate().map(share).collect() }
    }
}
