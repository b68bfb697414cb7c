//! `mma.sync`: D = A·B + C of one warp, A being M×K, B K×8, C and D M×8, all in registers.

use super::formats::{Accumulator, Multiplicand};
use super::fragments::{self, Place, places};
use super::sums::{Addition, COLUMNS, Step, Sums, order};
use crate::ast::Instruction;
use crate::interpreter::row::{LANES, Mask, Row, lanes};

/// The largest M and K.
const ROWS: usize = 16;
const DEPTH: usize = 32;

/// The shapes and types of an `mma.sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product {
    /// M.
    rows: usize,
    /// K.
    depth: usize,
    a: Multiplicand,
    b: Multiplicand,
    /// Of C and D.
    sum: Accumulator,
}

impl Product {
    /// The product that an `mma.sync` of the table forms.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        let (rows, rest) = instruction.chosen("shape")?.strip_prefix('m')?.split_once("n8k")?;
        let (rows, depth) = (rows.parse().ok()?, rest.parse().ok()?);
        let saturating = instruction.has("satfinite");
        let product = Self {
            rows,
            depth,
            a: Multiplicand::from_name(instruction.chosen("a")?)?,
            b: Multiplicand::from_name(instruction.chosen("b")?)?,
            sum: Accumulator::from_name(instruction.chosen("d")?, saturating)?,
        };
        (rows <= ROWS && depth <= DEPTH).then_some(product)
    }

    /// What one warp does of a `wgmma`: 16 rows of A, and eight columns of B at a time.
    pub(crate) fn of_warpgroup(instruction: &Instruction) -> Option<Self> {
        let (_, depth) = instruction.chosen("n")?.split_once('k')?;
        let saturating = instruction.has("satfinite");
        let product = Self {
            rows: ROWS,
            depth: depth.parse().ok()?,
            a: Multiplicand::from_name(instruction.chosen("a")?)?,
            b: Multiplicand::from_name(instruction.chosen("b")?)?,
            sum: Accumulator::from_name(instruction.chosen("d")?, saturating)?,
        };
        (product.depth <= DEPTH).then_some(product)
    }

    /// The registers of A, B, C and D in each lane.
    pub(crate) fn registers(&self) -> [usize; 4] {
        let count = |elements: usize, width: usize| elements * width / 32 / width.max(32);
        let sums = count(self.rows * COLUMNS, self.sum.width());
        [
            count(self.rows * self.depth, self.a.width()),
            count(self.depth * COLUMNS, self.b.width()),
            sums,
            sums,
        ]
    }

    /// K.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes of an element of A, and of B.
    pub(crate) fn bytes(&self) -> [usize; 2] {
        [self.a.width() / 8, self.b.width() / 8]
    }

    /// The registers that hold A, and their lanes that are defined; `element` gives the bits by row and k,
    /// where they are known.
    pub(crate) fn left(
        &self,
        element: impl Fn(usize, usize) -> (u64, bool),
    ) -> (Vec<Row>, Vec<Mask>) {
        fragment(self.registers()[0], self.a.width(), |lane, place, per| {
            let (row, k) = fragments::left(lane, place, per);
            element(row, k)
        })
    }

    /// The same for B, by k and column.
    pub(crate) fn right(
        &self,
        element: impl Fn(usize, usize) -> (u64, bool),
    ) -> (Vec<Row>, Vec<Mask>) {
        fragment(self.registers()[1], self.b.width(), |lane, place, per| {
            let (k, column) = fragments::right(lane, place, per);
            element(k, column)
        })
    }

    /// The registers of A in which each element has the other sign.
    pub(crate) fn negated(&self, a: &[Row]) -> Vec<Row> {
        let width = self.a.width();
        let signs = (0..32 / width).fold(0, |signs, at| signs | 1u64 << (width * at + width - 1));
        a.iter().map(|row| row.map(|bits| bits ^ signs)).collect()
    }

    /// Multiplies what these registers hold; each slice has as many as the instruction has.
    /// `seed` decides the order of [`Sums::Shuffled`].
    pub(crate) fn multiply(
        &self,
        a: &[&Row],
        b: &[&Row],
        c: &[&Row],
        sums: Sums,
        seed: u64,
        d: &mut [Row],
    ) {
        let left: Tile<ROWS, DEPTH> =
            gather(a, self.a.width(), fragments::left, |elements| self.a.decode(elements));
        let right: Tile<DEPTH, COLUMNS> =
            gather(b, self.b.width(), fragments::right, |elements| self.b.decode(elements));
        let mut total: Tile<ROWS, COLUMNS> =
            gather(c, self.sum.width(), fragments::sum, |elements| self.sum.decode(elements));
        let addition = self.addition(sums, seed);
        for (row, left) in total.iter_mut().zip(&left).take(self.rows) {
            *row = addition.row(&left[..self.depth], &right[..self.depth], row);
        }
        self.scatter(&total, d);
    }

    fn scatter(&self, total: &Tile<ROWS, COLUMNS>, d: &mut [Row]) {
        let (width, per) = (self.sum.width(), per_register(self.sum.width()));
        d.fill([0; LANES]);
        for place in places(d.len(), per) {
            for (lane, bits) in d[place.register].iter_mut().enumerate() {
                let (row, column) = fragments::sum(lane, place, per);
                *bits |= self.sum.encode(total[row][column]) << (width * place.position);
            }
        }
    }

    fn addition(&self, sums: Sums, seed: u64) -> Addition {
        let step = |width, bits| {
            let cut = self.sum == Accumulator::F32;
            Addition::Aligned(Step { products: width / self.a.width(), bits, cut })
        };
        match (self.sum, sums) {
            (Accumulator::F64, _) => Addition::Fused,
            (Accumulator::S32 { .. }, _) => Addition::Whole,
            (format, Sums::Ideal) => Addition::Exact(format),
            (_, Sums::Ampere) => step(128, 24),
            (_, Sums::Hopper) => step(256, 25),
            (_, Sums::Shuffled) => Addition::Ordered(order(self.depth + 1, seed)),
        }
    }

    /// The lanes in which each register of D is defined: an element is if all of its row of A, all of its
    /// column of B, and its element of C are. The masks are those of the registers of A, B and C.
    pub(crate) fn defined(&self, a: &[Mask], b: &[Mask], c: &[Mask]) -> Vec<Mask> {
        let (a_width, b_width) = (self.a.width(), self.b.width());
        let missing_rows = missing(a, a_width, |lane, place, per| {
            let (row, _) = fragments::left(lane, place, per);
            row
        });
        let missing_columns = missing(b, b_width, |lane, place, per| {
            let (_, column) = fragments::right(lane, place, per);
            column
        });
        let mut defined = c.to_vec();
        let per = per_register(self.sum.width());
        for place in places(c.len(), per) {
            for lane in 0..LANES {
                let (row, column) = fragments::sum(lane, place, per);
                let missing = missing_rows >> row | missing_columns >> column;
                defined[place.register] &= !((missing & 1) << lane);
            }
        }
        defined
    }
}

