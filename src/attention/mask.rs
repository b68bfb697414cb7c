//! Which keys a query sees, for single tokens and for tiles of them.

use std::ops::Range;

use super::Positions;

/// Where the last query stands, if there are more or fewer queries than keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// At the last key: queries continue a sequence whose keys are known.
    #[default]
    BottomRight,
    /// The first query stands at the first key.
    TopLeft,
}

/// Which keys a query sees. With d the position of the key less that of the query: d ≤ 0 where
/// the mask is causal, and -left ≤ d ≤ right within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Mask {
    /// No query sees what comes behind it; a window's right side counts as 0 then.
    pub causal: bool,
    /// Where queries stand among keys.
    pub alignment: Alignment,
    /// Tokens before and behind the query's own that it sees, that one besides; all where `None`.
    pub window: (Option<usize>, Option<usize>),
}

impl Mask {
    /// Every query sees what comes before it, and itself.
    pub fn causal() -> Self {
        Self { causal: true, ..Self::default() }
    }

    /// With the first, or the last, query at the first, or the last, key.
    pub fn with_alignment(mut self, alignment: Alignment) -> Self {
        self.alignment = alignment;
        self
    }

    /// With so many tokens in sight before and behind the query's own.
    pub fn with_window(mut self, left: Option<usize>, right: Option<usize>) -> Self {
        self.window = (left, right);
        self
    }

    /// The least and the largest d that is seen.
    pub fn band(&self) -> (i64, i64) {
        let signed = |reach: usize| i64::try_from(reach).unwrap_or(FAR).min(FAR);
        let (left, right) = self.window;
        let right = if self.causal { Some(0) } else { right };
        (left.map_or(-FAR, |left| -signed(left)), right.map_or(FAR, signed))
    }

    /// What is added to the positions of queries.
    pub fn offset(&self, queries: usize, keys: usize) -> i64 {
        match self.alignment {
            Alignment::BottomRight => keys as i64 - queries as i64,
            Alignment::TopLeft => 0,
        }
    }
}

/// Farther than any two tokens are apart: positions are below 2²⁹, those of queries, moved, within
/// 2²⁹ below and 2³⁰ above 0. So far that kernels may add it to these in 32 bits.
const FAR: i64 = (1 << 30) - 1;

/// How a tile of scores is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// No query of it sees any of its keys: nothing is loaded.
    Skip,
    /// Every query sees every key: no score is looked at.
    Full,
    /// Scores are masked one by one.
    Partial,
}

/// Queries and keys of one sequence, and who sees whom: one pure function for the kernels' plans,
/// the CPU and rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Positions of queries.
    pub queries: Positions,
    /// Positions of keys.
    pub keys: Positions,
    /// What is added to the positions of queries.
    pub offset: i64,
    /// The least and the largest distance from a query to a key that it sees.
    pub band: (i64, i64),
}

impl Sight {
    /// Of queries and keys of one sequence.
    pub fn new(mask: &Mask, queries: Positions, keys: Positions) -> Self {
        let offset = mask.offset(queries.total(), keys.total());
        Self { queries, keys, offset, band: mask.band() }
    }

    /// From a query to a key.
    pub fn distance(&self, query: usize, key: usize) -> i64 {
        self.keys.position(key) as i64 - (self.queries.position(query) as i64 + self.offset)
    }

    /// Whether a query sees a key.
    pub fn sees(&self, query: usize, key: usize) -> bool {
        let (low, high) = self.band;
        (low..=high).contains(&self.distance(query, key))
    }

    /// The keys that a query sees: positions rise, so that they are neighbours.
    pub fn keys_of(&self, query: usize) -> Range<usize> {
        let (low, high) = self.band;
        let position = self.queries.position(query) as i64 + self.offset;
        self.keys.before(position + low)..self.keys.before(position + high + 1)
    }

    /// The queries that see a key.
    pub fn queries_of(&self, key: usize) -> Range<usize> {
        let (low, high) = self.band;
        let position = self.keys.position(key) as i64 - self.offset;
        self.queries.before(position - high)..self.queries.before(position - low + 1)
    }

    /// The keys outside of which none of these queries sees any; both ends rise from query to
    /// query.
    pub fn keys_of_any(&self, queries: Range<usize>) -> Range<usize> {
        match queries.is_empty() {
            true => 0..0,
            false => self.keys_of(queries.start).start..self.keys_of(queries.end - 1).end,
        }
    }

    /// The queries outside of which none sees any of these keys.
    pub fn queries_of_any(&self, keys: Range<usize>) -> Range<usize> {
        match keys.is_empty() {
            true => 0..0,
            false => self.queries_of(keys.start).start..self.queries_of(keys.end - 1).end,
        }
    }

