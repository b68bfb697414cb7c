//! What a rank has: its own tokens, what it holds of others, and memory for what comes.

use std::collections::HashMap;

use super::cut::Cut;
use super::schedule::{Heads, Item, Piece, Transfer};
use crate::Result;
use crate::backend::{Backend, Buffer};
use crate::element::DType;
use crate::parameter::Parameter;
use crate::tensor::View;

/// A piece, and its tensors.
type Held<B> = (Piece, Vec<View<B>>);

/// The tensors of a rank, and those that go round. Activations are (B, S, H, D), numbers of rows
/// (B, H, S).
pub(super) struct Store<'a, B: Backend> {
    pub cut: &'a Cut,
    /// What goes round of the rank's own queries, where queries do.
    pub queries: Vec<View<B>>,
    /// Its own keys and values.
    pub keys: Vec<View<B>>,
    pub slopes: Option<Parameter<'a, B>>,
    pub pool: Pool<B>,
    /// What has come of others.
    held: HashMap<(Item, Heads), Held<B>>,
}

impl<'a, B: Backend> Store<'a, B> {
    pub fn new(
        cut: &'a Cut,
        queries: Vec<View<B>>,
        keys: Vec<View<B>>,
        slopes: Option<Parameter<'a, B>>,
        pool: Pool<B>,
    ) -> Self {
        Self { cut, queries, keys, slopes, pool, held: HashMap::new() }
    }

    /// The tensors of a piece that is the rank's own, or held.
    pub fn inputs(&self, item: Item, piece: Piece) -> Result<Vec<View<B>>> {
        let of_queries = item == Item::Queries;
        if piece.owner == self.cut.rank {
            let own = if of_queries { &self.queries } else { &self.keys };
            let part = |view: &View<B>| match is_of_rows(view) {
                true => self.cut.of_rows(view, piece),
                false => self.cut.of_shard(view, of_queries, piece),
            };
            return own.iter().map(part).collect();
        }
        let Some((held, views)) = self.held.get(&(item, piece.heads)) else {
            unreachable!("a schedule computes with what has come");
        };
        debug_assert_eq!(held.owner, piece.owner);
        let part = |view: &View<B>| {
            let axis = if is_of_rows(view) { 2 } else { 1 };
            self.cut.of_held((*held, view), of_queries, piece, axis)
        };
        views.iter().map(part).collect()
    }

    /// Keeps what has come, in place of what was there before.
    pub fn hold(&mut self, transfer: &Transfer, parts: Vec<View<B>>) {
        let key = (transfer.item, transfer.piece.heads);
        if let Some((_, before)) = self.held.insert(key, (transfer.piece, parts)) {
            self.pool.give_all(before);
        }
    }

    /// The memory of what has come, for calls that follow.
    pub fn into_pool(self) -> Pool<B> {
        let Self { mut pool, held, .. } = self;
        held.into_values().for_each(|(_, parts)| pool.give_all(parts));
        pool
    }

    /// The slopes of some heads.
    pub fn slopes_of(&self, heads: Heads) -> Result<Option<View<B>>> {
        let heads = self.cut.heads(true, heads);
        let some = |slopes: Parameter<'_, B>| slopes.narrowed(slopes.shape().len() - 1, heads);
        self.slopes.map(some).transpose()
    }
}

/// Whether it has a number for each row, and no features.
fn is_of_rows<B: Backend>(view: &View<B>) -> bool {
    view.shape().len() == 3
}

/// Memory that steps share: what one has sent, another receives into.
#[derive(Debug)]
pub(super) struct Pool<B: Backend> {
    backend: B,
    free: HashMap<u64, Vec<B::Buffer>>,
}

impl<B: Backend> Pool<B> {
    pub fn new(backend: &B) -> Self {
        Self { backend: backend.clone(), free: HashMap::new() }
    }

    /// All of it, which leaves none.
    pub fn leave(&mut self) -> Self {
        std::mem::replace(self, Self::new(&self.backend))
    }

    /// Bytes that nobody uses.
    pub fn bytes(&self) -> u64 {
        self.free.iter().map(|(bytes, buffers)| bytes * buffers.len() as u64).sum()
    }

    /// A tensor without gaps; what it holds is not defined.
    pub fn take(&mut self, dtype: DType, shape: &[usize]) -> Result<View<B>> {
        let bytes = (shape.iter().product::<usize>() * dtype.bytes()) as u64;
        let Some(buffer) = self.free.get_mut(&bytes).and_then(Vec::pop) else {
            return View::new(&self.backend, dtype, shape);
        };
        View::without_gaps(&self.backend, buffer, dtype, shape)
    }

    /// The memory of tensors that were taken.
    pub fn give_all(&mut self, views: impl IntoIterator<Item = View<B>>) {
        for view in views {
            let buffer = view.buffer().clone();
            self.free.entry(buffer.bytes()).or_default().push(buffer);
        }
    }
}
