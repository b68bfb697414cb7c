//! The backward pass of a rank.

use std::collections::HashMap;

use super::cut::{Cut, tokens_first};
use super::schedule::{Block, Half, Heads, Item, Piece, Transfer};
use super::store::{Pool, Store};
use super::traffic::Worker;
use crate::Result;
use crate::attention::{
    self, Attention, GradientMut, Gradients, GradientsMut, Inputs, Layout, OutputGradients, Saved,
};
use crate::backend::Backend;
use crate::collective::{Lines, without_gaps};
use crate::element::{Element, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// Sums of gradients of some heads of a shard of keys and values, (B, S, H, D) and (B, S, H, Dv).
struct Sums<B: Backend> {
    views: Vec<View<B>>,
    /// Whether anything was added to the early tokens, and to the late ones.
    begun: [bool; 2],
}

/// What a rank holds, computes and puts together.
pub(super) struct Backward<'a, B: Backend, T: Float> {
    /// Of queries q and dout, lse and row terms.
    store: Store<'a, B>,
    /// The gradient of the rank's queries so far.
    dq: View<B>,
    /// Gradients of others' queries, on their way home.
    made: HashMap<Piece, View<B>>,
    /// Sums of gradients of keys, by their owners and heads.
    sums: HashMap<(usize, Heads), Sums<B>>,
    element: std::marker::PhantomData<T>,
}

impl<'a, B: Attention<T> + Lines, T: Float> Backward<'a, B, T> {
    /// Begins with gradients of nothing, and that of a sink.
    pub fn new(
        cut: &'a Cut,
        inputs: &Inputs<'a, B, T>,
        layout: Layout,
        rows: [&Tensor<B, T::State>; 2],
        dout: &Tensor<B, T>,
        gradients: &mut Gradients<B, T>,
        pool: Pool<B>,
    ) -> Result<Self> {
        let views: [&View<B>; 4] = [inputs.q, inputs.k, inputs.v, dout];
        let [q, k, v, dout] = views.map(|view| tokens_first(view, layout));
        let (q, k, v, dout) = (q?, k?, v?, dout?);
        let [delta, lse] = rows.map(|rows| (**rows).clone());
        let begun = Self {
            dq: View::new(q.backend(), T::State::DTYPE, q.shape())?,
            store: Store::new(
                cut,
                vec![q, dout, lse, delta],
                vec![k, v],
                inputs.alibi_slopes,
                pool,
            ),
            made: HashMap::new(),
            sums: HashMap::new(),
            element: std::marker::PhantomData,
        };
        let keys = [&gradients.k, &gradients.v].map(|view| tokens_first(view, layout));
        let [dk, dv] = keys;
        begun.without_queries(dk?, dv?)?;
        begun.without_keys(inputs.sink, gradients.sink.as_mut())?;
        Ok(begun)
    }

    /// Of queries without keys nothing comes but the gradient of a sink.
    fn without_keys(
        &self,
        sink: Option<Parameter<'_, B>>,
        dsink: Option<&mut Tensor<B, T::State>>,
    ) -> Result<()> {
        let (q, dout) = (self.store.queries[0].typed()?, self.store.queries[1].typed()?);
        let (lse, delta) = (self.store.queries[2].typed()?, self.store.queries[3].typed()?);
        let none = |view: &View<B>| view.narrowed(1, 0..0)?.typed::<T>();
        let (k, v) = (none(&self.store.keys[0])?, none(&self.store.keys[1])?);
        let mut dq = self.dq.typed()?;
        let mut dk = Tensor::new(q.backend(), k.shape())?;
        let mut dv = Tensor::new(q.backend(), v.shape())?;
        let gradients = &mut GradientsMut {
            q: GradientMut::Partial(&mut dq),
            k: GradientMut::Rounded(&mut dk),
            v: GradientMut::Rounded(&mut dv),
            bias: None,
            sink: dsink,
        };
        let inputs = Inputs { sink, ..Inputs::new(&q, &k, &v) };
        let (saved, given) = (Saved::with_delta(&delta, &lse), OutputGradients::new(&dout));
        attention::backward_into(&inputs, &self.store.cut.options, &saved, &given, gradients)
    }

    /// Of keys without queries nothing comes.
    fn without_queries(&self, dk: View<B>, dv: View<B>) -> Result<()> {
        let none = |view: &View<B>| view.narrowed(1, 0..0)?.typed::<T>();
        let (q, dout) = (none(&self.store.queries[0])?, none(&self.store.queries[1])?);
        let none = |rows: &View<B>| {
            Tensor::<B, T::State>::new(rows.backend(), &[rows.shape()[0], rows.shape()[1], 0])
        };
        let (lse, delta) = (none(&self.store.queries[2])?, none(&self.store.queries[3])?);
        let (k, v) = (self.store.keys[0].typed()?, self.store.keys[1].typed()?);
        let mut dq = Tensor::new(q.backend(), q.shape())?;
        let (mut dk, mut dv) = (dk.typed()?, dv.typed()?);
        let gradients = &mut GradientsMut {
            q: GradientMut::Rounded(&mut dq),
            k: GradientMut::Rounded(&mut dk),
            v: GradientMut::Rounded(&mut dv),
            bias: None,
            sink: None,
        };
        let (saved, given) = (Saved::with_delta(&delta, &lse), OutputGradients::new(&dout));
        let inputs = Inputs::new(&q, &k, &v);
        attention::backward_into(&inputs, &self.store.cut.options, &saved, &given, gradients)
    }

