//! Memory that suits vectors: numbers in whole cache lines, and elements of views.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

use crate::Result;
use crate::check::Check;
use crate::element::Element;

/// Numbers from the start of a cache line on, so that no vector of them lies across two lines.
#[derive(Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Numbers in a cache line.
const LINE: usize = 16;

impl Aligned {
    /// No numbers.
    pub const EMPTY: Self = Self { lines: Vec::new(), length: 0 };

    /// Makes it `length` zeros.
    pub fn reset(&mut self, length: usize) {
        self.lines.clear();
        self.lines.resize(length.div_ceil(LINE), Line::zeroed());
        self.length = length;
    }

    /// Makes it `length` numbers; what they are is not defined.
    pub fn resize(&mut self, length: usize) {
        self.lines.resize(length.div_ceil(LINE), Line::zeroed());
        self.length = length;
    }
}

impl Deref for Aligned {
    type Target = [f32];
    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl DerefMut for Aligned {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}

/// The elements that a view's bytes hold.
pub(crate) fn elements<'a, T: Element>(
    check: Check,
    name: &str,
    bytes: &'a [u8],
) -> Result<&'a [T]> {
    bytemuck::try_cast_slice(bytes)
        .map_err(|_| check.misaligned(name, T::DTYPE, bytes.as_ptr() as usize))
}

/// The same for writing.
pub(crate) fn elements_mut<'a, T: Element>(
    check: Check,
    name: &str,
    bytes: &'a mut [u8],
) -> Result<&'a mut [T]> {
    let start = bytes.as_ptr();
    bytemuck::try_cast_slice_mut(bytes)
        .map_err(|_| check.misaligned(name, T::DTYPE, start as usize))
}
