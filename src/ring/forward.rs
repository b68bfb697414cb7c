//! The forward pass of a rank.

use std::collections::HashMap;

use super::cut::{Cut, tokens_first};
use super::schedule::{Block, Item, Piece, Transfer};
use super::store::{Pool, Store};
use super::traffic::Worker;
use crate::Result;
use crate::attention::{self, Attention, Inputs, Layout, OutputsMut, Parts};
use crate::backend::Backend;
use crate::element::{Element, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// What a rank holds, computes and puts together.
pub(super) struct Forward<'a, B: Backend, T: Float> {
    store: Store<'a, B>,
    /// The result so far, (B, S, H, Dv), and its lse, (B, H, S).
    running: [View<B>; 2],
    /// Results of others' queries, on their way home.
    made: HashMap<Piece, [View<B>; 2]>,
    element: std::marker::PhantomData<T>,
}

impl<'a, B: Attention<T>, T: Float> Forward<'a, B, T> {
    /// Begins with what a sink alone gives, or nothing.
    pub fn new(
        cut: &'a Cut,
        inputs: &Inputs<'a, B, T>,
        layout: Layout,
        running: [View<B>; 2],
        pool: Pool<B>,
    ) -> Result<Self> {
        let [q, k, v] = [inputs.q, inputs.k, inputs.v].map(|view| tokens_first(view, layout));
        let (q, k, v) = (q?, k?, v?);
        let none = [k.narrowed(1, 0..0)?.typed()?, v.narrowed(1, 0..0)?.typed()?];
        let typed = q.typed()?;
        let nothing = Inputs { sink: inputs.sink, ..Inputs::new(&typed, &none[0], &none[1]) };
        let (mut partial, mut lse) = (running[0].typed()?, running[1].typed()?);
        let mut outputs = OutputsMut { out: None, partial: Some(&mut partial), lse: &mut lse };
        attention::forward_into(&nothing, &cut.options, &mut outputs)?;
        Ok(Self {
            store: Store::new(cut, vec![q], vec![k, v], inputs.alibi_slopes, pool),
            running,
            made: HashMap::new(),
            element: std::marker::PhantomData,
        })
    }

    /// The result, in f32, and its lse; and the memory of the steps.
    pub fn finish(self) -> ([View<B>; 2], Pool<B>) {
        (self.running, self.store.into_pool())
    }

    /// The part of the running result that belongs to some of the rank's own queries.
    fn running(&self, queries: Piece) -> Result<[View<B>; 2]> {
        let [partial, lse] = &self.running;
        let cut = self.store.cut;
        Ok([cut.of_shard(partial, true, queries)?, cut.of_rows(lse, queries)?])
    }

    /// Room for a result of some queries.
    fn result(&mut self, queries: Piece) -> Result<[View<B>; 2]> {
        let cut = self.store.cut;
        let shape = cut.shape(true, queries, cut.shards.value_width);
        Ok([
            self.store.pool.take(T::State::DTYPE, &shape)?,
            self.store.pool.take(T::State::DTYPE, &cut.rows_shape(queries))?,
        ])
    }

    /// Merges a block's result into the running one.
    fn put(&mut self, queries: Piece, [partial, lse]: [View<B>; 2]) -> Result<()> {
        let running = self.running(queries)?;
        let (mut into, mut into_lse) = (running[0].typed()?, running[1].typed()?);
        let mut outputs =
            OutputsMut::<B, T> { out: None, partial: Some(&mut into), lse: &mut into_lse };
        let part_lse: Tensor<B, T::State> = lse.typed()?;
        let part = Parts { out: Parameter::from_view(&partial)?, lse: &part_lse };
        attention::merge_into(&mut outputs, &part, Layout::Bshd)?;
        self.store.pool.give_all([partial, lse]);
        Ok(())
    }
}

impl<B: Attention<T>, T: Float> Worker<B> for Forward<'_, B, T> {
    fn outgoing(&mut self, transfer: &Transfer) -> Result<Vec<View<B>>> {
        match transfer.item {
            Item::Result => match self.made.remove(&transfer.piece) {
                Some(made) => Ok(made.into()),
                None => unreachable!("a schedule sends what was computed"),
            },
            item => self.store.inputs(item, transfer.piece),
        }
    }

    fn room(&mut self, transfer: &Transfer) -> Result<Vec<View<B>>> {
        let (cut, piece) = (self.store.cut, transfer.piece);
        let (width, value_width) = (cut.shards.width, cut.shards.value_width);
        let mut take = |of_queries, features| {
            self.store.pool.take(T::DTYPE, &cut.shape(of_queries, piece, features))
        };
        match transfer.item {
            Item::Queries => Ok(vec![take(true, width)?]),
            Item::Result => self.result(piece).map(Vec::from),
            _ => Ok(vec![take(false, width)?, take(false, value_width)?]),
        }
    }

    fn hold(&mut self, transfer: &Transfer, parts: Vec<View<B>>) {
        self.store.hold(transfer, parts);
    }

    fn compute(&mut self, block: &Block) -> Result<()> {
        let Block { queries, keys, .. } = *block;
        let q = self.store.inputs(Item::Queries, queries)?[0].typed()?;
        let of_keys = self.store.inputs(Item::Keys, keys)?;
        let (k, v) = (of_keys[0].typed()?, of_keys[1].typed()?);
        let slopes = self.store.slopes_of(queries.heads)?;
        let alibi_slopes = slopes.as_ref().map(Parameter::from_view).transpose()?;
        let inputs = Inputs { alibi_slopes, ..Inputs::new(&q, &k, &v) };
        // Blocks take lse without gaps; what they give for other pieces is merged by itself.
        let own = queries.owner == self.store.cut.rank;
        let running = if own { Some(self.running(queries)?) } else { None };
        let running = running.filter(|[_, lse]| lse.is_contiguous());
        let options = self.store.cut.block(queries, keys)?.with_accumulate(running.is_some());
        let result = match &running {
            Some(running) => running.clone(),
            None => self.result(queries)?,
        };
        let (mut partial, mut lse) = (result[0].typed()?, result[1].typed()?);
        let mut outputs = OutputsMut { out: None, partial: Some(&mut partial), lse: &mut lse };
        attention::forward_into(&inputs, &options, &mut outputs)?;
        match running {
            Some(_) => Ok(()),
            None if own => self.put(queries, result),
            None => {
                self.made.insert(queries, result);
                Ok(())
            }
        }
    }

    fn merge(&mut self, transfer: &Transfer, parts: Vec<View<B>>) -> Result<()> {
        match <[View<B>; 2]>::try_from(parts) {
            Ok(result) => self.put(transfer.piece, result),
            Err(_) => unreachable!("a result has come as it was made room for"),
        }
    }

    fn release(&mut self, transfer: &Transfer, parts: Vec<View<B>>) {
        if transfer.item == Item::Result {
            self.store.pool.give_all(parts);
        }
    }
}
