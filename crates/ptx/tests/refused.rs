//! Programs that must be refused: where, and with what words.
//!
//! `around` puts the offending line on line 6, so a row's column is the column in its own text.

use warpwright_ptx::parse;

fn around(line: &str) -> String {
    format!(
        ".version 8.1\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 x) {{ .shared .b32 tile[8]; \
         .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<8>; .reg .u32 %u<4>; .reg .b64 %d<4>;\n\
         .reg .f32 %f<4>; .reg .f16 %half<4>; .reg .f64 %g<4>;\n{line}\nret; }}\n"
    )
}

/// What is wrong with the answer to `source`; empty if nothing.
fn answer(source: &str, line: u32, column: u32, fragment: &str) -> String {
    match parse(source) {
        Ok(_) => format!("accepted: {source}\n"),
        Err(why) if (why.line, why.column) != (line, column) => {
            format!("expected at {line}, {column}: {fragment}\n     came {why}\n{source}\n")
        }
        Err(why) if !why.message.contains(fragment) => format!("{why}\n  lacks: {fragment}\n"),
        Err(_) => String::new(),
    }
}

/// Line of a body, column, fragment of the message.
const BODY: &[(&str, u32, &str)] = &[
    // Names.
    ("mov.u32 %r8, 1;", 9, "`%r<8>` of line 4 declares %r0 to %r7"),
    ("mov.u32 %r01, 1;", 9, "not declared"),
    ("mov.u32 %nothing, 1;", 9, "`%nothing` is not declared"),
    ("bra NOWHERE;", 5, "the label `NOWHERE` is not declared"),
    ("{ L: } bra L;", 12, "the label `L` is not declared"),
    ("bra tile;", 5, "expected a label, but `tile` is a variable"),
    ("mov.u32 %r0, missing;", 14, "not declared"),
    ("ld.shared.u32 %r0, [missing];", 21, "not declared"),
    (".reg .b32 %x, %x;", 15, "declared twice in this block, first in line 6"),
    (".reg .b32 %r3;", 11, "declared twice in this block, first in line 4"),
    (".reg .b32 %q1<4>, %q<11>;", 19, "declared twice"),
    (".reg .b32 %q<11>, %q1<4>;", 19, "declared twice"),
    ("L: L:", 4, "declared twice"),
    ("{ .reg .b32 %r0; }", 13, "shadows the declaration of line 4"),
    ("{ .reg .f32 tile; }", 13, "shadows"),
    (".reg .b32 %tid;", 11, "a name of the machine"),
    (".reg .b32 WARP_SZ;", 11, "a name of the machine"),
    (".reg .bf16 %x;", 6, "declare it .b16"),
    (".reg .b8 %x;", 6, "use .b16"),
    (".reg .v4 .f32 %x;", 6, "single registers in braces"),
    ("@%r0 bra L; L:", 2, "`%r0` is .b32, the instruction works on .pred"),
    ("brx.idx %r0, L; L:", 14, "expected a list of branch targets, but `L` is a label"),
    // Literals.
    ("add.u32 %r0, %r1, 0xffffffffff;", 19, "does not fit .u32"),
    ("add.u32 %r0, %r1, 4294967296;", 19, "does not fit .u32"),
    ("add.s32 %r0, %r1, -2147483649;", 19, "does not fit .s32"),
    ("mov.b16 %h0, 65536;", 14, "does not fit .b16"),
    ("mov.u64 %d0, 18446744073709551616;", 14, "does not fit 64 bits"),
    ("mov.pred %p0, 2;", 15, "does not fit .pred"),
    ("mov.f32 %f0, -0f3F800000;", 14, "no sign may stand in front"),
    ("mov.f32 %f0, 0f3F80;", 14, "exactly 8 hexadecimal digits"),
    ("mov.f64 %g0, 0d3FF;", 14, "exactly 16 hexadecimal digits"),
    ("mov.f32 %f0, +1.0;", 14, "no `+` in front"),
    ("mov.f32 %f0, 1;", 14, "the integer 1 where a float"),
    ("mov.u32 %r0, 1.5;", 14, "a float literal where an integer"),
    ("mov.u32 %r0, 0f3F800000;", 14, "a float literal where an integer"),
    ("mov.u32 %r0, 018;", 14, "a leading 0 means octal"),
    ("mov.u32 %r0, 3+4;", 15, "constant expressions are not supported"),
    ("mov.u32 %r0, (1);", 14, "constant expression"),
    ("mov.f32 %f0, inf;", 14, "`inf` is not declared"),
    ("mov.f64 %g0, 1e999;", 14, "infinity is"),
    ("add.rn.f16 %half0, %half1, 0x3C00;", 28, "take no immediates"),
    ("fma.rn.bf16x2 %r0, %r1, 1, %r2;", 25, "take no immediates"),
    // Addresses.
    ("ld.shared.u32 %r0, [%r1-4];", 24, "write the offset as `+-`"),
    ("ld.shared.u32 %r0, [tile+%r1];", 26, "expected an integer after `+`"),
    ("ld.shared.u32 %r0, [tile+4294967296];", 26, "signed 32-bit"),
    ("ld.global.u32 %r0, [%r1];", 21, "needs a 64-bit integer register"),
    ("ld.u32 %r0, [%r1];", 14, "needs a 64-bit integer register"),
    ("ld.shared.u32 %r0, [%f1];", 21, "32- or 64-bit integer register"),
    ("ld.global.u32 %r0, [tile];", 21, "lives in .shared"),
    ("ld.shared.u32 %r0, %r1;", 20, "expected an address in brackets"),
    ("ld.shared.u32 %r0, [%r1;", 24, "expected `]`"),
    ("ld.shared.u32 %r0, [tile+32];", 21, "`tile` has 32 bytes: 32 lies outside"),
    ("ld.param.u32 %r0, [x+-4];", 20, "`x` has 8 bytes: -4 lies outside"),
    // Punctuation.
    ("mov.u32 %r0, 1", 15, "expected `;`"),
    ("exit", 5, "expected `;`"),
    ("mov.u32 %r0, ;", 14, "expected an operand"),
    ("mov.u32 %r0, \"text\";", 14, "expected an operand"),
    ("/* open", 1, "unterminated comment"),
    (".pragma \"nounroll", 9, "unterminated string"),
    (".pragma \"unroll\";", 9, "unknown pragma"),
    (".frame 3;", 1, "unknown directive `.frame`"),
    (".global .u32 g;", 1, "stand in the module"),
    ("#define X", 1, "preprocessor"),
    ("mov.u32 %r0, % ;", 14, "expected a name after `%`"),
    // Instructions and modifiers.
    ("foo.u32 %r0, 1;", 1, "unknown instruction `foo`"),
    ("call f;", 1, "functions are not supported"),
    ("wmma.load %r0;", 1, "write `mma.sync`"),
    ("add.q32 %r0, %r1, %r2;", 4, "`add` does not take `.q32` here"),
    ("shl.u32 %r0, %r1, 1;", 4, "expected `.b16`, `.b32`, `.b64`"),
    ("neg.u32 %r0, %r1;", 4, "does not take `.u32`"),
    ("min.b32 %r0, %r1, %r2;", 4, "does not take `.b32`"),
    ("selp.f16 %half0, %half1, %half2, %p0;", 5, "does not take `.f16`"),
    ("ld.global.f16 %half0, [%d0];", 10, "does not take `.f16`"),
    ("atom.global.cas.u32 %r0, [%d0], 1, 2;", 16, "does not take `.u32`"),
    ("atom.global.add.s64 %d1, [%d0], %d2;", 16, "does not take `.s64`"),
    ("mul.u32 %r0, %r1, %r2;", 4, "expected `.lo`, `.hi`"),
    ("bar.sync", 9, "expected `;`"),
    ("bar.sync;", 1, "takes 1 or 2 operands in this form, found 0"),
    ("add.u32 %r0, %r1;", 1, "takes 3 operands in this form, found 2"),
    ("add.u32 %r0, %r1, %r2, %r3;", 24, "takes 3 operands in this form, found 4"),
    ("shfl.idx.b32 %r0, %r1, 0, 31;", 1, "without `.sync` does not exist"),
    ("ld.volatile.global.u32 %r0, [%d0];", 1, "write `ld.relaxed.sys`"),
    ("tanh.approx.ftz.f32 %f0, %f1;", 12, "does not take `.ftz`"),
    ("ex2.approx.ftz.f16 %half0, %half1;", 15, "does not take `.f16`"),
    ("redux.sync.add.f32 %f0, %f1, -1;", 15, "does not take `.f32`"),
    ("ld.shared.L2::128B.u32 %r0, [tile];", 10, "is for global memory, not `.shared`"),
    ("ld.global.ca.L1::no_allocate.u32 %r0, [%d0];", 13, "excludes `.ca`"),
    ("cvt.sat.s32.s32 %r0, %r1;", 4, "drop it"),
    ("setp.lo.s32 %p0, %r0, %r1;", 8, "does not take `.s32`"),
    // Rounding.
    ("add.f32 %f0, %f1, %f2;", 1, "write `add.rn` or `fma.rn`"),
    ("mul.ftz.f32 %f0, %f1, %f2;", 1, "has no rounding"),
    ("sub.f16 %half0, %half1, %half2;", 1, "has no rounding"),
    ("add.bf16x2 %r0, %r1, %r2;", 1, "has no rounding"),
    ("fma.f32 %f0, %f1, %f2, %f3;", 1, "needs a rounding"),
    ("cvt.s32.f32 %r0, %f0;", 1, "needs an integer rounding"),
    ("cvt.rn.u8.u32 %r0, %r1;", 1, "cannot round"),
    ("cvt.f32.s32 %f0, %r0;", 1, "needs a rounding"),
    ("cvt.f16.f32 %h0, %f0;", 1, "narrows and needs a rounding"),
    ("cvt.rn.f64.f32 %g0, %f0;", 1, "drop the rounding"),
    ("cvt.rn.f32.f32 %f0, %f1;", 11, "does not take"),
    // Types.
    ("add.u32 %f0, %r1, %r2;", 9, "`%f0` is .f32, the instruction works on .u32"),
    ("add.rn.f32 %f0, %u1, %f2;", 17, "`%u1` is .u32"),
    ("add.u64 %d0, %d1, %r2;", 19, "the sizes differ"),
    ("shl.b64 %d0, %d1, %d2;", 19, "works on .u32"),
    ("fma.rn.bf16x2 %u0, %r1, %r2, %r3;", 15, "declare it .b32"),
    ("cvt.rna.tf32.f32 %f0, %f1;", 18, "declare it .b32"),
    ("ld.global.f32 %g0, [%d0];", 15, "`%g0` is .f64"),
    ("ld.global.u32 %f0, [%d0];", 15, "`%f0` is .f32"),
    ("ld.global.b32 %h0, [%d0];", 15, "`%h0` is .b16"),
    ("add.u32 %tid.x, 1, 2;", 9, "expected a register"),
    ("add.u32 %r0, %laneid, 2;", 14, "only `mov` reads"),
    ("mov.u64 %d0, %tid.x;", 14, "`%tid` is .u32"),
    ("mov.u32 %r0, %tid;", 14, "has components"),
    ("mov.f32 %f0, %tid.x;", 14, "the instruction works on .f32"),
    ("mov.u32 %r0, _;", 14, "`_` cannot stand here"),
    ("mov.u32 5, %r0;", 9, "expected a register"),
    // Vectors, pairs and bounds.
    ("ld.global.v4.f32 {%f1, %f1, %f2, %f3}, [%d0];", 24, "stands twice in this destination"),
    ("ld.global.v2.f32 {%f1, %f2, %f3}, [%d0];", 18, "expected 2 elements in braces"),
    ("ld.global.v4.f64 {%g0, %g1, %g2, %g3}, [%d0];", 18, "at most 16 bytes"),
    ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r0, [%r1];", 42, "expected 1 elements in braces"),
    ("add.u32 %r0|%p0, %r1, 1;", 9, "a second destination"),
    ("elect.sync %r0, -1;", 12, "expected a pair"),
    ("lop3.b32 %r0, %r1, %r2, %r3, %r4;", 30, "expected an immediate"),
    ("lop3.b32 %r0, %r1, %r2, %r3, 256;", 30, "out of range: expected 0 to 255"),
    ("bar.sync 16;", 10, "out of range: expected 0 to 15"),
    ("bar.sync 0, 100;", 13, "32 to 1024 in steps of 32"),
    ("bfe.u32 %r0, %r1, 256, 1;", 19, "expected 0 to 255"),
    ("cp.async.cg.shared.global [%r0], [%d0], 8;", 41, "expected 16 to 16"),
    ("cp.async.wait_group %r0;", 21, "expected an immediate"),
    ("setmaxnreg.inc.sync.aligned.u32 100;", 33, "in steps of 8"),
    (
        "mma.sync.aligned.m16n8k8.row.row.f32.f16.f16.f32 {%f0}, {%r0}, {%r1}, {%f0};",
        29,
        "expected `.col`",
    ),
    ("cvta.to.global.u64 %d0, 5;", 25, "expected a register"),
];

