//! ldmatrix, stmatrix, movmatrix and the swizzles of tiles, spec 3.11 and 3.14.

use super::fragment::Fragment;
use super::{Program, Target};

pub(super) fn programs() -> Vec<Program> {
    let mut all: Vec<Program> = Vec::new();
    for count in [1, 2, 4] {
        for transposed in [false, true] {
            all.push(load(count, transposed));
            all.push(store(count, transposed));
        }
    }
    all.extend([scattered(), transpose(), transpose_twice(), operand_a()]);
    all
}

/// An element of matrix `q`, told by where it is.
fn element(q: usize, row: usize, col: usize) -> u64 {
    (q * 4096 + row * 256 + col + 1) as u64
}

/// What register `q` of `lane` holds: two elements, of a row or, transposed, of a column.
fn held(q: usize, lane: usize, transposed: bool) -> u64 {
    let pair = [2 * (lane % 4), 2 * (lane % 4) + 1].map(|second| {
        if transposed { element(q, second, lane / 4) } else { element(q, lane / 4, second) }
    });
    pair[0] | pair[1] << 16
}

/// The four words of row `row` of matrix `q` as they lie in memory.
fn words(q: usize, row: usize) -> Vec<u64> {
    (0..4).map(|at| element(q, row, 2 * at) | element(q, row, 2 * at + 1) << 16).collect()
}

/// Lane 8q + r stores row r of matrix q and gives its address.
const TILE: &str = "
    .shared .align 16 .b32 tile[128]; .reg .b32 %at;
    mov.u32 %at, tile;
    mad.lo.u32 %at, %thread, 16, %at;";

fn list(count: usize, register: char) -> String {
    let each: Vec<String> = (0..count).map(|at| format!("%{register}{at}")).collect();
    format!("{{{}}}", each.join(", "))
}

fn load(count: usize, transposed: bool) -> Program {
    let trans = if transposed { ".trans" } else { "" };
    let instruction = format!("ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16");
    let body = format!(
        "{{ {TILE}
        st.shared.v4.b32 [%at], {{%a0, %a1, %a2, %a3}};
        bar.warp.sync -1;
        {instruction} {}, [%at]; }}",
        list(count, 'd')
    );
    Fragment::new(&instruction, &format!("a:b32*4 -> d:b32*{count}"), &body).rows(32, |lane| {
        let results = (0..count).map(|q| held(q, lane, transposed)).collect();
        (words(lane / 8, lane % 8), results)
    })
}

/// The inverse: the lanes give what `ldmatrix` would have given them.
fn store(count: usize, transposed: bool) -> Program {
    let trans = if transposed { ".trans" } else { "" };
    let instruction = format!("stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16");
    let body = format!(
        "{{ {TILE}
        st.shared.v4.b32 [%at], {{0, 0, 0, 0}};
        bar.warp.sync -1;
        {instruction} [%at], {};
        bar.warp.sync -1;
        ld.shared.v4.b32 {{%d0, %d1, %d2, %d3}}, [%at]; }}",
        list(count, 'a')
    );
    let fragment = Fragment::new(&instruction, &format!("a:b32*{count} -> d:b32*4"), &body);
    fragment.on("7.8", Target::Sm90).rows(32, |lane| {
        let inputs = (0..count).map(|q| held(q, lane, transposed)).collect();
        (inputs, if lane / 8 < count { words(lane / 8, lane % 8) } else { vec![0; 4] })
    })
}

/// Rows anywhere: each lane's row lies where the permutation says, 16 bytes apart from others.
fn scattered() -> Program {
    let body = "
        { .shared .align 16 .b32 tile[256]; .reg .b32 %at;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %b, 16, %at;
        st.shared.v4.b32 [%at], {%a0, %a1, %a2, %a3};
        bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0, %d1, %d2, %d3}, [%at]; }";
    Fragment::new("ldmatrix of scattered rows", "a:b32*4 b:b32 -> d:b32*4", body).rows(32, |lane| {
        let mut inputs = words(lane / 8, lane % 8);
        inputs.push((lane as u64 * 11 + 5) % 64);
        (inputs, (0..4).map(|q| held(q, lane, false)).collect())
    })
}

fn transpose() -> Program {
    let body = "movmatrix.sync.aligned.m8n8.trans.b16 %d, %a;";
    Fragment::new("movmatrix", "b32 -> b32", body)
        .on("7.8", Target::Sm80)
        .rows(32, |lane| (vec![held(0, lane, false)], vec![held(0, lane, true)]))
}

fn transpose_twice() -> Program {
    let body = "
        movmatrix.sync.aligned.m8n8.trans.b16 %d, %a;
        movmatrix.sync.aligned.m8n8.trans.b16 %d, %d;";
    Fragment::new("movmatrix twice", "b32 -> b32", body)
        .on("7.8", Target::Sm80)
        .rows(32, |lane| (vec![held(0, lane, false)], vec![held(0, lane, false)]))
}

/// The A fragment of m16n8k16 from a row-major 16 by 16 tile: row lane % 16, column 8 (lane / 16).
fn operand_a() -> Program {
    let body = "
        { .shared .align 16 .b32 tile[128]; .reg .b32 %at, %line, %half;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 16, %at;
        st.shared.v4.b32 [%at], {%a0, %a1, %a2, %a3};
        bar.warp.sync -1;
        and.b32 %line, %thread, 15;
        shr.u32 %half, %thread, 4;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %line, 32, %at;
        mad.lo.u32 %at, %half, 16, %at;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0, %d1, %d2, %d3}, [%at]; }";
    let at = |row: usize, col: usize| (row * 16 + col + 1) as u64;
    Fragment::new("ldmatrix of the A fragment", "a:b32*4 -> d:b32*4", body).rows(32, |lane| {
        let (row, col) = (lane / 2, lane % 2 * 8);
        let pair = |row: usize, col: usize| at(row, col) | at(row, col + 1) << 16;
        let inputs = (0..4).map(|word| pair(row, col + 2 * word)).collect();
        let fragment = (0..4).map(|q| pair(lane / 4 + q % 2 * 8, lane % 4 * 2 + q / 2 * 8));
        (inputs, fragment.collect())
    })
}
