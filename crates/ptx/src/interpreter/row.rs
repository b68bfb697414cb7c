//! A register of all lanes of a warp.

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// The bits of a register in each lane. Bits above the register's width are zero, always; a predicate is
/// no row but a [`Mask`].
pub(crate) type Row = [u64; LANES];

/// A bit for each lane, lane 0 lowest.
pub(crate) type Mask = u32;

/// The lanes of a mask, in order.
pub(crate) fn lanes(mask: Mask) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}
