//! Transposition of tiles between (lane, time) and (time, lane).

use pulp::Simd;

/// Writes the transpose of `from`, `height` lines of `width` numbers, to `to`.
#[inline(always)]
pub(super) fn transpose<S: Simd>(
    simd: S,
    from: &[f32],
    to: &mut [f32],
    height: usize,
    width: usize,
) {
    let (from, to) = (&from[..height * width], &mut to[..height * width]);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx) = x86::avx(simd)
        && height.is_multiple_of(x86::SIDE)
        && width.is_multiple_of(x86::SIDE)
    {
        x86::transpose(avx, from, to, height, width);
        return;
    }
    for (x, line) in to.chunks_exact_mut(height).enumerate() {
        for (place, row) in line.iter_mut().zip(from.chunks_exact(width)) {
            *place = row[x];
        }
    }
}

/// Squares of eight lines of eight numbers in registers, by three rounds of shuffles.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::any::Any;
    use std::arch::x86_64::__m256;

    use pulp::Simd;
    use pulp::core_arch::x86::Avx;
    use pulp::x86::{V3, V4};

    /// The side of a square.
    pub const SIDE: usize = 8;

    /// The AVX instructions, where `simd` has them.
    #[inline(always)]
    pub fn avx<S: Simd>(simd: S) -> Option<Avx> {
        let simd: &dyn Any = &simd;
        let v3 = simd.downcast_ref::<V3>().map(|v3| v3.avx);
        v3.or_else(|| simd.downcast_ref::<V4>().map(|v4| v4.avx))
    }

    #[inline(always)]
    pub fn transpose(avx: Avx, from: &[f32], to: &mut [f32], height: usize, width: usize) {
        let (from, to) = (from.as_chunks::<SIDE>().0, to.as_chunks_mut::<SIDE>().0);
        for y in (0..height).step_by(SIDE) {
            for x in (0..width).step_by(SIDE) {
                let mut rows = [avx._mm256_setzero_ps(); SIDE];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = bytemuck::cast(from[((y + i) * width + x) / SIDE]);
                }
                for (i, &column) in square(avx, rows).iter().enumerate() {
                    to[((x + i) * height + y) / SIDE] = bytemuck::cast(column);
                }
            }
        }
    }

    #[inline(always)]
    fn square(avx: Avx, rows: [__m256; SIDE]) -> [__m256; SIDE] {
        let [a, b, c, d] = half(avx, [rows[0], rows[1], rows[2], rows[3]]);
        let [e, f, g, h] = half(avx, [rows[4], rows[5], rows[6], rows[7]]);
        let lower = |x, y| avx._mm256_permute2f128_ps::<0x20>(x, y);
        let upper = |x, y| avx._mm256_permute2f128_ps::<0x31>(x, y);
        [
            lower(a, e),
            lower(b, f),
            lower(c, g),
            lower(d, h),
            upper(a, e),
            upper(b, f),
            upper(c, g),
            upper(d, h),
        ]
    }

    /// Transposes the left and the right square of four lines, each in its place.
    #[inline(always)]
    fn half(avx: Avx, [a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
        [
            avx._mm256_shuffle_ps::<0x44>(ab, cd),
            avx._mm256_shuffle_ps::<0xee>(ab, cd),
            avx._mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            avx._mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ]
    }
}
