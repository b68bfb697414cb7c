//! The values that the specification lists (section 8), in its order.

use super::super::{Rule, extend, forbidden, rule};
use super::{broadcast, compute, parsed};
use crate::interpreter::row::LANES;
use crate::types::Type;

/// Instruction, sources, result.
type Case = (&'static str, &'static [u64], u64);

fn check(cases: &[Case]) {
    for (head, sources, expected) in cases {
        let result = compute(head, sources);
        assert_eq!(result, *expected, "{head} {sources:X?}: {result:#X}, not {expected:#X}");
    }
}

#[test]
fn shifts() {
    check(&[
        ("shl.b32", &[0x1234_5678, 32], 0),
        ("shl.b32", &[0x1234_5678, 40], 0),
        ("shl.b32", &[0x1234_5678, 4], 0x2345_6780),
        ("shr.s32", &[0x8000_0000, 40], 0xFFFF_FFFF),
        ("shr.u32", &[0x8000_0000, 32], 0),
        ("shl.b64", &[1, 33], 0x2_0000_0000),
        ("shr.s64", &[0x8000_0000_0000_0001, 64], !0),
        ("shr.s16", &[0x8000, 15], 0xFFFF),
        ("shf.l.wrap.b32", &[0x1234_5678, 0x9ABC_DEF0, 44], 0xCDEF_0123),
        ("shf.l.clamp.b32", &[0x1234_5678, 0x9ABC_DEF0, 44], 0x1234_5678),
        ("shf.r.clamp.b32", &[0x1234_5678, 0x9ABC_DEF0, 32], 0x9ABC_DEF0),
        ("shf.r.wrap.b32", &[0x1234_5678, 0x9ABC_DEF0, 32], 0x1234_5678),
    ]);
}

#[test]
fn products() {
    check(&[
        ("mul.hi.u32", &[0xFFFF_FFFF, 0xFFFF_FFFF], 0xFFFF_FFFE),
        ("mul.hi.s32", &[0xFFFF_FFFF, 0xFFFF_FFFF], 0),
        ("mul.hi.s32", &[0x8000_0000, 0x8000_0000], 0x4000_0000),
        ("mul.wide.s32", &[0xFFFF_FFFF, 2], 0xFFFF_FFFF_FFFF_FFFE),
        ("mul.wide.u32", &[0xFFFF_FFFF, 2], 0x1_FFFF_FFFE),
        ("mul.wide.s16", &[0xFFFF, 2], 0xFFFF_FFFE),
        ("mad.wide.u16", &[0xFFFF, 0xFFFF, 0x0002_0000], 0x0000_0001),
        ("mul.hi.u64", &[!0, !0], !1),
        ("mul24.lo.u32", &[0xFF00_0003, 5], 15),
        ("mul24.lo.s32", &[0x0080_0000, 2], 0xFF00_0000),
        ("mul24.hi.u32", &[0x00FF_FFFF, 0x00FF_FFFF], 0xFFFF_FE00),
        ("mad.hi.sat.s32", &[0x4000_0000, 4, 0x7FFF_FFFF], 0x7FFF_FFFF),
        ("dp4a.s32.s32", &[0x80FF_7F01, 0x0202_0202, 10], 8),
        ("dp4a.u32.s32", &[0x80FF_7F01, 0x0202_0202, 10], 0x408),
        ("dp2a.lo.s32.u32", &[0xFFFF_0003, 0x0000_0504, 1], 8),
        ("dp2a.hi.s32.u32", &[0xFFFF_0003, 0x0504_0000, 1], 8),
    ]);
}

