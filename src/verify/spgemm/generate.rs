//! Sparse matrices of known structure, the same on every machine.
//!
//! Everything comes from a counter: [`mix`] is a bijection of 64-bit words, and a random number
//! is a function of the seed and of what it is for, never of the order in which it is drawn.

use crate::Result;
use crate::backend::Cpu;
use crate::sparse::{Csr, Reducer, Value};

/// A bijection of 64-bit words without pattern (the finaliser of SplitMix64).
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

/// Uniform in [0, 1).
fn uniform(seed: u64, counter: u64) -> f64 {
    (mix(seed ^ mix(counter)) >> 11) as f64 * 2f64.powi(-53)
}

/// The value of the entry at a place: uniform in [-1, 1), wherever it is stored.
pub fn value(seed: u64, row: usize, col: u32) -> f64 {
    2.0 * uniform(seed.wrapping_add(0x5BD1), ((row as u64) << 32).wrapping_add(col.into())) - 1.0
}

/// A family of square matrices.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Family {
    /// Edges of a recursive graph of 2^`scale` vertices; at each level the quarters (0, 0),
    /// (0, 1) and (1, 0) have these probabilities.
    RMat {
        /// log2 of the vertices.
        scale: u32,
        /// Edges drawn; repeated ones count once.
        edges: u64,
        /// The probabilities of the first three quarters.
        quarters: [f64; 3],
    },
    /// Places drawn uniformly.
    Uniform {
        /// The side.
        side: usize,
        /// Entries drawn; repeated ones count once.
        entries: u64,
    },
    /// A box of nodes, each coupled with its neighbours.
    Stencil {
        /// Nodes along each axis.
        nodes: [usize; 3],
        /// Whether diagonal neighbours count.
        diagonal: bool,
        /// Unknowns of a node; a dense block for each pair of neighbours.
        unknowns: usize,
    },
    /// The diagonal, and some columns near it in each row.
    Band {
        /// The side.
        side: usize,
        /// Columns drawn for each row; repeated ones count once.
        columns: u64,
        /// How far they may be from the diagonal.
        width: u64,
    },
    /// The first row, the first column and the diagonal.
    Arrow {
        /// The side.
        side: usize,
    },
}

impl Family {
    /// The side of the matrix.
    pub fn side(&self) -> usize {
        match *self {
            Self::RMat { scale, .. } => 1 << scale,
            Self::Uniform { side, .. } | Self::Band { side, .. } | Self::Arrow { side } => side,
            Self::Stencil { nodes: [x, y, z], unknowns, .. } => x * y * z * unknowns,
        }
    }

    /// The places of the entries.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`](crate::Error::Sparse) where the side or the number of entries is too
    /// large.
    pub fn pattern(&self, seed: u64) -> Result<Csr<Cpu, u32>> {
        let side = self.side();
        match *self {
            Self::RMat { scale, edges, quarters } => {
                let edge = |edge| r_mat_edge(scale, quarters, seed, edge);
                of_places(side, (0..edges).map(edge))
            }
            Self::Uniform { entries, .. } => {
                let draw = |counter| (mix(seed ^ mix(counter)) % side as u64) as usize;
                of_places(side, (0..entries).map(|e| (draw(2 * e), draw(2 * e + 1))))
            }
            Self::Stencil { nodes, diagonal, unknowns } => {
                let neighbours = move |node| stencil_neighbours(nodes, diagonal, node);
                of_rows(side, |row| {
                    let blocks = neighbours(row / unknowns).into_iter();
                    blocks.flat_map(|node| node * unknowns..(node + 1) * unknowns).collect()
                })
            }
            Self::Band { columns, width, .. } => of_rows(side, |row| {
                let shift = |j| mix(seed ^ mix(64 * row as u64 + j)) % (2 * width + 1);
                let drawn = (0..columns).map(|j| (row as u64 + shift(j)).checked_sub(width));
                let inside = drawn.flatten().map(|col| col as usize).filter(|&col| col < side);
                inside.chain([row]).collect()
            }),
            Self::Arrow { .. } => of_rows(side, |row| match row {
                0 => (0..side).collect(),
                _ => vec![0, row],
            }),
        }
    }

    /// The matrix with the values of [`value`].
    ///
    /// # Errors
    ///
    /// As [`pattern`](Self::pattern).
    pub fn matrix<T: Value>(&self, seed: u64) -> Result<Csr<Cpu, T>> {
        with_values(&self.pattern(seed)?, |row, col| T::from_f64(value(seed, row, col)))
    }
}

/// The same places with values.
///
/// # Errors
///
/// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
pub fn with_values<T: Value>(
    pattern: &Csr<Cpu, u32>,
    value: impl Fn(usize, u32) -> T,
) -> Result<Csr<Cpu, T>> {
    let (row_ptr, col) = (pattern.row_ptr().to_vec()?, pattern.col().to_vec()?);
    let mut val = Vec::with_capacity(col.len());
    for row in 0..row_ptr.len() - 1 {
        let entries = row_ptr[row] as usize..row_ptr[row + 1] as usize;
        val.extend(col[entries].iter().map(|&col| value(row, col)));
    }
    Csr::new(pattern.shape(), row_ptr, col, val)
}

