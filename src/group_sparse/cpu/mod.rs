//! The CPU: reads groups as files hold them.

mod product;

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::format::{Coding, Matrix, Parts, Pattern, ScaleScope};
use super::{GroupSparse, NAME, Options, Plan, Problem, Product, Weights, plan, reference};
use crate::Result;
use crate::backend::{Backend, Cpu};
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::tensor::View;

const VARIANT: &str = "group_sparse_cpu";
const DECOMPRESS: &str = "group_sparse_decompress_cpu";

pub(crate) const CPU_VARIANTS: [CpuVariant; 2] = [
    CpuVariant {
        operation: NAME,
        pass: "product",
        elements: &[DType::F32, DType::BF16, DType::F16, DType::F64],
        layout: "",
        name: VARIANT,
    },
    CpuVariant {
        operation: NAME,
        pass: "decompress",
        elements: &[DType::F32, DType::BF16, DType::F16],
        layout: "",
        name: DECOMPRESS,
    },
];

impl GroupSparse for Cpu {
    type Held = Arc<Held>;
    type Kept = ();

    fn hold(&self, matrix: &Matrix) -> Result<Arc<Held>> {
        Ok(Arc::new(Held::new(matrix)))
    }

    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cpu(VARIANT, &self.name(), problem, options)
    }

    fn prepare(&self, _problem: &Problem, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch(
        &self,
        product: &Product<Self>,
        x: &View<Self>,
        bias: Option<&View<Self>>,
        y: &View<Self>,
    ) -> Result<()> {
        let held = product.weights().held();
        let matrix = &held.matrix;
        let bias = bias.map(View::to_f64).transpose()?;
        if x.dtype() == DType::F64 {
            return y.write_f64(&reference::forward(matrix, &x.to_f64()?, bias.as_deref()).y);
        }
        let x: Vec<f32> = x.to_f64()?.into_iter().map(|x| x as f32).collect();
        let sums = product::sums(held, product.plan(), &x);
        let rows = matrix.format().rows;
        let bias = bias.unwrap_or_else(|| vec![0.0; rows]);
        let y_of = |(i, sum): (usize, f32)| f64::from(sum + bias[i % rows] as f32);
        y.write_f64(&sums.into_iter().enumerate().map(y_of).collect::<Vec<_>>())
    }

    fn launch_decompress(
        &self,
        weights: &Weights<Self>,
        rows: Range<usize>,
        dense: &View<Self>,
    ) -> Result<()> {
        match dense.dtype() {
            DType::F16 => decompress::<half::f16>(&weights.held().matrix, rows, dense),
            DType::BF16 => decompress::<half::bf16>(&weights.held().matrix, rows, dense),
            _ => decompress::<f32>(&weights.held().matrix, rows, dense),
        }
    }
}

/// A matrix as the CPU wants it: what files hold once for a row is repeated for each of its groups.
#[derive(Debug)]
pub struct Held {
    matrix: Matrix,
    /// (column groups), of dense matrices: 0, 1, ...
    all: Vec<u32>,
    /// In f32: a conversion for each group would cost as much as its products.
    scales: Vec<f32>,
    /// Of `asym` only.
    zeros: Vec<u8>,
    /// Of `affine` only.
    offsets: Option<Vec<f32>>,
}

impl Held {
    fn new(matrix: &Matrix) -> Self {
        let Parts { format, scales, zeros, offsets, .. } = matrix.parts();
        let all = if format.pattern == Pattern::Dense { format.column_groups() } else { 0 };
        Self {
            all: (0..all as u32).collect(),
            scales: of_groups(matrix, scales.iter().collect()),
            zeros: of_groups(matrix, zeros.clone()),
            offsets: offsets.as_ref().map(|offsets| of_groups(matrix, offsets.iter().collect())),
            matrix: matrix.clone(),
        }
    }

    /// The column groups of some of a row's groups.
    fn columns(&self, row: usize, kept: Range<usize>) -> &[u32] {
        let Parts { format, col_idx, .. } = self.matrix.parts();
        if format.pattern != Pattern::Dense {
            return &col_idx[kept];
        }
        let first = row * format.column_groups();
        &self.all[kept.start - first..kept.end - first]
    }
}

/// A value for each group, of values for each group or each row, or of none.
fn of_groups<T: Copy>(matrix: &Matrix, values: Vec<T>) -> Vec<T> {
    if matrix.format().scope == ScaleScope::Group {
        return values;
    }
    let rows = values.into_iter().enumerate();
    rows.flat_map(|(row, value)| std::iter::repeat_n(value, matrix.row(row).len())).collect()
}

/// Decodes rows, a task each.
fn decompress<T: DeviceFloat>(
    matrix: &Matrix,
    rows: Range<usize>,
    dense: &View<Cpu>,
) -> Result<()> {
    // A single row may have any stride.
    let stride = dense.strides()[0].max(matrix.format().columns);
    let mut bytes = dense.write()?;
    let elements: &mut [T] = bytemuck::cast_slice_mut(&mut bytes);
    elements.par_chunks_mut(stride).zip(rows).for_each(|(to, row)| {
        let mut decoded = vec![0.0; matrix.format().columns];
        decode_row(matrix, row, &mut decoded);
        T::narrow(&decoded, &mut to[..matrix.format().columns]);
    });
    Ok(())
}

/// A row, with its outliers, in f32.
fn decode_row(matrix: &Matrix, row: usize, to: &mut [f32]) {
    for kept in matrix.row(row) {
        let coding: Coding = matrix.coding(row, kept);
        let columns = matrix.format().group_columns(matrix.column_group(kept));
        for (j, column) in columns.enumerate() {
            to[matrix.input(column)] = coding.decode(matrix.code(kept, j));
        }
    }
    for (column, value) in matrix.outliers(row) {
        to[matrix.input(column)] += value;
    }
}
