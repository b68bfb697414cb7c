//! Ring self-attention: every score of a rank's queries at once.
//!
//! Keys go round, and each rank has the scores of its queries with all keys; one softmax gives the
//! weights P, exactly; then values go round, and each rank adds up its results. Backward values go
//! round with the sums of their gradients, then keys with theirs:
//!
//! ```text
//! dV = Pᵀ dO     dP = dO Vᵀ     δ = rowsum(dP ∘ P) - dL     dS = P ∘ (dP - δ)     dQ = dS K     dK = dSᵀ Q
//! ```
//!
//! It is on the CPU, in f64 between its inputs and results: the reference of rings, and for those
//! who want the weights. It needs memory for B H Sq Sk numbers of 8 bytes on each rank, where Sq are
//! its own queries and Sk the keys of all.
//!
//! Source: S. Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective",
//! 2021, arXiv 2105.13120.

use super::cut::{Cut, tokens_first};
use super::schedule::{Algorithm, Half, Heads, Pass, Piece};
use super::{CHECK, Call, MAX_RANKS, Ring, told};
use crate::Result;
use crate::attention::reference::{self, Score};
use crate::attention::{
    Attention, Gradients, Inputs, Layout, Options, OutputGradients, Outputs, Problem,
};
use crate::backend::Cpu;
use crate::collective::{self, Communicator, Lane, Lines, Parcel, Tag, without_gaps};
use crate::element::Float;
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// Results of a rank's queries, and the weights of all keys in them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scored<T: Float> {
    /// As those of [`forward`](super::forward).
    pub outputs: Outputs<Cpu, T>,
    /// P, (B, H, Sq, Sk), keys in the order of the whole sequence. With a sink a query's weights add
    /// up to less than 1.
    pub weights: Tensor<Cpu, T::State>,
}

/// [`forward`](super::forward) by whole rows of scores, which gives the weights as well. The
/// algorithm and direction of the ring do not matter: keys, then values, go up.
///
/// # Errors
///
/// As [`forward`](super::forward).
pub fn forward_scores<T: Float>(
    ranks: &impl Communicator<Cpu>,
    inputs: &Inputs<'_, Cpu, T>,
    ring: &Ring,
    options: &Options,
) -> Result<Scored<T>>
where
    Cpu: Attention<T>,
{
    let rows = Scores::new(ranks, inputs, ring, options, Pass::Forward)?;
    let Problem { value_width, .. } = rows.call.problem;
    let mut weights = vec![f64::NEG_INFINITY; rows.count() * rows.keys()];
    rows.around(0, vec![rows.k.clone()], false, |owner, held| {
        rows.each_score(owner, &held[0], |row, key, one| {
            weights[row * rows.keys() + key] = one.score
        })
    })?;
    let sink = values(inputs.sink)?;
    let lse: Vec<f64> = (0..rows.count())
        .map(|row| {
            softmax(&mut weights[row * rows.keys()..][..rows.keys()], rows.of_head(&sink, row))
        })
        .collect();
    let mut out = vec![0.0; rows.count() * value_width];
    rows.around(1, vec![rows.v.clone()], false, |owner, held| {
        let v = held[0].to_f64()?;
        rows.each_pair(owner, &weights, |row, _, place, weight| {
            add(&mut out[row * value_width..][..value_width], weight, &v[place * value_width..]);
        });
        Ok(())
    })?;
    let lse: Vec<T::State> = lse.into_iter().map(T::State::from_f64).collect();
    let weights = weights.into_iter().map(T::State::from_f64).collect();
    let [batch, heads, queries] = rows.shape();
    Ok(Scored {
        outputs: Outputs {
            out: rows.rounded(&out, value_width, options.layout)?,
            lse: Tensor::from_vec(lse, &rows.shape())?,
        },
        weights: Tensor::from_vec(weights, &[batch, heads, queries, rows.keys()])?,
    })
}

