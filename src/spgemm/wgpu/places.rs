//! Where the arrays of a call lie.

use super::super::gpu::Matrices;
use super::{Call, check_binding};
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu, WgpuBuffer};
use crate::sparse::{Csr, Offset, Value};
use crate::spgemm::NAME;
use crate::tensor::View;

/// Bytes before and behind a range that its binding may hold besides: it begins at a boundary of
/// up to 256 bytes and ends at a whole word.
pub(super) const SLACK: u64 = 256 + 4;

/// Columns and values of B, and those of C0 behind them.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    col: WgpuBuffer,
    val: WgpuBuffer,
}

impl Joined {
    /// Room for both; none where there is no C0.
    pub fn of<T: Value, O: Offset>(
        device: &Wgpu,
        matrices: &Matrices<'_, Wgpu, T, O>,
    ) -> Result<Option<Self>> {
        let Some(c0) = &matrices.c0 else { return Ok(None) };
        let bytes = 4 * (matrices.b.nnz() + c0.nnz()) as u64;
        check_binding(device, "the columns of B and C0", bytes)?;
        Ok(Some(Self { col: device.allocate(bytes)?, val: device.allocate(bytes)? }))
    }
}

/// The arrays can be bound.
pub(super) fn check<T: Value, O: Offset>(
    device: &Wgpu,
    matrices: &Matrices<'_, Wgpu, T, O>,
) -> Result<()> {
    let Matrices { a, b, c0, mask } = matrices;
    let all =
        [("A", Some(*a)), ("B", Some(&**b)), ("C0", c0.as_deref()), ("mask", mask.as_deref())];
    for (name, matrix) in all {
        let Some(matrix) = matrix else { continue };
        let val = matrix.val().map(|val| ("values", &**val));
        let places = [("row pointers", &**matrix.row_ptr()), ("columns", &**matrix.col())];
        for (part, view) in places.into_iter().chain(val) {
            view.buffer().check_usages(NAME, &format!("{part} of {name}"))?;
            let range = view.byte_range();
            check_binding(device, &format!("{part} of {name}"), range.end - range.start)?;
        }
    }
    Ok(())
}

impl<T: Value, O: Offset> Call<'_, T, O> {
    /// A tensor; where it is absent or empty, something that no kernel reads.
    pub fn place<'v>(&'v self, view: Option<&'v View<Wgpu>>) -> Placed<'v> {
        match view.filter(|view| view.elements() > 0) {
            Some(view) => Placed::of(self.device, view),
            None => Placed { slice: self.rows(), at: 0 },
        }
    }

    pub fn row_ptr<'v>(&'v self, matrix: Option<&'v Csr<Wgpu, T, O>>) -> Placed<'v> {
        self.place(matrix.map(|matrix| &**matrix.row_ptr()))
    }

    pub fn col<'v>(&'v self, matrix: Option<&'v Csr<Wgpu, T, O>>) -> Placed<'v> {
        self.place(matrix.map(|matrix| &**matrix.col()))
    }

    pub fn val<'v>(&'v self, matrix: Option<&'v Csr<Wgpu, T, O>>) -> Placed<'v> {
        self.place(matrix.and_then(|matrix| matrix.val()).map(|val| &**val))
    }

    /// The columns of what is multiplied or added.
    pub fn b_col(&self) -> Placed<'_> {
        match &self.rows.joined {
            Some(joined) => Placed { slice: Slice::whole(&joined.col), at: 0 },
            None => self.col(Some(&self.matrices.b)),
        }
    }

    /// The values of what is multiplied or added.
    pub fn b_val(&self) -> Placed<'_> {
        match &self.rows.joined {
            Some(joined) => Placed { slice: Slice::whole(&joined.val), at: 0 },
            None => self.val(Some(&self.matrices.b)),
        }
    }

    pub fn mask_col(&self) -> Placed<'_> {
        self.col(self.matrices.mask.as_deref())
    }

    /// Copies B and C0 one behind the other. Their values are words: truth values have no C0.
    pub fn join(&self, recorder: &mut Recorder<'_>) {
        let (Some(joined), Some(c0)) = (&self.rows.joined, &self.matrices.c0) else { return };
        let b = &self.matrices.b;
        let split = 4 * b.nnz() as u64;
        for (matrix, first) in [(b, 0), (c0, split)] {
            let target = first..first + 4 * matrix.nnz() as u64;
            let mut copy = |view: &View<Wgpu>, to: &WgpuBuffer| {
                let source = Slice::new(view.buffer(), view.byte_range());
                recorder.copy(source, Slice::new(to, target.clone()));
            };
            copy(matrix.col(), &joined.col);
            matrix.val().into_iter().for_each(|val| copy(val, &joined.val));
        }
    }
}
