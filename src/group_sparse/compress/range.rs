//! The scale of elements that share one, and their zero or offset.
//!
//! ```text
//! sym      s = -v / 2^(b-1)           v the first of the largest magnitude; it gets code 0
//!          s = |v| / (2^(b-1) - 1)    restricted: codes from 1
//! asym     s = (hi - lo) / (2^b - 1)  lo = min(0, w), hi = max(0, w);  z = clamp(rint(-lo / s))
//! affine   s = (hi - lo) / (2^b - 1)  lo = min w, hi = max w;          m = lo
//! ```

use super::lanes::{Elements, Line};
use super::options::{Options, Range};
use super::storage::Storage;
use super::{adam, search};
use crate::group_sparse::format::Mode;

/// How scales are found, for all of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Ranges {
    pub mode: Mode,
    bits: u32,
    restricted: bool,
    range: Range,
    pub storage: Storage,
}

/// The least and the largest element, and the first of the largest magnitude.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    low: f32,
    high: f32,
    largest: f32,
}

impl Ends {
    pub fn of(values: &[f32]) -> Self {
        let Some(&first) = values.first() else {
            return Self { low: 0.0, high: 0.0, largest: 0.0 };
        };
        let low = values.iter().fold(first, |a, &w| if w < a { w } else { a });
        let high = values.iter().fold(first, |a, &w| if w > a { w } else { a });
        let largest = if -low == high {
            values.iter().copied().find(|w| w.abs() == high).unwrap_or(high)
        } else if -low > high {
            low
        } else {
            high
        };
        Self { low, high, largest }
    }

    pub fn is_zero(&self) -> bool {
        self.low == 0.0 && self.high == 0.0
    }
}

/// Scale and offset before they are rounded.
#[derive(Clone, Copy)]
struct Raw {
    scale: f32,
    offset: f32,
}

/// How the elements' codes become numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    pub line: Line,
    /// What is added to c for the code q.
    pub zero: u8,
}

/// What to do with elements of these ends.
enum Kind {
    /// All are 0, or their scale would be below what f32 holds.
    Zero,
    /// All are one number, or too near for a scale.
    Constant,
    Spread(Raw),
}

impl Ranges {
    pub fn new(options: &Options, storage: Storage) -> Self {
        Self {
            mode: options.mode,
            bits: options.bits,
            restricted: options.sym_restricted,
            range: options.range,
            storage,
        }
    }

    /// Whether elements of these ends count as all zero.
    pub fn counts_as_zero(&self, ends: Ends) -> bool {
        matches!(self.kind(ends), Kind::Zero)
    }

    /// Whether they do although they are not.
    pub fn underflows(&self, ends: Ends) -> bool {
        !ends.is_zero() && self.counts_as_zero(ends)
    }

    /// The first of scale and offset that the storage does not hold, before rounding.
    pub fn beyond_storage(&self, ends: Ends) -> Option<f32> {
        match self.kind(ends) {
            Kind::Zero => None,
            // The offset is all there is: it shall keep its bits.
            Kind::Constant => (!self.storage.holds(ends.low)).then_some(ends.low),
            Kind::Spread(Raw { scale, .. }) if !self.storage.holds(scale) => Some(scale),
            Kind::Spread(Raw { offset, .. }) => (!self.storage.reaches(offset)).then_some(offset),
        }
    }

    /// The fit of the elements; their ends are within the storage.
    pub fn fit(&self, elements: &Elements) -> Fit {
        let ends = Ends::of(elements.values());
        let raw = match self.kind(ends) {
            Kind::Zero => return self.zero_fit(),
            Kind::Constant => return self.constant_fit(ends.low),
            Kind::Spread(raw) => raw,
        };
        let start = self.rounded(raw, self.zero_of(ends, 1.0, raw));
        match self.range {
            Range::Rtn => start,
            Range::Search => search::search(self, elements, ends, start),
            Range::Adam => adam::adam(self, elements, start, raw.scale),
        }
    }

