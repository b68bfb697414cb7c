//! Numbers for the places of matrices.

use super::Kept;
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu};
use crate::sparse::{Csr, Offset, Value};
use crate::spgemm::kernels::{PrintWgsl, PrintWgslParams};
use crate::spgemm::{NAME, Planned};
use crate::tensor::View;

/// Workgroups that read an array side by side, at the most.
const RESIDENT: u64 = 1024;

impl<O: Offset> Planned<O> for Wgpu {
    /// What has been counted; none where there is nothing to multiply.
    type Kept = Option<Kept<O>>;

    fn prints<T: Value>(
        &self,
        matrices: [Option<&Csr<Self, T, O>>; 4],
    ) -> Result<[Option<u64>; 4]> {
        let sums = self.upload(&[0; 32])?;
        let mut encoder = self.device().create_command_encoder(&Default::default());
        let mut recorder = Recorder::new(self, &mut encoder);
        for (at, matrix) in (0..).step_by(2).zip(matrices) {
            let Some(matrix) = matrix else { continue };
            print(&mut recorder, self, matrix.row_ptr(), Slice::whole(&sums), at)?;
            print(&mut recorder, self, matrix.col(), Slice::whole(&sums), at)?;
        }
        drop(recorder);
        self.submit(encoder)?;
        let mut found = [0_u64; 4];
        self.download(&sums, 0, bytemuck::cast_slice_mut(&mut found))?;
        let mut found = found.into_iter();
        Ok(matrices.map(|matrix| found.next().filter(|_| matrix.is_some())))
    }
}

/// Adds the number of an array to the sums at `at`.
fn print(
    recorder: &mut Recorder<'_>,
    device: &Wgpu,
    view: &View<Wgpu>,
    sums: Slice<'_>,
    at: u32,
) -> Result<()> {
    if view.elements() == 0 {
        return Ok(());
    }
    view.buffer().check_usages(NAME, "places of a matrix")?;
    let (kernel, words) = (&PrintWgsl::VARIANTS[0], Placed::of(device, view));
    // No array of more words fits into a binding.
    let count = (words.slice.bytes() / 4) as u32;
    let workgroups = u64::from(count).div_ceil(u64::from(kernel.info.block[0])).min(RESIDENT);
    let params = PrintWgslParams { count, words_at: words.at, at };
    PrintWgsl { params, words: words.slice, sums }.record(
        recorder,
        kernel,
        [workgroups as u32, 1, 1],
    )
}