    /// Rounds what the rank's own tokens have to their gradients; the memory of the steps.
    pub fn finish(self, layout: Layout, gradients: &Gradients<B, T>) -> Result<Pool<B>> {
        let backend = self.dq.backend();
        backend.copy_lines(&self.dq, &tokens_first(&gradients.q, layout)?)?;
        let own = [tokens_first(&gradients.k, layout)?, tokens_first(&gradients.v, layout)?];
        for ((owner, heads), sums) in &self.sums {
            debug_assert_eq!(*owner, self.store.cut.rank);
            for (half, begun) in [Half::Early, Half::Late].into_iter().zip(sums.begun) {
                if !begun {
                    continue;
                }
                let piece = Piece { owner: *owner, half, heads: *heads };
                let tokens = self.store.cut.tokens(false, piece);
                for (sum, own) in sums.views.iter().zip(&own) {
                    let own = self.store.cut.of_shard(own, false, piece)?;
                    backend.copy_lines(&sum.narrowed(1, tokens.clone())?, &own)?;
                }
            }
        }
        let mut pool = self.store.into_pool();
        self.sums.into_values().for_each(|sums| pool.give_all(sums.views));
        Ok(pool)
    }

    /// Sums of gradients of keys, which are begun where they are not there.
    fn sums(&mut self, keys: Piece) -> Result<&mut Sums<B>> {
        let (cut, whole) = (self.store.cut, Piece { half: Half::Whole, ..keys });
        let key = (keys.owner, keys.heads);
        if !self.sums.contains_key(&key) {
            let mut take = |features| {
                self.store.pool.take(T::State::DTYPE, &cut.shape(false, whole, features))
            };
            let views = vec![take(cut.shards.width)?, take(cut.shards.value_width)?];
            self.sums.insert(key, Sums { views, begun: [false; 2] });
        }
        match self.sums.get_mut(&key) {
            Some(sums) => Ok(sums),
            None => unreachable!("it was just begun"),
        }
    }

    /// A block of keys whose sums are all begun, or none of them.
    fn block(&mut self, queries: Piece, keys: Piece, adds: [bool; 2]) -> Result<()> {
        let cut = self.store.cut;
        let of_queries = self.store.inputs(Item::Queries, queries)?;
        let of_keys = self.store.inputs(Item::Keys, keys)?;
        let (q, dout): (Tensor<B, T>, Tensor<B, T>) =
            (of_queries[0].typed()?, of_queries[1].typed()?);
        // Blocks take numbers of rows without gaps.
        let rows = [without_gaps(&of_queries[2])?, without_gaps(&of_queries[3])?];
        let (lse, delta) = (rows[0].typed()?, rows[1].typed()?);
        let (k, v): (Tensor<B, T>, Tensor<B, T>) = (of_keys[0].typed()?, of_keys[1].typed()?);
        let slopes = self.store.slopes_of(queries.heads)?;
        let alibi_slopes = slopes.as_ref().map(Parameter::from_view).transpose()?;
        let inputs = Inputs { alibi_slopes, ..Inputs::new(&q, &k, &v) };
        let [adds_queries, adds_keys] = adds;
        let mut dq = self.query_gradient(queries)?.typed()?;
        let tokens = cut.tokens(false, keys);
        let sums = self.sums(keys)?;
        let mut dk = sums.views[0].narrowed(1, tokens.clone())?.typed()?;
        let mut dv = sums.views[1].narrowed(1, tokens)?.typed()?;
        let into = |tensor, adds| match adds {
            true => GradientMut::Added(tensor),
            false => GradientMut::Partial(tensor),
        };
        attention::backward_into(
            &inputs,
            &cut.block(queries, keys)?,
            &Saved::with_delta(&delta, &lse),
            &OutputGradients::new(&dout),
            &mut GradientsMut {
                q: into(&mut dq, adds_queries),
                k: into(&mut dk, adds_keys),
                v: into(&mut dv, adds_keys),
                bias: None,
                sink: None,
            },
        )
    }

    /// Where a block's gradient of queries goes: to the rank's own, or to their owner.
    fn query_gradient(&mut self, queries: Piece) -> Result<View<B>> {
        let cut = self.store.cut;
        if queries.owner == cut.rank {
            return cut.of_shard(&self.dq, true, queries);
        }
        if let Some(made) = self.made.get(&queries) {
            return Ok(made.clone());
        }
        let shape = cut.shape(true, queries, cut.shards.width);
        let made = self.store.pool.take(T::State::DTYPE, &shape)?;
        self.made.insert(queries, made.clone());
        Ok(made)
    }
}

