//! `ldmatrix`, `stmatrix`, `movmatrix`: 8×8 matrices of 16-bit elements between rows of memory and registers.
//!
//! One matrix is one register: lane l holds two elements of it, the low half first. With g = l/4 and t = l%4
//! these are (row g, columns 2t and 2t+1), or with `.trans` (rows 2t and 2t+1, column g). In memory a row is 16
//! contiguous bytes.

use crate::interpreter::row::{LANES, Mask, Row};

/// A matrix as memory holds it.
pub(crate) type Matrix = [[u8; 16]; 8];

/// The lane whose address is that of row `row` of the instruction's matrix number `matrix`.
pub(crate) fn address_lane(matrix: usize, row: usize) -> usize {
    8 * matrix + row
}

/// Row and column of the two elements in a lane's register.
pub(crate) fn elements(lane: usize, transposed: bool) -> [(usize, usize); 2] {
    let (group, pair) = (lane / 4, 2 * (lane % 4));
    if transposed { [(pair, group), (pair + 1, group)] } else { [(group, pair), (group, pair + 1)] }
}

/// `ldmatrix`: the register that holds this matrix.
pub(crate) fn load_fragment(rows: &Matrix, transposed: bool) -> Row {
    std::array::from_fn(|lane| {
        let [low, high] = elements(lane, transposed).map(|(row, column)| {
            u64::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]))
        });
        low | high << 16
    })
}

/// `stmatrix`: the matrix that this register holds.
pub(crate) fn store_fragment(register: &Row, transposed: bool) -> Matrix {
    let mut rows = Matrix::default();
    for (lane, &bits) in register.iter().enumerate() {
        for (half, (row, column)) in elements(lane, transposed).into_iter().enumerate() {
            let element = (bits >> (16 * half)) as u16;
            rows[row][2 * column..][..2].copy_from_slice(&element.to_le_bytes());
        }
    }
    rows
}

/// `movmatrix.trans`: the register that holds the transposed matrix.
pub(crate) fn transpose(register: &Row) -> Row {
    load_fragment(&store_fragment(register, false), true)
}

/// The lanes whose elements a load gets from defined bytes only: a bit for each of a row's bytes.
pub(crate) fn defined_by_rows(rows: &[u16; 8], transposed: bool) -> Mask {
    let whole = |lane: usize| {
        elements(lane, transposed).iter().all(|&(row, column)| rows[row] >> (2 * column) & 3 == 3)
    };
    (0..LANES).filter(|&lane| whole(lane)).fold(0, |mask, lane| mask | 1 << lane)
}

/// The bytes of each row that a store writes from defined lanes.
pub(crate) fn rows_defined_by(lanes: Mask, transposed: bool) -> [u16; 8] {
    let mut rows = [0; 8];
    for lane in crate::interpreter::row::lanes(lanes) {
        for (row, column) in elements(lane, transposed) {
            rows[row] |= 3 << (2 * column);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Element (row, column) is 256·row + column.
    fn tile() -> Matrix {
        std::array::from_fn(|row| {
            let mut bytes = [0; 16];
            for column in 0..8 {
                bytes[2 * column] = column as u8;
                bytes[2 * column + 1] = row as u8;
            }
            bytes
        })
    }

    #[test]
    fn lane_five() {
        assert_eq!(load_fragment(&tile(), false)[5], 0x0103_0102, "columns 2, 3 of row 1");
        assert_eq!(load_fragment(&tile(), true)[5], 0x0301_0201, "rows 2, 3 of column 1");
        assert_eq!(address_lane(2, 5), 21);
    }

    #[test]
    fn stores_undo_loads() {
        for transposed in [false, true] {
            assert_eq!(store_fragment(&load_fragment(&tile(), transposed), transposed), tile());
        }
    }

    #[test]
    fn transposing() {
        let register = load_fragment(&tile(), false);
        assert_eq!(transpose(&register), load_fragment(&tile(), true));
        assert_eq!(transpose(&transpose(&register)), register);
    }

    #[test]
    fn defined_bytes_move_as_the_elements_do() {
        let mut rows = [u16::MAX; 8];
        rows[1] &= !(1 << 5); // the upper byte of column 2
        assert_eq!(defined_by_rows(&rows, false), !(1 << 5));
        // Column 2 is that of lanes 8 … 11; row 1 is in the pair of the first.
        assert_eq!(defined_by_rows(&rows, true), !(1 << 8));
        assert_eq!(rows_defined_by(1 << 5, false), [0, 0b1111 << 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rows_defined_by(1 << 8, true), [3 << 4, 3 << 4, 0, 0, 0, 0, 0, 0]);
    }
}
