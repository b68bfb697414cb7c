//! What must hold of the arrays of a matrix, so that kernels may follow them.

use super::{BITS, GROUPS, code};
use super::{Floats, Format, Matrix, Mode, Outliers, Parts, Pattern, wrong_option};
use crate::group_sparse::NAME;
use crate::{Error, Result};

/// Sides are below this.
const LONGEST_SIDE: usize = 1 << 31;

/// What errors call the tensors: by their own names, or by those of a layer in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub prefix: String,
}

impl Names {
    /// Those of a layer.
    pub fn of_layer(layer: &str) -> Self {
        Self { prefix: format!("{layer}.gqsa.") }
    }

    pub fn of(&self, tensor: &str) -> String {
        format!("{}{tensor}", self.prefix)
    }

    pub fn wrong_value(&self, tensor: &str, expected: impl Into<String>, found: String) -> Error {
        Error::Value { operation: NAME, tensor: self.of(tensor), expected: expected.into(), found }
    }

    /// The tensor has another length than it needs.
    fn length(&self, tensor: &str, expected: usize, found: usize) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(Error::Shape {
            operation: NAME,
            tensor: self.of(tensor),
            expected: format!("{expected} elements"),
            found: format!("{found}"),
        })
    }
}

impl Format {
    /// Sides, group and bits are such as there are.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, side) in [("n", self.rows), ("k", self.columns)] {
            if side == 0 || side >= LONGEST_SIDE {
                return Err(wrong_option(name, "1 to 2147483647", side));
            }
        }
        if !GROUPS.contains(&self.group) {
            return Err(wrong_option("group", "8, 16, 32, 64 or 128", self.group));
        }
        if !BITS.contains(&self.bits) {
            return Err(wrong_option("bits", "2, 3, 4 or 8", self.bits));
        }
        match self.pattern {
            // Without any group nothing in a file would bound its rows.
            Pattern::Uniform(count) if count == 0 || count > self.column_groups() => {
                let expected = format!("1 to {}, the groups of a row", self.column_groups());
                Err(wrong_option("uniform_count", &expected, count))
            }
            _ => Ok(()),
        }
    }
}

/// Where each row's groups begin, whatever the pattern, after a look at what says so.
pub(super) fn row_ptr(parts: &Parts, names: &Names) -> Result<Vec<u32>> {
    let format = &parts.format;
    format.check()?;
    let count = match format.pattern {
        Pattern::Free => {
            names.length("row_ptr", format.rows + 1, parts.row_ptr.len())?;
            ascending(&parts.row_ptr, names, "row_ptr")?;
            return Ok(parts.row_ptr.clone());
        }
        Pattern::Uniform(count) => count,
        Pattern::Dense => format.column_groups(),
    };
    names.length("row_ptr", 0, parts.row_ptr.len())?;
    let kept = format.rows as u64 * count as u64;
    if kept >= u64::from(u32::MAX) {
        return Err(wrong_option("pattern", "fewer than 4294967295 kept groups", kept));
    }
    Ok((0..=format.rows).map(|row| (row * count) as u32).collect())
}

/// Row pointers begin at 0 and never descend.
fn ascending(row_ptr: &[u32], names: &Names, tensor: &str) -> Result<()> {
    if row_ptr[0] != 0 {
        let found = format!("{} at index 0", row_ptr[0]);
        return Err(names.wrong_value(tensor, "0 as the first row pointer", found));
    }
    match row_ptr.windows(2).position(|pair| pair[0] > pair[1]) {
        None => Ok(()),
        Some(row) => {
            let found = format!(
                "row {row}: {} at index {} behind {}",
                row_ptr[row + 1],
                row + 1,
                row_ptr[row]
            );
            Err(names.wrong_value(tensor, "row pointers that never descend", found))
        }
    }
}

