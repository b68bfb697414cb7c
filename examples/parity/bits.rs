//! The task: strings of random bits, and after each bit whether the ones so far are odd in number.

use fastrand::Rng;

use crate::shared::batch::Batch;

/// Bits are read, and two classes told apart: an even and an odd number of ones.
pub const SYMBOLS: usize = 2;
pub const CLASSES: usize = 2;

/// Strings of these lengths, one for each row. A shorter one is filled up with zeros, whose
/// parity is not asked for.
pub fn batch(lengths: &[usize], random: &mut Rng) -> Batch {
    let steps = lengths.iter().copied().max().unwrap_or(0);
    let mut batch = Batch { rows: lengths.len(), read: Vec::new(), wanted: Vec::new() };
    for &length in lengths {
        let mut parity = 0;
        for step in 0..steps {
            let bit = if step < length { random.usize(0..SYMBOLS) } else { 0 };
            parity ^= bit;
            batch.read.push(bit);
            batch.wanted.push((step < length).then_some(parity));
        }
    }
    batch
}
