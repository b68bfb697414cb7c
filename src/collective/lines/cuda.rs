//! Launches the PTX: one kernel, which is told what to do.

use super::kernels::LinesPtx;
use super::{CHECK, Lines, Runs, Work, refused};
use crate::Result;
use crate::backend::cuda::{Address, Cuda, linear, only};
use crate::element::DType;
use crate::tensor::View;

impl Lines for Cuda {
    fn copy_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        launch(self, Work::of_copy(from, to)?, from, to)
    }

    fn add_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        launch(self, Work::Add.check(from, to, &[DType::F32])?, from, to)
    }

    fn max_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        launch(self, Work::Max.check(from, to, &[DType::F32])?, from, to)
    }
}

/// Units of a piece that a lane has.
const PER_LANE: usize = 4;

fn launch(device: &Cuda, work: Work, from: &View<Cuda>, to: &View<Cuda>) -> Result<()> {
    device.check_streams(CHECK.operation, [("from", from), ("to", to)])?;
    if to.elements() == 0 {
        return Ok(());
    }
    let variant = only(CHECK.operation, LinesPtx::VARIANTS)?;
    let threads = variant.info.block[0] as usize;
    let runs = Runs::new(from, to);
    let axes = runs.three_axes().ok_or_else(|| refused(to))?;
    let word = |number: usize| u32::try_from(number).map_err(|_| refused(to));
    let neighbours = neighbours(work, &runs, from, to);
    let units = runs.length / neighbours;
    let lanes = units.checked_next_power_of_two().map_or(threads, |lanes| lanes.min(threads));
    let pieces = units.div_ceil(PER_LANE * lanes);
    let blocks = (runs.count() as u64).div_ceil((threads / lanes) as u64) * pieces as u64;
    let bytes = [from, to].map(|view| view.dtype().bytes());
    let stride = |axis: usize, tensor: usize| (axes[axis].1[tensor] * bytes[tensor]) as u64;
    let step = |tensor: usize| (runs.steps[tensor] * neighbours * bytes[tensor]) as u64;
    LinesPtx {
        from: Address::of(from),
        to: Address::of(to),
        from_stride0: stride(0, 0),
        from_stride1: stride(1, 0),
        from_stride2: stride(2, 0),
        from_step: step(0),
        to_stride0: stride(0, 1),
        to_stride1: stride(1, 1),
        to_stride2: stride(2, 1),
        to_step: step(1),
        runs: word(runs.count())?,
        length1: word(axes[1].0)?,
        length2: word(axes[2].0)?,
        units: word(units)?,
        pieces: word(pieces)?,
        lanes_shift: lanes.ilog2(),
        kind: kind(work, neighbours, to.dtype()),
    }
    .launch(device.stream(), variant, linear(CHECK.operation, device.stream(), blocks)?)
}

/// How many neighbours are taken at once: as many as lie in 16 bytes, all along all runs.
fn neighbours(work: Work, runs: &Runs, from: &View<Cuda>, to: &View<Cuda>) -> usize {
    let views = [from, to];
    let bytes = views.map(|view| view.dtype().bytes());
    let fits = |count: usize| {
        let whole = |tensor: usize| {
            let mut strides = runs.axes.iter().map(|(_, steps)| steps[tensor]);
            let address = Address::of(views[tensor]);
            address.is_multiple_of((count * bytes[tensor]) as u64)
                && strides.all(|stride| stride.is_multiple_of(count))
        };
        let side_by_side = runs.steps == [1, 1] && runs.length.is_multiple_of(count);
        count == 1 || side_by_side && whole(0) && whole(1)
    };
    let most = 16 / bytes[0];
    let counts: &[usize] = if work == Work::Copy { &[16, 8, 4, 2] } else { &[4] };
    counts.iter().copied().find(|&count| count <= most && fits(count)).unwrap_or(1)
}

/// The row of the kernel's table.
fn kind(work: Work, neighbours: usize, to: DType) -> u32 {
    let wide = u32::from(neighbours > 1);
    match work {
        Work::Copy => (neighbours * to.bytes()).ilog2(),
        Work::Add => 5 + wide,
        Work::Max => 7 + wide,
        Work::Round if to == DType::BF16 => 9 + wide,
        Work::Round => 11 + wide,
    }
}