/// [`backward`](super::backward) from the weights.
///
/// # Errors
///
/// As [`backward`](super::backward).
pub fn backward_scores<T: Float>(
    ranks: &impl Communicator<Cpu>,
    inputs: &Inputs<'_, Cpu, T>,
    ring: &Ring,
    options: &Options,
    scored: &Scored<T>,
    given: &OutputGradients<'_, Cpu, T>,
) -> Result<Gradients<Cpu, T>>
where
    Cpu: Attention<T>,
{
    let rows = Scores::new(ranks, inputs, ring, options, Pass::Backward)?;
    let checked = rows.check(inputs, scored, given);
    told(ranks, checked)?;
    let Problem { width, value_width, .. } = rows.call.problem;
    let dout = heads_first(given.out, options.layout)?.to_f64()?;
    let (weights, lse) = (scored.weights.to_f64()?, scored.outputs.lse.to_f64()?);
    let dlse = values(given.lse)?;

    let mut dp = vec![0.0; weights.len()];
    let dv = rows.around(2, rows.with_sums(&rows.v)?, true, |owner, held| {
        let (v, mut dv) = (held[0].to_f64()?, vec![0.0; held[0].elements()]);
        rows.each_pair(owner, &weights, |row, key, place, weight| {
            let (dout, place) = (&dout[row * value_width..][..value_width], place * value_width);
            dp[row * rows.keys() + key] = dot(dout, &v[place..]);
            add(&mut dv[place..][..value_width], weight, dout);
        });
        rows.add_sums(&dv, &held[1])
    })?;

    // dS, in the place of dP.
    let mut delta = vec![0.0; rows.count()];
    for (row, delta) in delta.iter_mut().enumerate() {
        let place = row * rows.keys()..(row + 1) * rows.keys();
        let (dp, weights) = (&mut dp[place.clone()], &weights[place]);
        *delta = dot(dp, weights) - dlse.get(row).unwrap_or(&0.0);
        dp.iter_mut().zip(weights).for_each(|(dp, weight)| *dp = weight * (*dp - *delta));
    }

    let (q, mut dq) =
        (heads_first(inputs.q, options.layout)?.to_f64()?, vec![0.0; rows.count() * width]);
    let scale = rows.call.problem.scale(options);
    let dk = rows.around(3, rows.with_sums(&rows.k)?, true, |owner, held| {
        let (k, mut dk) = (held[0].to_f64()?, vec![0.0; held[0].elements()]);
        rows.each_score(owner, &held[0], |row, key, one| {
            let dx = scale * dp[row * rows.keys() + key] * one.slope;
            let (own, place) = (row * width, rows.place(owner, row, one.key) * width);
            add(&mut dq[own..][..width], dx, &k[place..]);
            add(&mut dk[place..][..width], dx, &q[own..]);
        })?;
        rows.add_sums(&dk, &held[1])
    })?;

    let gradients = Gradients::new(&Cpu, inputs)?;
    for (sums, gradient) in [(&dk, &gradients.k), (&dv, &gradients.v)] {
        Cpu.copy_lines(&sums[1], &tokens_first(gradient, options.layout)?)?;
    }
    let sink = values(inputs.sink)?;
    if let Some(gradient) = &gradients.sink {
        let mut dsink = vec![0.0; sink.len()];
        for row in (0..rows.count()).filter(|&row| lse[row] != f64::NEG_INFINITY) {
            let head = rows.head(row);
            dsink[head] -= (sink[head] - lse[row]).exp() * delta[row];
        }
        let dsink = dsink.into_iter().map(T::State::from_f64).collect();
        Cpu.copy_lines(&*Tensor::<Cpu, T::State>::from_vec(dsink, gradient.shape())?, gradient)?;
        collective::all_reduce(ranks, gradient)?;
    }
    Ok(Gradients { q: rows.rounded(&dq, width, options.layout)?, ..gradients })
}

/// Turns scores into weights, of 1 together with that of the sink; the logarithm of their sum.
fn softmax(scores: &mut [f64], sink: Option<f64>) -> f64 {
    let most = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        scores.fill(0.0);
        return most;
    }
    let sum: f64 = scores.iter().copied().chain(sink).map(|score| (score - most).exp()).sum();
    let lse = most + sum.ln();
    scores.iter_mut().for_each(|score| *score = (*score - most).exp() / sum);
    lse
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn add(to: &mut [f64], factor: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += factor * value);
}

