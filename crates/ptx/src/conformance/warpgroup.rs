//! `wgmma` and the swizzles of its tiles, spec 3.16: sm_90a.
//!
//! D = A B with A 64 by 16 and B 16 by 64, small integers in bf16: exact in every mode, and 4096 elements that
//! a layout read otherwise would change. The input holds the tiles as they lie in shared memory, swizzle included.

use super::fragment::Fragment;
use super::{Program, Target};

/// How a tile of 16-bit elements lies in shared memory.
#[derive(Clone, Copy)]
struct Layout {
    name: &'static str,
    /// Bits 62 and 63 of the descriptor.
    mode: u64,
    /// Bytes of a swizzled row: 16 without swizzle.
    span: u32,
    /// Bits of the address that move: those of the mask above bit 7 go to bit 4.
    mask: u32,
}

const LAYOUTS: [Layout; 4] = [
    Layout { name: "no swizzle", mode: 0, span: 16, mask: 0 },
    Layout { name: "32-byte swizzle", mode: 3, span: 32, mask: 1 },
    Layout { name: "64-byte swizzle", mode: 2, span: 64, mask: 3 },
    Layout { name: "128-byte swizzle", mode: 1, span: 128, mask: 7 },
];

pub(super) fn programs() -> Vec<Program> {
    let both =
        LAYOUTS.iter().flat_map(|layout| [false, true].map(|mn_major| product(layout, mn_major)));
    both.chain([scaled(), registers()]).collect()
}

impl Layout {
    /// Byte offset of element (mn, k) of a tile of 64 by 16, before the swizzle.
    fn place(&self, mn_major: bool, mn: u32, k: u32) -> u32 {
        let (leading, stride) = self.strides(mn_major);
        let per_row = self.span / 2;
        match (mn_major, self.mask) {
            (false, 0) => mn % 8 * 16 + mn / 8 * stride + k % 8 * 2 + k / 8 * leading,
            (false, _) => mn % 8 * self.span + mn / 8 * stride + k * 2,
            (true, 0) => mn % 8 * 2 + mn / 8 * stride + k % 8 * 16 + k / 8 * leading,
            (true, _) => {
                mn % per_row * 2 + mn / per_row * leading + k % 8 * self.span + k / 8 * stride
            }
        }
    }

    /// LBO and SBO in bytes: blocks lie one behind the other, without holes.
    fn strides(&self, mn_major: bool) -> (u32, u32) {
        match (mn_major, self.mask) {
            (false, 0) => (128, 256),
            (false, _) => (16, 8 * self.span),
            (true, 0) => (128, 256),
            // Two groups of eight k, then the next block of columns.
            (true, _) => (16 * self.span, 8 * self.span),
        }
    }

    /// The offset in memory: tiles begin at a multiple of the swizzle's period.
    fn swizzled(&self, offset: u32) -> u32 {
        offset ^ (offset >> 7 & self.mask) << 4
    }

    fn descriptor(&self, mn_major: bool) -> u64 {
        let (leading, stride) = self.strides(mn_major);
        u64::from(leading / 16) << 16 | u64::from(stride / 16) << 32 | self.mode << 62
    }

    /// The words of a tile in memory.
    fn tile(&self, mn_major: bool, element: fn(u32, u32) -> i64) -> Vec<u64> {
        let mut words = vec![0; TILE];
        for (mn, k) in (0..64).flat_map(|mn| (0..16).map(move |k| (mn, k))) {
            let at = self.swizzled(self.place(mn_major, mn, k));
            if let Some(word) = words.get_mut(at as usize / 4) {
                *word |= bf16(element(mn, k)) << (at % 4 * 8);
            }
        }
        words
    }
}

/// Words of the largest tile: 64 rows of 128 bytes.
const TILE: usize = 2048;

fn bf16(value: i64) -> u64 {
    u64::from((value as f32).to_bits() >> 16)
}

fn a(row: u32, k: u32) -> i64 {
    i64::from((row * 5 + k * 3 + row / 9) % 9) - 4
}

fn b(col: u32, k: u32) -> i64 {
    i64::from((col * 7 + k * 2 + k / 5 + col / 11) % 9) - 4
}

/// Element `i` of a thread's D.
fn place(thread: u32, i: u32) -> (u32, u32) {
    let (warp, lane) = (thread / 32, thread % 32);
    (16 * warp + lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2)
}

/// What a thread must hold: `initial` plus `sign` times the product.
fn sums(thread: u32, initial: i64, sign: i64) -> Vec<u64> {
    let element = |i| {
        let (row, col) = place(thread, i);
        let product: i64 = (0..16).map(|k| a(row, k) * b(col, k)).sum();
        u64::from(((initial + sign * product) as f32).to_bits())
    };
    (0..32).map(element).collect()
}

