//! How a sequence is cut among ranks.

use std::fmt;
use std::ops::Range;

use super::CHECK;
use super::schedule::Half;
use crate::Result;
use crate::attention::{Positions, Segment};

/// The most ranks of a ring: programs have a list of steps for each, each step a meeting of all.
pub const MAX_RANKS: usize = 1 << 16;

/// A way to cut a sequence of S tokens among N ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Rank r has the r-th of N chunks of neighbours.
    Contiguous,
    /// Rank r has the r-th and the r-th last of 2N chunks: where sight is causal all ranks have as
    /// much to do.
    Zigzag,
    /// Rank r has every N-th token from the r-th on.
    Striped,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Contiguous, Self::Zigzag, Self::Striped];
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contiguous => "contiguous",
            Self::Zigzag => "zigzag",
            Self::Striped => "striped",
        })
    }
}

/// A sequence that is cut among ranks. Where it does not divide, chunk j of M has the tokens from
/// ⌊j S / M⌋ to before ⌊(j + 1) S / M⌋, so that shards differ by a token or two and may be empty.
///
/// ```
/// use warpwright::ring::{Partition, Scheme};
///
/// let zigzag = Partition::new(Scheme::Zigzag, 8, 2)?;
/// let of_rank = |rank| (0..4).map(move |i| zigzag.global_index(rank, i));
/// assert!(of_rank(0).eq([0, 1, 6, 7]) && of_rank(1).eq([2, 3, 4, 5]));
/// assert_eq!((zigzag.owner(6), zigzag.local_index(6)), (0, 2));
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    scheme: Scheme,
    total: usize,
    ranks: usize,
}

impl Partition {
    /// A sequence of `total` tokens among `ranks`.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for no ranks, or more than [`MAX_RANKS`].
    pub fn new(scheme: Scheme, total: usize, ranks: usize) -> Result<Self> {
        match (1..=MAX_RANKS).contains(&ranks) {
            true => Ok(Self { scheme, total, ranks }),
            false => {
                let expected = format!("1 to {MAX_RANKS}");
                Err(CHECK.wrong_option("ranks", &expected, &ranks.to_string()))
            }
        }
    }

    /// How it is cut.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The tokens of the whole sequence.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The ranks.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// The first token of chunk `j` of `chunks`.
    fn start(&self, j: usize, chunks: usize) -> usize {
        (j as u128 * self.total as u128 / chunks as u128) as usize
    }

    fn chunk(&self, j: usize, chunks: usize) -> Range<usize> {
        self.start(j, chunks)..self.start(j + 1, chunks)
    }

    /// The chunk of `chunks` that a token lies in.
    fn chunk_of(&self, token: usize, chunks: usize) -> usize {
        // The last j with j S / M ≤ t, rounded down: j S < (t + 1) M.
        let behind = (token as u128 + 1) * chunks as u128;
        (behind.div_ceil(self.total as u128) - 1) as usize
    }

    /// The two segments of a rank's tokens, the second empty but in a zigzag.
    fn segments(&self, rank: usize) -> [Segment; 2] {
        let (n, total) = (self.ranks, self.total);
        match self.scheme {
            Scheme::Contiguous => [Segment::contiguous(self.chunk(rank, n)), Segment::default()],
            Scheme::Zigzag => {
                [rank, 2 * n - 1 - rank].map(|chunk| Segment::contiguous(self.chunk(chunk, 2 * n)))
            }
            Scheme::Striped => {
                let length = total.saturating_sub(rank).div_ceil(n);
                let start = if length > 0 { rank } else { 0 };
                [Segment { start, stride: n, length }, Segment::default()]
            }
        }
    }

    /// The tokens that a rank has.
    ///
    /// # Panics
    ///
    /// Where there is no such rank.
    pub fn positions(&self, rank: usize) -> Positions {
        assert!(rank < self.ranks, "rank {rank} of {}", self.ranks);
        match Positions::new(self.total, &self.segments(rank)) {
            Ok(positions) => positions,
            Err(error) => unreachable!("segments of a partition rise within it: {error}"),
        }
    }

    /// Which of a rank's tokens a half is.
    ///
    /// # Panics
    ///
    /// Where there is no such rank.
    pub fn tokens(&self, rank: usize, half: Half) -> Range<usize> {
        let positions = self.positions(rank);
        let early = positions.segments()[0].length;
        match half {
            Half::Whole => 0..positions.len(),
            Half::Early => 0..early,
            Half::Late => early..positions.len(),
        }
    }

