//! How the matrices of `wgmma` lie in shared memory.
//!
//! A descriptor has 64 bits: the start address, the leading and the stride byte offset, each in units of 16
//! bytes, at bits 0, 16 and 32, and the swizzle at bits 62 and 63. With es the bytes of an element, T = 16/es,
//! W the span of the swizzle, LBO and SBO the byte offsets, element (mn, k) lies at
//!
//! | layout | offset from the start |
//! |---|---|
//! | K-major, no swizzle | (mn%8)·16 + (mn/8)·SBO + (k%T)·es + (k/T)·LBO |
//! | K-major, swizzled | (mn%8)·W + (mn/8)·SBO + k·es |
//! | MN-major, no swizzle | (mn%T)·es + (mn/T)·SBO + (k%8)·16 + (k/8)·LBO |
//! | MN-major, swizzled | (mn%(W/es))·es + (mn/(W/es))·LBO + (k%8)·W + (k/8)·SBO |
//!
//! and then bits 7 and up of the address, as many as the swizzle says, are added to those from bit 4 on without
//! carry. Units of 16 bytes stay whole.

/// A matrix in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    /// Bytes of a swizzled row; 16 without swizzle.
    span: u64,
}

/// Bytes that stay together.
pub(crate) const UNIT: usize = 16;

impl Descriptor {
    /// The matrix that these bits describe; a base offset must be 0.
    pub(crate) fn new(bits: u64) -> Option<Self> {
        let field = |shift: u32| (bits >> shift & 0x3FFF) * UNIT as u64;
        let span = match bits >> 62 {
            0 => 16,
            1 => 128,
            2 => 64,
            _ => 32,
        };
        let base = bits >> 49 & 7;
        (base == 0).then(|| Self { start: field(0), leading: field(16), stride: field(32), span })
    }

    /// The address of an element of `size` bytes.
    pub(crate) fn address(&self, mn: usize, k: usize, size: usize, mn_major: bool) -> u64 {
        let [mn, k, size] = [mn as u64, k as u64, size as u64];
        let Self { start, leading, stride, span } = *self;
        let (per_unit, per_row) = (UNIT as u64 / size, span / size);
        let swizzled = span > UNIT as u64;
        let offset = match (mn_major, swizzled) {
            (false, false) => {
                mn % 8 * 16 + mn / 8 * stride + k % per_unit * size + k / per_unit * leading
            }
            (false, true) => mn % 8 * span + mn / 8 * stride + k * size,
            (true, false) => {
                mn % per_unit * size + mn / per_unit * stride + k % 8 * 16 + k / 8 * leading
            }
            (true, true) => {
                mn % per_row * size + mn / per_row * leading + k % 8 * span + k / 8 * stride
            }
        };
        let address = start + offset;
        address ^ (address >> 7 & (span / UNIT as u64 - 1)) << 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit u of row r of a tile with rows of 128 bytes, as the specification lists the swizzles.
    #[test]
    fn units_move_within_their_row() {
        let tile =
            |mode: u64| Descriptor::new(1 << 32 | mode << 62 | 64).unwrap_or_else(|| panic!());
        let place = |mode, row, unit| tile(mode).address(row, unit * 8, 2, false) - 1024;
        for row in 0..8 {
            for unit in 0..8 {
                assert_eq!(place(1, row, unit), (row * 128 + 16 * (unit ^ row)) as u64);
            }
            // Two rows of 64 bytes share a line of 128, four of 32 bytes do.
            for unit in 0..4 {
                let whole = row * 4 + unit;
                let moved = whole ^ (whole / 8 % 4);
                assert_eq!(place(2, row, unit), 16 * moved as u64);
            }
            for unit in 0..2 {
                let whole = row * 2 + unit;
                assert_eq!(place(3, row, unit), 16 * (whole ^ (whole / 8 % 2)) as u64);
            }
        }
    }

    #[test]
    fn a_step_along_k_moves_the_start() {
        let at =
            |start: u64| Descriptor::new(start | 64 << 32 | 1 << 62).unwrap_or_else(|| panic!());
        for (row, k) in [(0, 0), (3, 5), (7, 15), (9, 1)] {
            assert_eq!(at(66).address(row, k, 2, false), at(64).address(row, k + 16, 2, false));
        }
        assert_eq!(Descriptor::new(1 << 49), None);
    }
}