/// Stores a thread's 16 words of a tile, `a0` … or `b0` ….
fn store(register: char, tile: &str) -> String {
    let quad = |at: usize| {
        let [p, q, r, s] = [0, 1, 2, 3].map(|next| format!("%{register}{}", at + next));
        format!("st.shared.v4.b32 [%at+{}], {{{p}, {q}, {r}, {s}}};", at * 4)
    };
    let address = format!("mov.u32 %at, {tile};\nmad.lo.u32 %at, %thread, 64, %at;");
    [address].into_iter().chain((0..16).step_by(4).map(quad)).collect::<Vec<_>>().join("\n")
}

/// The descriptor of `tile` in the register of `name`.
fn describe(name: &str, tile: &str, layout: &Layout, mn_major: bool) -> String {
    format!(
        "mov.u32 %at, {tile};
        bfe.u32 %at, %at, 4, 14;
        cvt.u64.u32 {name}, %at;
        or.b64 {name}, {name}, {:#x};",
        layout.descriptor(mn_major)
    )
}

fn list(register: char, count: usize) -> String {
    let each: Vec<String> = (0..count).map(|at| format!("%{register}{at}")).collect();
    format!("{{{}}}", each.join(", "))
}

/// The multiplication behind the stores: D begins as `%c` everywhere.
fn multiply(operands: &str) -> String {
    let begin: Vec<String> = (0..32).map(|at| format!("mov.f32 %d{at}, %c;")).collect();
    format!(
        "fence.proxy.async.shared::cta;
        bar.sync 0;
        {}
        wgmma.fence.sync.aligned;
        wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {}, {operands};
        wgmma.commit_group.sync.aligned;
        wgmma.wait_group.sync.aligned 0;",
        begin.join("\n"),
        list('d', 32)
    )
}

fn from_memory(name: &str, layout: &Layout, mn_major: bool, scales: &str) -> Fragment {
    let transposed = u8::from(mn_major);
    let body = format!(
        "{{ .shared .align 1024 .b32 first[{TILE}]; .shared .align 1024 .b32 second[{TILE}];
        .reg .b32 %at; .reg .b64 %left, %right;
        {}
        {}
        {}
        {}
        {} }}",
        store('a', "first"),
        store('b', "second"),
        describe("%left", "first", layout, mn_major),
        describe("%right", "second", layout, mn_major),
        multiply(&format!("%left, %right, {scales}, {transposed}, {transposed}")),
    );
    let signature = "a:b32*16 b:b32*16 c:f32 -> d:f32*32";
    Fragment::new(name, signature, &body).on("8.0", Target::Sm90a).block(128)
}

/// A thread's words of both tiles, and 7.0 as the initial D.
fn inputs(layout: &Layout, mn_major: bool, thread: usize) -> Vec<u64> {
    let own = |tile: Vec<u64>| tile.into_iter().skip(thread * 16).take(16);
    let mut words: Vec<u64> = own(layout.tile(mn_major, a)).collect();
    words.extend(own(layout.tile(mn_major, b)));
    words.push(7.0_f32.to_bits().into());
    words
}

/// Both operands in the same layout; D before the product does not count.
fn product(layout: &Layout, mn_major: bool) -> Program {
    let major = if mn_major { "MN" } else { "K" };
    let name = format!("wgmma, {major}-major, {}", layout.name);
    from_memory(&name, layout, mn_major, "0, 1, 1")
        .rows(128, |thread| (inputs(layout, mn_major, thread), sums(thread as u32, 0, 1)))
}

/// D minus the product.
fn scaled() -> Program {
    let layout = &LAYOUTS[3];
    from_memory("wgmma, D kept and A negated", layout, false, "1, -1, 1")
        .rows(128, |thread| (inputs(layout, false, thread), sums(thread as u32, 7, -1)))
}

/// A in registers: the fragment of spec 3.16 is that of m16n8k16, a warp every 16 rows.
fn registers() -> Program {
    let layout = &LAYOUTS[1];
    let body = format!(
        "{{ .shared .align 1024 .b32 second[{TILE}]; .reg .b32 %at; .reg .b64 %right;
        {}
        {}
        {} }}",
        store('b', "second"),
        describe("%right", "second", layout, false),
        multiply("{%a0, %a1, %a2, %a3}, %right, 1, 1, 1, 0"),
    );
    let signature = "a:b32*4 b:b32*16 c:f32 -> d:f32*32";
    let fragment = Fragment::new("wgmma, A in registers", signature, &body);
    fragment.on("8.0", Target::Sm90a).block(128).rows(128, |thread| {
        let (warp, lane) = (thread as u32 / 32, thread as u32 % 32);
        let element = |i: u32| {
            let row = 16 * warp + lane / 4 + 8 * (i / 2 % 2);
            bf16(a(row, 2 * (lane % 4) + i % 2 + 8 * (i / 4)))
        };
        let mut words: Vec<u64> =
            (0..4).map(|at| element(2 * at) | element(2 * at + 1) << 16).collect();
        words.extend(layout.tile(false, b).into_iter().skip(thread * 16).take(16));
        words.push(7.0_f32.to_bits().into());
        (words, sums(thread as u32, 7, 1))
    })
}
