//! Sequences that are packed into one row, each of them cut among all ranks.

use std::ops::Range;

use super::partition::{Partition, Scheme, picked, put_together};
use super::schedule::{Algorithm, Direction};
use super::{CHECK, Ring};
use crate::Result;
use crate::attention::{Attention, Gradients, Inputs, Layout, Options, OutputGradients, Outputs};
use crate::backend::Backend;
use crate::collective::{Communicator, Lines, without_gaps};
use crate::element::Float;
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// Sequences that are packed into one row and cut one by one: a rank's row has its tokens of the
/// first sequence, then those of the second, and so on.
///
/// ```
/// use warpwright::ring::{PackedPartition, Scheme};
///
/// // A sequence of three tokens, and one of two.
/// let packed = PackedPartition::new(Scheme::Contiguous, &[0, 3, 5], 2)?;
/// let cut = &packed;
/// let of_rank = |rank| (0..cut.len(rank)).map(move |i| cut.global_index(rank, i));
/// assert!(of_rank(0).eq([0, 3]) && of_rank(1).eq([1, 2, 4]));
/// assert_eq!(packed.of_sequence(1, 1), 2..3);
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedPartition {
    ranks: usize,
    /// Of each sequence, its first token, and how it is cut.
    parts: Vec<(usize, Partition)>,
}

impl PackedPartition {
    /// Sequences that begin at these tokens of a row, the last number being all, among `ranks`.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for no ranks, or too many; for numbers that do not
    /// begin with 0, or fall.
    pub fn new(scheme: Scheme, cu_seqlens: &[usize], ranks: usize) -> Result<Self> {
        let rises = cu_seqlens.is_sorted() && cu_seqlens.first() == Some(&0);
        if !rises {
            let expected = "numbers that begin with 0 and do not fall";
            return Err(CHECK.wrong_option("cu_seqlens", expected, &format!("{cu_seqlens:?}")));
        }
        let part = |bounds: &[usize]| {
            Ok((bounds[0], Partition::new(scheme, bounds[1] - bounds[0], ranks)?))
        };
        Partition::new(scheme, 0, ranks)?;
        Ok(Self { ranks, parts: cu_seqlens.windows(2).map(part).collect::<Result<_>>()? })
    }

    /// The ranks.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.parts.len()
    }

    /// The tokens of all sequences.
    pub fn total(&self) -> usize {
        self.parts.iter().map(|(_, part)| part.total()).sum()
    }

    /// How a sequence is cut.
    ///
    /// # Panics
    ///
    /// Where there is no such sequence.
    pub fn sequence(&self, number: usize) -> Partition {
        self.parts[number].1
    }

    /// Which of a rank's tokens are those of a sequence.
    ///
    /// # Panics
    ///
    /// Where there is no such rank or sequence.
    pub fn of_sequence(&self, number: usize, rank: usize) -> Range<usize> {
        let start = self.parts[..number].iter().map(|(_, part)| part.len(rank)).sum();
        start..start + self.parts[number].1.len(rank)
    }

    /// How many tokens a rank has.
    ///
    /// # Panics
    ///
    /// Where there is no such rank.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self, rank: usize) -> usize {
        assert!(rank < self.ranks, "rank {rank} of {}", self.ranks);
        self.parts.iter().map(|(_, part)| part.len(rank)).sum()
    }

    /// The sequence of a token of the row.
    fn sequence_of(&self, token: usize) -> usize {
        assert!(token < self.total(), "token {token} of {}", self.total());
        self.parts.partition_point(|(first, part)| first + part.total() <= token)
    }

    /// The rank that has a token of the row.
    ///
    /// # Panics
    ///
    /// Where there is no such token.
    pub fn owner(&self, token: usize) -> usize {
        let (first, part) = self.parts[self.sequence_of(token)];
        part.owner(token - first)
    }

    /// Where among its owner's tokens a token of the row stands.
    ///
    /// # Panics
    ///
    /// Where there is no such token.
    pub fn local_index(&self, token: usize) -> usize {
        let number = self.sequence_of(token);
        let (first, part) = self.parts[number];
        let before = self.of_sequence(number, part.owner(token - first)).start;
        before + part.local_index(token - first)
    }

    /// The token of the row that is a rank's `i`-th.
    ///
    /// # Panics
    ///
    /// Where there is no such rank, or it has not so many.
    pub fn global_index(&self, rank: usize, i: usize) -> usize {
        match self.tokens_of(rank).nth(i) {
            Some(token) => token,
            None => panic!("token {i} of the {} of rank {rank}", self.len(rank)),
        }
    }

    /// The tokens of a rank, in its order.
    fn tokens_of(&self, rank: usize) -> impl Iterator<Item = usize> + use<'_> {
        let tokens = move |(first, part): &(usize, Partition)| {
            let first = *first;
            part.tokens_of(rank).map(move |token| first + token)
        };
        self.parts.iter().flat_map(tokens)
    }

    /// The part of a tensor that a rank has; see [`Partition::scatter`].
    ///
    /// # Panics
    ///
    /// Where `whole` has another length.
    pub fn scatter<T: Copy>(&self, whole: &[T], [outer, inner]: [usize; 2], rank: usize) -> Vec<T> {
        let tokens: Vec<usize> = self.tokens_of(rank).collect();
        picked(whole, [outer, self.total(), inner], &tokens)
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
        put_together(parts, [outer, self.total(), inner], &tokens)
    }
}

