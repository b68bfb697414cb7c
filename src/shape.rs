//! Shapes and strides of up to six axes, without an allocation.

use std::fmt;
use std::ops::Deref;

/// The most axes that a tensor may have.
pub const MAX_RANK: usize = 6;

/// The lengths of a tensor's axes, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    lengths: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape with these axis lengths; `None` where there are more than [`MAX_RANK`],
    /// or where the number of elements does not fit in an `isize`.
    pub fn new(lengths: &[usize]) -> Option<Self> {
        if lengths.len() > MAX_RANK {
            return None;
        }
        lengths
            .iter()
            .try_fold(1usize, |product, &length| product.checked_mul(length.max(1)))
            .filter(|&product| product <= isize::MAX as usize)?;
        let mut padded = [0; MAX_RANK];
        padded[..lengths.len()].copy_from_slice(lengths);
        Some(Self { lengths: padded, rank: lengths.len() })
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The strides, in elements, of a tensor without gaps whose last axis is the fastest.
    pub fn contiguous_strides(&self) -> Strides {
        let mut strides = [0; MAX_RANK];
        let mut stride = 1usize;
        for axis in (0..self.rank).rev() {
            strides[axis] = stride;
            stride *= self.lengths[axis].max(1);
        }
        Strides { steps: strides, rank: self.rank }
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.lengths[..self.rank]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, self)
    }
}

/// The distances between neighbours along each axis, in elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Strides {
    steps: [usize; MAX_RANK],
    rank: usize,
}

impl Strides {
    /// Strides of these steps; `None` where there are more than [`MAX_RANK`].
    pub fn new(steps: &[usize]) -> Option<Self> {
        if steps.len() > MAX_RANK {
            return None;
        }
        let mut padded = [0; MAX_RANK];
        padded[..steps.len()].copy_from_slice(steps);
        Some(Self { steps: padded, rank: steps.len() })
    }

    /// The same strides with two axes exchanged.
    pub(crate) fn swapped(mut self, first: usize, second: usize) -> Self {
        self.steps[..self.rank].swap(first, second);
        self
    }
}

impl Deref for Strides {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.steps[..self.rank]
    }
}

impl fmt::Debug for Strides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, self)
    }
}

/// Elements from the first to one past the last that a view of this shape and strides reaches;
/// `None` where that does not fit in an `isize`.
pub(crate) fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .zip(strides)
        .try_fold(1usize, |end, (&length, &stride)| {
            end.checked_add((length - 1).checked_mul(stride)?)
        })
        .filter(|&end| end <= isize::MAX as usize)
}

/// `(2, 3, 4)`: the way shapes stand in messages.
fn write_tuple(f: &mut fmt::Formatter<'_>, values: &[usize]) -> fmt::Result {
    f.write_str("(")?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{value}")?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_strides_count_from_the_last_axis() {
        let shape = Shape::new(&[2, 3, 4]).unwrap();
        assert_eq!(*shape.contiguous_strides(), [12, 4, 1]);
        assert_eq!(shape.elements(), 24);
        assert_eq!(shape.to_string(), "(2, 3, 4)");
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(Shape::new(&[1; 7]).is_none());
        assert!(Shape::new(&[usize::MAX, 2]).is_none());
        assert!(Shape::new(&[usize::MAX, 0, 2]).is_none());
        assert_eq!(span(&[usize::MAX, 2], &[usize::MAX, 1]), None);
    }

    #[test]
    fn a_span_reaches_the_last_element() {
        assert_eq!(span(&[2, 3], &[10, 2]), Some(15));
        assert_eq!(span(&[2, 0], &[10, 2]), Some(0));
        assert_eq!(span(&[], &[]), Some(1));
    }
}
