//! `mma.sync`, spec 3.12: who holds which element, and sums.
//!
//! For the layouts A is one at a single (row, k) and zero elsewhere, and B(k, n) is another number at each place:
//! D must hold row k of B in that row and C elsewhere. A warp for each position, so every element of A, B, C
//! and D is told from every other.

use super::fragment::Fragment;
use super::{Program, Target};

/// An element type: how a small integer is written in it, and how many fit in a register.
#[derive(Clone, Copy, PartialEq)]
enum Element {
    F16,
    Bf16,
    Tf32,
    F64,
    I8,
}

impl Element {
    fn bits(self, value: i64) -> u64 {
        let single = u64::from((value as f32).to_bits());
        match self {
            Self::F16 => half(value),
            Self::Bf16 => single >> 16,
            Self::Tf32 => single,
            Self::F64 => (value as f64).to_bits(),
            Self::I8 => value as u64 & 0xFF,
        }
    }

    fn width(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 16,
            Self::Tf32 => 32,
            Self::F64 => 64,
            Self::I8 => 8,
        }
    }
}

/// An integer below 2049 in magnitude as an f16.
fn half(value: i64) -> u64 {
    let sign = u64::from(value < 0) << 15;
    let magnitude = value.unsigned_abs();
    match magnitude.checked_ilog2() {
        None => 0,
        Some(log) => sign | (u64::from(log) + 15) << 10 | (magnitude << 10 >> log & 0x3FF),
    }
}

/// Where element `i` of a lane's fragment lies: (row or k, k or column).
type Place = fn(lane: usize, i: usize) -> (usize, usize);

/// One form of the instruction, its fragments as spec 3.12 tabulates them.
struct Product {
    instruction: &'static str,
    k: usize,
    rows: usize,
    element: Element,
    /// The type of an element of C and D, and of their registers.
    sum: Sum,
    a: Place,
    b: Place,
    version: &'static str,
    target: Target,
}

#[derive(Clone, Copy, PartialEq)]
enum Sum {
    F16,
    F32,
    F64,
    S32,
}

impl Sum {
    fn bits(self, value: i64) -> u64 {
        match self {
            Self::F16 => half(value),
            Self::F32 => u64::from((value as f32).to_bits()),
            Self::F64 => (value as f64).to_bits(),
            Self::S32 => value as u64 & u64::from(u32::MAX),
        }
    }

    fn width(self) -> usize {
        match self {
            Self::F16 => 16,
            Self::F32 | Self::S32 => 32,
            Self::F64 => 64,
        }
    }
}

const A16_K16: Place = |l, i| (l / 4 + 8 * (i / 2 % 2), 2 * (l % 4) + i % 2 + 8 * (i / 4));
const A16_K8: Place = |l, i| (l / 4 + 8 * (i / 2), 2 * (l % 4) + i % 2);
const A32_K8: Place = |l, i| (l / 4 + 8 * (i % 2), l % 4 + 4 * (i / 2));
const A32_K4: Place = |l, i| (l / 4 + 8 * i, l % 4);
const A8_K32: Place = |l, i| (l / 4 + 8 * (i / 4 % 2), 4 * (l % 4) + i % 4 + 16 * (i / 8));
const A8_K16: Place = |l, i| (l / 4 + 8 * (i / 4), 4 * (l % 4) + i % 4);
const A64_M8: Place = |l, _| (l / 4, l % 4);
const B16: Place = |l, i| (2 * (l % 4) + i % 2 + 8 * (i / 2), l / 4);
const B32: Place = |l, i| (l % 4 + 4 * i, l / 4);
const B8: Place = |l, i| (4 * (l % 4) + i % 4 + 16 * (i / 4), l / 4);

/// C and D.
fn sum_place(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
}

macro_rules! product {
    ($text:literal, $rows:literal, $k:literal, $element:ident, $sum:ident, $a:ident, $b:ident) => {
        product!($text, $rows, $k, $element, $sum, $a, $b, "7.1", Sm80)
    };
    ($text:literal, $rows:literal, $k:literal, $element:ident, $sum:ident, $a:ident, $b:ident,
     $version:literal, $target:ident) => {
        Product {
            instruction: concat!("mma.sync.aligned.", $text),
            rows: $rows,
            k: $k,
            element: Element::$element,
            sum: Sum::$sum,
            a: $a,
            b: $b,
            version: $version,
            target: Target::$target,
        }
    };
}

