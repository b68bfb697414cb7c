//! Writing from several tasks into one slice, each to elements of its own.

use std::marker::PhantomData;

/// A slice that several tasks write, no two of them the same element.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: `read_run` and the others leave it to the caller that no element is written by one task and
// touched by another.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T: Copy> Disjoint<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Writes one element.
    ///
    /// # Safety
    ///
    /// While this `Disjoint` or a copy of it lives, no other task touches the element `index`.
    #[inline(always)]
    pub unsafe fn write(&self, index: usize, value: T) {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: the index was checked, and the caller keeps other tasks away.
        unsafe { self.start.add(index).write(value) }
    }

    /// Copies neighbouring elements from `first` on.
    ///
    /// # Safety
    ///
    /// While this `Disjoint` or a copy of it lives, no other task writes one of the elements.
    #[inline(always)]
    pub unsafe fn read_run(&self, first: usize, to: &mut [T]) {
        assert!(to.len() <= self.length && first <= self.length - to.len());
        // SAFETY: the range was checked, and the caller keeps other tasks from writing.
        unsafe {
            self.start.add(first).copy_to_nonoverlapping(to.as_mut_ptr(), to.len());
        }
    }

    /// Writes neighbouring elements from `first` on.
    ///
    /// # Safety
    ///
    /// As [`write`](Self::write), for each of the elements.
    #[inline(always)]
    pub unsafe fn write_run(&self, first: usize, values: &[T]) {
        assert!(values.len() <= self.length && first <= self.length - values.len());
        // SAFETY: the range was checked, and the caller keeps other tasks away.
        unsafe {
            self.start.add(first).copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
    }

    /// Neighbouring elements from `first` on, to be written.
    ///
    /// # Safety
    ///
    /// As [`write`](Self::write), for each of the elements, as long as the slice lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn run(&self, first: usize, length: usize) -> &'a mut [T] {
        assert!(length <= self.length && first <= self.length - length);
        // SAFETY: the range was checked, its elements are initialised, and the caller keeps other
        // tasks away.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}