fn values(tensor: Option<Parameter<'_, Cpu>>) -> Result<Vec<f64>> {
    Ok(tensor.map(|tensor| tensor.to_f64()).transpose()?.unwrap_or_default())
}

/// The axes of activations as batch, head, token, feature.
fn heads_first(view: &View<Cpu>, layout: Layout) -> Result<View<Cpu>> {
    tokens_first(view, layout)?.transposed(1, 2)
}

/// The calls of this module, as tags name them apart from those of other schedules.
const SCHEDULE: &str = "rsa";

/// A rank's queries, and what goes round.
struct Scores<'a, C, T: Float> {
    ranks: &'a C,
    call: Call,
    cut: Cut,
    digest: u64,
    slopes: Option<Parameter<'a, Cpu>>,
    /// Queries, (B, S, H, D).
    q: Tensor<Cpu, T>,
    /// The rank's own keys and values, (B, S, Hk, ·) without gaps.
    k: View<Cpu>,
    v: View<Cpu>,
}

impl<'a, C: Communicator<Cpu>, T: Float> Scores<'a, C, T>
where
    Cpu: Attention<T>,
{
    fn new(
        ranks: &'a C,
        inputs: &Inputs<'a, Cpu, T>,
        ring: &Ring,
        options: &Options,
        pass: Pass,
    ) -> Result<Self> {
        let ring = ring.clone().with_algorithm(Algorithm::KvRing);
        let call = Call::new(ranks, inputs, &ring, options, pass)?;
        let descriptor = call.descriptor.clone().with("way", SCHEDULE);
        descriptor.agree(ranks)?;
        let whole = |view: &View<Cpu>| without_gaps(&tokens_first(view, options.layout)?);
        Ok(Self {
            cut: Cut::new(ranks.rank(), &ring, call.shards.clone(), options),
            digest: descriptor.digest(),
            q: tokens_first(inputs.q, options.layout)?.typed()?,
            k: whole(inputs.k)?,
            v: whole(inputs.v)?,
            slopes: inputs.alibi_slopes,
            ranks,
            call,
        })
    }

    /// What the forward pass gave, and what is given for it, are of the rank's queries.
    fn check(
        &self,
        inputs: &Inputs<'_, Cpu, T>,
        scored: &Scored<T>,
        given: &OutputGradients<'_, Cpu, T>,
    ) -> Result<()> {
        self.call.problem.check_backward(inputs, &scored.outputs.saved(), given)?;
        let [batch, heads, queries] = self.shape();
        let axes = [("B", batch), ("H", heads), ("Sq", queries), ("Sk", self.keys())];
        CHECK.shape("weights", &scored.weights, &axes)
    }

    fn shape(&self) -> [usize; 3] {
        let Problem { batch, heads, queries, .. } = self.call.problem;
        [batch, heads, queries]
    }

    /// Queries of all heads.
    fn count(&self) -> usize {
        self.shape().iter().product()
    }

    /// Keys of all ranks.
    fn keys(&self) -> usize {
        self.call.shards.keys.total()
    }

    /// The head of a row.
    fn head(&self, row: usize) -> usize {
        let [_, heads, queries] = self.shape();
        row / queries % heads
    }

    /// A number of the row's head, where heads have numbers.
    fn of_head(&self, numbers: &[f64], row: usize) -> Option<f64> {
        numbers.get(self.head(row)).copied()
    }

    /// The number, among (B, S, Hk), of a key of a rank that a row uses.
    fn place(&self, owner: usize, row: usize, key: usize) -> usize {
        let [_, heads, queries] = self.shape();
        let Problem { kv_heads, .. } = self.call.problem;
        let (entry, head) = (row / queries / heads, self.head(row) / self.call.problem.group());
        (entry * self.call.shards.keys.len(owner) + key) * kv_heads + head
    }

    /// Takes tensors once round the ring, and `home` again if asked for. Each rank is shown what it
    /// holds, and whose it is.
    fn around(
        &self,
        step: u32,
        own: Vec<View<Cpu>>,
        home: bool,
        mut show: impl FnMut(usize, &[View<Cpu>]) -> Result<()>,
    ) -> Result<Vec<View<Cpu>>> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let mut held = own;
        for hop in 0..size {
            let owner = (rank + size - hop) % size;
            told(self.ranks, show(owner, &held))?;
            if size > 1 && (home || hop + 1 < size) {
                let number = step * MAX_RANKS as u32 + hop as u32;
                held = self.pass_on(number, held, (owner + size - 1) % size)?;
            }
        }
        Ok(held)
    }

    /// Sends what is held up, and holds what comes from below, which is `owner`'s.
    fn pass_on(&self, step: u32, held: Vec<View<Cpu>>, owner: usize) -> Result<Vec<View<Cpu>>> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let room = |view: &View<Cpu>| {
            let mut shape = view.shape().to_vec();
            shape[1] = self.call.shards.keys.len(owner);
            View::new(&Cpu, view.dtype(), &shape)
        };
        let room: Vec<View<Cpu>> = told(self.ranks, held.iter().map(room).collect())?;
        let parcel = |peer, parts: &Vec<View<Cpu>>| {
            let parcel = Parcel { peer, parts: parts.clone() };
            if parcel.bytes() > 0 { vec![parcel] } else { vec![] }
        };
        let tag = Tag { call: self.digest, step, lane: Lane(0) };
        let (sends, receives) =
            (parcel((rank + 1) % size, &held), parcel((rank + size - 1) % size, &room));
        self.ranks.wait(self.ranks.post(tag, sends, receives)?)?;
        Ok(room)
    }

    /// Each score of the rank's queries and a rank's keys: the row, the key in the whole sequence.
    fn each_score(
        &self,
        owner: usize,
        k: &View<Cpu>,
        mut each: impl FnMut(usize, usize, &Score),
    ) -> Result<()> {
        let piece = |owner| Piece { owner, half: Half::Whole, heads: Heads::All };
        let options = self.cut.block(piece(self.ranks.rank()), piece(owner))?;
        let k = k.typed()?;
        // Scores do not ask for values.
        let inputs = Inputs { alibi_slopes: self.slopes, ..Inputs::new(&self.q, &k, &k) };
        for (row, scores) in reference::scores(&inputs, &options)?.iter().enumerate() {
            for one in scores {
                each(row, self.call.shards.keys.global_index(owner, one.key), one);
            }
        }
        Ok(())
    }

    /// Each pair of a row and a rank's key that has a weight: the row, the key in the whole
    /// sequence, its place among its owner's, and the weight.
    fn each_pair(
        &self,
        owner: usize,
        weights: &[f64],
        mut each: impl FnMut(usize, usize, usize, f64),
    ) {
        let keys = &self.call.shards.keys;
        let tokens: Vec<usize> = keys.tokens_of(owner).collect();
        for row in 0..self.count() {
            for (i, &key) in tokens.iter().enumerate() {
                let weight = weights[row * self.keys() + key];
                if weight != 0.0 {
                    each(row, key, self.place(owner, row, i), weight);
                }
            }
        }
    }

    /// A tensor, and zeros for sums of its gradient.
    fn with_sums(&self, view: &View<Cpu>) -> Result<Vec<View<Cpu>>> {
        let zeros = vec![T::State::from_f64(0.0); view.elements()];
        Ok(vec![view.clone(), Tensor::from_vec(zeros, view.shape())?.into_view()])
    }

    fn add_sums(&self, found: &[f64], sums: &View<Cpu>) -> Result<()> {
        let found = found.iter().map(|&x| T::State::from_f64(x)).collect();
        Cpu.add_lines(&*Tensor::<Cpu, T::State>::from_vec(found, sums.shape())?, sums)
    }

    /// Numbers of rows, rounded and in a layout.
    fn rounded(&self, rows: &[f64], width: usize, layout: Layout) -> Result<Tensor<Cpu, T>> {
        let [batch, heads, queries] = self.shape();
        let rows = rows.iter().map(|&x| T::from_f64(x)).collect();
        let rows = Tensor::from_vec(rows, &[batch, heads, queries, width])?;
        match layout {
            Layout::Bhsd => Ok(rows),
            Layout::Bshd => without_gaps(&*rows.transposed(1, 2)?)?.typed(),
        }
    }
}
