//! Atomics, spec 3.9: what they return and what they leave behind.

use super::fragment::Fragment;
use super::{Program, Target};

pub(super) fn programs() -> Vec<Program> {
    let mut all: Vec<Program> = Vec::new();
    for space in ["global", "shared"] {
        all.extend(OPERATIONS.iter().map(|case| operation(space, case)));
        all.push(swap(space));
        all.push(counter(space));
    }
    all.extend([reduction(), subnormal("shared", 2), subnormal("global", 0)]);
    all.extend([half_pairs(), bfloat_pairs(), vector()]);
    all
}

/// Instruction, type, and (in memory, operand, left behind).
type Case = (&'static str, &'static str, &'static [(u64, u64, u64)]);

const ALL: u64 = u32::MAX as u64;

const OPERATIONS: &[Case] = &[
    ("add.u32", "b32", &[(5, 7, 12), (ALL, 2, 1)]),
    ("add.s32", "b32", &[(5, ALL, 4)]),
    ("add.u64", "b64", &[(ALL, 1, 1 << 32), (u64::MAX, 1, 0)]),
    (
        "add.f32",
        "f32",
        &[(0x3F80_0000, 0x3300_0000, 0x3F80_0000), (0x4000_0000, 0x3F80_0000, 0x4040_0000)],
    ),
    (
        "add.f64",
        "f64",
        &[(0x3FF0_0000_0000_0000, 0x3FF0_0000_0000_0000, 0x4000_0000_0000_0000), (1, 1, 2)],
    ),
    ("min.u32", "b32", &[(ALL, 1, 1), (1, ALL, 1)]),
    ("min.s32", "b32", &[(ALL, 1, ALL), (1, ALL, ALL)]),
    ("max.u32", "b32", &[(ALL, 1, ALL), (1, ALL, ALL)]),
    ("max.s32", "b32", &[(ALL, 1, 1), (1, ALL, 1)]),
    ("min.s64", "b64", &[(u64::MAX, 1, u64::MAX)]),
    ("max.u64", "b64", &[(u64::MAX, 1, u64::MAX)]),
    ("inc.u32", "b32", &[(4, 5, 5), (5, 5, 0), (9, 5, 0), (0, 0, 0)]),
    ("dec.u32", "b32", &[(0, 5, 5), (7, 5, 5), (5, 5, 4), (1, 5, 0)]),
    ("and.b32", "b32", &[(0xFF00, 0x0FF0, 0x0F00)]),
    ("or.b32", "b32", &[(0xFF00, 0x0FF0, 0xFFF0)]),
    ("xor.b32", "b32", &[(0xFF00, 0x0FF0, 0xF0F0)]),
    ("and.b64", "b64", &[(u64::MAX, 0x0F << 60, 0x0F << 60)]),
    ("exch.b32", "b32", &[(3, 4, 4)]),
    ("exch.b64", "b64", &[(3, 1 << 40, 1 << 40)]),
];

/// The declarations of a word of memory in `space`, holding `%a`, and its address.
fn word(space: &str, ty: &str) -> (String, &'static str) {
    if space == "shared" {
        // A word of its own for each thread of the block.
        let body = format!(
            "{{ .shared .align 8 .b64 tile[32]; .reg .b32 %at;
            mov.u32 %at, tile;
            mad.lo.u32 %at, %thread, 8, %at;
            st.shared.{ty} [%at], %a;"
        );
        (body, "%at")
    } else {
        (format!("{{ st.global.{ty} [%out], %a;"), "%out")
    }
}

fn operation(space: &str, (op, ty, rows): &Case) -> Program {
    let (declared, at) = word(space, ty);
    let body = format!(
        "{declared}
        atom.{space}.{op} %d, [{at}], %b;
        ld.relaxed.gpu.{space}.{ty} %e, [{at}]; }}"
    );
    let name = format!("atom.{space}.{op}");
    Fragment::new(&name, &format!("{ty} {ty} -> {ty} {ty}"), &body).block(rows.len() as u32).rows(
        rows.len(),
        |row| {
            let (old, operand, new) = rows[row];
            (vec![old, operand], vec![old, new])
        },
    )
}

/// `cas` returns what was there, whether it stored or not.
fn swap(space: &str) -> Program {
    let (declared, at) = word(space, "b32");
    let body = format!(
        "{declared}
        atom.{space}.cas.b32 %d, [{at}], %b, %c;
        ld.relaxed.gpu.{space}.b32 %e, [{at}]; }}"
    );
    Fragment::new(&format!("atom.{space}.cas.b32"), "b32 b32 b32 -> b32 b32", &body).block(2).rows(
        2,
        |row| {
            let new = [9, 5][row];
            (vec![5, [5, 6][row], 9], vec![5, new])
        },
    )
}

