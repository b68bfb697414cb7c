//! Where the tensors of a case lie: each by itself, or all in one buffer with guards around.

use std::ops::Range;

use crate::backend::{Backend, Cpu, Named};
use crate::element::DType;
use crate::tensor::{View, positions};
use crate::{Error, Result};

/// What guard bytes hold.
const GUARD: u8 = 0xA5;

/// Guard elements before and after each tensor: an odd number, so that no tensor is aligned to
/// more than its elements.
const GUARD_ELEMENTS: usize = 67;

/// Tensors that lie in one buffer, with guards between them.
#[derive(Debug)]
pub struct OneBuffer<B: Backend> {
    /// The inputs, under their names.
    pub inputs: Named<B>,
    /// The outputs, under their names.
    pub outputs: Named<B>,
    /// The whole buffer.
    whole: View<B>,
    before: Vec<u8>,
    /// The bytes of elements that the call may write.
    written: Vec<Range<usize>>,
}

/// An output to be placed: its name, type and shape.
pub type Output = (&'static str, DType, Vec<usize>);

impl<B: Backend> OneBuffer<B> {
    /// Lays out copies of the inputs, and room for the outputs, in one buffer of the backend.
    /// The tensors named in `strided` get gaps between their lines, so that strides matter. A name
    /// that is both an input's and an output's is one tensor, which the call changes in place.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    pub fn new(
        backend: &B,
        inputs: &Named<Cpu>,
        outputs: &[Output],
        strided: &[&str],
    ) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut place = |name: &str, dtype: DType, shape: &[usize]| {
            let strides = strides(shape, strided.contains(&name));
            let offset = reserve(&mut bytes, dtype, shape, &strides);
            Place { name: name.to_owned(), dtype, shape: shape.to_vec(), strides, offset }
        };
        let in_place = |name: &str| outputs.iter().any(|(output, ..)| *output == name);
        let read: Vec<Place> = inputs
            .iter()
            .filter(|(name, _)| !in_place(name))
            .map(|(name, view)| place(name, view.dtype(), view.shape()))
            .collect();
        let written: Vec<Place> =
            outputs.iter().map(|(name, dtype, shape)| place(name, *dtype, shape)).collect();
        bytes.resize(bytes.len().next_multiple_of(8) + 8 * GUARD_ELEMENTS, GUARD);
        for place in read.iter().chain(&written) {
            let Some(view) = inputs.get(&place.name) else { continue };
            let elements = view.to_bytes()?;
            let elements = elements.chunks_exact(view.dtype().bytes());
            for (range, element) in place.elements().zip(elements) {
                bytes[range].copy_from_slice(element);
            }
        }
        let whole = View::from_bytes(backend, DType::U8, &bytes, &[bytes.len()])?;
        let views = |places: &[Place]| -> Result<Named<B>> {
            places.iter().map(|place| Ok((place.name.clone(), place.view(&whole)?))).collect()
        };
        Ok(Self {
            inputs: views(&read)?,
            outputs: views(&written)?,
            written: written.iter().flat_map(Place::elements).collect(),
            before: bytes,
            whole,
        })
    }

    /// Every byte that the call must not write is as it was.
    ///
    /// # Errors
    ///
    /// The device's refusal to download, or [`Error::Value`] with the first byte that changed.
    pub fn check_guards(&self) -> Result<()> {
        let after = self.whole.to_bytes()?;
        let mut before = self.before.clone();
        for range in &self.written {
            before[range.clone()].copy_from_slice(&after[range.clone()]);
        }
        match before.iter().zip(&after).position(|(before, after)| before != after) {
            None => Ok(()),
            Some(at) => Err(Error::Value {
                operation: "verify",
                tensor: "guard zone or input".to_owned(),
                expected: format!("byte {at} of the buffer unchanged, {:#04x}", before[at]),
                found: format!("{:#04x}", after[at]),
            }),
        }
    }
}

/// Where a tensor goes.
struct Place {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Of the first element, in bytes.
    offset: usize,
}

impl Place {
    /// The bytes of each element, in order.
    fn elements(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let size = self.dtype.bytes();
        positions(&self.shape, &self.strides).map(move |position| {
            let start = self.offset + position * size;
            start..start + size
        })
    }

    fn view<B: Backend>(&self, whole: &View<B>) -> Result<View<B>> {
        let (backend, buffer) = (whole.backend(), whole.buffer().clone());
        let offset = self.offset as u64;
        View::from_buffer(backend, buffer, self.dtype, offset, &self.shape, &self.strides)
    }
}

/// The strides of a tensor, with or without a gap of three elements after each line.
fn strides(shape: &[usize], gaps: bool) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for axis in (0..shape.len()).rev() {
        strides[axis] = stride;
        stride *= shape[axis].max(1);
        if gaps && axis + 1 == shape.len() {
            stride += 3;
        }
    }
    strides
}

/// Makes room for a tensor behind a guard; returns where its first element goes.
fn reserve(bytes: &mut Vec<u8>, dtype: DType, shape: &[usize], strides: &[usize]) -> usize {
    let size = dtype.bytes();
    let offset = bytes.len().next_multiple_of(size) + GUARD_ELEMENTS * size;
    let span = crate::shape::span(shape, strides).unwrap_or(0);
    bytes.resize(offset + span * size, GUARD);
    offset
}
