//! Classes and costs: of examples, and over every form of the table.

use std::collections::BTreeSet;

use crate::ast::Instruction;
use crate::interpreter::counters::*;
use crate::table::{Form, Opcode, forms};

/// An instruction of `form` without operands, each choice filled with its spelling of number `pick`.
fn instance(form: &Form, number: usize, pick: usize, optional: bool) -> Instruction {
    let mut modifiers = Vec::new();
    let chosen = form.choices.iter().map(|choice| {
        if choice.optional && !optional {
            return None;
        }
        let spelling = choice.spellings.get(pick).or(choice.spellings.first())?;
        modifiers.push(spelling.replace("{8}", "16").replace("{16}", "16"));
        Some(modifiers.len() - 1)
    });
    let chosen = chosen.collect();
    Instruction {
        guard: None,
        opcode: form.opcode,
        modifiers,
        operands: Vec::new(),
        line: 1,
        column: 1,
        form: number,
        chosen,
        rules: Vec::new(),
    }
}

fn instances() -> impl Iterator<Item = Instruction> {
    let all = Opcode::ALL.iter().flat_map(|&opcode| forms(opcode).iter().enumerate());
    all.flat_map(|(number, form)| {
        let most = form.choices.iter().map(|choice| choice.spellings.len()).max().unwrap_or(1);
        (0..2 * most).map(move |at| instance(form, number, at / 2, at % 2 == 1))
    })
}

/// These instructions as the parser reads them.
fn parsed(instructions: &[&str]) -> Vec<Instruction> {
    let registers = ".reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<8>; .reg .b64 %d<8>;
        .reg .f32 %f<16>; .reg .f64 %g<8>; .shared .align 16 .b8 tile[1024];";
    let source = format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 x) {{\n{registers}\n{}\nDONE: ret;\n}}\n",
        instructions.join("\n")
    );
    let module = crate::parse(&source).unwrap_or_else(|why| panic!("{why} in {source}"));
    let mut found: Vec<_> = module.entries[0].instructions().into_iter().cloned().collect();
    found.truncate(instructions.len());
    found
}

