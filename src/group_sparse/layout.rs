//! How GPUs hold a matrix: derived when it is loaded, never stored.
//!
//! A **chunk** is what a lane reads of codes at once, 16 bytes: 32 columns with 4 bits, 64 with 2, 16
//! with 8; with 3 bits, 64 columns of low bits, and 8 bytes of high bits elsewhere. Chunks of a row
//! follow one another; every row has at least one, and begins with one, so that a bit per chunk,
//! set where a row begins, says which row a chunk belongs to. 32 chunks are a **tile**, 512 bytes that a
//! warp reads together.
//!
//! A **segment** is the part of a group that lies in one chunk, up to 32 columns; its columns are read from
//! shared memory four at a time, a **step**. So that the lanes of a warp meet in no bank however
//! their columns lie, lane i of a tile takes its steps in an order of its own, s xor r(i), and its codes
//! lie in that order. With n = segment / 4 steps, of the 8 that a line of all banks holds, r = i mod n;
//! h = ⌊i / n⌋ mod (8 / n) says which part of the line is the lane's, see
//! `kernels/group_sparse/stage.ptx`.
//!
//! Codes of a step, e = 0..3: 8 bits: byte e of a word; 4 bits: nibble e of half a word; 2 bits: bits 2e
//! and 2e + 1 of a byte; 3 bits: the low bits so, and the high bit at (2 + 2e + ρ) mod 32 of the word
//! for two words of low bits, ρ = 8 ⌊t / 2⌋ + t mod 2 for step t of the 8 in there.
//!
//! A **slot** is what stands beside the codes of a group, kept or not: its column group, scale and zero or
//! offset. Slots without a group lie behind a row's last one where it ends within a chunk: they have
//! scale 0 and the column group behind the last one, where x is 0.

use super::format::{Coding, Floats, Format, Matrix, Mode, Pattern, code};
use crate::element::DType;

/// Chunks of a tile.
pub(crate) const TILE: usize = 32;

/// How chunks, segments and groups lie in one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub bits: u32,
    pub group: usize,
    /// Columns of a chunk.
    pub chunk: usize,
    /// Columns of a segment.
    pub segment: usize,
}

impl Geometry {
    pub fn of(format: &Format) -> Self {
        let chunk = match format.bits {
            8 => 16,
            4 => 32,
            _ => 64,
        };
        let segment = format.group.min(chunk).min(32);
        Self { bits: format.bits, group: format.group, chunk, segment }
    }

    /// Segments of a chunk.
    pub fn segments(&self) -> usize {
        self.chunk / self.segment
    }

    /// Segments of a group.
    pub fn segments_of_group(&self) -> usize {
        self.group / self.segment
    }

    /// Groups of a chunk, where it holds whole ones; else 1.
    pub fn groups(&self) -> usize {
        (self.chunk / self.group).max(1)
    }

    /// Chunks of a group, where it has several; else 1.
    pub fn chunks_of_group(&self) -> usize {
        (self.group / self.chunk).max(1)
    }

    /// Chunks of a row of so many kept groups.
    pub fn chunks_of_row(&self, kept: usize) -> usize {
        kept.max(1).div_ceil(self.groups()) * self.chunks_of_group()
    }

    /// Slots of so many chunks, in whole tiles.
    pub fn slots(&self, chunks: usize) -> usize {
        chunks * self.groups() / self.chunks_of_group()
    }

    /// Segments of x that slots may point to: those of all column groups, and as many behind them as a
    /// slot without a group may mean, in whole lines of banks.
    pub fn staged_segments(&self, column_groups: usize) -> usize {
        let segments = (column_groups + self.groups()) * self.segments_of_group();
        segments.next_multiple_of(self.copies())
    }

    /// Segments that a line of all banks holds, and so the places where each of them must lie.
    pub fn copies(&self) -> usize {
        32 / self.segment
    }

    /// Columns of x that lie in shared memory, and the bytes that they take there, a line of banks a segment.
    pub fn staged(&self, column_groups: usize) -> (usize, usize) {
        let segments = self.staged_segments(column_groups);
        (segments * self.segment, segments * 128)
    }

    /// What lane i of a tile changes the order of its steps with.
    fn order(&self, lane: usize) -> usize {
        lane % (self.segment / 4)
    }

    /// Where a chunk holds the code of a column of one of its segments: word and first bit.
    fn place(&self, lane: usize, segment: usize, column: usize) -> (usize, u32, usize) {
        let steps = self.segment / 4;
        let step = segment * steps + ((column / 4) ^ self.order(lane));
        let e = column % 4;
        let per_word = match self.bits {
            8 => 1,
            4 => 2,
            _ => 4,
        };
        let width = 32 / per_word / 4;
        let bit = (step % per_word) * (32 / per_word) + e * width;
        (step / per_word, bit as u32, step)
    }