/// A block draws tickets from one word: every number comes exactly once. Behind `in` are zeros.
fn counter(space: &str) -> Program {
    let first = match space {
        "shared" => {
            "mov.u64 %ticket, tile; setp.eq.u32 %p, %thread, 0; @%p st.shared.b32 [tile], 0;"
        }
        _ => "ld.param.u64 %ticket, [in];",
    };
    let body = format!(
        "{{ .shared .align 4 .b32 tile; .shared .align 4 .b32 seen[64];
        .reg .b64 %ticket; .reg .b32 %number, %seen, %own;
        {first}
        mov.u32 %seen, seen;
        mad.lo.u32 %own, %thread, 4, %seen;
        st.shared.b32 [%own], 0;
        bar.sync 0;
        atom.{space}.add.u32 %number, [%ticket], 1;
        mad.lo.u32 %number, %number, 4, %seen;
        atom.shared.add.u32 %number, [%number], 1;
        bar.sync 0;
        ld.shared.b32 %d, [%own]; }}"
    );
    Fragment::new(&format!("tickets from {space} memory"), "-> b32", &body)
        .block(64)
        .rows(64, |_| (vec![], vec![1]))
}

/// `red` adds like `atom`: two blocks into the first word behind `in`, arrivals counted in the second. Who
/// comes last sees the whole sum; the others report the same number.
fn reduction() -> Program {
    let body = "
        { .reg .b64 %sum; .reg .b32 %number;
        ld.param.u64 %sum, [in];
        red.global.add.u32 [%sum], 3;
        fence.acq_rel.gpu;
        atom.global.add.u32 %number, [%sum+4], 1;
        fence.acq_rel.gpu;
        setp.eq.u32 %p, %number, 63;
        mov.b32 %d, 192;
        @%p ld.relaxed.gpu.global.b32 %d, [%sum]; }";
    Fragment::new("red.global.add.u32", "-> b32", body).rows(64, |_| (vec![], vec![192]))
}

/// Shared f32 sums keep subnormals, global ones flush them.
fn subnormal(space: &str, sum: u64) -> Program {
    let (declared, at) = word(space, "b32");
    let body = format!(
        "{declared}
        red.{space}.add.f32 [{at}], %b;
        red.{space}.add.f32 [{at}], %b;
        ld.relaxed.gpu.{space}.b32 %d, [{at}]; }}"
    );
    let name = format!("subnormal f32 sums in {space} memory");
    Fragment::new(&name, "b32 f32 -> b32", &body).block(1).rows(1, |_| (vec![0, 1], vec![sum]))
}

fn half_pairs() -> Program {
    let (declared, at) = word("global", "b32");
    let body = format!(
        "{declared}
        atom.global.add.noftz.f16x2 %d, [{at}], %b;
        ld.relaxed.gpu.global.b32 %e, [{at}]; }}"
    );
    Fragment::new("atom.global.add.noftz.f16x2", "b32 b32 -> f16x2 f16x2", &body).block(2).rows(
        2,
        |row| {
            let (old, operand, new) =
                [(0x3C00_4000, 0x3C00_3C00, 0x4000_4200), (0x0001_7BFF, 0x0001_7BFF, 0x0002_7C00)]
                    [row];
            (vec![old, operand], vec![old, new])
        },
    )
}

fn bfloat_pairs() -> Program {
    let (declared, at) = word("global", "b32");
    let body = format!(
        "{declared}
        atom.global.add.noftz.bf16x2 %d, [{at}], %b;
        ld.relaxed.gpu.global.b32 %e, [{at}]; }}"
    );
    Fragment::new("atom.global.add.noftz.bf16x2", "b32 b32 -> bf16x2 bf16x2", &body)
        .on("7.8", Target::Sm90)
        .block(1)
        .rows(1, |_| (vec![0x3F80_4000, 0x3F80_3F80], vec![0x3F80_4000, 0x4000_4040]))
}

fn vector() -> Program {
    let body = "
        { .reg .b64 %sum;
        ld.param.u64 %sum, [in];
        cvta.to.global.u64 %sum, %sum;
        red.global.add.v4.f32 [%sum], {%a, %b, %c, %x};
        ld.relaxed.gpu.global.f32 %d0, [%sum];
        ld.relaxed.gpu.global.f32 %d1, [%sum+4];
        ld.relaxed.gpu.global.f32 %d2, [%sum+8];
        ld.relaxed.gpu.global.f32 %d3, [%sum+12]; }";
    let single = |value: f32| u64::from(value.to_bits());
    Fragment::new("red.global.add.v4.f32", "f32 f32 f32 f32 -> d:f32*4", body)
        .on("8.1", Target::Sm90)
        .block(1)
        .rows(1, |_| {
            ([1.0, 2.0, 3.0, -0.5].map(single).into(), [2.0, 4.0, 6.0, -1.0].map(single).into())
        })
}