#[test]
fn sums_and_quotients() {
    check(&[
        ("add.sat.s32", &[0x7FFF_FFFF, 1], 0x7FFF_FFFF),
        ("sub.sat.s32", &[0x8000_0000, 1], 0x8000_0000),
        ("abs.s32", &[0x8000_0000], 0x8000_0000),
        ("neg.s32", &[0x8000_0000], 0x8000_0000),
        ("add.u16x2", &[0xFFFF_0001, 0x0001_FFFF], 0),
        ("max.relu.s16x2", &[0xFFFF_0001, 0xFFFE_0002], 0x0000_0002),
        ("div.s32", &[0xFFFF_FFF9, 2], 0xFFFF_FFFD),
        ("rem.s32", &[0xFFFF_FFF9, 2], 0xFFFF_FFFF),
        ("div.s32", &[0x8000_0000, 0xFFFF_FFFF], 0x8000_0000),
        ("rem.s32", &[0x8000_0000, 0xFFFF_FFFF], 0),
        ("div.u32", &[7, 0], 0xFFFF_FFFF),
        ("sad.s32", &[0xFFFF_FFFF, 2, 10], 13),
        ("sad.u32", &[0xFFFF_FFFF, 2, 0], 0xFFFF_FFFD),
    ]);
}

#[test]
fn division_by_zero_is_forbidden() {
    let check = forbidden(&parsed("rem.s16").expect("exists")).expect("may divide by zero");
    let mut rows = broadcast(&[7, 1]);
    rows[1][3] = 0;
    rows[1][4] = 0x1_0000;
    assert_eq!(check(&rows.each_ref()), 0b11000);
    assert!(forbidden(&parsed("div.rn.f32").expect("exists")).is_none());
}

#[test]
fn carries() {
    let chain = |head: &str, sources: &[u64], flags: u32| {
        let Some(Rule::Carry(chain)) = rule(&parsed(head).expect("exists")) else {
            panic!("{head} is no carry chain");
        };
        let mut results = [0; LANES];
        let flags = chain(&broadcast(sources).each_ref(), flags, &mut results);
        (results[7], flags)
    };
    assert_eq!(chain("add.cc.u32", &[0xFFFF_FFFF, 1], 0), (0, !0));
    assert_eq!(chain("addc.u32", &[0, 0], !0), (1, 0));
    assert_eq!(chain("addc.cc.s64", &[!0, 0], 1 << 7), (0, 1 << 7));
    assert_eq!(chain("sub.cc.u32", &[0, 1], 0), (0xFFFF_FFFF, !0));
    assert_eq!(chain("subc.u32", &[5, 0], !0), (4, 0));
    // Flags that were there before do not count where a chain begins.
    assert_eq!(chain("sub.cc.u32", &[5, 0], !0), (5, 0));
    assert_eq!(chain("mad.lo.cc.u32", &[0xFFFF_FFFF, 2, 2], 0), (0, !0));
    assert_eq!(chain("madc.hi.u32", &[0xFFFF_FFFF, 2, 0], !0), (2, 0));
    assert_eq!(chain("madc.hi.s32", &[0xFFFF_FFFF, 2, 0], !0), (0, !0));
}

#[test]
fn fields() {
    check(&[
        ("bfe.s32", &[0xF0C1_0000, 28, 8], 0xFFFF_FFFF),
        ("bfe.s32", &[0x70C1_0000, 28, 8], 7),
        ("bfe.s32", &[0xF0C1_0000, 40, 8], 0xFFFF_FFFF),
        ("bfe.s32", &[0xF0C1_0000, 28, 0], 0),
        ("bfe.u32", &[0xF0C1_0000, 28, 8], 15),
        ("bfe.s64", &[0x8000_0000_0000_0000, 60, 255], 0xFFFF_FFFF_FFFF_FFF8),
        ("bfi.b32", &[0xABCD, 0xFFFF_FFFF, 24, 16], 0xCDFF_FFFF),
        ("bfi.b32", &[0xABCD, 0xFFFF_FFFF, 32, 16], 0xFFFF_FFFF),
        ("bfi.b64", &[0, !0, 4, 255], 0xF),
        ("bfind.u32", &[0], 0xFFFF_FFFF),
        ("bfind.s32", &[0xFFFF_FFFF], 0xFFFF_FFFF),
        ("bfind.s32", &[0xFFFF_FFFE], 0),
        ("bfind.shiftamt.u32", &[1], 31),
        ("clz.b32", &[0], 32),
        ("clz.b64", &[0], 64),
        ("popc.b64", &[!0], 64),
        ("brev.b32", &[1], 0x8000_0000),
        ("fns.b32", &[0x1111_1111, 0, 3], 8),
        ("fns.b32", &[0x1111_1111, 31, 0xFFFF_FFFE], 24),
        ("fns.b32", &[0x1111_1111, 4, 0], 4),
        ("fns.b32", &[0x1111_1111, 5, 0], 0xFFFF_FFFF),
        ("bmsk.clamp.b32", &[4, 8], 0xFF0),
        ("bmsk.clamp.b32", &[0, 40], 0xFFFF_FFFF),
        ("bmsk.wrap.b32", &[33, 33], 2),
        ("szext.clamp.s32", &[0x0000_0080, 8], 0xFFFF_FF80),
        ("szext.wrap.u32", &[0xFFFF_FFFF, 40], 0xFF),
        ("szext.clamp.u32", &[0xFFFF_FFFF, 40], 0xFFFF_FFFF),
        ("cnot.b16", &[0], 1),
        ("not.b16", &[1], 0xFFFE),
    ]);
}