    /// Where the 8 bytes of high bits of a chunk hold that of element e of a step: word and bit.
    fn high_place(step: usize, e: usize) -> (usize, u32) {
        let t = step % 8;
        let turned = 8 * (t / 2) + t % 2;
        (step / 8, ((2 + 2 * e + turned) % 32) as u32)
    }
}

/// A matrix in this form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub format: Format,
    pub geometry: Geometry,
    /// (N + 1): where each row's chunks begin, and where the last one's end.
    pub chunk_ptr: Vec<u32>,
    /// Four words a chunk, in whole tiles.
    pub codes: Vec<u32>,
    /// With 3 bits, two words a chunk.
    pub high: Vec<u32>,
    /// The column group of each slot; none where all groups are kept.
    pub columns: Columns,
    /// s of each slot.
    pub scales: Floats,
    /// z of each slot, of `Asym`.
    pub zeros: Vec<u8>,
    /// m of each slot, of `Affine`.
    pub offsets: Option<Floats>,
    /// A word a tile: bit i where a row begins with its chunk i.
    pub starts: Vec<u32>,
}

/// Column groups, as narrow as they may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Columns {
    None,
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Columns {
    fn of(format: &Format, columns: Vec<u32>) -> Self {
        match format.pattern {
            Pattern::Dense => Self::None,
            // The column group behind the last one must fit as well.
            _ if format.column_groups() > usize::from(u16::MAX) => Self::Wide(columns),
            _ => Self::Narrow(columns.into_iter().map(|column| column as u16).collect()),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Narrow(columns) => bytemuck::cast_slice(columns),
            Self::Wide(columns) => bytemuck::cast_slice(columns),
        }
    }

    /// Bytes of one of them.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Narrow(_) => 2,
            Self::Wide(_) => 4,
        }
    }
}

impl Layout {
    /// Lays out a matrix. Fails to none: what a matrix holds has been checked.
    pub fn new(matrix: &Matrix) -> Self {
        let format = *matrix.format();
        let geometry = Geometry::of(&format);
        let mut chunk_ptr = Vec::with_capacity(format.rows + 1);
        chunk_ptr.push(0u32);
        let mut chunks = 0;
        for row in 0..format.rows {
            chunks += geometry.chunks_of_row(matrix.row(row).len());
            chunk_ptr.push(chunks as u32);
        }
        let whole = chunks.next_multiple_of(TILE);
        let slots = geometry.slots(whole);
        let mut codes = vec![0; whole * 4];
        let mut high = vec![0; if format.bits == 3 { whole * 2 } else { 0 }];
        let mut columns = vec![format.column_groups() as u32; slots];
        let mut scales = vec![0.0; slots];
        let mut zeros = vec![0; if format.mode == Mode::Asym { slots } else { 0 }];
        let mut offsets = vec![0.0; if format.mode == Mode::Affine { slots } else { 0 }];
        let mut starts = vec![0u32; whole / TILE];
        for (row, &first) in chunk_ptr[..format.rows].iter().enumerate() {
            let first = first as usize;
            starts[first / TILE] |= 1 << (first % TILE);
            let first_slot = geometry.slots(first);
            for (i, kept) in matrix.row(row).enumerate() {
                let slot = first_slot + i;
                columns[slot] = matrix.column_group(kept) as u32;
                match matrix.coding(row, kept) {
                    Coding::Integer { scale, zero } => {
                        scales[slot] = scale;
                        if let Some(to) = zeros.get_mut(slot) {
                            *to = zero;
                        }
                    }
                    Coding::Affine { scale, offset } => {
                        scales[slot] = scale;
                        offsets[slot] = offset;
                    }
                }
                let places = GroupPlaces { geometry, slot };
                for j in 0..format.group {
                    let code = u32::from(code(format.bits, matrix.packed(kept), j));
                    let (low, high_bit) = places.of(j);
                    let low_bits = if format.bits == 3 { code & 3 } else { code };
                    codes[low.0] |= low_bits << low.1;
                    if let Some((word, bit)) = high_bit {
                        high[word] |= (code >> 2) << bit;
                    }
                }
            }
        }
        let dtype = matrix.parts().scales.dtype();
        Self {
            format,
            geometry,
            chunk_ptr,
            codes,
            high,
            columns: Columns::of(&format, columns),
            scales: Floats::rounded(dtype, &scales),
            zeros,
            offsets: (format.mode == Mode::Affine).then(|| Floats::rounded(dtype, &offsets)),
            starts,
        }
    }

    /// The type of scales and offsets.
    pub fn scale_dtype(&self) -> DType {
        self.scales.dtype()
    }
}

/// Where the codes of a slot's group lie.
struct GroupPlaces {
    geometry: Geometry,
    slot: usize,
}

