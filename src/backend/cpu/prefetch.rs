//! Hints of what is read soon, where lines lie too far apart for the processor to guess.

/// Asks for the memory of `values` to be brought into the second-level cache: the first level
/// has few places for lines at distances of a power of two. Only a hint: without it, or where
/// the processor has no such instruction, nothing but time changes.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(values)).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint accesses nothing, and the address lies in the slice.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().cast::<i8>().add(byte)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Bytes of a line of the cache.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;
