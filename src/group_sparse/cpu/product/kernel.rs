//! The sum of a row's groups, in registers of eight lanes.
//!
//! A code becomes a number by its place in the mantissa of 2²³, exactly: (2²³ + q) - (2²³ + z) = q - z.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{NullaryFnOnce, Scalar256b, Simd, f32x8, u32x8};

use super::codes::{Codes, Eight, Four, LANES, Three, Two, registers};
use crate::group_sparse::cpu::Held;

/// A matrix and M vectors in the kernels' order.
pub(super) struct Kernel<'a, const M: usize> {
    held: &'a Held,
    x: [&'a [f32x8]; M],
    level: Level,
    sum: Sum<'a, M>,
}

/// The sums of some groups of a row. Each grouping has a function of its own, in which loops are short and
/// of known length.
type Sum<'a, const M: usize> = fn(&Kernel<'a, M>, row: usize, kept: Range<usize>) -> [f32; M];

impl<'a, const M: usize> Kernel<'a, M> {
    pub fn of(held: &'a Held, x: [&'a [f32x8]; M]) -> Self {
        let format = held.matrix.format();
        macro_rules! by_group {
            ($codes:ty) => {
                match format.group {
                    8 => Self::sum_of::<$codes, 8>,
                    16 => Self::sum_of::<$codes, 16>,
                    32 => Self::sum_of::<$codes, 32>,
                    64 => Self::sum_of::<$codes, 64>,
                    // There is no other.
                    _ => Self::sum_of::<$codes, 128>,
                }
            };
        }
        let sum: Sum<'a, M> = match format.bits {
            8 => by_group!(Eight),
            4 => by_group!(Four),
            2 => by_group!(Two),
            _ => by_group!(Three),
        };
        Self { held, x, level: Level::here(), sum }
    }

    /// The sums of some groups of a row, one for each vector.
    pub fn sum(&self, row: usize, kept: Range<usize>) -> [f32; M] {
        (self.sum)(self, row, kept)
    }

    fn sum_of<C: Codes, const G: usize>(&self, row: usize, kept: Range<usize>) -> [f32; M] {
        let held = self.held;
        let bytes = G * C::BITS / 8;
        let row = Row::<C, G, M> {
            codes: &held.matrix.parts().codes[kept.start * bytes..kept.end * bytes],
            columns: held.columns(row, kept.clone()),
            scales: &held.scales[kept.clone()],
            zeros: held.zeros.get(kept.clone()).unwrap_or(&[]),
            middle: held.matrix.format().middle(),
            offsets: held.offsets.as_ref().map(|offsets| &offsets[kept]),
            x: self.x,
            of: PhantomData,
        };
        match self.level {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Level::V3(simd) => simd.vectorize(On { simd, row }),
            Level::Plain => On { simd: Scalar256b, row }.call(),
        }
    }
}

/// What the machine has.
#[derive(Clone, Copy)]
enum Level {
    /// AVX2 and FMA.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    V3(pulp::x86::V3),
    Plain,
}

impl Level {
    fn here() -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Self::V3(simd);
        }
        Self::Plain
    }
}

/// Registers of eight lanes, and how bytes come into them.
pub(super) trait Octet: Simd<f32s = f32x8, u32s = u32x8> {
    fn widen(self, bytes: [u8; LANES]) -> u32x8;

    /// x y + z: rounded once where the machine has an instruction for it, which a call would be much
    /// slower than.
    fn fused(self, x: f32x8, y: f32x8, z: f32x8) -> f32x8;
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
impl Octet for pulp::x86::V3 {
    #[inline(always)]
    fn widen(self, bytes: [u8; LANES]) -> u32x8 {
        let bytes = pulp::u64x2(u64::from_le_bytes(bytes), 0);
        pulp::cast(self.avx2._mm256_cvtepu8_epi32(pulp::cast(bytes)))
    }

    #[inline(always)]
    fn fused(self, x: f32x8, y: f32x8, z: f32x8) -> f32x8 {
        self.mul_add_f32s(x, y, z)
    }
}

impl Octet for Scalar256b {
    #[inline(always)]
    fn widen(self, bytes: [u8; LANES]) -> u32x8 {
        pulp::cast(bytes.map(u32::from))
    }

    #[inline(always)]
    fn fused(self, x: f32x8, y: f32x8, z: f32x8) -> f32x8 {
        self.add_f32s(self.mul_f32s(x, y), z)
    }
}

/// Some groups of a row, and the vectors.
struct Row<'a, C, const G: usize, const M: usize> {
    codes: &'a [u8],
    columns: &'a [u32],
    scales: &'a [f32],
    /// Of `asym` only.
    zeros: &'a [u8],
    /// The zero of groups that have none.
    middle: u8,
    /// Of `affine` only.
    offsets: Option<&'a [f32]>,
    x: [&'a [f32x8]; M],
    of: PhantomData<C>,
}

/// A row with the instructions that it is summed by.
struct On<'a, S, C, const G: usize, const M: usize> {
    simd: S,
    row: Row<'a, C, G, M>,
}