#[test]
fn the_unit_of_every_kind_of_instruction() {
    use Class as C;
    let expected = [
        ("fma.rn.f32 %f0, %f1, %f2, %f3;", C::Fp32),
        ("mad.rn.f32 %f0, %f1, %f2, %f3;", C::Fp32),
        ("neg.f32 %f0, %f1;", C::Fp32),
        ("cvt.sat.f32.f32 %f0, %f1;", C::Fp32),
        ("fma.rn.f64 %g0, %g1, %g2, %g3;", C::Fp64),
        ("min.f64 %g0, %g1, %g2;", C::Fp64),
        ("setp.lt.f64 %p0, %g1, %g2;", C::Fp64),
        ("div.rn.f64 %g0, %g1, %g2;", C::Fp64),
        ("fma.rn.f16x2 %r0, %r1, %r2, %r3;", C::Half),
        ("cvt.f32.f16 %f0, %h0;", C::Half),
        ("fma.rn.bf16x2 %r0, %r1, %r2, %r3;", C::Bfloat),
        ("max.f32 %f0, %f1, %f2;", C::Integer),
        ("setp.lt.f32 %p0, %f1, %f2;", C::Integer),
        ("selp.f32 %f0, %f1, %f2, %p0;", C::Integer),
        ("add.u64 %d0, %d1, %d2;", C::Integer),
        ("div.u32 %r0, %r1, %r2;", C::Integer),
        ("cvt.u64.u32 %d0, %r1;", C::Integer),
        ("cvt.f32.bf16 %f0, %h0;", C::Integer),
        ("cvt.rna.tf32.f32 %r0, %f1;", C::Integer),
        ("mad.wide.u32 %d0, %r1, %r2, %d1;", C::Multiply),
        ("dp4a.s32.s32 %r0, %r1, %r2, %r3;", C::Multiply),
        ("ex2.approx.ftz.f32 %f0, %f1;", C::Special),
        ("div.rn.f32 %f0, %f1, %f2;", C::Special),
        ("rcp.approx.ftz.f64 %g0, %g1;", C::Special),
        ("popc.b32 %r0, %r1;", C::Special),
        ("cvt.f64.f32 %g0, %f1;", C::Special),
        ("cvt.rzi.s64.f32 %d0, %f1;", C::Special),
        ("cvt.rni.s32.f32 %r0, %f1;", C::Convert),
        ("cvt.rn.f32.u32 %f0, %r1;", C::Convert),
        ("cvt.rmi.f32.f32 %f0, %f1;", C::Convert),
        ("cvt.rn.f16.f32 %h0, %f1;", C::Pack),
        ("cvt.rn.bf16x2.f32 %r0, %f1, %f2;", C::Pack),
        ("mov.u32 %r0, %tid.x;", C::Move),
        ("ld.param.u64 %d0, [x];", C::Constant),
        ("shfl.sync.bfly.b32 %r0, %r1, 1, 31, -1;", C::Shuffle),
        ("vote.sync.ballot.b32 %r0, %p0, -1;", C::Vote),
        ("match.any.sync.b32 %r0, %r1, -1;", C::Match),
        ("redux.sync.add.s32 %r0, %r1, -1;", C::Reduce),
        ("wgmma.fence.sync.aligned;", C::Barrier),
        ("cp.async.wait_group 0;", C::Barrier),
        ("cp.async.bulk.commit_group;", C::Barrier),
        ("fence.acq_rel.gpu;", C::Barrier),
        ("ld.global.nc.v4.f32 {%f0,%f1,%f2,%f3}, [%d0];", C::Global),
        ("ld.f32 %f0, [%d0];", C::Global),
        ("cp.async.cg.shared.global [tile], [%d0], 16;", C::Global),
        ("st.shared.f32 [tile], %f0;", C::Shared),
        ("st.shared::cta.f32 [tile], %f0;", C::Shared),
        ("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0,%r1}, [tile];", C::Shared),
        ("ld.shared::cluster.f32 %f0, [%r0];", C::Cluster),
        ("cp.async.bulk.global.shared::cta.bulk_group [%d0], [tile], 64;", C::Bulk),
        ("red.global.add.f32 [%d0], %f0;", C::GlobalAtomic),
        ("atom.shared.add.u32 %r0, [tile], %r1;", C::SharedAtomic),
        ("bar.sync 0;", C::Barrier),
        ("bra DONE;", C::Control),
    ];
    for (instruction, (text, class)) in parsed(&expected.map(|(text, _)| text)).iter().zip(expected)
    {
        assert_eq!(crate::interpreter::counters::class(instruction), class, "{text}");
    }
}

#[test]
fn costs_as_ptxas_expands() {
    let expected = [
        ("ex2.approx.ftz.f32 %f0, %f1;", 1, 1),
        ("ex2.approx.f32 %f0, %f1;", 4, 1),
        ("ex2.approx.f16x2 %r0, %r1;", 3, 2),
        ("ex2.approx.f16 %h0, %h1;", 1, 1),
        ("lg2.approx.f32 %f0, %f1;", 4, 1),
        ("rcp.approx.f32 %f0, %f1;", 7, 1),
        ("rsqrt.approx.f32 %f0, %f1;", 4, 1),
        ("sqrt.approx.ftz.f32 %f0, %f1;", 1, 1),
        ("sin.approx.f32 %f0, %f1;", 2, 1),
        ("tanh.approx.f32 %f0, %f1;", 1, 1),
        ("tanh.approx.f16x2 %r0, %r1;", 3, 2),
        ("div.approx.ftz.f32 %f0, %f1, %f2;", 2, 1),
        ("div.full.f32 %f0, %f1, %f2;", 8, 1),
        ("mul24.lo.u32 %r0, %r1, %r2;", 3, 1),
        ("mul.lo.u64 %d0, %d1, %d2;", 4, 3),
        ("mul.wide.u32 %d0, %r1, %r2;", 1, 1),
        ("fma.rn.f32 %f0, %f1, %f2, %f3;", 1, 1),
        ("add.s64 %d0, %d1, %d2;", 2, 2),
        ("add.rn.sat.f32 %f0, %f1, %f2;", 1, 1),
        ("add.rn.f64 %g0, %g1, %g2;", 1, 1),
        ("setp.lt.f64 %p0, %g1, %g2;", 1, 1),
        ("setp.lt.s64 %p0, %d1, %d2;", 2, 2),
        ("min.s64 %d0, %d1, %d2;", 4, 4),
        ("add.sat.s32 %r0, %r1, %r2;", 5, 5),
        ("set.lt.f32.f32 %f0, %f1, %f2;", 1, 1),
        ("set.lt.u32.u32 %r0, %r1, %r2;", 2, 1),
        ("popc.b64 %r0, %d1;", 3, 2),
        ("clz.b32 %r0, %r1;", 2, 1),
        ("bfe.u32 %r0, %r1, 4, 8;", 2, 2),
        ("bfe.u32 %r0, %r1, %r2, 8;", 5, 5),
        ("bfi.b32 %r0, %r1, %r2, %r3, %r4;", 6, 6),
        ("fns.b32 %r0, %r1, %r2, %r3;", 50, 50),
        ("cvt.rna.tf32.f32 %r0, %f1;", 3, 3),
        ("mov.b32 %r0, %r1;", 0, 0),
        ("mov.b64 %d0, {%r0,%r1};", 0, 0),
        ("mov.b32 %r0, {%h0,%h1};", 1, 1),
        ("mov.u32 %r0, %tid.x;", 1, 1),
        ("cvta.to.global.u64 %d0, %d0;", 0, 0),
        ("redux.sync.add.s32 %r0, %r1, -1;", 2, 1),
        ("red.shared.add.u32 [tile], %r0;", 1, 1),
        ("red.global.add.f32 [%d0], %f0;", 1, 1),
    ];
    let instructions = parsed(&expected.map(|(text, ..)| text));
    for (instruction, (text, slots, passes)) in instructions.iter().zip(expected) {
        assert_eq!(cost(instruction), Cost { slots, passes, looped: false }, "{text}");
    }
    for instruction in
        parsed(&["red.shared.add.f32 [tile], %f0;", "atom.shared.max.u64 %d0, [tile], %d1;"])
    {
        assert!(cost(&instruction).looped, "{}", instruction.opcode);
    }
}

