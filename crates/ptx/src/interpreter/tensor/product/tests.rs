//! Every form of the table: layouts by one-hot matrices, numbers against integers and against exact sums.

use super::super::sums::random;
use super::*;

mod exactness;

/// Modifiers, and registers of A, B and C, as the specification lists them.
const FORMS: &[(&str, [usize; 3])] = &[
    ("m16n8k8.row.col.f32.f16.f16.f32", [2, 1, 4]),
    ("m16n8k8.row.col.f16.f16.f16.f16", [2, 1, 2]),
    ("m16n8k16.row.col.f32.f16.f16.f32", [4, 2, 4]),
    ("m16n8k16.row.col.f16.f16.f16.f16", [4, 2, 2]),
    ("m16n8k8.row.col.f32.bf16.bf16.f32", [2, 1, 4]),
    ("m16n8k16.row.col.f32.bf16.bf16.f32", [4, 2, 4]),
    ("m16n8k4.row.col.f32.tf32.tf32.f32", [2, 1, 4]),
    ("m16n8k8.row.col.f32.tf32.tf32.f32", [4, 2, 4]),
    ("m16n8k16.row.col.s32.s8.s8.s32", [2, 1, 4]),
    ("m16n8k16.row.col.s32.u8.s8.s32", [2, 1, 4]),
    ("m16n8k32.row.col.s32.s8.s8.s32", [4, 2, 4]),
    ("m16n8k32.row.col.s32.s8.u8.s32", [4, 2, 4]),
    ("m16n8k32.row.col.satfinite.s32.u8.u8.s32", [4, 2, 4]),
    ("m8n8k4.row.col.f64.f64.f64.f64", [1, 1, 2]),
    ("m16n8k4.row.col.f64.f64.f64.f64", [2, 1, 4]),
    ("m16n8k8.row.col.f64.f64.f64.f64", [4, 2, 4]),
    ("m16n8k16.row.col.f64.f64.f64.f64", [8, 4, 4]),
    ("m16n8k32.row.col.f32.e4m3.e4m3.f32", [4, 2, 4]),
    ("m16n8k32.row.col.f32.e5m2.e4m3.f32", [4, 2, 4]),
    ("m16n8k32.row.col.f32.e5m2.e5m2.f32", [4, 2, 4]),
];

const MODES: [Sums; 4] = [Sums::Ideal, Sums::Ampere, Sums::Hopper, Sums::Shuffled];

/// The product that this instruction forms, parsed with as many registers as the specification says.
fn product(modifiers: &str, [a, b, c]: [usize; 3]) -> Product {
    let kind = if modifiers.contains("f64") { "d" } else { "r" };
    let vector = |count: usize, first: usize| {
        let names = (first..first + count).map(|number| format!("%{kind}{number}"));
        format!("{{{}}}", names.collect::<Vec<_>>().join(","))
    };
    let source = format!(
        ".version 8.4 .target sm_90 .address_size 64
        .visible .entry k() {{ .reg .b32 %r<32>; .reg .b64 %d<32>;
        mma.sync.aligned.{modifiers} {}, {}, {}, {}; }}",
        vector(c, 0),
        vector(a, 8),
        vector(b, 16),
        vector(c, 24)
    );
    let module = crate::parse(&source).expect("a module");
    let code = module.entries[0].instructions();
    Product::of(code[0]).expect("a product")
}

fn named(modifiers: &str) -> Product {
    let (_, registers) = FORMS.iter().find(|(one, _)| *one == modifiers).expect("a form");
    product(modifiers, *registers)
}

/// Registers of a matrix whose element (row, column) has these bits.
fn spread(
    registers: usize,
    width: usize,
    at: impl Fn(usize, Place, usize) -> (usize, usize),
    mut bits: impl FnMut(usize, usize) -> u64,
) -> Vec<Row> {
    let mut rows = vec![[0; LANES]; registers];
    for place in places(registers, per_register(width)) {
        for (lane, register) in rows[place.register].iter_mut().enumerate() {
            let (row, column) = at(lane, place, per_register(width));
            *register |= bits(row, column) << (width * place.position);
        }
    }
    rows
}

/// A matrix of bits: of A, B or C.
type Bits<'a> = &'a dyn Fn(usize, usize) -> u64;