#[test]
fn permutations_and_tables() {
    const A: u64 = 0x3322_1100;
    const B: u64 = 0x7766_5544;
    const LOGIC: [u64; 3] = [0x0F0F_3355, 0x00FF_55AA, 0x1234_5678];
    check(&[
        ("prmt.b32", &[A, B, 0x5410], 0x5544_1100),
        ("prmt.b32", &[A, B, 0x7632], 0x7766_3322),
        ("prmt.b32", &[A, B, 0x0123], 0x0011_2233),
        ("prmt.b32", &[0x80FE_0100, 0, 0xBA98], 0xFFFF_0000),
        ("prmt.b32.f4e", &[A, B, 1], 0x4433_2211),
        ("prmt.b32.b4e", &[A, B, 1], 0x6677_0011),
        ("prmt.b32.rc8", &[A, B, 2], 0x2222_2222),
        ("prmt.b32.ecl", &[A, B, 2], 0x3322_2222),
        ("prmt.b32.ecr", &[A, B, 2], 0x2222_1100),
        ("prmt.b32.rc16", &[A, B, 1], 0x3322_3322),
        ("lop3.b32", &[LOGIC[0], LOGIC[1], LOGIC[2], 0xCA], 0x103F_5528),
        ("lop3.b32", &[LOGIC[0], LOGIC[1], LOGIC[2], 0x96], 0x1DC4_3087),
        ("lop3.b32", &[LOGIC[0], LOGIC[1], LOGIC[2], 0xE8], 0x023F_5778),
    ]);
}

#[test]
fn conversions_of_integers() {
    check(&[
        ("cvt.s32.s8", &[0xFF], 0xFFFF_FFFF),
        ("cvt.s32.s8", &[0x1234_56FF], 0xFFFF_FFFF),
        ("cvt.u64.u32", &[0xFFFF_FFFF], 0xFFFF_FFFF),
        ("cvt.u64.s32", &[0xFFFF_FFFF], !0),
        ("cvt.sat.u8.s32", &[300], 255),
        ("cvt.sat.u8.s32", &[0xFFFF_FFFB], 0),
        ("cvt.u8.s32", &[0xFFFF_FFFB], 0xFB),
        ("cvt.rn.f32.u32", &[0x0100_0001], 0x4B80_0000),
        ("cvt.rn.f32.u32", &[0x0100_0003], 0x4B80_0002),
        ("cvt.rz.f32.u64", &[!0], 0x5F7F_FFFF),
        ("cvt.rn.f32.u64", &[!0], 0x5F80_0000),
        ("cvt.rp.f64.s64", &[(1 << 53) + 1], 0x4340_0000_0000_0001),
        ("cvt.rn.f16.u32", &[65520], 0x7C00),
        ("cvt.rn.sat.f32.s32", &[0xFFFF_FFFF], 0),
        ("cvt.pack.sat.s8.s32.b32", &[300, 0xFFFF_FF00, 0x1234_5678], 0x5678_7F80),
        ("cvt.pack.sat.u16.s32", &[0x0002_0000, 0xFFFF_FFFF], 0xFFFF_0000),
    ]);
}

