//! What is known of the inputs that the matrix will multiply.

use rayon::prelude::*;

use super::lanes::dot;
use crate::backend::Cpu;
use crate::group_sparse::NAME;
use crate::tensor::View;
use crate::{Error, Result};

/// Statistics of the inputs x: the mean of each squared component, or of all products.
///
/// ```text
/// h_k = mean x_k²   (K)        H = mean x xᵀ   (K, K)
/// ```
///
/// With h, groups are kept and scales are chosen for the least Σ h_k (What_k - w_k)²; H serves
/// [`refit_weights`](super::Options::refit_weights) too. Sums are in f64, each over the samples in
/// their order: neither threads nor the cut into batches change a bit.
///
/// ```
/// use warpwright::Tensor;
/// use warpwright::group_sparse::compress::Calibration;
///
/// let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 0.0], &[2, 2])?;
/// let mut calibration = Calibration::new(2);
/// calibration.add(&x)?;
/// assert_eq!(calibration.h(), Some(vec![5.0, 2.0]));
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Calibration {
    columns: usize,
    statistic: Statistic,
    /// How many samples the sums are over; `None` where means were given.
    samples: Option<u64>,
}

#[derive(Clone, Debug)]
enum Statistic {
    Nothing,
    /// h, times the samples.
    Diagonal(Vec<f64>),
    /// H, times the samples; both triangles.
    Full(Vec<f64>),
}

/// Means beyond this are refused, so that no sum of weighted errors overflows.
const LARGEST: f64 = 1e150;

/// Relative difference of H to its transpose that passes as rounding.
const ASYMMETRY: f64 = 1e-6;

impl Calibration {
    /// Nothing: every column weighs the same.
    pub fn none() -> Self {
        Self { columns: 0, statistic: Statistic::Nothing, samples: None }
    }

    /// h, to be gathered from samples of K inputs by [`add`](Self::add).
    pub fn new(columns: usize) -> Self {
        let statistic = Statistic::Diagonal(vec![0.0; columns]);
        Self { columns, statistic, samples: Some(0) }
    }

    /// H, to be gathered from samples of K inputs by [`add`](Self::add); it takes 8 K² bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] where there are not as many.
    pub fn full(columns: usize) -> Result<Self> {
        let count = columns.saturating_mul(columns);
        let mut hessian = Vec::new();
        hessian.try_reserve_exact(count).map_err(|_| Error::OutOfMemory {
            device: "cpu".to_owned(),
            asked: (count as u64).saturating_mul(8),
            available: None,
        })?;
        hessian.resize(count, 0.0);
        Ok(Self { columns, statistic: Statistic::Full(hessian), samples: Some(0) })
    }

    /// h as it is given; (K).
    ///
    /// # Errors
    ///
    /// [`Error::Value`] where an element is negative, not finite or above 1e150, or all are 0.
    pub fn diagonal(h: Vec<f64>) -> Result<Self> {
        check_means("h", h.iter().copied(), |i| format!("index {i}"))?;
        Ok(Self { columns: h.len(), statistic: Statistic::Diagonal(h), samples: None })
    }

    /// H as it is given; (K, K), row by row.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there are not K² elements. [`Error::Value`] where one is not finite
    /// or above 1e150 in magnitude, H_ij and H_ji differ by more than 1e-6 of the largest of
    /// |H_ij|, |H_ji| and √(H_ii H_jj), the diagonal is negative somewhere, or all of it is 0.
    pub fn hessian(columns: usize, mut hessian: Vec<f64>) -> Result<Self> {
        if Some(hessian.len()) != columns.checked_mul(columns) {
            return Err(Error::Shape {
                operation: NAME,
                tensor: "H".to_owned(),
                expected: format!("K² elements with K = {columns}"),
                found: format!("{}", hessian.len()),
            });
        }
        let position = |i: usize| format!("row {}, column {}", i / columns, i % columns);
        if let Some(i) = hessian.iter().position(|x| x.is_nan() || x.abs() > LARGEST) {
            let found = format!("{} at {}", hessian[i], position(i));
            return Err(wrong_value("H", "finite numbers, at most 1e150 in magnitude", found));
        }
        let diagonal = (0..columns).map(|i| hessian[i * columns + i]);
        check_means("H", diagonal, |i| format!("row {i}, column {i}"))?;
        symmetrise(&mut hessian, columns)?;
        Ok(Self { columns, statistic: Statistic::Full(hessian), samples: None })
    }