impl Product {
    /// D, element by element, for matrices of bits.
    fn of_matrices(
        &self,
        [a, b, c]: [Bits<'_>; 3],
        sums: Sums,
        seed: u64,
    ) -> [[u64; COLUMNS]; ROWS] {
        let [a_count, b_count, c_count, d_count] = self.registers();
        let a = spread(a_count, self.a.width(), fragments::left, a);
        let b = spread(b_count, self.b.width(), fragments::right, b);
        let c = spread(c_count, self.sum.width(), fragments::sum, c);
        let mut d = vec![[u64::MAX; LANES]; d_count];
        self.multiply(&refs(&a), &refs(&b), &refs(&c), sums, seed, &mut d);
        let mut result = [[0; COLUMNS]; ROWS];
        let (width, per) = (self.sum.width(), per_register(self.sum.width()));
        for place in places(d_count, per) {
            for (lane, register) in d[place.register].iter().enumerate() {
                let (row, column) = fragments::sum(lane, place, per);
                let element = register >> (width * place.position);
                result[row][column] = element & (u64::MAX >> (64 - width));
            }
        }
        result
    }
}

impl Multiplicand {
    fn value(self, bits: u64) -> f64 {
        self.decode([bits; LANES])[0]
    }
}

impl Accumulator {
    fn value(self, bits: u64) -> f64 {
        self.decode([bits; LANES])[0]
    }
}

fn refs(rows: &[Row]) -> Vec<&Row> {
    rows.iter().collect()
}

/// The bits of a small integer.
fn small(format: Multiplicand, value: i32) -> u64 {
    let value = f64::from(value);
    let bits = match format {
        Multiplicand::F64 => value.to_bits(),
        Multiplicand::Tf32 => Accumulator::F32.encode(value),
        Multiplicand::Bf16 => Accumulator::F32.encode(value) >> 16,
        Multiplicand::F16 => Accumulator::F16.encode(value),
        _ => (0..0x100).find(|&bits| format.value(bits) == value).unwrap_or(0),
    };
    assert_eq!(format.value(bits), value);
    bits
}

#[test]
fn registers_are_those_of_the_specification() {
    for &(modifiers, [a, b, c]) in FORMS {
        assert_eq!(product(modifiers, [a, b, c]).registers(), [a, b, c, c], "{modifiers}");
    }
}

#[test]
fn the_list_above_is_the_table() {
    let shapes = |text: &str| text.replace("satfinite.", "");
    let listed: Vec<String> = FORMS.iter().map(|(modifiers, _)| shapes(modifiers)).collect();
    for form in crate::table::forms(crate::Opcode::Mma) {
        let spelled = form.choices.iter().filter(|choice| !choice.optional);
        let spellings: Vec<&[String]> = spelled.map(|choice| choice.spellings.as_slice()).collect();
        let found = listed.iter().any(|one| {
            let words: Vec<&str> = one.split('.').collect();
            let rest = &spellings[spellings.len() - words.len()..];
            words.iter().zip(rest).all(|(word, some)| some.iter().any(|spelling| spelling == word))
        });
        assert!(found, "no test of {spellings:?}");
    }
}

#[test]
fn one_hot_matrices_give_one_element() {
    for &(modifiers, registers) in FORMS {
        let product = product(modifiers, registers);
        let [one_a, one_b] = [small(product.a, 1), small(product.b, 1)];
        let one = product.sum.encode(1.0);
        for index in 0..product.rows * product.depth * COLUMNS {
            let (rest, n) = (index / COLUMNS, index % COLUMNS);
            let (r, k) = (rest / product.depth, rest % product.depth);
            let d = product.of_matrices(
                [
                    &|row, depth| if (row, depth) == (r, k) { one_a } else { 0 },
                    &|depth, column| if (depth, column) == (k, n) { one_b } else { 0 },
                    &|_, _| 0,
                ],
                Sums::Ideal,
                0,
            );
            let mut expected = [[0; COLUMNS]; ROWS];
            expected[r][n] = one;
            assert_eq!(d, expected, "{modifiers} {r} {k} {n}");
        }
    }
}

#[test]
fn lane_five_in_plain_registers() {
    // A(9, 11) is the upper half of register 3 of lane 5, B(11, 1) that of register 1, C(9, 1) is of lane 4.
    let product = named("m16n8k16.row.col.f32.f16.f16.f32");
    let (mut a, mut b, mut c) = ([[0; LANES]; 4], [[0; LANES]; 2], [[0; LANES]; 4]);
    a[3][5] = 0x4000_0000;
    b[1][5] = 0x4200_0000;
    c[3][4] = 0x3F80_0000;
    let mut d = [[0; LANES]; 4];
    product.multiply(&refs(&a), &refs(&b), &refs(&c), Sums::Ideal, 0, &mut d);
    let mut expected = [[0; LANES]; 4];
    expected[3][4] = u64::from(7.0_f32.to_bits());
    assert_eq!(d, expected);
}

#[test]
fn small_integers_are_equal_in_all_modes() {
    let mut state = 1;
    for &(modifiers, registers) in FORMS {
        let product = product(modifiers, registers);
        // Unsigned formats, and 8-bit floats of few bits, hold 0 … 4 at least.
        let mut draw = |signed: bool| (random(&mut state) % 5) as i32 - if signed { 2 } else { 0 };
        let a: [[i32; DEPTH]; ROWS] =
            [[(); DEPTH]; ROWS].map(|row| row.map(|()| draw(product.a != Multiplicand::U8)));
        let b: [[i32; COLUMNS]; DEPTH] =
            [[(); COLUMNS]; DEPTH].map(|row| row.map(|()| draw(product.b != Multiplicand::U8)));
        let c: [[i32; COLUMNS]; ROWS] = [[(); COLUMNS]; ROWS].map(|row| row.map(|()| draw(true)));
        let expected: [[u64; COLUMNS]; ROWS] = std::array::from_fn(|r| {
            std::array::from_fn(|n| {
                let sum: i32 = (0..product.depth).map(|k| a[r][k] * b[k][n]).sum();
                product.sum.encode(f64::from(sum + c[r][n]))
            })
        });
        for sums in MODES {
            let d = product.of_matrices(
                [&|r, k| small(product.a, a[r][k]), &|k, n| small(product.b, b[k][n]), &|r, n| {
                    product.sum.encode(f64::from(c[r][n]))
                }],
                sums,
                7,
            );
            assert_eq!(d[..product.rows], expected[..product.rows], "{modifiers} {sums:?}");
        }
    }
}

#[test]
fn integers_at_the_ends_of_their_range() {
    let signed = named("m16n8k32.row.col.s32.s8.s8.s32");
    let minimum: Bits<'_> = &|_, _| 0x80;
    let d = signed.of_matrices([minimum, minimum, &|_, _| 0], Sums::Ideal, 0);
    assert_eq!(d, [[524_288; COLUMNS]; ROWS]);
    let unsigned = named("m16n8k32.row.col.satfinite.s32.u8.u8.s32");
    let d = unsigned.of_matrices([&|_, _| 0xFF, &|_, _| 0xFF, &|_, _| 0], Sums::Ampere, 0);
    assert_eq!(d, [[32 * 255 * 255; COLUMNS]; ROWS]);

    let one: Bits<'_> = &|_, k| u64::from(k == 0);
    let ones: Bits<'_> = &|k, _| u64::from(k == 0);
    let most: Bits<'_> = &|_, _| 0x7FFF_FFFF;
    let clamped = product("m16n8k32.row.col.satfinite.s32.s8.s8.s32", [4, 2, 4]);
    assert_eq!(clamped.of_matrices([one, ones, most], Sums::Ideal, 0)[3][4], 0x7FFF_FFFF);
    assert_eq!(signed.of_matrices([one, ones, most], Sums::Ideal, 0)[3][4], 0x8000_0000);
    let negative: Bits<'_> = &|_, k| if k == 0 { 0xFF } else { 0 };
    let least: Bits<'_> = &|_, _| 0x8000_0000;
    assert_eq!(clamped.of_matrices([negative, ones, least], Sums::Ideal, 0)[3][4], 0x8000_0000);
    assert_eq!(signed.of_matrices([negative, ones, least], Sums::Ideal, 0)[3][4], 0x7FFF_FFFF);
}

#[test]
fn a_product_of_doubles_is_fused_in_order() {
    let product = named("m16n8k4.row.col.f64.f64.f64.f64");
    let value = |seed: usize| (seed as f64).sin();
    for sums in MODES {
        let d = product.of_matrices(
            [
                &|r, k| value(r * 16 + k).to_bits(),
                &|k, n| value(1000 + k * 8 + n).to_bits(),
                &|r, n| value(2000 + r * 8 + n).to_bits(),
            ],
            sums,
            3,
        );
        let (r, n) = (11, 5);
        let sum = (0..4).fold(value(2000 + r * 8 + n), |sum, k| {
            value(r * 16 + k).mul_add(value(1000 + k * 8 + n), sum)
        });
        assert_eq!(d[r][n], sum.to_bits());
    }
}

#[test]
fn nans_and_infinities() {
    let single = named("m16n8k16.row.col.f32.f16.f16.f32");
    let half = named("m16n8k16.row.col.f16.f16.f16.f16");
    let (inf, minus_inf, nan, one) = (0x7C00, 0xFC00, 0x7E01, 0x3C00);
    // a0·b0 + a1·b1 + c, with c in f16.
    let cases = [
        ([inf, one], [one, one], one, 0x7C00),
        ([minus_inf, one], [one, one], inf, 0x7FFF),
        ([inf, minus_inf], [one, one], one, 0x7FFF),
        ([inf, one], [0, one], one, 0x7FFF),
        ([nan, one], [0, one], one, 0x7FFF),
        ([one, one], [one, one], nan, 0x7FFF),
        ([one, one], [one, one], minus_inf, 0xFC00),
        ([inf, one], [minus_inf, one], one, 0xFC00),
    ];
    for (a, b, c, expected) in cases {
        let at = |values: [u64; 2], k: usize| values.get(k).copied().unwrap_or(0);
        let wide = match expected {
            0x7FFF => 0x7FFF_FFFF,
            half => Accumulator::F32.encode(Accumulator::F16.value(half)),
        };
        let c_wide = Accumulator::F32.encode(Accumulator::F16.value(c));
        for sums in MODES {
            let factors: [Bits<'_>; 2] = [&|_, k| at(a, k), &|k, _| at(b, k)];
            let d = half.of_matrices([factors[0], factors[1], &|_, _| c], sums, 5);
            assert_eq!(d[9][6], expected, "{a:x?}·{b:x?} + {c:x} {sums:?}");
            let d = single.of_matrices([factors[0], factors[1], &|_, _| c_wide], sums, 5);
            assert_eq!(d[9][6], wide, "{a:x?}·{b:x?} + {c:x} {sums:?}");
        }
    }
}

#[test]
fn an_overflow_is_infinite_in_ideal_sums() {
    let product = named("m16n8k8.row.col.f32.bf16.bf16.f32");
    let large: Bits<'_> = &|_, _| 0x7F7F;
    let d = product.of_matrices([large, large, &|_, _| 0], Sums::Ideal, 0);
    assert_eq!(d, [[0x7F80_0000; COLUMNS]; ROWS]);
    // Two large products of opposite signs are gone without a trace.
    let cancelling = product.of_matrices(
        [&|_, k| [0x7F7F, 0xFF7F].get(k).copied().unwrap_or(0), large, &|_, _| 1],
        Sums::Ideal,
        0,
    );
    assert_eq!(cancelling, [[1; COLUMNS]; ROWS]);
}

#[test]
fn an_undefined_element_spoils_its_row_or_column() {
    let product = named("m16n8k16.row.col.f32.f16.f16.f32");
    let all = [Mask::MAX; 4];
    assert_eq!(product.defined(&all, &all[..2], &all), all);
    // Register 1 of lane 5 in A is of row 9: c2 and c3 of lanes 4 … 7.
    let a = [Mask::MAX, !(1 << 5), Mask::MAX, Mask::MAX];
    let row = [Mask::MAX, Mask::MAX, !0xF0, !0xF0];
    assert_eq!(product.defined(&a, &all[..2], &all), row);
    // Lane 5 in B is of column 1: c1 and c3 of every fourth lane from 0.
    let b = [Mask::MAX, !(1 << 5)];
    let column = [Mask::MAX, !0x1111_1111, Mask::MAX, !0x1111_1111];
    assert_eq!(product.defined(&all, &b, &all), column);
    let c = [!2, Mask::MAX, Mask::MAX, 0];
    assert_eq!(product.defined(&all, &all[..2], &c), c);
    // A register of two halves has both columns.
    let halves = named("m16n8k16.row.col.f16.f16.f16.f16");
    assert_eq!(halves.defined(&all, &b, &all[..2]), [!0x1111_1111; 2]);
}