/// How packed sequences are cut among ranks, and how shards meet. Made by [`PackedRing::new`] and the
/// `with_…` methods.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedRing {
    /// How queries are cut.
    pub queries: PackedPartition,
    /// How keys are cut, of as many sequences.
    pub keys: PackedPartition,
    /// As [`Ring::algorithm`].
    pub algorithm: Option<Algorithm>,
    /// As [`Ring::direction`].
    pub direction: Option<Direction>,
}

impl PackedRing {
    /// Queries and keys of the same sequences.
    pub fn new(partition: PackedPartition) -> Self {
        Self { keys: partition.clone(), queries: partition, algorithm: None, direction: None }
    }

    /// With keys of other sequences than the queries.
    pub fn with_keys(mut self, keys: PackedPartition) -> Self {
        self.keys = keys;
        self
    }

    /// With this way of shards.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// With shards that travel there.
    pub fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// How the ranks meet for a sequence.
    fn sequence(&self, number: usize) -> Ring {
        let ring = Ring::new(self.queries.sequence(number));
        let ring = ring.with_keys(self.keys.sequence(number));
        Ring { algorithm: self.algorithm, direction: self.direction, ..ring }
    }

    /// There are as many sequences of keys as of queries.
    fn check(&self) -> Result<()> {
        let (queries, keys) = (self.queries.sequences(), self.keys.sequences());
        match queries == keys {
            true => Ok(()),
            false => {
                let expected = format!("{queries} sequences, as of queries");
                Err(CHECK.wrong_option("keys", &expected, &keys.to_string()))
            }
        }
    }
}

/// Attention of this rank's queries over the keys of all ranks, each sequence by itself, one after
/// the other, into new tensors. Tensors are as [`forward`](super::forward) takes them, but packed:
/// (T, H, D), or (H, T, D) with [`Layout::Bhsd`], with the tokens that the partition gives the rank.
/// `inputs.packed` is absent, for the ring tells where sequences begin; slopes are (H), or (S, H).
/// The lse is (H, T).
///
/// # Errors
///
/// As [`forward`](super::forward), and
/// [`Error::Option`](crate::Error::Option) where keys are of another number of sequences.
///
/// ```
/// use warpwright::attention::{Inputs, Options};
/// use warpwright::collective::{Communicator, Local};
/// use warpwright::ring::{self, PackedPartition, PackedRing, Scheme};
/// use warpwright::{Cpu, Tensor};
///
/// // Two sequences, whose queries have the mean of the values of their own.
/// let partition = PackedPartition::new(Scheme::Contiguous, &[0, 3, 5], 2)?;
/// let rows = Local::<Cpu>::run(2, |ranks| {
///     let tokens = partition.len(ranks.rank());
///     let ones = Tensor::from_vec(vec![1.0f32; tokens], &[tokens, 1, 1])?;
///     let values = partition.scatter(&[1.0f32, 2.0, 3.0, 10.0, 20.0], [1, 1], ranks.rank());
///     let v = Tensor::from_vec(values, &[tokens, 1, 1])?;
///     let ring = PackedRing::new(partition.clone());
///     let inputs = Inputs::new(&ones, &ones, &v);
///     ring::forward_packed(&ranks, &inputs, &ring, &Options::default())?.out.to_vec()
/// });
/// let rows = rows.into_iter().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(partition.gather(&rows, [1, 1]), [2.0, 2.0, 2.0, 15.0, 15.0]);
/// # Ok::<(), warpwright::Error>(())
/// ```
pub fn forward_packed<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    ring: &PackedRing,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let rows = super::told(ranks, Rows::new(ranks, inputs, ring, options))?;
    let outputs = rows.outputs(inputs)?;
    for number in 0..ring.queries.sequences() {
        let sequence = rows.sequence(inputs, number)?;
        let found =
            super::forward(ranks, &sequence.inputs(inputs)?, &ring.sequence(number), options)?;
        let backend = found.out.backend();
        backend.copy_lines(&found.out, &rows.queries(&outputs.out, number)?)?;
        backend.copy_lines(&found.lse, &rows.numbers(&outputs.lse, number)?)?;
    }
    Ok(outputs)
}