    /// Adds samples: X of any float type, (samples, K).
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where the statistic was given as a whole, or is none; [`Error::Shape`]
    /// for other axes; [`Error::Dtype`] for integers; [`Error::Value`] where an element is not
    /// finite, or above 1e75 in magnitude. After an error nothing has been added.
    pub fn add(&mut self, x: &View<Cpu>) -> Result<()> {
        let Some(samples) = self.samples.as_mut() else {
            return Err(Error::Tensor {
                operation: NAME,
                tensor: "x".to_owned(),
                expected: "a calibration made by `new` or `full`".to_owned(),
                found: "one that takes no samples".to_owned(),
            });
        };
        let columns = self.columns;
        let values = check_samples(x, columns)?;
        match &mut self.statistic {
            Statistic::Nothing => {}
            Statistic::Diagonal(h) => {
                for x in values.chunks_exact(columns.max(1)) {
                    h.iter_mut().zip(x).for_each(|(h, x)| *h += x * x);
                }
            }
            Statistic::Full(hessian) => add_products(hessian, &values, columns),
        }
        *samples += x.shape()[0] as u64;
        Ok(())
    }

    /// h, the means of the squares; `None` without a statistic or before the first sample.
    pub fn h(&self) -> Option<Vec<f64>> {
        let samples = match self.samples {
            Some(0) => return None,
            Some(samples) => samples as f64,
            None => 1.0,
        };
        match &self.statistic {
            Statistic::Nothing => None,
            Statistic::Diagonal(h) => Some(h.iter().map(|h| h / samples).collect()),
            Statistic::Full(hessian) => {
                let diagonal = hessian.iter().step_by(self.columns + 1);
                Some(diagonal.map(|h| h / samples).collect())
            }
        }
    }

    /// What the compressor works with, after a look at whether it fits.
    pub(super) fn importance(&self, columns: usize) -> Result<Importance<'_>> {
        let tensor = match (&self.statistic, self.samples) {
            (Statistic::Nothing, _) => return Ok(Importance::default()),
            (_, Some(_)) => "x",
            (Statistic::Diagonal(_), None) => "h",
            (Statistic::Full(_), None) => "H",
        };
        if self.columns != columns {
            return Err(Error::Shape {
                operation: NAME,
                tensor: tensor.to_owned(),
                expected: format!("K = {columns}, the columns of the weights"),
                found: format!("K = {}", self.columns),
            });
        }
        let Some(h) = self.h() else {
            return Err(Error::Tensor {
                operation: NAME,
                tensor: tensor.to_owned(),
                expected: "at least one sample".to_owned(),
                found: "none".to_owned(),
            });
        };
        check_means(tensor, h.iter().copied(), |k| format!("column {k}"))?;
        let hessian = match &self.statistic {
            Statistic::Full(products) => Some(Hessian { columns, products }),
            Statistic::Nothing | Statistic::Diagonal(_) => None,
        };
        let dead = h.iter().filter(|&&h| h == 0.0).count();
        Ok(Importance { h: Some(h), hessian, dead })
    }
}

/// What of a calibration the compressor works with.
#[derive(Default)]
pub(super) struct Importance<'a> {
    /// (K).
    pub h: Option<Vec<f64>>,
    pub hessian: Option<Hessian<'a>>,
    /// Columns with h = 0.
    pub dead: usize,
}

/// H up to a factor, which no result depends on.
#[derive(Clone, Copy)]
pub(super) struct Hessian<'a> {
    columns: usize,
    products: &'a [f64],
}

impl<'a> Hessian<'a> {
    pub fn row(self, row: usize) -> &'a [f64] {
        &self.products[row * self.columns..][..self.columns]
    }

    /// The mean of the diagonal.
    pub fn mean(self) -> f64 {
        let sum: f64 = self.products.iter().step_by(self.columns + 1).sum();
        sum / self.columns as f64
    }

    /// eᵀ H e.
    pub fn quadratic(self, e: &[f64]) -> f64 {
        (0..e.len()).map(|i| self.term(i, e)).sum()
    }

    /// What row i of the upper triangle adds to it.
    pub fn term(self, i: usize, e: &[f64]) -> f64 {
        let row = self.row(i);
        e[i] * (row[i] * e[i] + 2.0 * dot(&row[i + 1..], &e[i + 1..]))
    }
}

