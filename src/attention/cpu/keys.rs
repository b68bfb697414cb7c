//! Keys and values in the forms in which products take them.

use std::ops::Range;

use rayon::prelude::*;

use super::tensors::{PANEL, Place, Source, padded};
use crate::attention::plan::CPU_KEYS;
use crate::backend::cpu::aligned::Aligned;
use crate::element::DeviceFloat;

/// How tokens lie for a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line each.
    Lines,
    /// Side by side in panels, a line for each feature.
    Panels,
}

/// Tokens of all heads, ready for products: brought into their form once for all tasks, or by each
/// task where no other would use them.
pub(super) struct Packed<'a, T> {
    source: Source<'a, T>,
    form: Form,
    shared: Option<Shared>,
}

struct Shared {
    values: Aligned,
    heads: usize,
    /// Numbers of a head.
    length: usize,
}

impl<'a, T: DeviceFloat> Packed<'a, T> {
    /// Tokens of a tensor of so many batch entries, heads and tokens.
    pub fn new(
        source: Source<'a, T>,
        form: Form,
        [batch, heads, tokens]: [usize; 3],
        share: bool,
    ) -> Self {
        let mut packed = Self { source, form, shared: None };
        if !share || batch * heads * tokens == 0 {
            return packed;
        }
        let tile = CPU_KEYS * packed.line();
        let length = tokens.div_ceil(CPU_KEYS) * tile;
        let mut values = Aligned::default();
        values.resize(batch * heads * length);
        values.par_chunks_exact_mut(tile).enumerate().for_each(|(i, to)| {
            let tiles = length / tile;
            let (place, first) = ([i / tiles / heads, i / tiles % heads], i % tiles * CPU_KEYS);
            packed.fill(place, first..(first + CPU_KEYS).min(tokens), to);
        });
        packed.shared = Some(Shared { values, heads, length });
        packed
    }

    /// Numbers that a token takes.
    fn line(&self) -> usize {
        match self.form {
            Form::Lines => padded(self.source.width()),
            Form::Panels => self.source.width(),
        }
    }

    fn fill(&self, place: Place, tokens: Range<usize>, to: &mut [f32]) {
        match self.form {
            Form::Lines => self.source.lines(place, tokens, to),
            Form::Panels => self.source.panels(place, tokens, to),
        }
    }

    /// Some tokens of a tile, from a multiple of [`PANEL`] on.
    pub fn tokens<'s>(
        &'s self,
        place: Place,
        tokens: Range<usize>,
        scratch: &'s mut Aligned,
    ) -> &'s [f32] {
        let line = self.line();
        let length = tokens.len().next_multiple_of(PANEL) * line;
        match &self.shared {
            Some(Shared { values, heads, length: of_head }) => {
                let first = (place[0] * heads + place[1]) * of_head + tokens.start * line;
                &values[first..][..length]
            }
            None => {
                scratch.resize(length);
                self.fill(place, tokens, scratch);
                scratch
            }
        }
    }
}
