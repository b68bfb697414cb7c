//! Bytes: what transfers move, and which way of shards moves the least.

use super::partition::Partition;
use super::schedule::{Algorithm, Item, Pass, Schedule, Transfer};
use crate::attention::Problem;
use crate::element::DType;

/// A pair of partitions, of queries and of keys, and the sizes of what is cut.
#[derive(Clone, Debug)]
pub struct Shards {
    /// How queries are cut.
    pub queries: Partition,
    /// How keys are cut.
    pub keys: Partition,
    /// B.
    pub batch: usize,
    /// H.
    pub heads: usize,
    /// Hk.
    pub kv_heads: usize,
    /// D.
    pub width: usize,
    /// Dv.
    pub value_width: usize,
    /// The type of activations.
    pub dtype: DType,
}

impl Shards {
    /// The sizes of a call whose sequences are cut so.
    pub fn of(problem: &Problem, queries: Partition, keys: Partition) -> Self {
        let &Problem { batch, heads, kv_heads, width, value_width, dtype, .. } = problem;
        Self { queries, keys, batch, heads, kv_heads, width, value_width, dtype }
    }

    /// Bytes of an activation, and of a sum.
    fn bytes(&self) -> [usize; 2] {
        let sum = if self.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        [self.dtype.bytes(), sum.bytes()]
    }

    /// Bytes of an item for one token and one head.
    fn of_token(&self, item: Item, pass: Pass) -> usize {
        let ([number, sum], both) = (self.bytes(), self.width + self.value_width);
        match (item, pass) {
            (Item::Keys, _) => both * number,
            (Item::Queries, Pass::Forward) => self.width * number,
            // q and dout; lse and the row terms.
            (Item::Queries, Pass::Backward) => both * number + 2 * sum,
            (Item::Result, _) => (self.value_width + 1) * sum,
            (Item::KeyGradients, _) => both * sum,
            (Item::QueryGradients, _) => self.width * sum,
        }
    }

    /// Heads and tokens of what a transfer moves.
    fn count(&self, transfer: &Transfer) -> [usize; 2] {
        let heads = transfer.piece.heads.of(self.kv_heads).len();
        let (heads, partition) = match transfer.item {
            Item::Keys | Item::KeyGradients => (heads, &self.keys),
            Item::Queries | Item::Result | Item::QueryGradients => {
                (heads * self.heads.checked_div(self.kv_heads).unwrap_or(1), &self.queries)
            }
        };
        [heads, partition.tokens(transfer.piece.owner, transfer.piece.half).len()]
    }

    /// Bytes that a transfer moves.
    pub fn bytes_of(&self, transfer: &Transfer, pass: Pass) -> u64 {
        let [heads, tokens] = self.count(transfer);
        (self.batch * tokens * heads * self.of_token(transfer.item, pass)) as u64
    }

    /// Bytes that each rank sends.
    pub fn bytes_sent(&self, schedule: &Schedule) -> Vec<u64> {
        let mut sent = vec![0; schedule.ranks()];
        for transfer in schedule.transfers() {
            sent[transfer.from] += self.bytes_of(transfer, schedule.pass());
        }
        sent
    }

    /// The most tokens that a rank has, of queries and of keys.
    pub(super) fn most(&self) -> [usize; 2] {
        [&self.queries, &self.keys].map(|partition| {
            (0..partition.ranks()).map(|rank| partition.len(rank)).max().unwrap_or(0)
        })
    }

