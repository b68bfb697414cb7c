//! Dispatches the WGSL: words where elements can be taken as such, else parts of words.

use super::kernels::{LinesWgsl, LinesWgslParams};
use super::{CHECK, Lines, Runs, Work, refused};
use crate::Result;
use crate::backend::kernel::Variant;
use crate::backend::wgpu::{Placed, Recorder, Wgpu, workgroups};
use crate::element::DType;
use crate::tensor::View;

impl Lines for Wgpu {
    fn copy_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        submit(self, Work::of_copy(from, to)?, from, to)
    }

    fn add_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        submit(self, Work::Add.check(from, to, &[DType::F32])?, from, to)
    }

    fn max_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        submit(self, Work::Max.check(from, to, &[DType::F32])?, from, to)
    }
}

fn submit(device: &Wgpu, work: Work, from: &View<Wgpu>, to: &View<Wgpu>) -> Result<()> {
    for (name, view) in [("from", from), ("to", to)] {
        view.buffer().check_usages(CHECK.operation, name)?;
    }
    if to.elements() == 0 {
        return Ok(());
    }
    let label = Some("collective lines");
    let descriptor = ::wgpu::CommandEncoderDescriptor { label };
    let mut encoder = device.device().create_command_encoder(&descriptor);
    record(&mut Recorder::new(device, &mut encoder), device, work, from, to)?;
    device.submit(encoder)
}

/// What the invocations of a dispatch have: lengths and steps of four axes, and first elements, in their own units.
#[derive(Clone, Copy)]
struct Units {
    axes: [(usize, [usize; 2]); 4],
    at: [usize; 2],
    kind: &'static str,
    mode: u32,
}

impl Units {
    /// Those of each dispatch. Elements of four bytes are words.
    fn new(work: Work, runs: &Runs, to: &View<Wgpu>, at: [usize; 2]) -> Option<Vec<Self>> {
        let [a, b, c] = runs.three_axes()?;
        let axes = [a, b, c, (runs.length, runs.steps)];
        let mode = match work {
            Work::Copy | Work::Round => 0,
            Work::Add => 1,
            Work::Max => 2,
        };
        let words = Self { axes, at, kind: "words", mode };
        Some(match (work, to.dtype()) {
            (Work::Round, dtype) => vec![Self { kind: dtype.name(), ..words }.paired()],
            (_, dtype) => match dtype.bytes() {
                4 => vec![words],
                8 => words.halves().into(),
                bytes => vec![words.joined(bytes)],
            },
        })
    }

    /// Whether the lines of a tensor consist of whole groups of so many neighbours.
    fn fits(&self, tensor: usize, count: usize) -> bool {
        let [outer @ .., (length, steps)] = &self.axes;
        steps[tensor] == 1
            && length.is_multiple_of(count)
            && self.at[tensor].is_multiple_of(count)
            && outer.iter().all(|(_, strides)| strides[tensor].is_multiple_of(count))
    }

    /// The low and the high words of elements of 8 bytes.
    fn halves(mut self) -> [Self; 2] {
        for (_, steps) in &mut self.axes {
            *steps = steps.map(|step| 2 * step);
        }
        self.at = self.at.map(|at| 2 * at);
        let at = self.at.map(|at| at + 1);
        [self, Self { at, ..self }]
    }

    /// Elements of less than 4 bytes as words where whole ones lie side by side.
    fn joined(mut self, bytes: usize) -> Self {
        let count = 4 / bytes;
        if !(self.fits(0, count) && self.fits(1, count)) {
            return Self { kind: "parts", mode: 8 * bytes as u32, ..self };
        }
        let [outer @ .., (length, _)] = &mut self.axes;
        *length /= count;
        outer.iter_mut().for_each(|(_, steps)| *steps = steps.map(|step| step / count));
        self.at = self.at.map(|at| at / count);
        self
    }

    /// Two neighbours at once where they get to one word.
    fn paired(mut self) -> Self {
        if self.fits(1, 2) && self.axes[3].1 == [1, 1] {
            self.axes[3] = (self.axes[3].0 / 2, [2, 2]);
            self.mode = 1;
        }
        self
    }

    /// As the kernel takes them, where they fit.
    fn params(&self) -> Option<LinesWgslParams> {
        let word = |number: usize| u32::try_from(number).ok();
        let length = |axis: usize| word(self.axes[axis].0);
        let step = |axis: usize, tensor: usize| word(self.axes[axis].1[tensor]);
        Some(LinesWgslParams {
            count: word(self.axes.iter().map(|(length, _)| length).product())?,
            length1: length(1)?,
            length2: length(2)?,
            length3: length(3)?,
            from_at: word(self.at[0])?,
            from0: step(0, 0)?,
            from1: step(1, 0)?,
            from2: step(2, 0)?,
            from3: step(3, 0)?,
            to_at: word(self.at[1])?,
            to0: step(0, 1)?,
            to1: step(1, 1)?,
            to2: step(2, 1)?,
            to3: step(3, 1)?,
            mode: self.mode,
        })
    }
}

fn record(
    recorder: &mut Recorder<'_>,
    device: &Wgpu,
    work: Work,
    from: &View<Wgpu>,
    to: &View<Wgpu>,
) -> Result<()> {
    let (lines, result) = (Placed::of(device, from), Placed::of(device, to));
    let at = [lines.at, result.at].map(|at| at as usize);
    let refused = || refused(to);
    let all = Units::new(work, &Runs::new(from, to), to, at).ok_or_else(refused)?;
    for units in all {
        let of_kind =
            |one: &&Variant<LinesWgsl<'_>>| one.info.parameter("kind") == Some(units.kind);
        let variant = LinesWgsl::VARIANTS.iter().find(of_kind).ok_or_else(refused)?;
        let params = units.params().ok_or_else(refused)?;
        let grid = workgroups(CHECK.operation, device, params.count, variant.info.block[0])?;
        let call = LinesWgsl { params, lines: lines.slice, result: result.slice };
        call.record(recorder, variant, grid)?;
    }
    Ok(())
}