impl<S: Octet, C: Codes, const G: usize, const M: usize> NullaryFnOnce for On<'_, S, C, G, M> {
    type Output = [f32; M];

    #[inline(always)]
    fn call(self) -> [f32; M] {
        let Self { simd, row } = self;
        let sums = match row.offsets {
            None => row.sum(simd),
            Some(offsets) => row.sum_affine(simd, offsets),
        };
        let mut total = [0.0; M];
        for m in 0..M {
            total[m] = simd.reduce_sum_f32s(simd.add_f32s(sums[0][m], sums[1][m]));
        }
        total
    }
}

impl<C: Codes, const G: usize, const M: usize> Row<'_, C, G, M> {
    /// The groups' codes and columns.
    #[inline(always)]
    fn groups<S: Octet>(&self, simd: S) -> impl Iterator<Item = Group<'_, S, C, G>> {
        let codes = self.codes.chunks_exact(G * C::BITS / 8);
        codes.zip(self.columns).map(move |(codes, &column)| Group {
            simd,
            codes,
            column: column as usize,
            of: PhantomData,
        })
    }

    /// Σ s (q - z) x, of every other group each: short groups fill few lanes, whose sums are long.
    #[inline(always)]
    fn sum<S: Octet>(&self, simd: S) -> [[f32x8; M]; 2] {
        let middle = simd.splat_f32s(shifted(self.middle));
        let mut zeros = self.zeros.iter();
        let mut sums = [[simd.splat_f32s(0.0); M]; 2];
        for (group, &scale) in self.groups(simd).zip(self.scales) {
            let zero = match zeros.next() {
                Some(&zero) => simd.splat_f32s(shifted(zero)),
                None => middle,
            };
            let products = group.products(self.x, |q| simd.sub_f32s(q, zero));
            for m in 0..M {
                sums[0][m] = simd.fused(simd.splat_f32s(scale), products[m], sums[0][m]);
            }
            sums.swap(0, 1);
        }
        sums
    }

    /// Σ (s q + m) x, likewise.
    #[inline(always)]
    fn sum_affine<S: Octet>(&self, simd: S, offsets: &[f32]) -> [[f32x8; M]; 2] {
        let zero = simd.splat_f32s(shifted(0));
        let mut sums = [[simd.splat_f32s(0.0); M]; 2];
        for ((group, &scale), &offset) in self.groups(simd).zip(self.scales).zip(offsets) {
            let (scale, offset) = (simd.splat_f32s(scale), simd.splat_f32s(offset));
            let decode = |q| simd.fused(scale, simd.sub_f32s(q, zero), offset);
            let products = group.products(self.x, decode);
            for m in 0..M {
                sums[0][m] = simd.add_f32s(sums[0][m], products[m]);
            }
            sums.swap(0, 1);
        }
        sums
    }
}

/// A group's codes, and where it lies.
struct Group<'a, S, C, const G: usize> {
    simd: S,
    codes: &'a [u8],
    column: usize,
    of: PhantomData<C>,
}

impl<S: Octet, C: Codes, const G: usize> Group<'_, S, C, G> {
    /// A vector's elements.
    #[inline(always)]
    fn elements<'a>(&self, x: &'a [f32x8]) -> &'a [f32x8] {
        let count = registers(C::CODES, G);
        &x[self.column * count..(self.column + 1) * count]
    }

    /// Σ d x, lane by lane, with d what becomes of 2²³ + q.
    #[inline(always)]
    fn products<const M: usize>(
        &self,
        x: [&[f32x8]; M],
        decode: impl Fn(f32x8) -> f32x8,
    ) -> [f32x8; M] {
        let simd = self.simd;
        // Two sums, for the additions' latency.
        let mut sums = [[simd.splat_f32s(0.0); 2]; M];
        for block in 0..registers(C::CODES, G) / C::CODES {
            let words = C::words::<S, G>(simd, self.codes, block);
            for code in 0..C::CODES {
                let i = block * C::CODES + code;
                let d = decode(shifted_lanes(simd, C::code(simd, words, code)));
                for m in 0..M {
                    sums[m][i % 2] = simd.fused(d, self.elements(x[m])[i], sums[m][i % 2]);
                }
            }
        }
        let mut products = [simd.splat_f32s(0.0); M];
        for m in 0..M {
            products[m] = simd.add_f32s(sums[m][0], sums[m][1]);
        }
        products
    }
}

/// 2²³.
const SHIFT: u32 = 0x4B00_0000;

/// 2²³ + q.
#[inline(always)]
fn shifted(code: u8) -> f32 {
    f32::from_bits(SHIFT | u32::from(code))
}

/// The same for each lane.
#[inline(always)]
fn shifted_lanes<S: Octet>(simd: S, codes: u32x8) -> f32x8 {
    simd.transmute_f32s_u32s(simd.or_u32s(codes, simd.splat_u32s(SHIFT)))
}