    /// Bytes that a rank sends at each step each way: to the next rank, and what goes elsewhere.
    /// The time of a step follows the larger number.
    pub fn bytes_of_step(&self, algorithm: Algorithm, pass: Pass) -> [u64; 2] {
        let [queries, keys] = self.most();
        let of = |item, heads: usize, tokens: usize| {
            (self.batch * tokens * heads * self.of_token(item, pass)) as u64
        };
        let gradients = match pass {
            Pass::Forward => 0,
            Pass::Backward => of(Item::KeyGradients, self.kv_heads, keys),
        };
        let ring = of(Item::Keys, self.kv_heads, keys) + gradients;
        match algorithm {
            Algorithm::KvRing => [ring, 0],
            Algorithm::TwoWay => {
                let of_heads = |heads: usize| ring / self.kv_heads.max(1) as u64 * heads as u64;
                [of_heads(self.kv_heads / 2), of_heads(self.kv_heads.div_ceil(2))]
            }
            Algorithm::TokenRing => {
                let home = match pass {
                    Pass::Forward => Item::Result,
                    Pass::Backward => Item::QueryGradients,
                };
                [of(Item::Queries, self.heads, queries), of(home, self.heads, queries)]
            }
        }
    }

    /// Bytes that a rank needs besides its inputs and outputs, at most. Of what goes round it holds
    /// what it computes with and what comes meanwhile; of results one on its way home, one that
    /// comes and one that is made; and it has sums of its own where outputs are rounded.
    pub fn memory(&self, algorithm: Algorithm, pass: Pass) -> u64 {
        let ([number, sum], [queries, keys]) = (self.bytes(), self.most());
        let of = |item, heads: usize, tokens: usize| {
            (self.batch * tokens * heads * self.of_token(item, pass)) as u64
        };
        let of_keys = |item| of(item, self.kv_heads, keys);
        let of_queries = |item| of(item, self.heads, queries);
        let rounded = |features: usize| match number == sum {
            true => 0,
            false => (self.batch * queries * self.heads * features * sum) as u64,
        };
        let is_of_keys = algorithm != Algorithm::TokenRing;
        match pass {
            _ if self.queries.ranks() == 1 => 0,
            Pass::Forward if is_of_keys => 2 * of_keys(Item::Keys) + rounded(self.value_width),
            Pass::Forward => {
                2 * of_queries(Item::Queries)
                    + 3 * of_queries(Item::Result)
                    + rounded(self.value_width)
            }
            Pass::Backward if is_of_keys => {
                2 * of_keys(Item::Keys)
                    + 3 * of_keys(Item::KeyGradients)
                    + of_queries(Item::QueryGradients)
            }
            Pass::Backward => {
                2 * of_queries(Item::Queries)
                    + 4 * of_queries(Item::QueryGradients)
                    + of_keys(Item::KeyGradients)
            }
        }
    }

    /// The ways of shards that there are for these heads.
    pub fn ways(&self) -> Vec<Algorithm> {
        let has_heads = |way: &Algorithm| *way != Algorithm::TwoWay || self.kv_heads >= 2;
        Algorithm::ALL.into_iter().filter(has_heads).collect()
    }

