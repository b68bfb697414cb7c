//! Hints of what is read soon, where lines lie too far apart for the processor to guess.

/// Asks for the memory of `values` to be brought into the second-level cache: the first level
/// has few places for lines at distances of a power of two. Only a hint: without it, or where
/// the processor has no such instruction, nothing but time changes.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let start = values.as_ptr().cast::<i8>();
        let within = start.addr() % LINE;
        for byte in (0..within + size_of_val(values)).step_by(LINE) {
            // SAFETY: a hint accesses nothing, and the line holds a part of the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_sub(within).wrapping_add(byte)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Bytes of a line of the cache.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;