#[test]
fn conversions_to_integers() {
    check(&[
        ("cvt.rzi.u32.f32", &[0x4F80_0000], 0xFFFF_FFFF),
        ("cvt.rzi.u32.f32", &[0xBF80_0000], 0),
        ("cvt.rzi.s32.f32", &[0xFF80_0000], 0x8000_0000),
        ("cvt.rzi.s32.f32", &[0x4F00_0000], 0x7FFF_FFFF),
        ("cvt.rni.s32.f32", &[0x4020_0000], 2),
        ("cvt.rni.s32.f32", &[0x4060_0000], 4),
        ("cvt.rni.s32.f32", &[0xBF00_0000], 0),
        ("cvt.rmi.s32.f32", &[0xBE80_0000], 0xFFFF_FFFF),
        ("cvt.rpi.ftz.s32.f32", &[1], 0),
        ("cvt.rpi.s32.f32", &[1], 1),
        ("cvt.rzi.s32.f32", &[0x7FC0_0000], 0),
        ("cvt.rzi.s64.f32", &[0x7FC0_0000], 1 << 63),
        ("cvt.rzi.u32.f64", &[0x7FF8_0000_0000_0000], 1 << 31),
        ("cvt.rzi.s8.f32", &[0xC348_0000], 0x80),
    ]);
}

#[test]
fn conversions_of_floats() {
    check(&[
        ("cvt.rn.f16.f32", &[0x477F_EFFF], 0x7BFF),
        ("cvt.rn.f16.f32", &[0x477F_F000], 0x7C00),
        ("cvt.rz.f16.f32", &[0x477F_F000], 0x7BFF),
        ("cvt.rn.f16.f32", &[0x3300_0000], 0),
        ("cvt.rn.f16.f32", &[0x3300_0001], 1),
        ("cvt.rn.f16.f32", &[0x7F80_0001], 0x7FFF),
        ("cvt.rn.f16x2.f32", &[0x3F80_0000, 0x4000_0000], 0x3C00_4000),
        ("cvt.rn.bf16x2.f32", &[0x3F80_8000, 0x3F81_8000], 0x3F80_3F82),
        ("cvt.rn.bf16.f32", &[0x7F7F_FFFF], 0x7F80),
        ("cvt.rz.bf16.f32", &[0x7F7F_FFFF], 0x7F7F),
        ("cvt.rn.relu.bf16.f32", &[0xBF80_0000], 0),
        ("cvt.rn.satfinite.f16.f32", &[0xFF80_0000], 0xFBFF),
        ("cvt.rna.tf32.f32", &[0x3F80_0FFF], 0x3F80_0000),
        ("cvt.rna.tf32.f32", &[0x3F80_1000], 0x3F80_2000),
        ("cvt.rna.tf32.f32", &[0x3F80_3000], 0x3F80_4000),
        ("cvt.rna.tf32.f32", &[0x7F7F_FFFF], 0x7F80_0000),
        ("cvt.rna.satfinite.tf32.f32", &[0xFF7F_FFFF], 0xFF7F_E000),
        ("cvt.rn.tf32.f32", &[0x3F80_1000], 0x3F80_0000),
        ("cvt.rn.tf32.f32", &[0x3F80_3000], 0x3F80_4000),
        ("cvt.rz.tf32.f32", &[0x3F80_3FFF], 0x3F80_2000),
        ("cvt.f32.f16", &[0x0001], 0x3380_0000),
        ("cvt.f32.f16", &[0x7E01], 0x7FFF_FFFF),
        ("cvt.f32.bf16", &[0x8001], 0x8001_0000),
        ("cvt.rni.f32.f32", &[0x4020_0000], 0x4000_0000),
        ("cvt.rni.f32.f32", &[0xBE80_0000], 0x8000_0000),
        ("cvt.sat.f32.f32", &[0x7FC0_0000], 0),
        ("cvt.sat.f32.f32", &[0x8000_0000], 0),
        ("cvt.rn.sat.f16.f32", &[0x4000_0000], 0x3C00),
        ("cvt.ftz.f32.f32", &[0x8000_0001], 0x8000_0000),
        ("cvt.rn.ftz.f32.f64", &[0x3800_0000_0000_0000], 0),
        // 1 + 2^-11 + 2^-50: by way of f32 it would be a tie.
        ("cvt.rn.f16.f64", &[0x3FF0_0200_0000_0004], 0x3C01),
        ("cvt.rn.satfinite.e4m3x2.f32", &[0x43FA_0000, 0xBF80_0000], 0x7EB8),
        ("cvt.rn.satfinite.e5m2x2.f32", &[0x7F80_0000, 0x7FC0_0000], 0x7B7F),
        ("cvt.rn.satfinite.relu.e4m3x2.f16x2", &[0xBC00_3C00], 0x0038),
        ("cvt.rn.f16x2.e4m3x2", &[0x01B8], 0x1800_BC00),
        ("cvt.rn.f16x2.e5m2x2", &[0xFC7F], 0xFC00_7FFF),
    ]);
}

