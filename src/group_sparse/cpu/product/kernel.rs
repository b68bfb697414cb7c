//! The sum of a row's groups, in SIMD registers.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::group_sparse::cpu::Held;
use crate::group_sparse::format::{Mode, Parts, Pattern};

/// Most lanes that work side by side; fewer where a group has less.
pub(super) const WIDEST: usize = 16;

/// A matrix and M vectors in the kernels' order.
pub(super) struct Kernel<'a, const M: usize> {
    arch: Arch,
    held: &'a Held,
    x: &'a [&'a [f32]],
}

impl<'a, const M: usize> Kernel<'a, M> {
    pub fn of(held: &'a Held, x: &'a [&'a [f32]]) -> Self {
        Self { arch: Arch::new(), held, x }
    }

    /// The sums of some groups of a row, one for each vector.
    pub fn sum(&self, row: usize, kept: Range<usize>) -> [f32; M] {
        let Self { arch, held, x } = *self;
        arch.dispatch(Row { held, x, row, kept })
    }
}

struct Row<'a, const M: usize> {
    held: &'a Held,
    x: &'a [&'a [f32]],
    row: usize,
    kept: Range<usize>,
}

impl<const M: usize> WithSimd for Row<'_, M> {
    type Output = [f32; M];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; M] {
        let format = self.held.matrix.format();
        macro_rules! lanes {
            ($codes:ty: $($lanes:literal)*) => {
                match (format.group / <$codes>::CODES).min(WIDEST) {
                    $($lanes => self.sum::<S, $codes, $lanes>(simd),)*
                    // There are no other lengths of groups.
                    _ => [0.0; M],
                }
            };
        }
        match format.bits {
            8 => lanes!(Eight: 8 16),
            4 => lanes!(Four: 4 8 16),
            2 => lanes!(Two: 2 4 8 16),
            _ => lanes!(Three: 1 2 4 8 16),
        }
    }
}

impl<const M: usize> Row<'_, M> {
    #[inline(always)]
    fn sum<S: Simd, C: Codes, const L: usize>(self, simd: S) -> [f32; M] {
        let Self { held, x, row, kept } = self;
        let Parts { format, col_idx, codes, .. } = held.matrix.parts();
        let bytes = format.group_bytes();
        // A division for each group would cost as much as its products.
        let first = held.matrix.row_ptr()[row] as usize;
        let is_dense = format.pattern == Pattern::Dense;
        let mut sums = [[0.0f32; L]; M];
        for t in kept {
            let scale = held.scale(row, t);
            let column = if is_dense { t - first } else { col_idx[t] as usize };
            let begin = column * format.group;
            let codes = &codes[t * bytes..(t + 1) * bytes];
            let group = Packed { codes, lanes: format.group / C::CODES };
            let mut of_x: [&[f32]; M] = [&[]; M];
            for m in 0..M {
                of_x[m] = &x[m][begin..begin + format.group];
            }
            match format.mode {
                Mode::Affine => {
                    group.add_affine::<S, C, L, M>(
                        simd,
                        scale,
                        held.offset(row, t),
                        of_x,
                        &mut sums,
                    );
                }
                Mode::Sym | Mode::Asym => {
                    let zero = i32::from(held.zero(row, t));
                    let products = group.products::<S, C, L, M>(simd, zero, of_x);
                    for m in 0..M {
                        for l in 0..L {
                            sums[m][l] = fused::<S>(scale, products[m][l], sums[m][l]);
                        }
                    }
                }
            }
        }
        let mut total = [0.0; M];
        for m in 0..M {
            total[m] = across(sums[m]);
        }
        total
    }
}

/// A group's codes.
#[derive(Clone, Copy)]
struct Packed<'a> {
    codes: &'a [u8],
    /// Lanes of all blocks.
    lanes: usize,
}