/// Elements of a diagonal are finite and not negative, and one is positive.
fn check_means(
    tensor: &str,
    values: impl Iterator<Item = f64> + Clone,
    position: impl Fn(usize) -> String,
) -> Result<()> {
    let wrong = |value: &f64| !(0.0..=LARGEST).contains(value);
    if let Some((i, value)) = values.clone().enumerate().find(|(_, value)| wrong(value)) {
        let found = format!("{value} at {}", position(i));
        return Err(wrong_value(tensor, "means of squares, from 0 to 1e150", found));
    }
    if values.clone().all(|value| value == 0.0) {
        let found = format!("0 at all of {}", values.count());
        return Err(wrong_value(tensor, "a column whose mean square is above 0", found));
    }
    Ok(())
}

/// The two triangles agree up to rounding; then both are their mean.
fn symmetrise(hessian: &mut [f64], columns: usize) -> Result<()> {
    let at = |i: usize, j: usize| i * columns + j;
    for i in 0..columns {
        for j in i + 1..columns {
            let (upper, lower) = (hessian[at(i, j)], hessian[at(j, i)]);
            let diagonal = (hessian[at(i, i)] * hessian[at(j, j)]).sqrt();
            let scale = upper.abs().max(lower.abs()).max(diagonal);
            if (upper - lower).abs() > ASYMMETRY * scale {
                let found = format!("{upper} at row {i}, column {j}, and {lower} at its mirror");
                return Err(wrong_value("H", "a symmetric matrix", found));
            }
            let mean = 0.5 * (upper + lower);
            hessian[at(i, j)] = mean;
            hessian[at(j, i)] = mean;
        }
    }
    Ok(())
}

fn check_samples(x: &View<Cpu>, columns: usize) -> Result<Vec<f64>> {
    if !x.dtype().is_float() {
        return Err(Error::Dtype {
            operation: NAME,
            tensor: "x".to_owned(),
            expected: "of a float type".to_owned(),
            found: x.dtype().to_string(),
        });
    }
    if x.shape().len() != 2 || x.shape()[1] != columns {
        return Err(Error::Shape {
            operation: NAME,
            tensor: "x".to_owned(),
            expected: format!("shape (samples, K) with K = {columns}"),
            found: format!("shape {}", x.shape()),
        });
    }
    let values = x.to_f64()?;
    let wrong = |value: &f64| value.is_nan() || value.abs() > 1e75;
    let count = values.iter().filter(|value| wrong(value)).count();
    match values.iter().position(wrong) {
        None => Ok(values),
        Some(i) => {
            let (row, column) = (i / columns, i % columns);
            let found =
                format!("{} at row {row}, column {column}; {count} such inputs in all", values[i]);
            Err(wrong_value("x", "finite inputs, at most 1e75 in magnitude", found))
        }
    }
}

/// Adds x xᵀ of every sample, in their order.
fn add_products(hessian: &mut [f64], samples: &[f64], columns: usize) {
    let columns = columns.max(1);
    hessian.par_chunks_mut(columns).enumerate().for_each(|(i, row)| {
        // Four at a time, so that a row of H is read and written once for them.
        let (fours, rest) = samples.split_at(samples.len() / (4 * columns) * (4 * columns));
        for four in fours.chunks_exact(4 * columns) {
            let (ab, cd) = four.split_at(2 * columns);
            let ((a, b), (c, d)) = (ab.split_at(columns), cd.split_at(columns));
            let [w, x, y, z] = [a[i], b[i], c[i], d[i]];
            let products = a.iter().zip(b).zip(c).zip(d);
            for (sum, (((a, b), c), d)) in row.iter_mut().zip(products) {
                *sum = (((*sum + w * a) + x * b) + y * c) + z * d;
            }
        }
        for sample in rest.chunks_exact(columns) {
            let x = sample[i];
            row.iter_mut().zip(sample).for_each(|(sum, y)| *sum += x * y);
        }
    });
}

fn wrong_value(tensor: &str, expected: &str, found: String) -> Error {
    Error::Value {
        operation: NAME,
        tensor: tensor.to_owned(),
        expected: expected.to_owned(),
        found,
    }
}