#[test]
fn sums_of_floats() {
    const ONE: u64 = 0x3F80_0000;
    const INFINITY: u64 = 0x7F80_0000;
    const NAN: u64 = 0x7FFF_FFFF;
    check(&[
        ("sub.rn.f32", &[INFINITY, INFINITY], NAN),
        ("mul.rn.f32", &[INFINITY, 0], NAN),
        ("add.rn.f32", &[0x7FC1_2345, ONE], NAN),
        ("sub.rn.f32", &[ONE, ONE], 0),
        ("sub.rm.f32", &[ONE, ONE], 0x8000_0000),
        ("sub.rp.f32", &[ONE, ONE], 0),
        ("sub.rm.f64", &[ONE, ONE], 1 << 63),
        ("fma.rm.f64", &[1 << 52, 0, 0], 0),
        ("add.rn.f32", &[0x8000_0000, 0x8000_0000], 0x8000_0000),
        ("add.rm.f32", &[0, 0], 0),
        ("add.rn.f32", &[ONE, 0x3380_0000], ONE),
        ("add.rp.f32", &[ONE, 0x3380_0000], 0x3F80_0001),
        ("mul.rn.f32", &[1, ONE], 1),
        ("mul.rn.ftz.f32", &[0x8000_0001, ONE], 0x8000_0000),
        ("mul.rn.ftz.f32", &[0x0080_0000, 0x3F00_0000], 0),
        ("mul.rz.f32", &[0x7F7F_FFFF, 0x4000_0000], 0x7F7F_FFFF),
        ("fma.rn.f32", &[0x3F80_0001, 0x3F80_0001, 0xBF80_0002], 0x2880_0000),
        ("add.rn.sat.f32", &[0x7FC0_0000, ONE], 0),
        ("div.rn.f32", &[ONE, 0x4040_0000], 0x3EAA_AAAB),
        ("div.rz.f32", &[ONE, 0x4040_0000], 0x3EAA_AAAA),
        ("sqrt.rp.f32", &[0x4000_0000], 0x3FB5_04F4),
        ("rcp.rn.f32", &[0x8000_0000], 0xFF80_0000),
        ("fma.rn.bf16x2", &[0x4000_4040, 0x4040_4080, 0x40A0_4040], 0x4130_4170),
        ("fma.rn.relu.f16", &[0x3C00, 0xBC00, 0], 0),
        ("add.rn.f16x2", &[0x7C00_3C00, 0xFC00_3C00], 0x7FFF_4000),
        ("add.rn.f16", &[0x7BFF, 0x7BFF], 0x7C00),
        ("mul.rn.ftz.f16", &[0x0400, 0x3800], 0),
    ]);
}

