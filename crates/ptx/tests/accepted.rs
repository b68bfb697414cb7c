//! Programs that must parse, and what the tree says about them. All of them assemble with ptxas 13.0.

use warpwright_ptx::{
    Base, Directive, Immediate, Module, Opcode, Operand, Space, Statement, Type, parse,
};

const SKELETON: &str = include_str!("kernels/skeleton.ptx");
const TILE: &str = include_str!("kernels/tile.ptx");
const PRODUCT: &str = include_str!("kernels/product.ptx");
const CLUSTER: &str = include_str!("kernels/cluster.ptx");

fn parsed(source: &str) -> Module {
    match parse(source) {
        Ok(module) => module,
        Err(why) => panic!("{why}"),
    }
}

/// A kernel around `body`, with registers of every kind.
fn around(body: &str) -> String {
    format!(
        ".version 8.1 .target sm_90a .address_size 64
.visible .entry k(.param .u64 x) {{
.reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<8>; .reg .b64 %d<4>; .reg .f32 %f<4>; .reg .f64 %g<4>;
{body}
}}"
    )
}

#[test]
fn the_skeleton() {
    let module = parsed(SKELETON);
    assert_eq!((module.version, module.address_size), ((7, 0), 64));
    assert_eq!(module.targets, ["sm_80"]);
    let entry = module.entry("scan_f32").expect("the kernel");
    assert_eq!(entry.line, 5);
    assert_eq!(entry.reqntid(), Some([128, 1, 1]));
    assert_eq!(entry.parameter_offsets(), [0, 8, 12]);
    assert_eq!(entry.parameter_bytes(), 16);
    let pointer = entry.parameters[0].pointer.expect("a pointer");
    assert_eq!((pointer.space, pointer.align), (Space::Global, 16));
    assert_eq!(module.variables[0].align, 128);
    assert_eq!(module.static_shared_bytes(), 0);
    let branch = entry.instructions()[3];
    assert_eq!(branch.opcode, Opcode::Bra);
    assert!(branch.guard.as_ref().is_some_and(|guard| guard.negated && guard.register == "%done"));
}

#[test]
fn a_tile_in_shared_memory() {
    let module = parsed(TILE);
    assert_eq!(module.variables[0].initial.len(), 4);
    let entry = module.entry("tile_sum").expect("the kernel");
    assert_eq!(entry.static_shared_bytes(), 32);
    assert_eq!(entry.parameter_offsets(), [0, 8, 16, 32]);
    assert_eq!(entry.parameter_bytes(), 64);
    assert_eq!(entry.parameters[3].array, Some(32));
    assert_eq!(entry.directives, [Directive::MaxThreads([256, 1, 1]), Directive::MinBlocks(2)]);
    let instructions = entry.instructions();
    let octal = instructions
        .iter()
        .rfind(|one| one.opcode == Opcode::Setp)
        .and_then(|one| one.operands.last())
        .expect("setp");
    assert_eq!(octal.operand, Operand::Immediate(Immediate::Integer(15)));
    let load = instructions.iter().find(|one| one.has("L1::no_allocate"));
    let load = load.expect("the hinted load");
    assert_eq!(load.ty("t"), Some(Type::F32));
    assert_eq!(load.chosen("v"), Some("v4"));
    assert!(load.rule(0).is_some_and(|rule| rule.destination));
    let targets = entry.body.statements.iter().find_map(|one| match one {
        Statement::Targets { labels, .. } => Some(labels.len()),
        _ => None,
    });
    assert_eq!(targets, Some(2));
}

#[test]
fn tensor_cores_and_asynchronous_copies() {
    let module = parsed(PRODUCT);
    let entry = module.entry("product").expect("the kernel");
    assert_eq!(entry.static_shared_bytes(), 1024);
    let instructions = entry.instructions();
    let copy = instructions.iter().find(|one| one.has("ca")).expect("cp.async.ca");
    assert_eq!(copy.chosen("h"), None);
    match &copy.operands[0].operand {
        Operand::Address { base, offset } => {
            assert_eq!((base, *offset), (&Base::Symbol("tile".into()), 0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn clusters_and_bulk_copies() {
    let module = parsed(CLUSTER);
    let entry = module.entry("cluster_product").expect("the kernel");
    assert_eq!(entry.cluster(), Some([2, 1, 1]));
    assert_eq!(entry.parameters[0].size(), 128);
    assert_eq!(entry.parameter_offsets(), [0, 128]);
    let copy = entry.instructions().into_iter().find(|one| one.has("tensor")).expect("the copy");
    assert!(matches!(&copy.operands[1].operand,
        Operand::Tensor { coordinates, .. } if coordinates.len() == 2));
}

#[test]
fn literals_keep_their_bits() {
    let source = around(
        "mov.u32 %r0, 0x1F; mov.u32 %r0, 0b1011; mov.u32 %r0, 010; mov.u32 %r0, 7U;
         mov.u32 %r0, -1; mov.f32 %f0, 0d3FF0000000000000;",
    );
    let module = parsed(&source);
    let bits: Vec<u64> = module.entries[0]
        .instructions()
        .iter()
        .filter_map(|one| match one.operands[1].operand {
            Operand::Immediate(value) => Some(value.bits(one.ty("t")?)),
            _ => None,
        })
        .collect();
    assert_eq!(bits, [31, 11, 8, 7, 0xFFFF_FFFF, 0x3F80_0000]);
}

#[test]
fn small_things_that_are_legal() {
    for body in [
        "bra L; { bra L; } L:",
        ".reg .b32 add; mov.u32 add, 1;",
        "{ .reg .b32 %twin; } { .reg .f32 %twin; }",
        ".reg .b32 %a1<8>; .reg .b32 %a<10>; mov.u32 %a10, %a9;",
        "ld.shared.u32 %r0, [16];",
        "setp.eq.u32 _|%p1, %r1, 1;",
        "ld.global.b16 %f0, [%d0];",
        "cvt.f32.f32 %f0, %f1; cvt.rni.f32.f32 %f0, %f1; cvt.u8.u32 %r0, %r1;",
        "{ } ret; // nothing",
        "mov .u32 %r0 , %tid .x ;",
    ] {
        parsed(&around(body));
    }
}

#[test]
fn absurd_sizes_saturate() {
    let module = parsed(
        ".version 7.0 .target sm_80 .address_size 64 \
         .shared .b64 a[4294967295][4294967295]; .shared .align 16 .b64 b[4294967295];",
    );
    assert_eq!(module.static_shared_bytes(), u64::MAX);
}
