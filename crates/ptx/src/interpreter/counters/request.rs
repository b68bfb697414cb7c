//! The shape of one warp's memory request.
//!
//! * Global memory moves in sectors of 32 bytes: a request costs the distinct sectors that its lanes touch.
//! * Shared memory has 32 banks, 4 bytes wide and interleaved by word. A wavefront serves one word of each bank,
//!   to any number of lanes. A warp that takes 4 bytes per lane or fewer goes in one phase, 8 bytes in two
//!   half-warps, 16 bytes in four quarter-warps; a phase costs as many wavefronts as its fullest bank has
//!   distinct words.
//! * An atomic is served for one lane at a time on each word: a lane that meets another's address waits.

use crate::interpreter::row::{LANES, Mask, Row, lanes};

/// Bytes of a sector of global memory.
pub(crate) const SECTOR: u64 = 32;

const BANKS: u64 = 32;
const WORD: u64 = 4;

/// Bytes that shared memory serves in one wavefront.
pub(crate) const WAVEFRONT: u64 = BANKS * WORD;

/// Distinct sectors of one warp request of `bytes` per lane, at most 16.
pub(crate) fn sectors(addresses: &Row, active: Mask, bytes: u32) -> u32 {
    units(addresses, active, bytes, SECTOR).dedup()
}

/// Distinct addresses of the active lanes.
pub(crate) fn distinct(addresses: &Row, active: Mask) -> u32 {
    units(addresses, active, 1, 1).dedup()
}

/// Active lanes beyond the first on each address.
pub(crate) fn collisions(addresses: &Row, active: Mask) -> u32 {
    active.count_ones() - distinct(addresses, active)
}

/// The most active lanes that any one address has.
pub(crate) fn crowd(addresses: &Row, active: Mask) -> u32 {
    let mut all = units(addresses, active, 1, 1);
    all.sort();
    let runs = all.as_slice().chunk_by(|a, b| a == b);
    runs.map(|run| run.len() as u32).max().unwrap_or(0)
}

/// Wavefronts of a load or store of shared memory, and the least that as many lanes could take.
pub(crate) fn wavefronts(addresses: &Row, active: Mask, bytes: u32) -> (u32, u32) {
    phases(addresses, active, bytes, true)
}

/// Wavefronts of a shared atomic: lanes on one word do not share it.
pub(crate) fn atomic_wavefronts(addresses: &Row, active: Mask, bytes: u32) -> (u32, u32) {
    phases(addresses, active, bytes, false)
}

/// Wavefronts of `ldmatrix` or `stmatrix` of 1, 2 or 4 matrices: lane 8q + r has the address of row r of
/// matrix q, 16 bytes.
pub(crate) fn matrix_wavefronts(addresses: &Row, matrices: u32) -> (u32, u32) {
    let rows = Mask::MAX.checked_shr(32 - 8 * matrices.clamp(1, 4)).unwrap_or(0);
    wavefronts(addresses, rows, 16)
}