/// The halves of a piece, by what was begun: those that are alike together.
fn alike(half: Half, begun: [bool; 2]) -> Vec<(Half, bool)> {
    match half {
        Half::Early => vec![(half, begun[0])],
        Half::Late => vec![(half, begun[1])],
        Half::Whole if begun[0] == begun[1] => vec![(half, begun[0])],
        Half::Whole => vec![(Half::Early, begun[0]), (Half::Late, begun[1])],
    }
}

impl<B: Attention<T> + Lines, T: Float> Worker<B> for Backward<'_, B, T> {
    fn outgoing(&mut self, transfer: &Transfer) -> Result<Vec<View<B>>> {
        let piece = transfer.piece;
        match transfer.item {
            Item::QueryGradients => match self.made.remove(&piece) {
                Some(made) => Ok(vec![made]),
                None => unreachable!("a schedule sends what was computed"),
            },
            Item::KeyGradients => {
                let tokens = self.store.cut.tokens(false, piece);
                let sums = self.sums(piece)?;
                // They are no longer this rank's.
                for (begun, leaves) in sums.begun.iter_mut().zip(piece.half.holds()) {
                    *begun &= !leaves;
                }
                let parts = sums.views.iter().map(|view| view.narrowed(1, tokens.clone()));
                let parts = parts.collect();
                if sums.begun == [false; 2] {
                    self.sums.remove(&(piece.owner, piece.heads));
                }
                parts
            }
            item => self.store.inputs(item, piece),
        }
    }

    fn room(&mut self, transfer: &Transfer) -> Result<Vec<View<B>>> {
        let (cut, piece) = (self.store.cut, transfer.piece);
        let (width, value_width) = (cut.shards.width, cut.shards.value_width);
        let (number, sum) = (T::DTYPE, T::State::DTYPE);
        let mut take = |dtype, shape: &[usize]| self.store.pool.take(dtype, shape);
        match transfer.item {
            Item::Queries => Ok(vec![
                take(number, &cut.shape(true, piece, width))?,
                take(number, &cut.shape(true, piece, value_width))?,
                take(sum, &cut.rows_shape(piece))?,
                take(sum, &cut.rows_shape(piece))?,
            ]),
            Item::QueryGradients => Ok(vec![take(sum, &cut.shape(true, piece, width))?]),
            item => {
                let dtype = if item == Item::Keys { number } else { sum };
                Ok(vec![
                    take(dtype, &cut.shape(false, piece, width))?,
                    take(dtype, &cut.shape(false, piece, value_width))?,
                ])
            }
        }
    }

    fn hold(&mut self, transfer: &Transfer, parts: Vec<View<B>>) {
        self.store.hold(transfer, parts);
    }

    fn compute(&mut self, block: &Block) -> Result<()> {
        let Block { queries, keys, .. } = *block;
        let begun = self.sums(keys)?.begun;
        let stays = queries.owner == self.store.cut.rank;
        for (i, (half, adds)) in alike(keys.half, begun).into_iter().enumerate() {
            self.block(queries, Piece { half, ..keys }, [stays || i > 0, adds])?;
        }
        let sums = self.sums(keys)?;
        for (begun, adds) in sums.begun.iter_mut().zip(keys.half.holds()) {
            *begun |= adds;
        }
        Ok(())
    }

    fn merge(&mut self, transfer: &Transfer, parts: Vec<View<B>>) -> Result<()> {
        let (cut, piece) = (self.store.cut, transfer.piece);
        if transfer.item == Item::QueryGradients {
            let dq = cut.of_shard(&self.dq, true, piece)?;
            dq.backend().add_lines(&parts[0], &dq)?;
        } else {
            let sums = self.sums(piece)?;
            for (half, adds) in alike(piece.half, sums.begun) {
                let one = Piece { half, ..piece };
                for (part, sum) in parts.iter().zip(&sums.views) {
                    let part = cut.of_held((piece, part), false, one, 1)?;
                    let sum = sum.narrowed(1, cut.tokens(false, one))?;
                    match adds {
                        true => sum.backend().add_lines(&part, &sum)?,
                        false => sum.backend().copy_lines(&part, &sum)?,
                    }
                }
            }
            for (begun, came) in sums.begun.iter_mut().zip(piece.half.holds()) {
                *begun |= came;
            }
        }
        self.store.pool.give_all(parts);
        Ok(())
    }

    fn release(&mut self, transfer: &Transfer, parts: Vec<View<B>>) {
        match transfer.item {
            Item::QueryGradients => self.store.pool.give_all(parts),
            // Whole shards' memory is free when no half is held any more; halves share it.
            Item::KeyGradients if transfer.piece.half == Half::Whole => {
                self.store.pool.give_all(parts);
            }
            _ => {}
        }
    }
}