#[test]
fn bodies() {
    let wrong: String = BODY
        .iter()
        .map(|(line, column, fragment)| answer(&around(line), 6, *column, fragment))
        .collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// A whole module, line, column, fragment.
const MODULES: &[(&str, u32, u32, &str)] = &[
    ("", 1, 1, "expected `.version` first"),
    (".target sm_80\n.version 7.0", 1, 1, "expected `.version` first, found `.target`"),
    (".version 7.0\n.address_size 64", 2, 1, "expected `.target` after `.version`"),
    (".version 7.0\n.target sm_80\n.visible", 3, 1, "expected `.address_size`"),
    (".version 7\n.target sm_80", 1, 10, "expected a version such as 7.0"),
    (".version 7.0 .target gpu", 1, 22, "expected one target such as sm_80"),
    (".version 7.0 .target sm_80 .address_size 32", 1, 42, "expected `.address_size 64`"),
    ("// \u{b5}s\n.version 7.0", 1, 4, "non-ASCII character"),
    (".version 7.0\n  \u{2013}", 2, 3, "spell it out"),
    ("H .func f() { }", 1, 50, "`.func` is not supported"),
    ("H .frob", 1, 50, "unknown directive `.frob`"),
    ("H .version 7.0", 1, 50, "second time"),
    ("H .entry k() .maxntid 32 .reqntid 32 { }", 1, 73, "exclude each other"),
    ("H .entry k() .reqntid 32 .reqntid 32 { }", 1, 73, "stands twice"),
    ("H .entry k() .reqntid 2048 { }", 1, 61, "at most 1024"),
    ("H .entry k() .reqnctapercluster 2 { }", 1, 61, "needs `.version 7.8`"),
    ("H .entry k() { } .entry k() { }", 1, 72, "declared twice"),
    ("H .entry k() {", 1, 61, "has no `}`"),
    ("H .entry k(.param .u32 a, .param .u32 a) { }", 1, 86, "declared twice"),
    ("H .entry k(.u32 a) { }", 1, 59, "expected `.param`"),
    ("H .shared .align 3 .b8 s[4];", 1, 65, "power of two"),
    ("H .shared .b32 s = 1;", 1, 65, "cannot be initialised"),
    ("H .global .b8 g[];", 1, 62, "has no size"),
    ("H .global .u32 g[2] = {1, 2, 3};", 1, 77, "too many values"),
    ("H .global .u8 g = 256;", 1, 66, "does not fit .u8"),
    (
        "H .entry k() { .reg .b32 %a; mapa.shared::cluster.u32 %a, %a, 0; }",
        1,
        77,
        "needs `.version 7.8` and `.target sm_90`",
    ),
    (
        "H .entry k() { wgmma.fence.sync.aligned; }",
        1,
        63,
        "needs `.version 8.0` and `.target sm_90a`",
    ),
    (
        "H .entry k() { .reg .b32 %a; .reg .b16 %b; cvt.f32.bf16 %a, %b; }",
        1,
        91,
        "needs `.version 7.1`",
    ),
];

#[test]
fn modules() {
    let mut wrong = String::new();
    for (text, line, column, fragment) in MODULES {
        let source = match text.strip_prefix('H') {
            Some(rest) => {
                format!(".version 7.0  .target sm_80  .address_size 64    {}", rest.trim_start())
            }
            None => (*text).to_owned(),
        };
        wrong += &answer(&source, *line, *column, fragment);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn deep_blocks() {
    let line = "{".repeat(65);
    assert_eq!(answer(&around(&line), 6, 64, "nested more than 64 deep"), "");
}

#[test]
fn the_display_names_line_and_column() {
    let why = parse(".version 7.0\n.targt sm_80").unwrap_err();
    assert!(why.to_string().starts_with("line 2, column 1: expected `.target`"), "{why}");
}
