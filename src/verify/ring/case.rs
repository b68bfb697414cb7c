//! A case of a ring: a call of attention, and how its sequences are cut.

use crate::Result;
use crate::attention::{Mask, Options};
use crate::element::DType;
use crate::ring::{Algorithm, Direction, Partition, Ring, Scheme, Shards};
use crate::verify::Random;
use crate::verify::attention::{Bias, Case as Call, Shard, Sizes};

/// One case: its tensors, whole ones, are those of the call.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub call: Call,
    pub scheme: Scheme,
    pub ranks: usize,
    /// The way of shards; that of the least bytes where absent.
    pub algorithm: Option<Algorithm>,
    pub direction: Option<Direction>,
}

impl Case {
    /// Self-attention of two batch entries and heads that share keys in pairs.
    pub fn new(scheme: Scheme, mask: Mask, tokens: usize, ranks: usize) -> Self {
        let sizes = Sizes {
            batch: 2,
            heads: 4,
            kv_heads: 2,
            queries: tokens,
            keys: tokens,
            width: 12,
            value_width: 8,
        };
        let call = Call { mask, dlse: true, ..Call::new(sizes) };
        Self { call, scheme, ranks, algorithm: None, direction: None }
    }

    /// A case whose forms are drawn at random, of what rings have.
    pub fn random(sizes: Sizes, ranks: usize, random: &mut Random) -> Self {
        let call = Call {
            shard: Shard::Whole,
            bias: Bias::Nothing,
            parts: 1,
            one_buffer: false,
            ..Call::random(sizes, random)
        };
        Self {
            call: Call { sizes, ..call },
            scheme: random.pick(&Scheme::ALL),
            ranks,
            algorithm: None,
            direction: random.pick(&[None, None, Some(Direction::Up), Some(Direction::Down)]),
        }
    }

    /// The same by another schedule.
    pub fn with_algorithm(&self, algorithm: Algorithm) -> Self {
        Self { algorithm: Some(algorithm), ..self.clone() }
    }

    /// The schedules that there are for its heads.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        let both = self.call.sizes.kv_heads >= 2;
        Algorithm::ALL.into_iter().filter(move |way| both || *way != Algorithm::TwoWay)
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        self.call.options()
    }

    /// How sequences are cut, and shards meet.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for no ranks.
    pub fn ring(&self) -> Result<Ring> {
        let cut = |total| Partition::new(self.scheme, total, self.ranks);
        let Sizes { queries, keys, .. } = self.call.sizes;
        let mut ring = Ring::new(cut(queries)?).with_keys(cut(keys)?);
        (ring.algorithm, ring.direction) = (self.algorithm, self.direction);
        Ok(ring)
    }

    /// The sizes of what is cut.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring).
    pub fn shards(&self, dtype: DType) -> Result<Shards> {
        let Sizes { batch, heads, kv_heads, width, value_width, .. } = self.call.sizes;
        let Ring { queries, keys, .. } = self.ring()?;
        Ok(Shards { queries, keys, batch, heads, kv_heads, width, value_width, dtype })
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let mut words = vec![self.call.describe(), format!("{} ranks {}", self.ranks, self.scheme)];
        words.extend(self.algorithm.map(|way| way.to_string()));
        words.extend(self.direction.map(|direction| direction.to_string()));
        words.join(" ")
    }
}
