//! Which groups are kept.
//!
//! In every row groups are ordered by what they are worth and cut into runs of Q. A row keeps whole
//! runs, the first ones: so many that are its own share, and then as they come in the order of all
//! runs of the matrix (worth descending, row, run).

use rayon::prelude::*;

use super::options::{Options, Scope, Store, Target};
use super::saliency::Worth;
use crate::group_sparse::NAME;
use crate::group_sparse::format::{Format, Pattern, wrong_option};
use crate::{Error, Result};

/// The kept groups.
pub(super) struct Kept {
    pub pattern: Pattern,
    /// Where each row's groups begin, and where the last one's end; (N + 1).
    pub row_ptr: Vec<usize>,
    /// Their column groups, ascending in every row.
    pub columns: Vec<u32>,
    /// What they are worth, of what all are.
    pub energy: f64,
}

impl Kept {
    /// The column groups of a row.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.columns[self.row_ptr[row]..self.row_ptr[row + 1]]
    }
}

/// Chooses the groups that are kept, and how they are stored.
pub(super) fn select(worth: &Worth, format: &Format, options: &Options) -> Result<Kept> {
    let all = format.column_groups();
    let (rows, is_uniform) = match &options.target {
        Target::Mask(mask) => {
            let rows = of_mask(mask, format)?;
            let is_uniform = options.scope == Scope::Row;
            if is_uniform {
                equal_counts(&rows)?;
            }
            (rows, is_uniform)
        }
        Target::Sparsity(sparsity) if *sparsity == 0.0 && options.pattern != Store::Free => {
            (vec![(0..all as u32).collect(); format.rows], false)
        }
        Target::Sparsity(sparsity) if options.scope == Scope::Row => {
            let kept = all - (sparsity * all as f64) as usize;
            let kept = kept.next_multiple_of(options.row_quantum).min(all);
            let orders = worth.groups.par_chunks(all).map(descending);
            (orders.map(|order| ascending(&order[..kept])).collect(), true)
        }
        Target::Sparsity(sparsity) => (of_matrix(worth, format, options, *sparsity), false),
    };
    let kept: usize = rows.iter().map(Vec::len).sum();
    if kept >= u32::MAX as usize {
        return Err(wrong_option("sparsity", "fewer than 4294967295 kept groups", kept));
    }
    let is_dense = kept == format.rows * all && options.pattern != Store::Free;
    let pattern = match options.pattern {
        _ if is_dense => Pattern::Dense,
        Store::Dense => {
            let found = format!("dense with {kept} kept groups of {}", format.rows * all);
            return Err(wrong_option("pattern", "auto or free where groups are pruned", found));
        }
        Store::Auto if is_uniform && kept > 0 => Pattern::Uniform(kept / format.rows),
        Store::Auto | Store::Free => Pattern::Free,
    };
    Ok(gathered(&rows, pattern, worth, all))
}

fn gathered(rows: &[Vec<u32>], pattern: Pattern, worth: &Worth, all: usize) -> Kept {
    let mut row_ptr = vec![0];
    let (mut of_kept, mut of_all) = (0.0, 0.0);
    for (row, worth) in rows.iter().zip(worth.groups.chunks_exact(all)) {
        row_ptr.push(row_ptr[row_ptr.len() - 1] + row.len());
        // Groups that count as zero are marked by less.
        of_kept += row.iter().map(|&group| worth[group as usize].max(0.0)).sum::<f64>();
        of_all += worth.iter().map(|worth| worth.max(0.0)).sum::<f64>();
    }
    let energy = if of_all > 0.0 { of_kept / of_all } else { 1.0 };
    Kept { pattern, row_ptr, columns: rows.concat(), energy }
}

/// Groups by what they are worth, then by column.
fn descending(worth: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..worth.len() as u32).collect();
    let of = |group: u32| worth[group as usize];
    order.sort_unstable_by(|&a, &b| of(b).total_cmp(&of(a)).then(a.cmp(&b)));
    order
}

fn ascending(groups: &[u32]) -> Vec<u32> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups
}

fn of_mask(mask: &[bool], format: &Format) -> Result<Vec<Vec<u32>>> {
    let all = format.column_groups();
    if mask.len() != format.rows * all {
        return Err(Error::Shape {
            operation: NAME,
            tensor: "mask".to_owned(),
            expected: format!("N ⌈K/G⌉ = {} elements", format.rows * all),
            found: format!("{}", mask.len()),
        });
    }
    let of_row = |mask: &[bool]| (0..all as u32).filter(|&group| mask[group as usize]).collect();
    Ok(mask.chunks_exact(all).map(of_row).collect())
}

fn equal_counts(rows: &[Vec<u32>]) -> Result<()> {
    let count = rows[0].len();
    match rows.iter().position(|row| row.len() != count) {
        None => Ok(()),
        Some(row) => Err(Error::Value {
            operation: NAME,
            tensor: "mask".to_owned(),
            expected: format!("{count} kept groups in every row, for the scope row"),
            found: format!("{} in row {row}", rows[row].len()),
        }),
    }
}

/// A run of groups of one row.
struct Run {
    worth: f64,
    row: u32,
    /// Its place in the row.
    place: u32,
}

/// The groups of every row, where all rows compete.
fn of_matrix(worth: &Worth, format: &Format, options: &Options, sparsity: f64) -> Vec<Vec<u32>> {
    let (all, quantum) = (format.column_groups(), options.row_quantum);
    let groups = format.rows * all;
    let target = groups - (sparsity * groups as f64) as usize;
    // A row's own share leaves as much for the others.
    let share = (options.min_row_fraction * all as f64).ceil() as usize;
    let share = share.div_ceil(quantum).min(target / format.rows / quantum);
    let orders: Vec<Vec<u32>> = worth.groups.par_chunks(all).map(descending).collect();
    let runs_of = |row: usize| {
        let worth = &worth.groups[row * all..][..all];
        // Behind the first run of nothing but zeros there is nothing.
        let has_worth = |run: &&[u32]| worth[run[0] as usize] >= 0.0;
        let mean = move |run: &[u32]| {
            let sum: f64 = run.iter().map(|&group| worth[group as usize].max(0.0)).sum();
            sum / run.len() as f64
        };
        orders[row].chunks(quantum).take_while(has_worth).map(mean)
    };
    let mut kept: Vec<usize> =
        (0..format.rows).map(|row| runs_of(row).take(share).count()).collect();
    let mut runs: Vec<Run> = (0..format.rows)
        .into_par_iter()
        .flat_map_iter(|row| {
            let place = move |(place, worth)| Run { worth, row: row as u32, place };
            (0u32..).zip(runs_of(row)).skip(share).map(place)
        })
        .collect();
    runs.par_sort_unstable_by(|a, b| {
        b.worth.total_cmp(&a.worth).then_with(|| (a.row, a.place).cmp(&(b.row, b.place)))
    });
    let length = |runs: usize| (runs * quantum).min(all);
    let mut total: usize = kept.iter().map(|&runs| length(runs)).sum();
    for run in runs {
        if total >= target {
            break;
        }
        let row = &mut kept[run.row as usize];
        total += length(*row + 1) - length(*row);
        *row += 1;
    }
    orders.iter().zip(kept).map(|(order, runs)| ascending(&order[..length(runs)])).collect()
}
