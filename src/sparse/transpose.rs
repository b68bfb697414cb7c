//! The transpose, by counting columns.

use super::{Csr, Offset, Value};
use crate::Result;
use crate::backend::Cpu;

impl<T: Value, O: Offset> Csr<Cpu, T, O> {
    /// The transpose. Entries of a column come in the order of their rows, repeated ones in the
    /// order in which they are stored; so the transpose of a matrix with unique columns is
    /// canonical.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
    pub fn transposed(&self) -> Result<Self> {
        let reading = self.read()?;
        let rows = reading.rows()?;
        let mut places = vec![0; self.cols + 1];
        for &col in rows.col {
            places[col as usize + 1] += 1;
        }
        for i in 0..self.cols {
            places[i + 1] += places[i];
        }
        let row_ptr = places.iter().copied().map(O::saturating).collect();
        let mut col = vec![0; rows.col.len()];
        let mut val = self.val.is_some().then(|| vec![T::ZERO; rows.col.len()]);
        for row in 0..rows.len() {
            for entry in rows.range(row) {
                let place = &mut places[rows.col[entry] as usize];
                col[*place] = row as u32;
                if let Some(val) = &mut val {
                    val[*place] = rows.value(entry);
                }
                *place += 1;
            }
        }
        Self::assemble([self.cols, self.rows], row_ptr, col, val, true, self.unique)
    }
}