impl Packed<'_> {
    /// Σ (q - z) x, lane by lane.
    #[inline(always)]
    fn products<S: Simd, C: Codes, const L: usize, const M: usize>(
        self,
        _simd: S,
        zero: i32,
        x: [&[f32]; M],
    ) -> [[f32; L]; M] {
        let mut sums = [[0.0f32; L]; M];
        for block in 0..self.lanes / L {
            let words = C::words::<L>(self.codes, block, self.lanes);
            for code in 0..C::CODES {
                let at = (block * C::CODES + code) * L;
                let mut d = [0.0f32; L];
                for l in 0..L {
                    d[l] = (C::code(words[l], code) - zero) as f32;
                }
                for m in 0..M {
                    let x = &x[m][at..at + L];
                    for l in 0..L {
                        sums[m][l] = fused::<S>(d[l], x[l], sums[m][l]);
                    }
                }
            }
        }
        sums
    }

    /// Adds (s q + m) x, lane by lane.
    #[inline(always)]
    fn add_affine<S: Simd, C: Codes, const L: usize, const M: usize>(
        self,
        _simd: S,
        scale: f32,
        offset: f32,
        x: [&[f32]; M],
        sums: &mut [[f32; L]; M],
    ) {
        for block in 0..self.lanes / L {
            let words = C::words::<L>(self.codes, block, self.lanes);
            for code in 0..C::CODES {
                let at = (block * C::CODES + code) * L;
                let mut d = [0.0f32; L];
                for l in 0..L {
                    d[l] = fused::<S>(scale, C::code(words[l], code) as f32, offset);
                }
                for m in 0..M {
                    let x = &x[m][at..at + L];
                    for l in 0..L {
                        sums[m][l] = fused::<S>(d[l], x[l], sums[m][l]);
                    }
                }
            }
        }
    }
}

/// x y + z: rounded once where the machine has an instruction for it, which a call would be much
/// slower than.
#[inline(always)]
fn fused<S: Simd>(x: f32, y: f32, z: f32) -> f32 {
    if size_of::<S::f32s>() > size_of::<f32>() { x.mul_add(y, z) } else { x * y + z }
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn across<const L: usize>(mut lanes: [f32; L]) -> f32 {
    let mut half = L / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// How a lane reads codes.
trait Codes {
    /// Codes that a lane holds.
    const CODES: usize;

    /// What the lanes of a block hold.
    fn words<const L: usize>(group: &[u8], block: usize, lanes: usize) -> [u32; L];

    /// One of the codes of a lane.
    fn code(word: u32, code: usize) -> i32;
}

/// Lanes that hold a byte.
#[inline(always)]
fn bytes<const L: usize>(group: &[u8], block: usize) -> [u32; L] {
    let bytes = &group[block * L..block * L + L];
    let mut words = [0; L];
    for l in 0..L {
        words[l] = u32::from(bytes[l]);
    }
    words
}

macro_rules! codes_in_bytes {
    ($($name:ident: $bits:literal;)*) => {
        $(
            struct $name;

            impl Codes for $name {
                const CODES: usize = 8 / $bits;

                #[inline(always)]
                fn words<const L: usize>(group: &[u8], block: usize, _lanes: usize) -> [u32; L] {
                    bytes(group, block)
                }

                #[inline(always)]
                fn code(word: u32, code: usize) -> i32 {
                    (word >> ($bits * code) & ((1 << $bits) - 1)) as i32
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

/// Two bytes of low bits, and above them one of high bits.
struct Three;

impl Codes for Three {
    const CODES: usize = 8;

    #[inline(always)]
    fn words<const L: usize>(group: &[u8], block: usize, lanes: usize) -> [u32; L] {
        let low = &group[2 * block * L..2 * (block + 1) * L];
        let high = &group[2 * lanes + block * L..2 * lanes + (block + 1) * L];
        let mut words = [0; L];
        for l in 0..L {
            words[l] =
                u32::from(low[2 * l]) | u32::from(low[2 * l + 1]) << 8 | u32::from(high[l]) << 16;
        }
        words
    }

    #[inline(always)]
    fn code(word: u32, code: usize) -> i32 {
        (word >> (2 * code) & 3 | (word >> (16 + code) & 1) << 2) as i32
    }
}
