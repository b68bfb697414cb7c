//! The dense weights, row by row, and what must hold of them.

use rayon::prelude::*;

use crate::backend::{Cpu, ReadGuard};
use crate::element::{DType, DeviceFloat};
use crate::group_sparse::NAME;
use crate::tensor::View;
use crate::{Error, Result};

/// W, (N, K), for reading.
pub(super) struct Weights<'a> {
    /// What errors call the tensor.
    pub name: &'a str,
    pub rows: usize,
    pub columns: usize,
    pub dtype: DType,
    strides: [usize; 2],
    bytes: ReadGuard<'a>,
}

impl<'a> Weights<'a> {
    pub fn new(name: &'a str, view: &'a View<Cpu>) -> Result<Self> {
        let &[rows, columns] = &**view.shape() else {
            return Err(Error::Shape {
                operation: NAME,
                tensor: name.to_owned(),
                expected: "two axes, (N, K)".to_owned(),
                found: format!("shape {}", view.shape()),
            });
        };
        if !matches!(view.dtype(), DType::F16 | DType::BF16 | DType::F32) {
            return Err(Error::Dtype {
                operation: NAME,
                tensor: name.to_owned(),
                expected: "f32, f16 or bf16".to_owned(),
                found: view.dtype().to_string(),
            });
        }
        let strides = [view.strides()[0], view.strides()[1]];
        Ok(Self { name, rows, columns, dtype: view.dtype(), strides, bytes: view.read()? })
    }

    /// Widens a row to f32, which holds it exactly.
    pub fn load(&self, row: usize, to: &mut Vec<f32>) {
        to.resize(self.columns, 0.0);
        match self.dtype {
            DType::F16 => self.widen::<half::f16>(row, to),
            DType::BF16 => self.widen::<half::bf16>(row, to),
            _ => self.widen::<f32>(row, to),
        }
    }

    fn widen<T: DeviceFloat>(&self, row: usize, to: &mut [f32]) {
        let size = size_of::<T>();
        let row = &self.bytes[row * self.strides[0] * size..];
        if self.strides[1] == 1
            && let Ok(row) = bytemuck::try_cast_slice(&row[..to.len() * size])
        {
            return T::widen(row, to);
        }
        for (column, to) in to.iter_mut().enumerate() {
            let element = &row[column * self.strides[1] * size..][..size];
            *to = bytemuck::pod_read_unaligned::<T>(element).to_f32();
        }
    }

    /// Applies `of_row` to every row, in parallel; the results lie in the rows' order.
    pub fn map<R: Send>(&self, of_row: impl Fn(usize, &[f32]) -> R + Sync) -> Vec<R> {
        let widened = |values: &mut Vec<f32>, row| {
            self.load(row, values);
            of_row(row, values)
        };
        (0..self.rows).into_par_iter().map_init(Vec::new, widened).collect()
    }

    /// All are finite.
    pub fn check(&self) -> Result<()> {
        let faults = self.map(|_, values| {
            let count = values.iter().filter(|value| !value.is_finite()).count();
            let first = values.iter().position(|value| !value.is_finite());
            first.map(|column| (column, values[column], count))
        });
        let all: usize = faults.iter().flatten().map(|(.., count)| count).sum();
        let first = faults.iter().enumerate().find_map(|(row, fault)| Some((row, (*fault)?)));
        let Some((row, (column, value, _))) = first else { return Ok(()) };
        Err(Error::Value {
            operation: NAME,
            tensor: self.name.to_owned(),
            expected: "finite weights".to_owned(),
            found: format!("{value} at row {row}, column {column}; {all} such weights in all"),
        })
    }
}
