//! Which tokens of a whole sequence a tensor holds.

use std::ops::Range;

use super::check::CHECK;
use crate::Result;

/// Tokens at equal distances: the i-th has the position `start + i stride`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Segment {
    /// The position of its first token.
    pub start: usize,
    /// The distance between neighbours; 1 where they follow one another.
    pub stride: usize,
    /// Its tokens.
    pub length: usize,
}

impl Segment {
    /// Tokens that follow one another.
    pub fn contiguous(positions: Range<usize>) -> Self {
        Self { start: positions.start, stride: 1, length: positions.len() }
    }

    fn position(self, i: usize) -> usize {
        self.start + i * self.stride
    }

    /// How many of its tokens come before a position.
    fn before(self, position: i64) -> usize {
        let (length, stride) = (self.length as i64, self.stride.max(1) as i64);
        let beyond = position.saturating_sub(self.start as i64).max(0);
        (beyond / stride + i64::from(beyond % stride > 0)).min(length) as usize
    }
}

/// Segments that a tensor may hold, one behind the other.
pub const SEGMENTS: usize = 2;

/// Which tokens of a whole sequence a tensor holds: all of them, or up to two segments of them, one
/// behind the other, which are what a rank has of a sequence that is cut contiguously, in a zigzag
/// or in stripes. Positions rise from token to token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Positions {
    segments: [Segment; SEGMENTS],
    total: usize,
}

impl Positions {
    /// All tokens of a sequence.
    pub fn whole(total: usize) -> Self {
        Self { segments: [Segment::contiguous(0..total), Segment::default()], total }
    }

    /// Some tokens of a sequence of `total`.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for more than two segments, for one that leaves the
    /// sequence, and where positions do not rise.
    pub fn new(total: usize, segments: &[Segment]) -> Result<Self> {
        let refuse = |found: String| {
            let expected =
                format!("at most {SEGMENTS} segments within {total} tokens, of rising positions");
            CHECK.wrong_option("positions", &expected, &found)
        };
        let mut padded = [Segment::default(); SEGMENTS];
        match padded.get_mut(..segments.len()) {
            Some(front) => front.copy_from_slice(segments),
            None => return Err(refuse(format!("{} segments", segments.len()))),
        }
        // Where the next token may be.
        let mut free = 0;
        for segment in segments.iter().filter(|segment| segment.length > 0) {
            let Segment { start, stride, length } = *segment;
            let reach = (length - 1).checked_mul(stride);
            let last = reach.and_then(|reach| start.checked_add(reach));
            match last.filter(|&last| last < total && start >= free) {
                Some(last) if stride > 0 || length == 1 => free = last + 1,
                _ => return Err(refuse(format!("{length} tokens from {start} by {stride}"))),
            }
        }
        Ok(Self { segments: padded, total })
    }

    /// The tokens that are held.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of the whole sequence.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The segments, those without tokens too.
    pub fn segments(&self) -> [Segment; SEGMENTS] {
        self.segments
    }

    /// The position of the `i`-th token that is held.
    pub fn position(&self, i: usize) -> usize {
        let [first, second] = self.segments;
        match i.checked_sub(first.length) {
            None => first.position(i),
            Some(i) => second.position(i),
        }
    }

    /// Some tokens in runs at equal distances: which they are, where the first stands, and the
    /// distance.
    pub(super) fn runs(
        &self,
        tokens: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, usize, usize)> {
        let [first, second] = self.segments;
        let parts = [(0, first), (first.length, second)];
        parts.into_iter().filter_map(move |(before, segment)| {
            let start = tokens.start.max(before);
            let end = tokens.end.min(before + segment.length);
            (start < end).then(|| (start..end, segment.position(start - before), segment.stride))
        })
    }

    /// How many of the tokens that are held come before a position.
    pub fn before(&self, position: i64) -> usize {
        self.segments.iter().map(|segment| segment.before(position)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zigzag() -> Positions {
        let segments = [Segment::contiguous(3..6), Segment::contiguous(18..21)];
        Positions::new(24, &segments).unwrap()
    }

    #[test]
    fn positions_go_through_the_segments() {
        let positions = zigzag();
        let all: Vec<usize> = (0..positions.len()).map(|i| positions.position(i)).collect();
        assert_eq!(all, [3, 4, 5, 18, 19, 20]);
        let striped = Positions::new(9, &[Segment { start: 2, stride: 3, length: 3 }]).unwrap();
        assert_eq!((0..3).map(|i| striped.position(i)).collect::<Vec<_>>(), [2, 5, 8]);
        assert_eq!(Positions::whole(4).position(3), 3);
    }

    #[test]
    fn tokens_before_a_position_are_counted() {
        let striped = [
            Segment { start: 1, stride: 3, length: 5 },
            Segment { start: 20, stride: 4, length: 4 },
        ];
        let striped = Positions::new(40, &striped).unwrap();
        for positions in [zigzag(), striped, Positions::whole(7), Positions::whole(0)] {
            for position in -3..45 {
                let before = |i: &usize| (positions.position(*i) as i64) < position;
                let expected = (0..positions.len()).filter(before).count();
                assert_eq!(positions.before(position), expected, "{positions:?} {position}");
            }
        }
    }

    #[test]
    fn segments_stay_within_the_sequence() {
        let error = |segments: &[Segment]| Positions::new(8, segments).unwrap_err().to_string();
        let found = error(&[Segment { start: 2, stride: 3, length: 3 }]);
        assert!(
            found.contains("at most 2 segments within 8 tokens, of rising positions"),
            "{found}"
        );
        assert!(found.contains("3 tokens from 2 by 3"), "{found}");
        assert!(error(&[Segment::default(); 3]).contains("3 segments"));
        assert!(error(&[Segment { start: 0, stride: 0, length: 2 }]).contains("from 0 by 0"));
        assert!(error(&[Segment { start: 1, stride: usize::MAX, length: 3 }]).contains("tokens"));
        let falling = [Segment::contiguous(4..6), Segment::contiguous(5..7)];
        assert!(error(&falling).contains("2 tokens from 5 by 1"));
        assert!(Positions::new(0, &[]).unwrap().is_empty());
    }
}
