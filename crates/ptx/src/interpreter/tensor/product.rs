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

    /// Multiplies what these registers hold; each slice has as many as [`registers`](Self::registers) says.
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
        let (a_width, b_width) = (self.a.width(), self.b.width());
        let left: Tile<ROWS, DEPTH> =
            gather(a, a_width, fragments::left, |bits| self.a.decode(bits));
        let right: Tile<DEPTH, COLUMNS> =
            gather(b, b_width, fragments::right, |bits| self.b.decode(bits));
        let mut total: Tile<ROWS, COLUMNS> =
            gather(c, self.sum.width(), fragments::sum, |bits| self.sum.decode(bits));
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
            let (row, column) = fragments::sum(place, per);
            let element = self.sum.encode(total[row][column]) << (width * place.position);
            d[place.register][place.lane] |= element;
        }
    }

    fn addition(&self, sums: Sums, seed: u64) -> Addition {
        let step = |width, bits| {
            let cut = self.sum == Accumulator::F32;
            Addition::Aligned(Step { products: width / self.a.width(), bits, cut })
        };
        match (self.sum, sums) {
            (Accumulator::F64, _) => Addition::Fused,
            (Accumulator::S32 { .. }, _) | (_, Sums::Ideal) => Addition::Exact,
            (_, Sums::Ampere) => step(128, 24),
            (_, Sums::Hopper) => step(256, 25),
            (_, Sums::Shuffled) => Addition::Ordered(order(self.depth + 1, seed)),
        }
    }

    /// The lanes in which each register of D is defined: an element is if all of its row of A, all of its
    /// column of B, and its element of C are. The masks are those of the registers of A, B and C.
    pub(crate) fn defined(&self, a: &[Mask], b: &[Mask], c: &[Mask]) -> Vec<Mask> {
        let a_per = per_register(self.a.width());
        let b_per = per_register(self.b.width());
        let per = per_register(self.sum.width());
        let missing_rows = undefined(a, a_per)
            .fold(0_u32, |rows, place| rows | 1 << fragments::left(place, a_per).0);
        let missing_columns = undefined(b, b_per)
            .fold(0_u32, |columns, place| columns | 1 << fragments::right(place, b_per).1);
        let mut defined = c.to_vec();
        for place in places(c.len(), per) {
            let (row, column) = fragments::sum(place, per);
            let missing = missing_rows >> row | missing_columns >> column;
            defined[place.register] &= !((missing & 1) << place.lane);
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

fn gather<const R: usize, const C: usize>(
    registers: &[&Row],
    width: usize,
    at: impl Fn(Place, usize) -> (usize, usize),
    decode: impl Fn(u64) -> f64,
) -> Tile<R, C> {
    let mut tile = [[0.0; C]; R];
    let per = per_register(width);
    for place in places(registers.len(), per) {
        let (row, column) = at(place, per);
        tile[row][column] =
            decode(registers[place.register][place.lane] >> (width * place.position));
    }
    tile
}

/// The places in the lanes that these masks of registers leave out.
fn undefined(registers: &[Mask], per: usize) -> impl Iterator<Item = Place> {
    registers.iter().enumerate().flat_map(move |(register, &mask)| {
        lanes(!mask)
            .flat_map(move |lane| (0..per).map(move |position| Place { lane, register, position }))
    })
}

#[cfg(test)]
mod tests;