fn r_mat_edge(scale: u32, [a, b, c]: [f64; 3], seed: u64, edge: u64) -> (usize, usize) {
    let mut place = (0, 0);
    for level in 0..u64::from(scale) {
        let x = uniform(seed, 64 * edge + level);
        let bits = match x {
            x if x < a => (0, 0),
            x if x < a + b => (0, 1),
            x if x < a + b + c => (1, 0),
            _ => (1, 1),
        };
        place = (2 * place.0 + bits.0, 2 * place.1 + bits.1);
    }
    place
}

fn stencil_neighbours([nx, ny, nz]: [usize; 3], diagonal: bool, node: usize) -> Vec<usize> {
    let (x, y, z) = (node % nx, node / nx % ny, node / nx / ny);
    let near = |i: usize, n: usize| i.saturating_sub(1)..(i + 2).min(n);
    let mut neighbours = Vec::new();
    for k in near(z, nz) {
        for j in near(y, ny) {
            for i in near(x, nx) {
                let steps = x.abs_diff(i) + y.abs_diff(j) + z.abs_diff(k);
                if diagonal || steps <= 1 {
                    neighbours.push(i + nx * (j + ny * k));
                }
            }
        }
    }
    neighbours
}

fn of_rows(side: usize, columns: impl Fn(usize) -> Vec<usize>) -> Result<Csr<Cpu, u32>> {
    let (mut row_ptr, mut col) = (vec![0], Vec::new());
    for row in 0..side {
        col.extend(columns(row).into_iter().map(|col| col as u32));
        row_ptr.push(col.len() as u32);
    }
    Csr::pattern([side, side], row_ptr, col)?.canonical(Reducer::First)
}

fn of_places(side: usize, places: impl Iterator<Item = (usize, usize)>) -> Result<Csr<Cpu, u32>> {
    let mut places: Vec<u64> = places.map(|(row, col)| (row as u64) << 32 | col as u64).collect();
    places.sort_unstable();
    places.dedup();
    let mut row_ptr = vec![0u32; side + 1];
    for place in &places {
        row_ptr[(place >> 32) as usize + 1] += 1;
    }
    for row in 0..side {
        row_ptr[row + 1] += row_ptr[row];
    }
    Csr::pattern([side, side], row_ptr, places.into_iter().map(|place| place as u32).collect())
}

/// A matrix of the specification: its square has known numbers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Known {
    /// Its name there.
    pub name: &'static str,
    /// How it is made, with seed 1.
    pub family: Family,
    /// Entries.
    pub nnz: usize,
    /// Products of its square.
    pub products: u64,
    /// Entries of its square.
    pub square: u64,
}

const SMASH: [f64; 3] = [0.50, 0.10, 0.10];
const MILD: [f64; 3] = [0.45, 0.15, 0.15];
const GRAPH_500: [f64; 3] = [0.57, 0.19, 0.19];
const WEB: [f64; 3] = [0.45, 0.22, 0.22];

const fn r_mat(scale: u32, edges: u64, quarters: [f64; 3]) -> Family {
    Family::RMat { scale, edges, quarters }
}

const fn stencil(nodes: [usize; 3], diagonal: bool, unknowns: usize) -> Family {
    Family::Stencil { nodes, diagonal, unknowns }
}

const fn known(name: &'static str, family: Family, [nnz, products, square]: [u64; 3]) -> Known {
    Known { name, family, nnz: nnz as usize, products, square }
}

/// The matrices of the specification, section 21.1.
pub const KNOWN: [Known; 16] = [
    known("smash14", r_mat(14, 1 << 18, SMASH), [247_426, 6_030_579, 5_104_027]),
    known("rmat14m", r_mat(14, 1 << 18, MILD), [259_639, 7_012_308, 6_402_356]),
    known("g500-12", r_mat(12, 1 << 16, GRAPH_500), [53_346, 6_646_729, 2_363_963]),
    known("g500-14", r_mat(14, 1 << 18, GRAPH_500), [228_351, 53_135_593, 20_171_420]),
    known("g500-16-4", r_mat(16, 1 << 18, GRAPH_500), [253_261, 35_913_039, 24_619_443]),
    known("g500-16-16", r_mat(16, 1 << 20, GRAPH_500), [955_812, 401_592_815, 163_941_618]),
    known("g500-18-4", r_mat(18, 1 << 20, GRAPH_500), [1_024_527, 245_828_378, 173_461_648]),
    known("web20", r_mat(20, 3_300_000, WEB), [3_299_608, 92_524_881, 92_220_794]),
    known(
        "er16-16",
        Family::Uniform { side: 1 << 16, entries: 1 << 20 },
        [1_048_431, 16_777_535, 16_744_558],
    ),
    known(
        "er20-8",
        Family::Uniform { side: 1 << 20, entries: 1 << 23 },
        [8_388_576, 67_104_044, 67_102_005],
    ),
    known("p2d", stencil([1024, 1024, 1], false, 1), [5_238_784, 26_177_544, 13_611_012]),
    known("p3d", stencil([96, 96, 96], false, 1), [6_137_856, 42_635_520, 21_732_480]),
    known("s27", stencil([64, 64, 64], true, 1), [6_859_000, 181_321_496, 30_959_144]),
    known("fem28", stencil([28, 28, 28], true, 3), [4_962_312, 382_657_176, 21_654_936]),
    known("fem40", stencil([40, 40, 40], true, 3), [14_787_288, 1_157_625_000, 65_712_456]),
    known(
        "econ",
        Family::Band { side: 206_500, columns: 5, width: 2000 },
        [1_233_157, 7_372_113, 6_331_859],
    ),
];