    /// How many tokens a rank has.
    ///
    /// # Panics
    ///
    /// Where there is no such rank.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self, rank: usize) -> usize {
        self.positions(rank).len()
    }

    /// The rank that has a token.
    ///
    /// # Panics
    ///
    /// Where there is no such token.
    pub fn owner(&self, token: usize) -> usize {
        assert!(token < self.total, "token {token} of {}", self.total);
        let n = self.ranks;
        match self.scheme {
            Scheme::Contiguous => self.chunk_of(token, n),
            Scheme::Zigzag => {
                let chunk = self.chunk_of(token, 2 * n);
                chunk.min(2 * n - 1 - chunk)
            }
            Scheme::Striped => token % n,
        }
    }

    /// Where among its owner's tokens a token stands.
    ///
    /// # Panics
    ///
    /// Where there is no such token.
    pub fn local_index(&self, token: usize) -> usize {
        self.positions(self.owner(token)).before(token as i64)
    }

    /// The token that is a rank's `i`-th.
    ///
    /// # Panics
    ///
    /// Where there is no such rank, or it has not so many.
    pub fn global_index(&self, rank: usize, i: usize) -> usize {
        let positions = self.positions(rank);
        assert!(i < positions.len(), "token {i} of the {} of rank {rank}", positions.len());
        positions.position(i)
    }

    /// The tokens of a rank, in its order.
    pub(super) fn tokens_of(&self, rank: usize) -> impl Iterator<Item = usize> + use<> {
        let positions = self.positions(rank);
        (0..positions.len()).map(move |i| positions.position(i))
    }

    /// The part of a tensor that a rank has: `whole` has `outer` times the tokens, of `inner` numbers
    /// each.
    ///
    /// # Panics
    ///
    /// Where `whole` has another length.
    pub fn scatter<T: Copy>(&self, whole: &[T], [outer, inner]: [usize; 2], rank: usize) -> Vec<T> {
        let tokens: Vec<usize> = self.tokens_of(rank).collect();
        picked(whole, [outer, self.total, inner], &tokens)
    }

    /// The whole tensor of which [`scatter`](Self::scatter) gave each rank its part.
    ///
    /// # Panics
    ///
    /// Where there are not as many parts as ranks, or one has another length.
    pub fn gather<T: Copy + Default>(
        &self,
        parts: &[Vec<T>],
        [outer, inner]: [usize; 2],
    ) -> Vec<T> {
        let tokens: Vec<Vec<usize>> =
            (0..self.ranks).map(|rank| self.tokens_of(rank).collect()).collect();
        put_together(parts, [outer, self.total, inner], &tokens)
    }
}

/// Some tokens of a tensor of `outer` times so many of them, of `inner` numbers each.
pub(super) fn picked<T: Copy>(
    whole: &[T],
    [outer, total, inner]: [usize; 3],
    tokens: &[usize],
) -> Vec<T> {
    assert_eq!(whole.len(), outer * total * inner, "numbers of the whole");
    let mut part = Vec::with_capacity(outer * tokens.len() * inner);
    for entry in 0..outer {
        for token in tokens {
            let first = (entry * total + token) * inner;
            part.extend_from_slice(&whole[first..first + inner]);
        }
    }
    part
}

/// The tensor of which these are the parts of each rank.
pub(super) fn put_together<T: Copy + Default>(
    parts: &[Vec<T>],
    [outer, total, inner]: [usize; 3],
    tokens: &[Vec<usize>],
) -> Vec<T> {
    assert_eq!(parts.len(), tokens.len(), "parts");
    let mut whole = vec![T::default(); outer * total * inner];
    for (rank, (part, tokens)) in parts.iter().zip(tokens).enumerate() {
        assert_eq!(part.len(), outer * tokens.len() * inner, "numbers of rank {rank}");
        for entry in 0..outer {
            for (i, token) in tokens.iter().enumerate() {
                let (from, to) =
                    ((entry * tokens.len() + i) * inner, (entry * total + token) * inner);
                whole[to..to + inner].copy_from_slice(&part[from..from + inner]);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions() -> impl Iterator<Item = Partition> {
        Scheme::ALL.into_iter().flat_map(|scheme| {
            (0..40)
                .flat_map(move |total| (1..10).map(move |ranks| Partition { scheme, total, ranks }))
        })
    }

    #[test]
    fn every_token_has_one_owner_and_maps_are_inverse() {
        for partition in partitions() {
            let mut seen = vec![0; partition.total()];
            for rank in 0..partition.ranks() {
                for i in 0..partition.len(rank) {
                    let token = partition.global_index(rank, i);
                    seen[token] += 1;
                    assert_eq!(partition.owner(token), rank, "{partition:?} token {token}");
                    assert_eq!(partition.local_index(token), i, "{partition:?} token {token}");
                }
            }
            assert!(seen.iter().all(|&times| times == 1), "{partition:?}: {seen:?}");
        }
    }

    #[test]
    fn shards_differ_by_what_does_not_divide() {
        for partition in partitions() {
            let lengths = (0..partition.ranks()).map(|rank| partition.len(rank));
            let (least, most) = (lengths.clone().min(), lengths.max());
            let apart = most.unwrap() - least.unwrap();
            let allowed = if partition.scheme() == Scheme::Zigzag { 2 } else { 1 };
            assert!(apart <= allowed, "{partition:?}: {apart}");
        }
    }

    #[test]
    fn equal_shards_are_those_of_the_table() {
        let tokens = |scheme, rank| {
            let partition = Partition::new(scheme, 12, 3).unwrap();
            (0..4).map(|i| partition.global_index(rank, i)).collect::<Vec<_>>()
        };
        assert_eq!(tokens(Scheme::Contiguous, 1), [4, 5, 6, 7]);
        assert_eq!(tokens(Scheme::Zigzag, 1), [2, 3, 8, 9]);
        assert_eq!(tokens(Scheme::Striped, 1), [1, 4, 7, 10]);
    }

    #[test]
    fn what_is_scattered_can_be_gathered() {
        for partition in partitions() {
            let whole: Vec<usize> = (0..2 * partition.total() * 3).collect();
            let parts: Vec<Vec<usize>> = (0..partition.ranks())
                .map(|rank| partition.scatter(&whole, [2, 3], rank))
                .collect();
            assert_eq!(partition.gather(&parts, [2, 3]), whole, "{partition:?}");
        }
    }

    #[test]
    fn there_is_a_rank() {
        for ranks in [0, usize::MAX] {
            let message = Partition::new(Scheme::Zigzag, 8, ranks).unwrap_err().to_string();
            let expected = format!("option `ranks`: expected 1 to 65536, found {ranks}");
            assert_eq!(message, format!("ring-attention: {expected}"));
        }
    }
}