fn phases(addresses: &Row, active: Mask, bytes: u32, shared: bool) -> (u32, u32) {
    let width = match bytes {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    let phase = Mask::MAX >> (32 - width);
    let masks = (0..32 / width).map(|number| active & (phase << (number * width)));
    masks.filter(|&mask| mask != 0).fold((0, 0), |(taken, least), mask| {
        (taken + fullest_bank(addresses, mask, bytes, shared), least + 1)
    })
}

fn fullest_bank(addresses: &Row, active: Mask, bytes: u32, shared: bool) -> u32 {
    let mut words = units(addresses, active, bytes, WORD);
    if shared {
        words.dedup();
    }
    let mut load = [0; BANKS as usize];
    for word in words.as_slice() {
        load[(word % BANKS) as usize] += 1;
    }
    load.into_iter().max().unwrap_or(0)
}

/// The units of memory that the lanes of a request touch: at most 5 words or 2 sectors each.
struct Units {
    numbers: [u64; 5 * LANES],
    count: usize,
}

fn units(addresses: &Row, active: Mask, bytes: u32, size: u64) -> Units {
    let mut all = Units { numbers: [0; 5 * LANES], count: 0 };
    for lane in lanes(active) {
        let first = addresses[lane] / size;
        let last = addresses[lane].saturating_add(u64::from(bytes.clamp(1, 16)) - 1) / size;
        for number in first..=last {
            all.numbers[all.count] = number;
            all.count += 1;
        }
    }
    all
}

impl Units {
    fn as_slice(&self) -> &[u64] {
        &self.numbers[..self.count]
    }

    fn sort(&mut self) {
        self.numbers[..self.count].sort_unstable();
    }

    /// Leaves one of each, in order, and counts them.
    fn dedup(&mut self) -> u32 {
        self.sort();
        let mut kept = 0;
        for at in 0..self.count {
            if kept == 0 || self.numbers[at] != self.numbers[kept - 1] {
                self.numbers[kept] = self.numbers[at];
                kept += 1;
            }
        }
        self.count = kept;
        kept as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Mask = Mask::MAX;

    fn row(address: impl Fn(u64) -> u64) -> Row {
        std::array::from_fn(|lane| address(lane as u64))
    }

    #[test]
    fn sectors_are_distinct_32_byte_pieces() {
        assert_eq!(sectors(&row(|lane| 4096 + 4 * lane), ALL, 4), 4, "coalesced f32");
        assert_eq!(sectors(&row(|lane| 4096 + 16 * lane), ALL, 16), 16, "coalesced v4.f32");
        assert_eq!(sectors(&row(|lane| 4096 + 2 * lane), ALL, 2), 2, "coalesced f16");
        assert_eq!(sectors(&row(|lane| 4100 + 4 * lane), ALL, 4), 5, "begins inside a sector");
        assert_eq!(sectors(&row(|lane| 4096 + 8 * lane), ALL, 4), 8, "every second word");
        assert_eq!(sectors(&row(|lane| 4096 + 128 * lane), ALL, 4), 32, "a column");
        assert_eq!(sectors(&row(|_| 4096), ALL, 4), 1, "one address");
        assert_eq!(sectors(&row(|lane| 4096 + 4 * (31 - lane)), ALL, 4), 4, "reversed");
        assert_eq!(sectors(&row(|lane| 4096 + 4 * lane), 0x0000_00ff, 4), 1, "eight lanes");
        assert_eq!(sectors(&row(|lane| 4096 + 4 * lane), 0, 4), 0);
        assert_eq!(sectors(&row(|_| u64::MAX), ALL, 16), 1, "the end of the address space");
    }

    #[test]
    fn banks_of_words() {
        let stride = |words: u64| wavefronts(&row(|lane| 4 * words * lane), ALL, 4);
        assert_eq!(stride(1), (1, 1));
        assert_eq!(stride(2), (2, 1));
        assert_eq!(stride(3), (1, 1));
        assert_eq!(stride(4), (4, 1));
        assert_eq!(stride(16), (16, 1));
        assert_eq!(stride(32), (32, 1));
        assert_eq!(stride(33), (1, 1));
        assert_eq!(wavefronts(&row(|_| 64), ALL, 4), (1, 1), "broadcast");
        assert_eq!(
            wavefronts(&row(|lane| 128 * (lane % 2)), ALL, 4),
            (2, 1),
            "two words, one bank"
        );
        assert_eq!(wavefronts(&row(|lane| 2 * lane), ALL, 2), (1, 1), "two halves share a word");
        assert_eq!(wavefronts(&row(|lane| 128 * lane), 0b101, 4), (2, 1), "two lanes");
        assert_eq!(wavefronts(&row(|lane| 128 * lane), 0, 4), (0, 0));
    }

    #[test]
    fn wide_accesses_go_by_parts_of_the_warp() {
        assert_eq!(wavefronts(&row(|lane| 8 * lane), ALL, 8), (2, 2));
        assert_eq!(wavefronts(&row(|lane| 16 * lane), ALL, 16), (4, 4));
        assert_eq!(wavefronts(&row(|lane| 16 * lane), 0xffff, 16), (2, 2), "half of the warp");
        // Rows of v4 whose pitch is 4 modulo 8 words: eight lanes cover all banks.
        for pitch in [4, 12, 20, 36] {
            assert_eq!(wavefronts(&row(|lane| 4 * pitch * lane), ALL, 16), (4, 4), "{pitch}");
        }
        // A pitch of 8 words meets every second quartet of banks; of 32, a single one.
        assert_eq!(wavefronts(&row(|lane| 4 * 8 * lane), ALL, 16), (8, 4));
        assert_eq!(wavefronts(&row(|lane| 4 * 32 * lane), ALL, 16), (32, 4));
    }

    #[test]
    fn matrices_want_rows_in_different_banks() {
        assert_eq!(matrix_wavefronts(&row(|lane| 16 * lane), 4), (4, 4));
        assert_eq!(matrix_wavefronts(&row(|lane| 144 * lane), 4), (4, 4), "pitch 16 modulo 128");
        assert_eq!(matrix_wavefronts(&row(|lane| 128 * lane), 4), (32, 4));
        assert_eq!(matrix_wavefronts(&row(|lane| 128 * lane), 2), (16, 2), "lanes 16-31 ignored");
        assert_eq!(matrix_wavefronts(&row(|lane| 64 * lane), 1), (4, 1));
        // The 128-byte swizzle: 16-byte column XOR row.
        let swizzled = row(|lane| 128 * (lane % 8) + 16 * ((lane / 8) ^ (lane % 8)));
        assert_eq!(matrix_wavefronts(&swizzled, 4), (4, 4));
    }

    #[test]
    fn atomics_collide() {
        assert_eq!(collisions(&row(|_| 256), ALL), 31);
        assert_eq!(collisions(&row(|lane| 4 * lane), ALL), 0);
        assert_eq!(collisions(&row(|lane| 4 * (lane % 8)), ALL), 24);
        assert_eq!(collisions(&row(|_| 256), 0), 0);
        assert_eq!(crowd(&row(|lane| 4 * (lane % 8)), ALL), 4);
        assert_eq!(crowd(&row(|lane| if lane < 5 { 0 } else { 4 * lane }), ALL), 5);
        assert_eq!(crowd(&row(|_| 0), 0), 0);
        assert_eq!(atomic_wavefronts(&row(|_| 256), ALL, 4), (32, 1));
        assert_eq!(atomic_wavefronts(&row(|lane| 4 * lane), ALL, 4), (1, 1));
        assert_eq!(atomic_wavefronts(&row(|lane| 8 * (lane % 2)), ALL, 8), (16, 2));
    }
}
