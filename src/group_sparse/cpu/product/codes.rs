//! How lanes hold codes: each has a byte of them, and where codes have 3 bits, a nibble of high bits besides.

use pulp::u32x8;

use super::kernel::Octet;

pub(super) const LANES: usize = 8;

pub(super) trait Codes {
    const BITS: usize;

    /// Codes that a lane holds.
    const CODES: usize;

    /// What the lanes of a block hold, of a group of G; 0 where it is shorter.
    fn words<S: Octet, const G: usize>(simd: S, group: &[u8], block: usize) -> u32x8;

    /// One of each lane's codes.
    fn code<S: Octet>(simd: S, words: u32x8, code: usize) -> u32x8;
}

/// Codes that a lane holds, of so many bits.
pub(super) const fn of_a_lane(bits: u32) -> usize {
    match bits {
        8 => Eight::CODES,
        4 => Four::CODES,
        2 => Two::CODES,
        _ => Three::CODES,
    }
}

/// Registers that a group's elements take.
pub(super) const fn registers(codes: usize, group: usize) -> usize {
    group.div_ceil(codes * LANES) * codes
}

/// `count` bytes of a block, with zeros behind them.
#[inline(always)]
fn bytes<const N: usize>(from: &[u8], block: usize, count: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..count].copy_from_slice(&from[block * N..][..count]);
    bytes
}

#[inline(always)]
fn bits<S: Octet>(simd: S, words: u32x8, shift: usize, mask: u32) -> u32x8 {
    let shifted = match shift {
        0 => words,
        _ => simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(shift as u32)),
    };
    simd.and_u32s(shifted, simd.splat_u32s(mask))
}

macro_rules! codes_in_bytes {
    ($($name:ident: $bits:literal;)*) => {
        $(
            pub(super) struct $name;

            impl Codes for $name {
                const BITS: usize = $bits;
                const CODES: usize = 8 / $bits;

                #[inline(always)]
                fn words<S: Octet, const G: usize>(simd: S, group: &[u8], block: usize) -> u32x8 {
                    simd.widen(bytes(group, block, LANES.min(G / Self::CODES)))
                }

                #[inline(always)]
                fn code<S: Octet>(simd: S, words: u32x8, code: usize) -> u32x8 {
                    bits(simd, words, $bits * code, (1 << $bits) - 1)
                }
            }
        )*
    };
}

codes_in_bytes! {
    Eight: 8;
    Four: 4;
    Two: 2;
}

/// Low bits as [`Two`] has them, and bit 8 + i the high bit of code i.
pub(super) struct Three;

impl Codes for Three {
    const BITS: usize = 3;
    const CODES: usize = Two::CODES;

    #[inline(always)]
    fn words<S: Octet, const G: usize>(simd: S, group: &[u8], block: usize) -> u32x8 {
        let (low, high) = group.split_at(G / Self::CODES);
        let high = bytes(high, block, (LANES / 2).min(G / 8));
        let high = simd.widen(nibbles(u32::from_le_bytes(high)));
        let high = simd.wrapping_dyn_shl_u32s(high, simd.splat_u32s(8));
        simd.or_u32s(Two::words::<S, G>(simd, low, block), high)
    }

    #[inline(always)]
    fn code<S: Octet>(simd: S, words: u32x8, code: usize) -> u32x8 {
        simd.or_u32s(Two::code(simd, words, code), bits(simd, words, 6 + code, 4))
    }
}

/// A byte for each nibble.
#[inline(always)]
fn nibbles(bytes: u32) -> [u8; LANES] {
    let apart = u64::from(bytes);
    let apart = (apart | apart << 16) & 0x0000_FFFF_0000_FFFF;
    let apart = (apart | apart << 8) & 0x00FF_00FF_00FF_00FF;
    ((apart | apart << 4) & 0x0F0F_0F0F_0F0F_0F0F).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_keep_their_order() {
        assert_eq!(nibbles(0x8765_4321), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