const PRODUCTS: &[Product] = &[
    product!("m16n8k8.row.col.f32.f16.f16.f32", 16, 8, F16, F32, A16_K8, B16),
    product!("m16n8k8.row.col.f16.f16.f16.f16", 16, 8, F16, F16, A16_K8, B16),
    product!("m16n8k8.row.col.f32.bf16.bf16.f32", 16, 8, Bf16, F32, A16_K8, B16),
    product!("m16n8k16.row.col.f32.f16.f16.f32", 16, 16, F16, F32, A16_K16, B16),
    product!("m16n8k16.row.col.f16.f16.f16.f16", 16, 16, F16, F16, A16_K16, B16),
    product!("m16n8k16.row.col.f32.bf16.bf16.f32", 16, 16, Bf16, F32, A16_K16, B16),
    product!("m16n8k4.row.col.f32.tf32.tf32.f32", 16, 4, Tf32, F32, A32_K4, B32),
    product!("m16n8k8.row.col.f32.tf32.tf32.f32", 16, 8, Tf32, F32, A32_K8, B32),
    product!("m16n8k16.row.col.s32.s8.s8.s32", 16, 16, I8, S32, A8_K16, B8),
    product!("m16n8k32.row.col.s32.s8.s8.s32", 16, 32, I8, S32, A8_K32, B8),
    product!("m8n8k4.row.col.f64.f64.f64.f64", 8, 4, F64, F64, A64_M8, B32),
    product!("m16n8k4.row.col.f64.f64.f64.f64", 16, 4, F64, F64, A32_K4, B32, "7.8", Sm90),
    product!("m16n8k8.row.col.f64.f64.f64.f64", 16, 8, F64, F64, A32_K8, B32, "7.8", Sm90),
    product!("m16n8k16.row.col.f64.f64.f64.f64", 16, 16, F64, F64, A32_K8, B32, "7.8", Sm90),
];

pub(super) fn programs() -> Vec<Program> {
    let mut all: Vec<Program> = Vec::new();
    for product in PRODUCTS {
        all.extend([layout(product), integers(product)]);
    }
    all.extend([extremes(), saturation(), wrapping(), unsigned(), specials()]);
    all
}

/// Elements of a lane packed into its registers, element 0 lowest.
fn packed(count: usize, width: usize, element: impl Fn(usize) -> u64) -> Vec<u64> {
    let register = width.max(32);
    let each = register / width;
    let pack = |at: usize| (0..each).map(|i| element(at * each + i) << (i * width)).sum();
    (0..count / each).map(pack).collect()
}

impl Product {
    /// The elements of a lane: of A, of B, of C.
    fn counts(&self) -> [usize; 3] {
        [self.rows * self.k / 32, self.k * 8 / 32, self.rows * 8 / 32]
    }

    fn fragment(&self, name: &str) -> Fragment {
        let [a, b, c] = self.counts();
        let width = self.element.width();
        let registers = |count: usize, width: usize| count * width / width.max(32);
        let operand = match self.element {
            Element::F64 => "f64",
            _ => "b32",
        };
        let sum = match self.sum {
            Sum::F16 => "b32",
            Sum::F32 => "f32",
            Sum::F64 => "f64",
            Sum::S32 => "b32",
        };
        let (a, b, c) = (registers(a, width), registers(b, width), registers(c, self.sum.width()));
        let list = |name: char, count: usize| {
            let each: Vec<String> = (0..count).map(|at| format!("%{name}{at}")).collect();
            format!("{{{}}}", each.join(", "))
        };
        let body = format!(
            "{} {}, {}, {}, {};",
            self.instruction,
            list('d', c),
            list('a', a),
            list('b', b),
            list('c', c)
        );
        let signature = format!("a:{operand}*{a} b:{operand}*{b} c:{sum}*{c} -> d:{sum}*{c}");
        Fragment::new(name, &signature, &body).on(self.version, self.target)
    }