/// Gradients of this rank's queries, keys and values, packed as they are, and of the sink over all
/// ranks, into new tensors. `outputs` are those of [`forward_packed`].
///
/// # Errors
///
/// As [`forward_packed`].
pub fn backward_packed<B: Attention<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    ring: &PackedRing,
    options: &Options,
    outputs: &Outputs<B, T>,
    given: &OutputGradients<'_, B, T>,
) -> Result<Gradients<B, T>> {
    let checked = Rows::new(ranks, inputs, ring, options);
    let rows = super::told(
        ranks,
        checked.and_then(|rows| rows.check(inputs, outputs, given).map(|()| rows)),
    )?;
    let backend = inputs.q.backend();
    let gradients = Gradients::new(backend, inputs)?;
    let sink = match inputs.sink {
        None => None,
        Some(sink) => {
            let none = vec![T::State::from_f64(0.0); sink.elements()];
            Some(Tensor::from_slice(backend, &none, sink.shape())?)
        }
    };
    for number in 0..ring.queries.sequences() {
        let sequence = rows.sequence(inputs, number)?;
        let outputs = Outputs {
            out: rows.queries(&outputs.out, number)?.typed()?,
            lse: without_gaps(&rows.numbers(&outputs.lse, number)?)?.typed()?,
        };
        let dout = rows.queries(given.out, number)?.typed()?;
        let dlse = |dlse: Parameter<'_, B>| without_gaps(&rows.numbers(&dlse, number)?);
        let dlse = given.lse.map(dlse).transpose()?;
        let dlse = dlse.as_ref().map(Parameter::from_view).transpose()?;
        let given = OutputGradients { out: &dout, lse: dlse };
        let inputs = sequence.inputs(inputs)?;
        let ring = ring.sequence(number);
        let found = super::backward(ranks, &inputs, &ring, options, &outputs, &given)?;
        backend.copy_lines(&found.q, &rows.queries(&gradients.q, number)?)?;
        backend.copy_lines(&found.k, &rows.keys(&gradients.k, number)?)?;
        backend.copy_lines(&found.v, &rows.keys(&gradients.v, number)?)?;
        if let (Some(found), Some(sum)) = (&found.sink, &sink) {
            backend.add_lines(found, sum)?;
        }
    }
    Ok(Gradients { sink, ..gradients })
}

/// Where sequences lie in the rows of a rank.
struct Rows<'a> {
    ring: &'a PackedRing,
    rank: usize,
    layout: Layout,
}

/// The tensors of a sequence, (1, S, H, D) or (1, H, S, D).
struct Sequence<B: Backend, T: Float> {
    q: Tensor<B, T>,
    k: Tensor<B, T>,
    v: Tensor<B, T>,
    slopes: Option<View<B>>,
}

impl<B: Backend, T: Float> Sequence<B, T> {
    fn inputs<'a>(&'a self, packed: &Inputs<'a, B, T>) -> Result<Inputs<'a, B, T>> {
        let alibi_slopes = self.slopes.as_ref().map(Parameter::from_view).transpose()?;
        let inputs = Inputs::new(&self.q, &self.k, &self.v);
        Ok(Inputs { bias: packed.bias, sink: packed.sink, alibi_slopes, ..inputs })
    }
}

impl<'a> Rows<'a> {
    fn new<B: Backend, T: Float>(
        ranks: &impl Communicator<B>,
        inputs: &Inputs<'_, B, T>,
        ring: &'a PackedRing,
        options: &Options,
    ) -> Result<Self> {
        ring.check()?;
        if ring.queries.ranks() != ranks.size() {
            let expected = format!("{}, as the communicator has", ranks.size());
            return Err(CHECK.wrong_option("ranks", &expected, &ring.queries.ranks().to_string()));
        }
        if inputs.packed.is_some() {
            let expected = "no such tensor, as the ring tells where sequences begin";
            return Err(CHECK.wrong_tensor("cu_seqlens", expected, "one"));
        }
        let rows = Self { ring, rank: ranks.rank(), layout: options.layout };
        for (name, view, partition) in [
            ("q", &**inputs.q, &ring.queries),
            ("k", &**inputs.k, &ring.keys),
            ("v", &**inputs.v, &ring.keys),
        ] {
            rows.check_row(name, view, rows.token_axis(), partition)?;
        }
        match inputs.alibi_slopes {
            Some(slopes) if slopes.shape().len() == 2 => {
                let heads = inputs.q.shape()[1 - rows.token_axis()];
                let axes = [("S", ring.queries.sequences()), ("H", heads)];
                CHECK.shape("alibi_slopes", &slopes, &axes)?;
            }
            _ => {}
        }
        Ok(rows)
    }

