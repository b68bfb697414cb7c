//! Which element of a matrix each lane holds where.
//!
//! A register of 32 bits holds w elements (1 of `.tf32`, `.f32`, `.s32`; 2 of 16 bits; 4 of 8 bits), the first in
//! the low bits; a register of 64 bits holds one `.f64`, w = 1. With lane l, g = l/4, t = l%4, register r, place p
//! in the register, and i = w·r + p:
//!
//! | matrix | row | column |
//! |---|---|---|
//! | A, M×K | g + 8·(r%2) | w·t + p + 4w·(r/2) |
//! | B, K×8 | w·t + p + 4w·r | g |
//! | C and D, M×N | g + 8·((i/2)%2) | 2t + i%2 + 8·(i/2/2) |
//!
//! `wgmma` uses the same table: the A and D of 64 rows are those of M = 16, one below the other for the four
//! warps, and a D of N columns goes on with further registers.

/// Where a lane's fragment holds an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub register: usize,
    /// In the register, counted from its low bits.
    pub position: usize,
}

/// All places of a fragment of this many registers, with `per` elements in each.
pub(super) fn places(registers: usize, per: usize) -> impl Iterator<Item = Place> {
    (0..registers)
        .flat_map(move |register| (0..per).map(move |position| Place { register, position }))
}

/// Row and k of an element of A.
pub(super) fn left(lane: usize, place: Place, per: usize) -> (usize, usize) {
    let Place { register, position } = place;
    (lane / 4 + 8 * (register % 2), per * (lane % 4) + position + 4 * per * (register / 2))
}

/// k and column of an element of B.
pub(super) fn right(lane: usize, place: Place, per: usize) -> (usize, usize) {
    (per * (lane % 4) + place.position + 4 * per * place.register, lane / 4)
}

/// Row and column of an element of C or D.
pub(super) fn sum(lane: usize, place: Place, per: usize) -> (usize, usize) {
    let element = per * place.register + place.position;
    (lane / 4 + 8 * (element / 2 % 2), 2 * (lane % 4) + element % 2 + 8 * (element / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::row::LANES;

    type Rule = fn(usize, usize, usize) -> usize;
    type Function = fn(usize, Place, usize) -> (usize, usize);

    /// The table of the specification: elements per register and per lane, row and column of element i, from
    /// g, t and i.
    const SPECIFIED: &[(&str, Function, usize, usize, Rule, Rule)] = &[
        (
            "A 16-bit k16",
            left,
            2,
            8,
            |g, _, i| g + 8 * ((i / 2) % 2),
            |_, t, i| 2 * t + i % 2 + 8 * (i / 4),
        ),
        ("A 16-bit k8", left, 2, 4, |g, _, i| g + 8 * (i / 2), |_, t, i| 2 * t + i % 2),
        ("A tf32 k8", left, 1, 4, |g, _, i| g + 8 * (i % 2), |_, t, i| t + 4 * (i / 2)),
        ("A tf32 k4", left, 1, 2, |g, _, i| g + 8 * i, |_, t, _| t),
        (
            "A 8-bit k32",
            left,
            4,
            16,
            |g, _, i| g + 8 * ((i / 4) % 2),
            |_, t, i| 4 * t + i % 4 + 16 * (i / 8),
        ),
        ("A 8-bit k16", left, 4, 8, |g, _, i| g + 8 * (i / 4), |_, t, i| 4 * t + i % 4),
        ("A f64 k16", left, 1, 8, |g, _, i| g + 8 * (i % 2), |_, t, i| t + 4 * (i / 2)),
        ("A f64 m8n8k4", left, 1, 1, |g, _, _| g, |_, t, _| t),
        ("B 16-bit k16", right, 2, 4, |_, t, i| 2 * t + i % 2 + 8 * (i / 2), |g, _, _| g),
        ("B 16-bit k8", right, 2, 2, |_, t, i| 2 * t + i, |g, _, _| g),
        ("B tf32 k8", right, 1, 2, |_, t, i| t + 4 * i, |g, _, _| g),
        ("B tf32 k4", right, 1, 1, |_, t, _| t, |g, _, _| g),
        ("B 8-bit k32", right, 4, 8, |_, t, i| 4 * t + i % 4 + 16 * (i / 4), |g, _, _| g),
        ("B 8-bit k16", right, 4, 4, |_, t, i| 4 * t + i, |g, _, _| g),
        ("B f64 k16", right, 1, 4, |_, t, i| t + 4 * i, |g, _, _| g),
        ("C 32-bit", sum, 1, 4, |g, _, i| g + 8 * (i / 2), |_, t, i| 2 * t + i % 2),
        ("C f16", sum, 2, 4, |g, _, i| g + 8 * (i / 2), |_, t, i| 2 * t + i % 2),
        ("C f64 m8n8k4", sum, 1, 2, |g, _, _| g, |_, t, i| 2 * t + i),
        (
            "D of wgmma n32",
            sum,
            1,
            16,
            |g, _, i| g + 8 * ((i / 2) % 2),
            |_, t, i| 8 * (i / 4) + 2 * t + i % 2,
        ),
    ];

    #[test]
    fn the_table_of_the_specification() {
        for &(name, function, per, elements, row, column) in SPECIFIED {
            for (i, place) in places(elements / per, per).enumerate() {
                for lane in 0..LANES {
                    let (g, t) = (lane / 4, lane % 4);
                    let expected = (row(g, t, i), column(g, t, i));
                    assert_eq!(function(lane, place, per), expected, "{name}, {lane}, {place:?}");
                }
            }
        }
    }

    #[test]
    fn lane_five_of_m16n8k16() {
        let held = |function: Function, registers, per| {
            places(registers, per).map(|place| function(5, place, per)).collect::<Vec<_>>()
        };
        let a = [(1, 2), (1, 3), (9, 2), (9, 3), (1, 10), (1, 11), (9, 10), (9, 11)];
        assert_eq!(held(left, 4, 2), a);
        assert_eq!(held(right, 2, 2), [(2, 1), (3, 1), (10, 1), (11, 1)]);
        assert_eq!(held(sum, 4, 1), [(1, 2), (1, 3), (9, 2), (9, 3)]);
    }
}