    /// The inputs and outputs of `lane`, where A, B and C are these functions of the place.
    fn lane(
        &self,
        lane: usize,
        a: &dyn Fn(usize, usize) -> i64,
        b: &dyn Fn(usize, usize) -> i64,
        c: &dyn Fn(usize, usize) -> i64,
    ) -> (Vec<u64>, Vec<u64>) {
        let [a_count, b_count, c_count] = self.counts();
        let at = |place: (usize, usize), of: &dyn Fn(usize, usize) -> i64| of(place.0, place.1);
        let operand = |count, place: Place, of: &dyn Fn(usize, usize) -> i64| {
            packed(count, self.element.width(), |i| self.element.bits(at(place(lane, i), of)))
        };
        let sums = |of: &dyn Fn(usize, usize) -> i64| {
            packed(c_count, self.sum.width(), |i| self.sum.bits(at(sum_place(lane, i), of)))
        };
        let product =
            |row, col| c(row, col) + (0..self.k).map(|k| a(row, k) * b(k, col)).sum::<i64>();
        let mut inputs = operand(a_count, self.a, a);
        inputs.extend(operand(b_count, self.b, b));
        inputs.extend(sums(c));
        (inputs, sums(&product))
    }
}

/// A warp for every (row, k) at which A is one.
fn layout(product: &Product) -> Program {
    let positions = product.rows * product.k;
    product.fragment(&format!("{}: layout", product.instruction)).rows(positions * 32, |row| {
        let (position, lane) = (row / 32, row % 32);
        let one = (position / product.k, position % product.k);
        let a = |row, k| i64::from((row, k) == one);
        // 1 … 8 k: exact in every type; as s8 the upper half is negative, and 0 stands once.
        let b = |k: usize, n: usize| match product.element {
            Element::I8 => i64::from((8 * k + n + 1) as u8 as i8),
            _ => (8 * k + n + 1) as i64,
        };
        product.lane(lane, &a, &b, &|row, n| -((8 * row + n) as i64))
    })
}

/// Integers so small that every order and rounding of the sum gives the same.
fn integers(product: &Product) -> Program {
    product.fragment(&format!("{}: integers", product.instruction)).rows(32, |lane| {
        let small = |seed: usize| (seed * 7 + seed / 5) as i64 % 9 - 4;
        let a = |row, k| small(3 * row + 11 * k);
        let b = |k, n| small(5 * k + 2 * n + 1);
        product.lane(lane, &a, &b, &|row, n| small(row + n) * 3)
    })
}

/// A program of the s8 form with constant operands.
fn constant(name: &str, instruction: &str, a: u64, b: u64, c: u64, result: u64) -> Program {
    let body = format!(
        "{instruction} {{%d0, %d1, %d2, %d3}}, {{%a, %a, %a, %a}}, {{%b, %b}}, {{%c, %c, %c, %c}};"
    );
    Fragment::new(name, "b32 b32 b32 -> d:b32*4", &body)
        .rows(32, |_| (vec![a, b, c], vec![result; 4]))
}

const BYTES: &str = "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32";

/// 32 · (−128)² = 524288.
fn extremes() -> Program {
    constant("mma s8: extremes", BYTES, 0x8080_8080, 0x8080_8080, 0, 524_288)
}

fn saturation() -> Program {
    let clamped = "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32";
    constant("mma s8: satfinite", clamped, 1, 0x0101_0101, 0x7FFF_FFFF, 0x7FFF_FFFF)
}

/// Without `.satfinite` the sum wraps. A has a one in each register's lowest byte: 4 lanes, 2 registers of a row.
fn wrapping() -> Program {
    constant("mma s8: wraps", BYTES, 1, 0x0101_0101, 0x7FFF_FFFF, 0x8000_0007)
}

fn unsigned() -> Program {
    let mixed = "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32";
    let product = (255 * -128 * 32_i64) as u64 & ALL;
    constant("mma u8 by s8", mixed, ALL, 0x8080_8080, 0, product)
}

const ALL: u64 = u32::MAX as u64;

/// Infinity propagates, infinity times zero and NaN give NaN: a warp each.
fn specials() -> Program {
    let body = "
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
        {%d0, %d1, %d2, %d3}, {%a, %a, %a, %a}, {%b, %b}, {%c, %c, %c, %c};";
    Fragment::new("mma f16: infinities and NaN", "b32 b32 f32 -> d:f32*4", body).rows(160, |row| {
        let (a, b, c, result) = [
            (0x7C00_7C00, 0x3C00_3C00, 0, 0x7F80_0000),
            (0x7C00_7C00, 0, 0, 0x7FFF_FFFF),
            (0x7E00_3C00, 0x3C00_3C00, 0, 0x7FFF_FFFF),
            (0x3C00_3C00, 0x3C00_3C00, 0xFF80_0000, 0xFF80_0000),
            (0x7C00_7C00, 0x3C00_3C00, 0xFF80_0000, 0x7FFF_FFFF),
        ][row / 32];
        (vec![a, b, c], vec![result; 4])
    })
}