#[test]
fn the_tensor_cores_tell_formats_apart() {
    let (f4, r4, r2) = ("{%f0,%f1,%f2,%f3}", "{%r0,%r1,%r2,%r3}", "{%r0,%r1}");
    let sums = "{%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7}";
    let expected = [
        ("m16n8k16.row.col.f32.bf16.bf16.f32", [f4, r4, r2, f4], Format::HalfToSingle, 2048),
        ("m16n8k16.row.col.f16.f16.f16.f16", [r2, r4, r2, r2], Format::HalfToHalf, 2048),
        ("m16n8k8.row.col.f32.tf32.tf32.f32", [f4, r4, r2, f4], Format::Tf32, 1024),
        ("m16n8k32.row.col.s32.s8.u8.s32", [r4, r4, r2, r4], Format::Int8, 4096),
        ("m16n8k32.row.col.f32.e4m3.e5m2.f32", [f4, r4, r2, f4], Format::Fp8, 4096),
    ];
    for (shape, operands, format, count) in expected {
        let text = format!("mma.sync.aligned.{shape} {};", operands.join(", "));
        let instruction = &parsed(&[&text])[0];
        assert_eq!(class(instruction), Class::Tensor(format), "{text}");
        assert_eq!(products(instruction), count, "{text}");
    }
    let text = format!(
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {sums}, %d0, %d1, %p0, 1, 1, 0, 0;"
    );
    let instruction = &parsed(&[&text])[0];
    assert_eq!(class(instruction), Class::Warpgroup(Format::HalfToSingle));
    assert_eq!(products(instruction), 16 * 16 * 16, "a quarter of m64 is a warp's");
}

#[test]
fn every_class_has_an_instruction_and_a_name_of_its_own() {
    let met: BTreeSet<Class> = instances().map(|one| class(&one)).collect();
    let names: BTreeSet<String> = met.iter().map(Class::to_string).collect();
    assert_eq!(names.len(), met.len());
    // 23 plain ones, six formats of `mma` and five of `wgmma`, which has no f64.
    assert_eq!(met.len(), 34, "{met:?}");
}

#[test]
fn the_unit_gets_what_is_issued_or_less() {
    for instruction in instances() {
        let Cost { slots, passes, .. } = cost(&instruction);
        let at = format!("{}.{}", instruction.opcode, instruction.modifiers.join("."));
        assert!(passes <= slots, "{at}");
        assert_eq!(slots == 0, passes == 0, "{at}");
        let tensor = matches!(class(&instruction), Class::Tensor(_) | Class::Warpgroup(_));
        assert_eq!(products(&instruction) > 0, tensor, "{at}");
    }
}
