//! What a ring would do, and why: pure functions of sizes and options.

use std::fmt;
use std::ops::Range;

use super::model::Shards;
use super::options::Ring;
use super::request::{RANKS, Request};
use super::schedule::{Algorithm, Block, Meetings, Pass, Schedule};
use super::{CHECK, NAME};
use crate::Result;
use crate::attention::{Attention, Mask, Options, Problem, Sight, all_sizes};
use crate::backend::{Device, dispatch};
use crate::element::DType;
use crate::operation::{Settings, Sizes};

/// What the ranks of a ring would do in a pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// How sequences are cut, and how shards meet.
    pub ring: Ring,
    /// The sizes of what is cut.
    pub shards: Shards,
    /// How attention is to be computed.
    pub options: Options,
    /// What all ranks do.
    pub schedule: Schedule,
}

/// The plans of both passes, or that of the option `pass`.
///
/// ```
/// use warpwright::operation::{self, Settings, Sizes};
/// use warpwright::ring::{self, Algorithm};
/// use warpwright::DType;
///
/// let axes = operation::find("ring")?.axes();
/// let sizes = Sizes::parse(axes, "B=1,H=8,Sq=4096,D=64").expect("sizes");
/// let plans = ring::plans(DType::BF16, &sizes, &Settings::default())?;
/// // With as many heads of keys as of queries, the gradients of keys are more than queries are.
/// let chosen: Vec<_> = plans.iter().map(|plan| plan.schedule.algorithm()).collect();
/// assert_eq!(chosen, [Algorithm::TwoWay, Algorithm::TokenRing]);
/// println!("{}", plans[0]);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// Sizes or options that make no sense, and schedules that this version lacks.
pub fn plans(dtype: DType, sizes: &Sizes, settings: &Settings) -> Result<Vec<Plan>> {
    let mut settings = settings.clone();
    let passes = match settings.options.remove("pass").as_deref() {
        None => vec![Pass::Forward, Pass::Backward],
        Some("forward") => vec![Pass::Forward],
        Some("backward") => vec![Pass::Backward],
        Some(other) => return Err(CHECK.wrong_option("pass", "forward or backward", other)),
    };
    let request = Request::from_settings(&settings)?;
    let sizes = all_sizes(sizes.lengths(NAME)?);
    passes.into_iter().map(|pass| Plan::new(dtype, sizes, &request, pass)).collect()
}

impl Plan {
    /// For B, H, Hk, Sq, Sk, D and Dv.
    ///
    /// # Errors
    ///
    /// As [`plans`].
    pub fn new(dtype: DType, sizes: [usize; 7], request: &Request, pass: Pass) -> Result<Self> {
        let problem = Problem::new(dtype, sizes, &request.options)?;
        let ranks = request.ranks.unwrap_or(RANKS);
        let ring = super::named::ring(&problem, request, ranks)?;
        request.check_ability()?;
        let shards = Shards::of(&problem, ring.queries, ring.keys);
        let schedule = ring.schedule(&shards, &request.options.mask, pass)?;
        Ok(Self { ring, shards, options: request.options.clone(), schedule })
    }

    /// The pass.
    pub fn pass(&self) -> Pass {
        self.schedule.pass()
    }

    /// Bytes that a rank sends at each step, each way, by every schedule that could be taken.
    pub fn ways(&self) -> Vec<(Algorithm, [u64; 2])> {
        let ways = self.shards.ways().into_iter();
        ways.map(|way| (way, self.shards.bytes_of_step(way, self.pass()))).collect()
    }

    /// Bytes that each rank sends at a step.
    pub fn bytes_of_step(&self, step: usize) -> Vec<u64> {
        let mut sent = vec![0; self.schedule.ranks()];
        for transfer in self.schedule.transfers().iter().filter(|one| one.step == step) {
            sent[transfer.from] += self.shards.bytes_of(transfer, self.pass());
        }
        sent
    }

    /// Bytes that all ranks send where nothing is masked.
    pub fn dense_bytes(&self) -> u64 {
        let meetings = Meetings::new(&Mask::default(), &self.ring.queries, &self.ring.keys);
        let (way, direction) = (self.schedule.algorithm(), self.ring.direction());
        let dense = Schedule::new(way, self.pass(), direction, &meetings);
        self.shards.bytes_sent(&dense).iter().sum()
    }

    /// Which keys of a block each query sees: all tokens of the two ranks count, those of the block
    /// are among them.
    pub fn sight(&self, block: &Block) -> Sight {
        let queries = self.ring.queries.positions(block.queries.owner);
        Sight::new(&self.options.mask, queries, self.ring.keys.positions(block.keys.owner))
    }

    /// The tokens of a block, of queries and of keys, among those of their ranks.
    pub fn tokens(&self, block: &Block) -> [Range<usize>; 2] {
        [(&self.ring.queries, block.queries), (&self.ring.keys, block.keys)]
            .map(|(partition, piece)| partition.tokens(piece.owner, piece.half))
    }

