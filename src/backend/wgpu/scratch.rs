//! Small tensors on their way to the kernels: copied, widened to f32, or turned into codes.

use super::{Recorder, Slice, Wgpu, WgpuBuffer, folded};
use crate::backend::kernel::common::{CodesWgsl, CodesWgslParams, WidenWgsl, WidenWgslParams};
use crate::backend::{Backend, Buffer};
use crate::element::DType;
use crate::{Error, Result};

/// Where a small tensor lies when the kernels run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Home<'a> {
    /// Nowhere; no kernel reads it.
    Absent,
    /// Where the caller has put it.
    Tensor(Slice<'a>),
    /// In the scratch buffer, from this word on.
    Scratch(u32),
}

/// The scratch buffer while it is laid out: how long it gets, and what goes into it.
pub(crate) struct Scratch<'a> {
    operation: &'static str,
    words: u64,
    jobs: Vec<(Job<'a>, u32)>,
}

/// How a piece of scratch is filled.
enum Job<'a> {
    Copy(Slice<'a>),
    Widen { source: Slice<'a>, dtype: DType, count: u32 },
    Codes { source: Slice<'a>, codes: Codes },
}

/// What separates documents, as it lies in the caller's tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes {
    pub mode: Mode,
    pub dtype: DType,
    pub count: u32,
    pub steps: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Flags = 0,
    SeqIdx = 1,
    Bounds = 2,
}

impl<'a> Scratch<'a> {
    pub(crate) fn new(operation: &'static str) -> Self {
        Self { operation, words: 0, jobs: Vec::new() }
    }

    /// Room for `words` words; the first one's index.
    pub(crate) fn reserve(&mut self, device: &Wgpu, words: u64) -> Result<u32> {
        let first = self.words;
        self.words = first.saturating_add(words);
        let most = device.limits().binding_bytes / 4;
        match u32::try_from(first) {
            Ok(word) if self.words <= most => Ok(word),
            _ => Err(Error::Unsupported {
                operation: self.operation,
                backend: device.name(),
                what: format!(
                    "states and parameters of {} bytes for one row, {} are most",
                    4 * self.words,
                    4 * most
                ),
                instead: "split the channels or the sequences, or use `cpu`".to_owned(),
            }),
        }
    }

    /// A parameter, as f32: where it lies, unless it has to be `moved` or widened.
    pub(crate) fn parameter(
        &mut self,
        device: &Wgpu,
        source: Slice<'a>,
        dtype: DType,
        moved: bool,
    ) -> Result<Home<'a>> {
        let count = source.bytes() / dtype.bytes() as u64;
        if count == 0 {
            return Ok(Home::Absent);
        }
        if dtype == DType::F32 && !moved {
            return Ok(Home::Tensor(source));
        }
        let word = self.reserve(device, count)?;
        let job = match dtype {
            DType::F32 => Job::Copy(source),
            // `reserve` has checked that the words fit in a binding, hence in 32 bits.
            _ => Job::Widen { source, dtype, count: count as u32 },
        };
        self.jobs.push((job, word));
        Ok(Home::Scratch(word))
    }

    /// Words as they are; the first one's index.
    pub(crate) fn words(&mut self, device: &Wgpu, source: Slice<'a>) -> Result<u32> {
        let word = self.reserve(device, source.bytes() / 4)?;
        if source.bytes() > 0 {
            self.jobs.push((Job::Copy(source), word));
        }
        Ok(word)
    }

    /// Codes or bounds, one word each.
    pub(crate) fn codes(
        &mut self,
        device: &Wgpu,
        source: Slice<'a>,
        codes: Codes,
    ) -> Result<Home<'a>> {
        if codes.count == 0 {
            return Ok(Home::Absent);
        }
        let word = self.reserve(device, u64::from(codes.count))?;
        self.jobs.push((Job::Codes { source, codes }, word));
        Ok(Home::Scratch(word))
    }

    /// Makes the buffer and records how it is filled: the copies first, so that all dispatches
    /// of the operation share one pass.
    pub(crate) fn fill(self, device: &Wgpu, recorder: &mut Recorder<'_>) -> Result<WgpuBuffer> {
        let scratch = device.allocate(4 * self.words)?;
        let target = Slice::new(&scratch, 0..scratch.bytes());
        for (job, word) in &self.jobs {
            if let Job::Copy(source) = job {
                let first = 4 * u64::from(*word);
                recorder.copy(*source, Slice::new(&scratch, first..first + source.bytes()));
            }
        }
        for (job, word) in &self.jobs {
            match *job {
                Job::Copy(_) => {}
                Job::Widen { source, dtype, count } => {
                    let element = Some(dtype.name());
                    let variant = WidenWgsl::VARIANTS
                        .iter()
                        .find(|one| one.info.parameter("element") == element)
                        .ok_or_else(|| {
                            refused(self.operation, device, format!("parameters of {dtype}"))
                        })?;
                    let skipped = source.skipped(device) / dtype.bytes() as u64;
                    let params =
                        WidenWgslParams { count, source_at: skipped as u32, target_at: *word };
                    WidenWgsl { params, source, target_words: target }.record(
                        recorder,
                        variant,
                        workgroups(self.operation, device, count, variant.info.block[0])?,
                    )?;
                }
                Job::Codes { source, codes } => {
                    let variant = &CodesWgsl::VARIANTS[0];
                    let params = CodesWgslParams {
                        count: codes.count,
                        steps: codes.steps,
                        mode: codes.mode as u32,
                        bytes: codes.dtype.bytes() as u32,
                        is_signed: u32::from(matches!(codes.dtype, DType::I32 | DType::I64)),
                        source_at: source.skipped(device) as u32,
                        target_at: *word,
                    };
                    CodesWgsl { params, source, target_words: target }.record(
                        recorder,
                        variant,
                        workgroups(self.operation, device, codes.count, variant.info.block[0])?,
                    )?;
                }
            }
        }
        Ok(scratch)
    }
}

/// The grid of a kernel with one invocation per element.
pub(crate) fn workgroups(
    operation: &'static str,
    device: &Wgpu,
    count: u32,
    block: u32,
) -> Result<[u32; 3]> {
    folded(u64::from(count.div_ceil(block)), device.limits().grid)
        .ok_or_else(|| refused(operation, device, format!("{count} elements in one dispatch")))
}

pub(crate) fn refused(operation: &'static str, device: &Wgpu, what: String) -> Error {
    Error::Unsupported {
        operation,
        backend: device.name(),
        what,
        instead: "split the batch, or use `cpu`".to_owned(),
    }
}