    /// The fit with both ends (of `sym`: the scale) times a factor, where it can be stored.
    #[inline(always)]
    pub fn shrunk(&self, ends: Ends, factor: f64) -> Option<Fit> {
        let raw = self.raw(ends, factor);
        self.is_usable(raw).then(|| self.rounded(raw, self.zero_of(ends, factor, raw)))
    }

    /// The same codes' fit with another scale and offset, where it can be stored.
    pub fn refitted(&self, fit: Fit, scale: f64, offset: f64) -> Option<Fit> {
        let raw = Raw { scale: scale as f32, offset: offset as f32 };
        self.is_usable(raw).then(|| self.rounded(raw, fit.zero))
    }

    fn is_usable(&self, raw: Raw) -> bool {
        raw.scale.is_normal() && self.storage.holds(raw.scale) && self.storage.reaches(raw.offset)
    }

    fn kind(&self, ends: Ends) -> Kind {
        let raw = self.raw(ends, 1.0);
        match self.mode {
            _ if ends.is_zero() => Kind::Zero,
            Mode::Affine if raw.scale < f32::MIN_POSITIVE => Kind::Constant,
            _ if raw.scale.abs() < f32::MIN_POSITIVE => Kind::Zero,
            _ => Kind::Spread(raw),
        }
    }

    #[inline(always)]
    fn raw(&self, ends: Ends, factor: f64) -> Raw {
        let half = f64::from(1u32 << (self.bits - 1));
        let span = |low: f64, high: f64| ((high - low) / (2.0 * half - 1.0)) as f32;
        let (low, high) = (factor * f64::from(ends.low), factor * f64::from(ends.high));
        let largest = factor * f64::from(ends.largest);
        match self.mode {
            Mode::Sym if self.restricted => {
                Raw { scale: (largest.abs() / (half - 1.0)) as f32, offset: 0.0 }
            }
            Mode::Sym => Raw { scale: (-largest / half) as f32, offset: 0.0 },
            Mode::Asym => Raw { scale: span(low.min(0.0), high.max(0.0)), offset: 0.0 },
            Mode::Affine => Raw { scale: span(low, high), offset: low as f32 },
        }
    }

    #[inline(always)]
    fn zero_of(&self, ends: Ends, factor: f64, raw: Raw) -> u8 {
        match self.mode {
            Mode::Sym => 1 << (self.bits - 1),
            Mode::Asym => {
                let low = (factor * f64::from(ends.low.min(0.0))) as f32;
                let scale = self.storage.round(raw.scale);
                let codes = Line { scale, offset: 0.0, low: 0.0, high: self.largest_code() };
                codes.nearest(-low) as u8
            }
            Mode::Affine => 0,
        }
    }

    #[inline(always)]
    fn rounded(&self, raw: Raw, zero: u8) -> Fit {
        let scale = self.storage.round(raw.scale);
        self.with_codes(scale, self.storage.round(raw.offset), zero)
    }

    #[inline(always)]
    fn with_codes(&self, scale: f32, offset: f32, zero: u8) -> Fit {
        let least = if self.restricted { 1.0 } else { 0.0 };
        let zero_code = f32::from(zero);
        let (low, high) = (least - zero_code, self.largest_code() - zero_code);
        Fit { line: Line { scale, offset, low, high }, zero }
    }

    fn largest_code(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// Of elements that are all zero: s = 1 and the zero code.
    pub fn zero_fit(&self) -> Fit {
        let zero = if self.mode == Mode::Sym { 1 << (self.bits - 1) } else { 0 };
        self.with_codes(1.0, 0.0, zero)
    }

    /// s = 1, q = 0, m = c.
    fn constant_fit(&self, value: f32) -> Fit {
        let line = Line { scale: 1.0, offset: self.storage.round(value), low: 0.0, high: 0.0 };
        Fit { line, zero: 0 }
    }
}