    /// How a tile is masked, told from its first and its last query.
    pub fn class(&self, queries: Range<usize>, keys: Range<usize>) -> Class {
        if queries.is_empty() || keys.is_empty() {
            return Class::Skip;
        }
        let first = self.keys_of(queries.start);
        let last = self.keys_of(queries.end - 1);
        match () {
            () if keys.start >= last.end || keys.end <= first.start => Class::Skip,
            () if keys.start >= last.start && keys.end <= first.end => Class::Full,
            () => Class::Partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Segment;
    use super::*;

    /// Shards of many kinds, of 0 to 12 tokens.
    fn shards() -> Vec<Positions> {
        let pieces = |pieces: &[Segment]| Positions::new(24, pieces).unwrap();
        vec![
            Positions::whole(0),
            Positions::whole(9),
            Positions::whole(24),
            pieces(&[Segment::contiguous(6..12)]),
            pieces(&[Segment::contiguous(3..6), Segment::contiguous(18..21)]),
            pieces(&[Segment { start: 1, stride: 4, length: 6 }]),
        ]
    }

    fn masks() -> Vec<Mask> {
        let dense = Mask::default();
        let window = |left, right| dense.with_window(left, right);
        vec![
            dense,
            Mask::causal(),
            Mask::causal().with_alignment(Alignment::TopLeft),
            window(Some(0), Some(0)),
            window(Some(3), Some(1)),
            window(None, Some(2)),
            window(Some(2), None),
            Mask::causal().with_window(Some(5), Some(7)),
            window(Some(usize::MAX), Some(usize::MAX)),
        ]
    }

    /// Every tile against its single pairs.
    #[test]
    fn classes_hold_for_every_pair_of_a_tile() {
        for (mask, queries, keys) in masks().into_iter().flat_map(|mask| {
            let pairs = move |queries| shards().into_iter().map(move |keys| (mask, queries, keys));
            shards().into_iter().flat_map(pairs)
        }) {
            let sight = Sight::new(&mask, queries, keys);
            for (i, j) in (0..queries.len()).flat_map(|i| (0..keys.len()).map(move |j| (i, j))) {
                let rows = i..(i + 3).min(queries.len());
                let columns = j..(j + 4).min(keys.len());
                let pairs = rows.clone().flat_map(|i| columns.clone().map(move |j| (i, j)));
                let seen = pairs.clone().filter(|&(i, j)| sight.sees(i, j)).count();
                match sight.class(rows.clone(), columns.clone()) {
                    Class::Skip => assert_eq!(seen, 0, "{sight:?} {rows:?} {columns:?}"),
                    Class::Full => assert_eq!(seen, pairs.count(), "{sight:?} {rows:?}"),
                    Class::Partial => {}
                }
                let seen_keys = (0..keys.len()).filter(|&j| sight.sees(i, j));
                assert!(sight.keys_of(i).eq(seen_keys), "{sight:?} {i}");
                let seeing = (0..queries.len()).filter(|&i| sight.sees(i, j));
                assert!(sight.queries_of(j).eq(seeing), "{sight:?} {j}");
                let (any, seers) =
                    (sight.keys_of_any(rows.clone()), sight.queries_of_any(columns.clone()));
                let mut pairs = rows.flat_map(|i| (0..keys.len()).map(move |j| (i, j)));
                assert!(pairs.all(|(i, j)| any.contains(&j) || !sight.sees(i, j)), "{any:?}");
                let mut pairs = columns.flat_map(|j| (0..queries.len()).map(move |i| (i, j)));
                assert!(pairs.all(|(i, j)| seers.contains(&i) || !sight.sees(i, j)), "{seers:?}");
            }
        }
    }

    /// Where positions have no gaps, a class is exact: no tile is looked at without need.
    #[test]
    fn classes_of_contiguous_tiles_are_exact() {
        for mask in masks() {
            let sight = Sight::new(&mask, Positions::whole(20), Positions::whole(13));
            for (i, j) in (0..20).flat_map(|i| (0..13).map(move |j| (i, j))) {
                let (rows, columns) = (i..(i + 4).min(20), j..(j + 3).min(13));
                let pairs = rows.clone().flat_map(|i| columns.clone().map(move |j| (i, j)));
                let seen = pairs.clone().filter(|&(i, j)| sight.sees(i, j)).count();
                let expected = match seen {
                    0 => Class::Skip,
                    all if all == pairs.count() => Class::Full,
                    _ => Class::Partial,
                };
                assert_eq!(sight.class(rows, columns), expected, "{mask:?} at {i}, {j}");
            }
        }
    }

    #[test]
    fn queries_end_where_keys_end_unless_they_begin_together() {
        let sees = |mask: Mask, query, key| {
            Sight::new(&mask, Positions::whole(2), Positions::whole(5)).sees(query, key)
        };
        assert!(sees(Mask::causal(), 0, 3) && !sees(Mask::causal(), 0, 4));
        let top_left = Mask::causal().with_alignment(Alignment::TopLeft);
        assert!(sees(top_left, 0, 0) && !sees(top_left, 0, 1));
        // More queries than keys: the first ones see nothing.
        let sight = Sight::new(&Mask::causal(), Positions::whole(5), Positions::whole(2));
        assert!((0..3).all(|query| sight.keys_of(query).is_empty()));
        assert_eq!([sight.keys_of(3), sight.keys_of(4)], [0..1, 0..2]);
    }
}