    /// What comes out has the tokens of the queries, as has what is given for it.
    fn check<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        outputs: &Outputs<B, T>,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        let queries = &self.ring.queries;
        self.check_row("out", &outputs.out, self.token_axis(), queries)?;
        self.check_row("dout", given.out, self.token_axis(), queries)?;
        let heads = inputs.q.shape()[1 - self.token_axis()];
        let axes = [("H", heads), ("Tq", queries.len(self.rank))];
        CHECK.shape("lse", &outputs.lse, &axes)?;
        given.lse.map_or(Ok(()), |dlse| CHECK.shape("dlse", &dlse, &axes))
    }

    fn check_row<B: Backend>(
        &self,
        name: &str,
        view: &View<B>,
        axis: usize,
        partition: &PackedPartition,
    ) -> Result<()> {
        let tokens = partition.len(self.rank);
        if view.shape().len() == 3 && view.shape()[axis] == tokens {
            return Ok(());
        }
        let (rank, total) = (self.rank, partition.total());
        let shape = if axis == 0 { "(T, H, D)" } else { "(H, T, D)" };
        let expected = format!("shape {shape} of {tokens} tokens, those of rank {rank} of {total}");
        Err(CHECK.wrong_shape(name, view, expected))
    }

    /// The axis of tokens in packed activations.
    fn token_axis(&self) -> usize {
        match self.layout {
            Layout::Bshd => 0,
            Layout::Bhsd => 1,
        }
    }

    fn outputs<B: Backend, T: Float>(&self, inputs: &Inputs<'_, B, T>) -> Result<Outputs<B, T>> {
        let (q, v) = (inputs.q.shape(), inputs.v.shape());
        let (heads, tokens) = (q[1 - self.token_axis()], q[self.token_axis()]);
        let backend = inputs.q.backend();
        Ok(Outputs {
            out: Tensor::new(backend, &[q[0], q[1], v[2]])?,
            lse: Tensor::new(backend, &[heads, tokens])?,
        })
    }

    fn sequence<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        number: usize,
    ) -> Result<Sequence<B, T>> {
        let slopes = |slopes: Parameter<'_, B>| match slopes.shape().len() {
            2 => slopes.narrowed(0, number..number + 1),
            _ => Ok((*slopes).clone()),
        };
        Ok(Sequence {
            q: self.queries(inputs.q, number)?.typed()?,
            k: self.keys(inputs.k, number)?.typed()?,
            v: self.keys(inputs.v, number)?.typed()?,
            slopes: inputs.alibi_slopes.map(slopes).transpose()?,
        })
    }

    /// A sequence's part of activations of queries.
    fn queries<B: Backend>(&self, view: &View<B>, number: usize) -> Result<View<B>> {
        let tokens = self.ring.queries.of_sequence(number, self.rank);
        view.narrowed(self.token_axis(), tokens)?.unsqueezed(0)
    }

    /// The same of keys.
    fn keys<B: Backend>(&self, view: &View<B>, number: usize) -> Result<View<B>> {
        let tokens = self.ring.keys.of_sequence(number, self.rank);
        view.narrowed(self.token_axis(), tokens)?.unsqueezed(0)
    }

    /// The same of numbers of rows, (1, H, S) of (H, T).
    fn numbers<B: Backend>(&self, view: &View<B>, number: usize) -> Result<View<B>> {
        view.narrowed(1, self.ring.queries.of_sequence(number, self.rank))?.unsqueezed(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [Scheme; 3] = [Scheme::Contiguous, Scheme::Zigzag, Scheme::Striped];

    #[test]
    fn packed_sequences_are_cut_one_by_one() {
        for (scheme, bounds) in SCHEMES.into_iter().flat_map(|scheme| {
            [vec![0], vec![0, 0, 7], vec![0, 3, 3, 4, 20, 29]].map(|bounds| (scheme, bounds))
        }) {
            let packed = PackedPartition::new(scheme, &bounds, 3).unwrap();
            let mut seen = vec![0; packed.total()];
            for rank in 0..3 {
                for i in 0..packed.len(rank) {
                    let token = packed.global_index(rank, i);
                    seen[token] += 1;
                    assert_eq!(packed.owner(token), rank, "{packed:?} token {token}");
                    assert_eq!(packed.local_index(token), i, "{packed:?} token {token}");
                }
            }
            assert!(seen.iter().all(|&times| times == 1), "{packed:?}: {seen:?}");
            let whole: Vec<usize> = (0..2 * packed.total() * 3).collect();
            let parts: Vec<_> = (0..3).map(|rank| packed.scatter(&whole, [2, 3], rank)).collect();
            assert_eq!(packed.gather(&parts, [2, 3]), whole, "{packed:?}");
        }
        for bounds in [vec![], vec![1, 2], vec![0, 3, 2]] {
            let message = PackedPartition::new(Scheme::Zigzag, &bounds, 2).unwrap_err().to_string();
            assert!(message.contains("begin with 0 and do not fall"), "{message}");
        }
    }
}