    /// The way of shards that sends the least each step. Where several send as much it is keys that
    /// go round, for then nothing comes late.
    pub fn choose(&self, pass: Pass) -> Algorithm {
        let most = |way: &Algorithm| self.bytes_of_step(*way, pass).into_iter().max();
        // The first of those that are alike.
        self.ways().into_iter().min_by_key(most).unwrap_or(Algorithm::KvRing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::partition::Scheme;
    use super::super::schedule::{Direction, Meetings};
    use super::*;
    use crate::attention::Mask;

    fn shards(
        scheme: Scheme,
        [queries, keys]: [usize; 2],
        [heads, kv_heads]: [usize; 2],
    ) -> Shards {
        let cut = |total| Partition::new(scheme, total, 8).unwrap();
        Shards {
            queries: cut(queries),
            keys: cut(keys),
            batch: 2,
            heads,
            kv_heads,
            width: 64,
            value_width: 64,
            dtype: DType::BF16,
        }
    }

    #[test]
    fn the_least_bytes_decide() {
        let same = [1024, 1024];
        for (tokens, heads, forward, backward) in [
            (same, [8, 8], Algorithm::TwoWay, Algorithm::TokenRing),
            (same, [8, 4], Algorithm::TwoWay, Algorithm::TwoWay),
            (same, [8, 1], Algorithm::KvRing, Algorithm::KvRing),
            ([8, 8192], [8, 8], Algorithm::TokenRing, Algorithm::TokenRing),
        ] {
            let shards = shards(Scheme::Contiguous, tokens, heads);
            let chosen = [Pass::Forward, Pass::Backward].map(|pass| shards.choose(pass));
            assert_eq!(chosen, [forward, backward], "{tokens:?} {heads:?}");
        }
    }

    /// The formulas of section 7.6 of the specification.
    #[test]
    fn steps_move_what_the_table_says() {
        let shards = shards(Scheme::Contiguous, [1024, 1024], [8, 4]);
        let (tokens, h, hk, d, b, w) = (2 * 128, 8, 4, 64, 2, 4);
        for (way, pass, expected) in [
            (Algorithm::KvRing, Pass::Forward, [2 * hk * d * b, 0]),
            (Algorithm::TwoWay, Pass::Forward, [hk * d * b; 2]),
            (Algorithm::TokenRing, Pass::Forward, [h * d * b, h * (d * w + 4)]),
            (Algorithm::KvRing, Pass::Backward, [hk * d * (2 * b + 2 * w), 0]),
            (Algorithm::TwoWay, Pass::Backward, [hk * d * (b + w); 2]),
            (Algorithm::TokenRing, Pass::Backward, [h * (2 * d * b + 8), h * d * w]),
        ] {
            let found = shards.bytes_of_step(way, pass);
            assert_eq!(found, expected.map(|bytes| bytes * tokens), "{way} {pass:?}");
        }
    }

    fn sent(shards: &Shards, algorithm: Algorithm, pass: Pass, mask: &Mask, down: bool) -> u64 {
        let meetings = Meetings::new(mask, &shards.queries, &shards.keys);
        let direction = if down { Direction::Down } else { Direction::Up };
        let schedule = Schedule::new(algorithm, pass, direction, &meetings);
        shards.bytes_sent(&schedule).iter().sum()
    }

    /// Where nothing is dropped, every rank sends every step what the table says, but in the last;
    /// only gradients of keys have a way home.
    #[test]
    fn dense_rings_send_what_their_steps_add_up_to() {
        let shards = shards(Scheme::Contiguous, [1024, 1024], [8, 4]);
        for way in [Algorithm::KvRing, Algorithm::TwoWay, Algorithm::TokenRing] {
            let found = sent(&shards, way, Pass::Forward, &Mask::default(), false);
            let step: u64 = shards.bytes_of_step(way, Pass::Forward).iter().sum();
            assert_eq!(found, 8 * 7 * step, "{way}");
        }
        let found = sent(&shards, Algorithm::KvRing, Pass::Backward, &Mask::default(), false);
        let [forward, backward] = [Pass::Forward, Pass::Backward]
            .map(|pass| shards.bytes_of_step(Algorithm::KvRing, pass)[0]);
        assert_eq!(found, 8 * (7 * forward + 8 * (backward - forward)));
    }

    /// In a zigzag three quarters of all that dense sight asks for.
    #[test]
    fn a_zigzag_sends_three_quarters() {
        let zigzag = shards(Scheme::Zigzag, [1024, 1024], [8, 4]);
        let share = |way, pass, down| {
            let of = |mask| sent(&zigzag, way, pass, mask, down) as f64;
            of(&Mask::causal()) / of(&Mask::default())
        };
        assert_eq!(share(Algorithm::KvRing, Pass::Forward, true), 0.75);
        assert_eq!(share(Algorithm::TokenRing, Pass::Forward, true), 0.75);
        assert_eq!(share(Algorithm::TokenRing, Pass::Backward, true), 0.75);
        // The other way hardly anything can be dropped.
        assert!((0.93..0.95).contains(&share(Algorithm::KvRing, Pass::Forward, false)));
        // Gradients travel one hop more, to get home.
        let backward = share(Algorithm::KvRing, Pass::Backward, true);
        assert!((0.75..0.78).contains(&backward), "{backward}");
    }
}
