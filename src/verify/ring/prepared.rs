//! A case of a ring with its tensors and its exact results, run and compared.

use std::time::Duration;

use super::Case;
use crate::Result;
use crate::attention::Attention;
use crate::backend::{Cpu, Named};
use crate::collective::Lines;
use crate::element::Float;
use crate::ring::{Pass, run_threads};
use crate::verify::{Comparison, attention};

/// What lse may be farther off than that of one call, by section 11.3 of the specification.
const LSE: f64 = 4.0;

/// A case with its tensors and its exact results, those of one call.
pub struct Prepared<T> {
    case: Case,
    tensors: Named<Cpu>,
    exact: attention::Prepared<T>,
}

/// What a ring gave.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The outputs of the whole sequence.
    pub outputs: Named<Cpu>,
    /// Bytes that each rank has really sent, forward and backward.
    pub sent: Vec<[u64; 2]>,
    /// The time of either pass, of the slowest rank.
    pub elapsed: [Duration; 2],
}

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(case: &Case) -> Result<Self> {
        Ok(Self {
            case: case.clone(),
            tensors: case.call.tensors::<T>()?,
            exact: attention::Prepared::new(&case.call)?,
        })
    }

    /// The tensors of the call.
    pub fn tensors(&self) -> &Named<Cpu> {
        &self.tensors
    }

    /// Runs both passes of all ranks on a device that they share, by the schedule of `case`, which
    /// has the tensors of this one.
    ///
    /// # Errors
    ///
    /// Those of the calls.
    pub fn run<B: Attention<T> + Lines>(&self, backend: &B, case: &Case) -> Result<Ran> {
        let (ring, options) = (case.ring()?, case.options());
        let all = run_threads::<B, T>(backend, &self.tensors, &ring, &options)?;
        Ok(Ran {
            outputs: all.outputs(&ring, &options)?,
            sent: all.0.iter().map(|rank| rank.sent).collect(),
            elapsed: [Pass::Forward, Pass::Backward].map(|pass| all.slowest(pass)),
        })
    }

    /// The outputs of a pass against one call, and what was sent against the schedule.
    ///
    /// # Errors
    ///
    /// Where a tensor is being written.
    pub fn compare(&self, ran: &Ran, case: &Case, pass: Pass) -> Result<Vec<Comparison>> {
        let (outputs, i) = (&ran.outputs, usize::from(pass == Pass::Backward));
        let mut all = match pass {
            Pass::Forward => self.exact.compare(&outputs["out"], &outputs["lse"], LSE)?,
            Pass::Backward => {
                let names = ["dq", "dk", "dv", "dsink"].into_iter();
                let found = names.filter_map(|name| Some((name, outputs.get(name)?)));
                self.exact.compare_gradients(found)?
            }
        };
        let (shards, ring) = (case.shards(T::DTYPE)?, case.ring()?);
        let is_plain = case.ranks == 1 || shards.batch * shards.heads == 0;
        let expected = match is_plain {
            true => vec![0; case.ranks],
            false => shards.bytes_sent(&ring.schedule(&shards, &case.options().mask, pass)?),
        };
        let found: Vec<u64> = ran.sent.iter().map(|sent| sent[i]).collect();
        let wrong = (0..case.ranks).find(|&rank| found[rank] != expected[rank]);
        all.push(Comparison {
            tensor: "bytes sent",
            error: if wrong.is_some() { f64::INFINITY } else { 0.0 },
            tolerance: 0.0,
            worst: wrong.map(|rank| (rank, found[rank] as f64, expected[rank] as f64)),
        });
        Ok(all)
    }

    /// The case.
    pub fn case(&self) -> &Case {
        &self.case
    }
}