/// Results that miss a representable number by less than a 2⁵⁰th of the spacing.
#[test]
fn barely_inexact_f64() {
    const ONE: u64 = 0x3FF0_0000_0000_0000;
    const MINUS_ONE: u64 = 0xBFF0_0000_0000_0000;
    const ABOVE_ONE: u64 = ONE + 1;
    check(&[
        // 1 / (1 + ε) = 1 − ε + ε² − …
        ("div.rm.f64", &[ONE, ABOVE_ONE], ONE - 2),
        ("rcp.rp.f64", &[ABOVE_ONE], ONE - 1),
        // √(1 + 2ε) = 1 + ε − ε² / 2 + …
        ("sqrt.rz.f64", &[ONE + 2], ONE),
        ("sqrt.rp.f64", &[ONE + 2], ABOVE_ONE),
        ("add.rz.f64", &[ONE, 0x8000_0000_0000_0001], ONE - 1),
        ("add.rp.f64", &[ONE, 1], ABOVE_ONE),
        ("mul.rp.f64", &[1, 1], 1),
        ("mul.rm.f64", &[1, 1], 0),
        // (1 + ε)² − (1 + 2ε) = ε²
        ("fma.rz.f64", &[ABOVE_ONE, ABOVE_ONE, MINUS_ONE + 2], 0x3970_0000_0000_0000),
        ("fma.rp.f64", &[ABOVE_ONE, ABOVE_ONE, 0], ONE + 3),
        ("fma.rm.f64", &[ONE, ONE, MINUS_ONE], 1 << 63),
        ("fma.rp.f64", &[ONE, ONE, MINUS_ONE], 0),
    ]);
}

#[test]
fn extrema_and_signs() {
    check(&[
        ("min.f32", &[0x7FC0_0000, 0x3F80_0000], 0x3F80_0000),
        ("min.NaN.f32", &[0x7FC0_0000, 0x3F80_0000], 0x7FFF_FFFF),
        ("max.f32", &[0x7FC0_0000, 0xFFC0_0000], 0x7FFF_FFFF),
        ("min.f32", &[0, 0x8000_0000], 0x8000_0000),
        ("max.f32", &[0x8000_0000, 0], 0),
        ("max.f16x2", &[0x8000_FE00, 0x0000_3C00], 0x0000_3C00),
        ("max.xorsign.abs.f32", &[0xC000_0000, 0x3F80_0000], 0xC000_0000),
        ("abs.f32", &[0xFFC1_2345], 0x7FC1_2345),
        ("neg.f32", &[0x7FC1_2345], 0xFFC1_2345),
        ("abs.ftz.f32", &[0x8000_0001], 0),
        ("neg.bf16x2", &[0x3F80_0000], 0xBF80_8000),
        ("copysign.f32", &[0x8000_0000, 0x3F80_0000], 0xBF80_0000),
    ]);
}

#[test]
fn comparisons() {
    const NAN: u64 = 0x7FC0_0000;
    check(&[
        ("setp.ne.f32", &[NAN, 0], 0),
        ("setp.neu.f32", &[NAN, 0], 1),
        ("setp.ltu.f32", &[NAN, 0], 1),
        ("setp.equ.f32", &[0, 0x8000_0000], 1),
        ("setp.num.f32", &[NAN, 0], 0),
        ("setp.nan.f32", &[NAN, 0], 1),
        ("setp.gt.f32", &[1, 0], 1),
        ("setp.gt.ftz.f32", &[1, 0], 0),
        ("setp.lt.s32", &[0x8000_0000, 0], 1),
        ("setp.lo.u32", &[0x8000_0000, 0], 0),
        ("setp.eq.b16", &[0x1_0000, 0], 1),
        ("set.lt.u32.f32", &[0, 0x3F80_0000], 0xFFFF_FFFF),
        ("set.lt.f32.f32", &[0, 0x3F80_0000], 0x3F80_0000),
        ("set.lt.f32.f32", &[0, 0], 0),
        ("set.gt.f16x2.f16x2", &[0x3C00_0000, 0], 0x3C00_0000),
        ("testp.subnormal.f32", &[1], 1),
        ("testp.normal.f32", &[0], 0),
        ("testp.number.f64", &[0x7FF0_0000_0000_0000], 1),
        ("slct.b32.s32", &[1, 2, 0xFFFF_FFFF], 2),
        ("slct.b32.f32", &[1, 2, 0x8000_0000], 1),
        ("slct.b32.f32", &[1, 2, NAN], 2),
        ("slct.ftz.b32.f32", &[1, 2, 0x8000_0001], 1),
        ("slct.b32.f32", &[1, 2, 0x8000_0001], 2),
    ]);
}

