//! Columns as marks, a byte for each: bits of one word would wait for each other, since the
//! columns of a row are often neighbours.

use std::ops::RangeInclusive;

/// Whether each column is marked.
pub(super) struct Marks(Vec<u8>);

/// Columns that are looked at together.
const WORD: usize = 64;

impl Marks {
    pub fn new(cols: usize) -> Self {
        Self(vec![0; cols.next_multiple_of(WORD)])
    }

    /// A byte for each column, which is 1 where the column is marked.
    #[inline(always)]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    #[inline(always)]
    pub fn has(&self, col: u32) -> bool {
        self.0[col as usize] != 0
    }

    pub fn set(&mut self, columns: &[u32]) {
        for &col in columns {
            self.0[col as usize] = 1;
        }
    }

    pub fn clear(&mut self, columns: &[u32]) {
        for &col in columns {
            self.0[col as usize] = 0;
        }
    }

    /// Writes the marked columns, which lie within `span`, in ascending order, and clears their
    /// marks. How many there are.
    pub fn take(&mut self, span: RangeInclusive<u32>, columns: &mut [u32]) -> usize {
        let mut entries = 0;
        let range = *span.start() as usize / WORD..*span.end() as usize / WORD + 1;
        let (words, _) = self.0.as_chunks_mut::<WORD>();
        for (at, marks) in range.clone().zip(&mut words[range]) {
            let mut bits = bits(marks);
            *marks = [0; WORD];
            while bits != 0 {
                columns[entries] = (at * WORD) as u32 + bits.trailing_zeros();
                entries += 1;
                bits &= bits - 1;
            }
        }
        entries
    }
}

/// A bit for each mark.
fn bits(marks: &[u8; WORD]) -> u64 {
    // The highest byte of the product is the sum of each byte i, which is 0 or 1, times 2^i.
    let (eights, _) = marks.as_chunks::<8>();
    let bits =
        |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    eights.iter().rev().fold(0, |word, eight| word << 8 | bits(eight))
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn every_mark_is_found_once() {
        let mut marks = Marks::new(200);
        let mut found = [0; 200];
        for step in [1, 2, 3, 7, 63, 64, 65, 199] {
            let columns: Vec<u32> = (0..200).step_by(step).collect();
            marks.set(&columns);
            assert_eq!(marks.take(0..=199, &mut found), columns.len(), "step {step}");
            assert_eq!(found[..columns.len()], columns, "step {step}");
            assert_eq!(marks.take(0..=199, &mut found), 0, "step {step}: marks are left");
        }
    }
}