/// A matrix of which a product fills the upper left part.
type Tile<const R: usize, const C: usize> = [[f64; C]; R];

/// Elements in a register: registers have 32 bits, or 64 for the elements that need them.
fn per_register(width: usize) -> usize {
    (32 / width).max(1)
}

/// The matrix that fragments hold: `at` is the rule for its kind.
fn gather<const R: usize, const C: usize>(
    registers: &[&Row],
    width: usize,
    at: impl Fn(usize, Place, usize) -> (usize, usize),
    decode: impl Fn(Row) -> [f64; LANES],
) -> Tile<R, C> {
    let mut tile = [[0.0; C]; R];
    let per = per_register(width);
    for place in places(registers.len(), per) {
        let elements = registers[place.register].map(|bits| bits >> (width * place.position));
        for (lane, value) in decode(elements).into_iter().enumerate() {
            let (row, column) = at(lane, place, per);
            tile[row][column] = value;
        }
    }
    tile
}

/// The registers of a fragment, and their lanes in which all elements are known.
fn fragment(
    registers: usize,
    width: usize,
    element: impl Fn(usize, Place, usize) -> (u64, bool),
) -> (Vec<Row>, Vec<Mask>) {
    let mut rows = vec![[0; LANES]; registers];
    let mut defined = vec![Mask::MAX; registers];
    let per = per_register(width);
    for place in places(registers, per) {
        for (lane, held) in rows[place.register].iter_mut().enumerate() {
            let (bits, known) = element(lane, place, per);
            *held |= bits << (width * place.position);
            defined[place.register] &= !(Mask::from(!known) << lane);
        }
    }
    (rows, defined)
}

/// The rows of A, or columns of B, of which the registers with these masks lack an element: a bit for each.
fn missing(defined: &[Mask], width: usize, line: impl Fn(usize, Place, usize) -> usize) -> u32 {
    let per = per_register(width);
    places(defined.len(), per)
        .flat_map(|place| lanes(!defined[place.register]).map(move |lane| (lane, place)))
        .fold(0, |missing, (lane, place)| missing | 1 << line(lane, place, per))
}

#[cfg(test)]
mod tests;
