//! Codes inside a group, as files pack them.

/// The code of an element of a group.
pub(crate) fn code(bits: u32, group: &[u8], element: usize) -> u8 {
    match bits {
        8 => group[element],
        4 => group[element / 2] >> (4 * (element % 2)) & 15,
        2 => pair(group, element),
        _ => {
            let (low, high) = group.split_at(group.len() / 3 * 2);
            pair(low, element) | (high[element / 8] >> (element % 8) & 1) << 2
        }
    }
}

fn pair(group: &[u8], element: usize) -> u8 {
    group[element / 4] >> (2 * (element % 4)) & 3
}

/// Writes the code of an element of a group whose bits are still 0 there.
pub(crate) fn set_code(bits: u32, group: &mut [u8], element: usize, code: u8) {
    match bits {
        8 => group[element] = code,
        4 => group[element / 2] |= code << (4 * (element % 2)),
        2 => group[element / 4] |= code << (2 * (element % 4)),
        _ => {
            let (low, high) = group.split_at_mut(group.len() / 3 * 2);
            low[element / 4] |= (code & 3) << (2 * (element % 4));
            high[element / 8] |= (code >> 2) << (element % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_sparse::format::{BITS, GROUPS};

    #[test]
    fn codes_come_back() {
        for bits in BITS {
            for length in GROUPS {
                let right = |j: usize| (j * 37 % (1 << bits)) as u8;
                let mut group = vec![0; length * bits as usize / 8];
                (0..length).for_each(|j| set_code(bits, &mut group, j, right(j)));
                for j in 0..length {
                    assert_eq!(code(bits, &group, j), right(j), "{bits} bits, G = {length}, {j}");
                }
            }
        }
    }

    #[test]
    fn bits_lie_where_the_format_says() {
        let mut nibbles = [0; 4];
        set_code(4, &mut nibbles, 3, 0xA);
        assert_eq!(nibbles, [0, 0xA0, 0, 0]);
        let mut pairs = [0; 2];
        set_code(2, &mut pairs, 5, 3);
        assert_eq!(pairs, [0, 0b1100]);
        // Two planes: two bytes of low bits, one of high bits.
        let mut planes = [0; 3];
        set_code(3, &mut planes, 6, 0b101);
        assert_eq!(planes, [0, 0b01_0000, 0b0100_0000]);
    }
}