#[test]
fn packed_comparisons_give_low_and_high() {
    let Some(Rule::Test(test)) = rule(&parsed("setp.gt.f16x2").expect("exists")) else {
        panic!("not a test");
    };
    assert_eq!(test(&broadcast(&[0x3C00_0000, 0]).each_ref()), [0, !0]);
    let Some(Rule::Test(test)) = rule(&parsed("setp.gt.u32").expect("exists")) else {
        panic!("not a test");
    };
    let mut rows = broadcast(&[1, 1]);
    rows[0][9] = 2;
    assert_eq!(test(&rows.each_ref()), [1 << 9, !(1 << 9)]);
}

#[test]
fn approximations() {
    check(&[
        ("ex2.approx.f32", &[0x4120_0000], 0x4480_0000),
        ("ex2.approx.f32", &[0xC316_0000], 0),
        ("ex2.approx.ftz.f32", &[0xC2FD_0000], 0),
        ("ex2.approx.f32", &[0x8000_0000], 0x3F80_0000),
        ("ex2.approx.ftz.f32", &[0], 0x3F80_0000),
        ("ex2.approx.f32", &[0xFF80_0000], 0),
        ("ex2.approx.f32", &[0x7F80_0000], 0x7F80_0000),
        ("ex2.approx.f32", &[0x7FC0_0000], 0x7FFF_FFFF),
        ("ex2.approx.ftz.bf16x2", &[0x0001_4000], 0x3F80_4080),
        ("ex2.approx.f16", &[0xCE00], 1),
        ("rcp.approx.ftz.f32", &[0x8000_0000], 0xFF80_0000),
        ("rcp.approx.ftz.f32", &[0x7F00_0000], 0),
        ("rcp.approx.f32", &[0x7F00_0000], 0x0040_0000),
        ("lg2.approx.f32", &[1], 0xC315_0000),
        ("lg2.approx.ftz.f32", &[1], 0xFF80_0000),
        ("lg2.approx.f32", &[0xBF80_0000], 0x7FFF_FFFF),
        ("rsqrt.approx.f32", &[0x8000_0000], 0xFF80_0000),
        ("sqrt.approx.f32", &[0x8000_0000], 0x8000_0000),
        ("sin.approx.f32", &[0x8000_0000], 0x8000_0000),
        ("cos.approx.f32", &[0x7F80_0000], 0x7FFF_FFFF),
        ("tanh.approx.f32", &[0xFF80_0000], 0xBF80_0000),
        ("tanh.approx.f32", &[0x8000_0001], 0x8000_0001),
        ("tanh.approx.f16x2", &[0x7C00_8000], 0x3C00_8000),
        ("div.approx.f32", &[0x7F80_0000, 0x7F00_0000], 0x7FFF_FFFF),
        ("div.approx.f32", &[0xBF80_0000, 0x7F00_0000], 0x8000_0000),
        ("div.full.f32", &[0x3F80_0000, 0x7F00_0000], 0x0040_0000),
        ("rcp.approx.ftz.f64", &[0x4008_0000_0000_0001], 0x3FD5_5555_0000_0000),
        ("rcp.approx.ftz.f64", &[0x7FF8_0000_0000_0000], 0x7FFF_FFFF_0000_0000),
        ("rsqrt.approx.ftz.f64", &[0x8000_0000_0000_0001], 0xFFF0_0000_0000_0000),
    ]);
}

#[test]
fn extension_goes_by_the_sign_of_the_type() {
    let extended = |bits, ty, register| {
        let mut row = [bits; LANES];
        extend(&mut row, ty, register);
        row[31]
    };
    assert_eq!(extended(0xFF, Type::S8, Type::B32), 0xFFFF_FFFF);
    assert_eq!(extended(0x7F, Type::S8, Type::B32), 0x7F);
    assert_eq!(extended(0x8000, Type::S16, Type::S64), 0xFFFF_FFFF_FFFF_8000);
    assert_eq!(extended(0xFF, Type::U8, Type::B64), 0xFF);
    assert_eq!(extended(0x8000_0000, Type::S32, Type::B32), 0x8000_0000);
}
