//! Large pages for large memory: a new page costs as much as writing it.

/// Asks the system for large pages under the memory of a vector, where there is much of it that
/// nobody has written yet. Only a hint: without it, nothing but time changes.
pub(crate) fn large<T>(mut values: Vec<T>) -> Vec<T> {
    #[cfg(target_os = "linux")]
    {
        let start = values.as_mut_ptr().addr().next_multiple_of(PAGE);
        let end = (values.as_mut_ptr().addr() + values.capacity() * size_of::<T>()) / PAGE * PAGE;
        if end.saturating_sub(start) >= LEAST {
            let first = values.as_mut_ptr().with_addr(start);
            // SAFETY: the pages lie within the vector's memory, whose contents stay as they are.
            // What is returned tells whether the hint was taken, which nothing depends on.
            let _ = unsafe { libc::madvise(first.cast(), end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = &mut values;
    values
}

/// Bytes of a usual page, or less.
#[cfg(target_os = "linux")]
const PAGE: usize = 4096;

/// Bytes from which on it pays.
#[cfg(target_os = "linux")]
const LEAST: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::large;

    #[test]
    fn vectors_stay_as_they_are() {
        for length in [0usize, 1, 1000, 3_000_001] {
            let values: Vec<u32> = (0..length as u32).collect();
            assert_eq!(large(values.clone()), values);
        }
        assert!(large(Vec::<()>::with_capacity(5)).is_empty());
        assert_eq!(large(vec![0u8; 9_000_001]).iter().filter(|&&byte| byte != 0).count(), 0);
    }
}