    /// Why the shards go their way.
    pub fn reason(&self) -> String {
        let chosen = self.schedule.algorithm();
        if self.ring.algorithm.is_some() {
            return "the schedule was asked for".to_owned();
        }
        let (own, others): (Vec<_>, Vec<_>) =
            self.ways().into_iter().partition(|(way, _)| *way == chosen);
        let most = |bytes: &[u64; 2]| bytes[0].max(bytes[1]);
        let own: u64 = own.iter().map(|(_, bytes)| most(bytes)).sum();
        let others = others.iter().map(|(way, bytes)| format!("{} by {way}", most(bytes)));
        let others = others.collect::<Vec<_>>().join(" and ");
        format!("a rank sends at most {own} bytes a step in one direction, against {others}")
    }

    /// The plan in lines, and the kernel of the block that a rank's own shards are.
    pub(crate) fn explain(&self, device: &Device) -> Result<String> {
        let Shards { queries, keys, batch, heads, kv_heads, width, value_width, dtype } =
            self.shards.clone();
        let options = self.options.clone();
        let options = options.with_queries(queries.positions(0)).with_keys(keys.positions(0));
        let sizes = [batch, heads, kv_heads, queries.len(0), keys.len(0), width, value_width];
        let problem = Problem::new(dtype, sizes, &options)?;
        let block = dispatch!(NAME, device, dtype, |backend, T| match self.pass() {
            Pass::Forward => Attention::<T>::plan_forward(backend, &problem, &options),
            Pass::Backward => Attention::<T>::plan_backward(backend, &problem, &options),
        })?;
        Ok(format!("{self}\nblocks     {} on {}", block.variant, device.name()))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ring, way) = (&self.ring, self.schedule.algorithm());
        writeln!(f, "pass       {}", self.pass())?;
        match way {
            Algorithm::TwoWay => writeln!(f, "schedule   {way}: half of the heads up, half down")?,
            Algorithm::KvRing => writeln!(f, "schedule   {way}: keys go {}", ring.direction())?,
            Algorithm::TokenRing => {
                writeln!(f, "schedule   {way}: queries go {}, results home", ring.direction())?;
            }
        }
        writeln!(f, "because    {}", self.reason())?;
        let [queries, keys] = self.shards.most();
        writeln!(
            f,
            "partition  {}, {} ranks of up to {queries} queries and {keys} keys",
            ring.queries.scheme(),
            ring.ranks(),
        )?;
        let memory = self.shards.memory(way, self.pass());
        write!(f, "memory     {memory} bytes per rank besides inputs and outputs, at most")
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::attention::{AXES, Class};

    fn plan(sizes: &str, options: &[(&str, &str)]) -> Vec<Plan> {
        let sizes = Sizes::parse(&AXES, sizes).unwrap();
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings = Settings { options: options.collect(), ..Settings::default() };
        plans(DType::BF16, &sizes, &settings).unwrap()
    }

    #[test]
    fn plans_say_why() {
        let both = plan("B=1,H=8,Sq=4096,D=64", &[("causal", "true")]);
        let [forward, backward] = both.as_slice() else { panic!("{} plans", both.len()) };
        assert_eq!(forward.schedule.algorithm(), Algorithm::TwoWay);
        assert_eq!(backward.schedule.algorithm(), Algorithm::TokenRing);
        // 1024 tokens of 8 heads: keys and values in 16 bits, half of the heads each way.
        let reason = forward.reason();
        assert!(reason.starts_with("a rank sends at most 1048576 bytes a step"), "{reason}");
        assert!(reason.contains("against 2097152 by kv-ring and"), "{reason}");
        let text = forward.to_string();
        assert!(text.contains("zigzag, 4 ranks of up to 1024 queries and 1024 keys"), "{text}");
        let asked = plan("B=1,H=8,Sq=64,D=64", &[("schedule", "kv-ring"), ("pass", "backward")]);
        assert_eq!(asked[0].reason(), "the schedule was asked for");
        assert_eq!((asked.len(), asked[0].pass()), (1, Pass::Backward));
    }

    #[test]
    fn steps_add_up_to_what_ranks_send() {
        for plan in plan("B=2,H=4,Hk=2,Sq=100,D=16", &[("causal", "true"), ("ranks", "5")]) {
            let mut sum = vec![0; 5];
            for step in 0..5 {
                let of_step = plan.bytes_of_step(step);
                sum.iter_mut().zip(of_step).for_each(|(sum, bytes)| *sum += bytes);
            }
            assert_eq!(sum, plan.shards.bytes_sent(&plan.schedule));
            assert!(sum.iter().sum::<u64>() < plan.dense_bytes());
        }
    }

    /// The relations of section 6 of the specification.
    #[test]
    fn blocks_of_a_zigzag_are_diagonal_or_full_halves() {
        let options = [("causal", "true"), ("schedule", "kv-ring"), ("pass", "forward")];
        let plan = &plan("B=1,H=1,Sq=64,D=8", &options)[0];
        for block in plan.schedule.blocks() {
            let (tokens, class) = match block.queries.owner.cmp(&block.keys.owner) {
                Ordering::Equal => ([0..16, 0..16], Class::Partial),
                Ordering::Greater => ([0..16, 0..8], Class::Full),
                Ordering::Less => ([8..16, 0..16], Class::Full),
            };
            assert_eq!(plan.tokens(block), tokens, "{block:?}");
            let [queries, keys] = tokens;
            assert_eq!(plan.sight(block).class(queries, keys), class, "{block:?}");
        }
    }
}