impl GroupPlaces {
    /// Of column j: the word and the first bit of its low bits, and with 3 bits of its high one.
    #[allow(clippy::type_complexity)]
    fn of(&self, j: usize) -> ((usize, u32), Option<(usize, u32)>) {
        let Self { geometry, slot } = self;
        let segment = slot * geometry.segments_of_group() + j / geometry.segment;
        let (chunk, within) = (segment / geometry.segments(), segment % geometry.segments());
        let (word, bit, step) = geometry.place(chunk % TILE, within, j % geometry.segment);
        let high = (geometry.bits == 3).then(|| {
            let (word, bit) = Geometry::high_place(step, j % 4);
            (chunk * 2 + word, bit)
        });
        ((chunk * 4 + word, bit), high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_sparse::format::{BITS, GROUPS, Mode, ScaleScope, set_code};
    use crate::group_sparse::random::Like;

    /// What a layout holds, as a matrix of its own, read back as kernels read it.
    fn unpacked(layout: &Layout, kept_of_rows: &[u32]) -> (Vec<u32>, Vec<u8>) {
        let (format, geometry) = (&layout.format, layout.geometry);
        let (mut columns, mut codes) = (Vec::new(), Vec::new());
        for (row, kept) in kept_of_rows.iter().enumerate() {
            let first = geometry.slots(layout.chunk_ptr[row] as usize);
            for slot in first..first + *kept as usize {
                columns.push(match &layout.columns {
                    Columns::None => (slot - first) as u32,
                    Columns::Narrow(columns) => columns[slot].into(),
                    Columns::Wide(columns) => columns[slot],
                });
                let mut group = vec![0; format.group_bytes()];
                let places = GroupPlaces { geometry, slot };
                for j in 0..format.group {
                    let ((word, bit), high) = places.of(j);
                    let width = format.bits - u32::from(format.bits == 3);
                    let low = layout.codes[word] >> bit & ((1 << width) - 1);
                    let high = high.map_or(0, |(word, bit)| layout.high[word] >> bit & 1);
                    set_code(format.bits, &mut group, j, (low | high << 2) as u8);
                }
                codes.extend(group);
            }
        }
        (columns, codes)
    }

    #[test]
    fn codes_and_columns_come_back_for_every_group_width_and_pattern() {
        let mut random = fastrand::Rng::with_seed(7);
        for bits in BITS {
            for group in GROUPS {
                for (pattern, columns) in [
                    (Pattern::Free, 5 * group),
                    (Pattern::Free, 5 * group + 3),
                    (Pattern::Uniform(2), 3 * group),
                    (Pattern::Dense, 3 * group - 1),
                ] {
                    let rows = 13;
                    let format = Format {
                        rows,
                        columns,
                        group,
                        bits,
                        mode: Mode::Sym,
                        pattern,
                        scope: ScaleScope::Group,
                    };
                    let kept: Vec<u32> = match pattern {
                        Pattern::Free => (0..rows).map(|_| random.u32(0..=5)).collect(),
                        Pattern::Uniform(count) => vec![count as u32; rows],
                        Pattern::Dense => vec![3; rows],
                    };
                    let like = Like {
                        format,
                        kept: kept.iter().map(|&count| count as usize).collect(),
                        scales: DType::F32,
                        outliers: None,
                        is_permuted: false,
                    };
                    let matrix = like.matrix(&mut random).unwrap();
                    let layout = Layout::new(&matrix);
                    let (columns, codes) = unpacked(&layout, &kept);
                    let right: Vec<u32> =
                        (0..matrix.kept()).map(|t| matrix.column_group(t) as u32).collect();
                    assert_eq!(columns, right, "columns, {format:?}");
                    assert_eq!(codes, matrix.parts().codes, "codes, {format:?}");
                    let starts: u32 = layout.starts.iter().map(|word| word.count_ones()).sum();
                    assert_eq!(starts as usize, rows, "beginnings of rows, {format:?}");
                }
            }
        }
    }

    #[test]
    fn lanes_of_a_quarter_of_a_warp_read_from_all_banks() {
        for bits in BITS {
            for group in GROUPS {
                let format = Format {
                    rows: 1,
                    columns: group,
                    group,
                    bits,
                    mode: Mode::Sym,
                    pattern: Pattern::Dense,
                    scope: ScaleScope::Group,
                };
                let geometry = Geometry::of(&format);
                let steps = geometry.segment / 4;
                for step in 0..steps {
                    let mut banks: Vec<usize> = (0..8)
                        .map(|lane| {
                            lane / steps % geometry.copies() * steps + (step ^ geometry.order(lane))
                        })
                        .collect();
                    banks.sort_unstable();
                    assert_eq!(banks, [0, 1, 2, 3, 4, 5, 6, 7], "{bits} bits, G = {group}");
                }
            }
        }
    }
}