/// All arrays are as long as the others say.
pub(super) fn lengths(matrix: &Matrix, names: &Names) -> Result<()> {
    let Parts { format, col_idx, codes, scales, zeros, offsets, outliers, perm, .. } =
        &matrix.parts;
    let kept = matrix.kept();
    if kept == u32::MAX as usize {
        let found = format!("{kept}");
        return Err(names.wrong_value("row_ptr", "fewer than 4294967295 kept groups", found));
    }
    let columns = if format.pattern == Pattern::Dense { 0 } else { kept };
    names.length("col_idx", columns, col_idx.len())?;
    names.length("codes", kept * format.group_bytes(), codes.len())?;
    let count = format.scale_count(kept);
    let of_mode = |mode| if format.mode == mode { count } else { 0 };
    names.length("scales", count, scales.len())?;
    names.length("zeros", of_mode(Mode::Asym), zeros.len())?;
    names.length("offsets", of_mode(Mode::Affine), offsets.as_ref().map_or(0, Floats::len))?;
    if let Some(offsets) = offsets.as_ref().filter(|m| m.dtype() != scales.dtype()) {
        return Err(Error::Dtype {
            operation: NAME,
            tensor: names.of("offsets"),
            expected: scales.dtype().to_string(),
            found: offsets.dtype().to_string(),
        });
    }
    if let Some(outliers) = outliers {
        names.length("out_row_ptr", format.rows + 1, outliers.row_ptr.len())?;
        ascending(&outliers.row_ptr, names, "out_row_ptr")?;
        let count = outliers.row_ptr[format.rows] as usize;
        names.length("out_col", count, outliers.col.len())?;
        names.length("out_val", count, outliers.val.len())?;
    }
    match perm {
        Some(perm) => names.length("perm", format.columns, perm.len()),
        None => Ok(()),
    }
}

/// All that is left to look at behind the row pointers.
pub(super) fn all(matrix: &Matrix, names: &Names) -> Result<()> {
    lengths(matrix, names)?;
    let Parts { format, scales, offsets, outliers, perm, .. } = &matrix.parts;
    if format.pattern != Pattern::Dense {
        let groups = format.column_groups();
        columns(&matrix.row_ptr, &matrix.parts.col_idx, groups, names, "col_idx")?;
    }
    finite(scales, names, "scales")?;
    if let Some(offsets) = offsets {
        finite(offsets, names, "offsets")?;
    }
    tails(matrix, names)?;
    if let Some(Outliers { row_ptr, col, val }) = outliers {
        columns(row_ptr, col, format.columns, names, "out_col")?;
        finite(val, names, "out_val")?;
    }
    match perm {
        Some(perm) => permutation(perm, names),
        None => Ok(()),
    }
}

/// Columns ascend in every row and lie below `end`.
fn columns(
    row_ptr: &[u32],
    columns: &[u32],
    end: usize,
    names: &Names,
    tensor: &str,
) -> Result<()> {
    for (row, pair) in row_ptr.windows(2).enumerate() {
        let mut least = 0u64;
        let range = pair[0] as usize..pair[1] as usize;
        for (index, &column) in range.clone().zip(&columns[range]) {
            let column = u64::from(column);
            if column < least || column >= end as u64 {
                let expected = format!("columns that ascend in every row, below {end}");
                let found = format!("row {row}: {column} at index {index}");
                return Err(names.wrong_value(tensor, expected, found));
            }
            least = column + 1;
        }
    }
    Ok(())
}

fn finite(floats: &Floats, names: &Names, tensor: &str) -> Result<()> {
    match floats.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((i, value)) => {
            let found = format!("{value} at index {i}");
            Err(names.wrong_value(tensor, "finite numbers", found))
        }
    }
}

/// Behind the last column there is the zero code.
fn tails(matrix: &Matrix, names: &Names) -> Result<()> {
    let format = &matrix.parts.format;
    let last = format.column_groups() - 1;
    let tail = format.columns - last * format.group..format.group;
    if tail.is_empty() {
        return Ok(());
    }
    for row in 0..format.rows {
        // The last column group is a row's last kept one, where it is kept.
        let Some(kept) = matrix.row(row).next_back() else { continue };
        if matrix.column_group(kept) != last {
            continue;
        }
        let zero = match (format.mode, matrix.coding(row, kept)) {
            (Mode::Asym, super::Coding::Integer { zero, .. }) => zero,
            _ => 0,
        };
        let right = format.zero_code(zero);
        let codes = matrix.packed(kept);
        if let Some(j) = tail.clone().find(|&j| code(format.bits, codes, j) != right) {
            let found = format!(
                "row {row}: {} for element {j} of group {kept}",
                code(format.bits, codes, j)
            );
            let expected = format!("the zero code {right} behind column {}", format.columns - 1);
            return Err(names.wrong_value("codes", expected, found));
        }
    }
    Ok(())
}

fn permutation(perm: &[u32], names: &Names) -> Result<()> {
    let mut seen = vec![false; perm.len()];
    for (index, &column) in perm.iter().enumerate() {
        match seen.get_mut(column as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                let expected = format!("each column from 0 to {} once", perm.len() - 1);
                return Err(names.wrong_value(
                    "perm",
                    expected,
                    format!("{column} at index {index}"),
                ));
            }
        }
    }
    Ok(())
}
