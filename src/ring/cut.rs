//! Where pieces of shards lie in a rank's tensors.

use std::ops::Range;

use super::partition::Partition;
use super::schedule::{Half, Heads, Piece};
use super::{Ring, Shards};
use crate::Result;
use crate::attention::{Layout, Options, Positions};
use crate::backend::Backend;
use crate::tensor::View;

/// A rank's part of a call.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub rank: usize,
    pub shards: Shards,
    /// Of blocks, but for their positions: axes are batch, token, head, feature.
    pub options: Options,
}

impl Cut {
    pub fn new(rank: usize, ring: &Ring, shards: Shards, options: &Options) -> Self {
        debug_assert_eq!((ring.queries, ring.keys), (shards.queries, shards.keys));
        Self { rank, shards, options: options.clone().with_layout(Layout::Bshd) }
    }

    fn partition(&self, of_queries: bool) -> &Partition {
        if of_queries { &self.shards.queries } else { &self.shards.keys }
    }

    /// The tokens of a piece among its owner's.
    pub fn tokens(&self, of_queries: bool, piece: Piece) -> Range<usize> {
        self.partition(of_queries).tokens(piece.owner, piece.half)
    }

    /// The heads of a piece.
    pub fn heads(&self, of_queries: bool, heads: Heads) -> Range<usize> {
        let of_keys = heads.of(self.shards.kv_heads);
        if !of_queries {
            return of_keys;
        }
        let group = self.shards.heads.checked_div(self.shards.kv_heads).unwrap_or(1);
        of_keys.start * group..of_keys.end * group
    }

    /// Which tokens of the whole sequence a piece has.
    fn positions(&self, of_queries: bool, piece: Piece) -> Result<Positions> {
        let positions = self.partition(of_queries).positions(piece.owner);
        let [early, late] = positions.segments();
        match piece.half {
            Half::Whole => Ok(positions),
            Half::Early => Positions::new(positions.total(), &[early]),
            Half::Late => Positions::new(positions.total(), &[late]),
        }
    }

    /// The options of a block.
    pub fn block(&self, queries: Piece, keys: Piece) -> Result<Options> {
        let (queries, keys) = (self.positions(true, queries)?, self.positions(false, keys)?);
        Ok(self.options.clone().with_queries(queries).with_keys(keys))
    }

    /// A piece of its owner's whole shard, (B, S, H, D).
    pub fn of_shard<B: Backend>(
        &self,
        view: &View<B>,
        of_queries: bool,
        piece: Piece,
    ) -> Result<View<B>> {
        let tokens = self.tokens(of_queries, piece);
        view.narrowed(1, tokens)?.narrowed(2, self.heads(of_queries, piece.heads))
    }

    /// The same of numbers of rows, (B, H, S).
    pub fn of_rows<B: Backend>(&self, view: &View<B>, piece: Piece) -> Result<View<B>> {
        view.narrowed(2, self.tokens(true, piece))?.narrowed(1, self.heads(true, piece.heads))
    }

    /// A piece of one that is held, which has the same heads.
    pub fn of_held<B: Backend>(
        &self,
        (held, view): (Piece, &View<B>),
        of_queries: bool,
        piece: Piece,
        axis: usize,
    ) -> Result<View<B>> {
        let begin = self.tokens(of_queries, held).start;
        let tokens = self.tokens(of_queries, piece);
        view.narrowed(axis, tokens.start - begin..tokens.end - begin)
    }

    /// The shape of a piece of `features` features, (B, S, H, D).
    pub fn shape(&self, of_queries: bool, piece: Piece, features: usize) -> [usize; 4] {
        let heads = self.heads(of_queries, piece.heads).len();
        [self.shards.batch, self.tokens(of_queries, piece).len(), heads, features]
    }

    /// The shape of numbers of its rows, (B, H, S).
    pub fn rows_shape(&self, piece: Piece) -> [usize; 3] {
        let [batch, tokens, heads, _] = self.shape(true, piece, 1);
        [batch, heads, tokens]
    }
}

/// The axes of activations as batch, token, head, feature.
pub(super) fn tokens_first<B: Backend>(view: &View<B>, layout: Layout) -> Result<View<B>> {
    match layout {
        Layout::Bshd => Ok(view.clone()),
        Layout::Bhsd => view.transposed(1, 2),
    }
}
