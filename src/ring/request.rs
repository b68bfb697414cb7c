//! What case files and the command line say of a ring.

use std::fmt;

use super::options::Ring;
use super::partition::{Partition, Scheme};
use super::schedule::Algorithm;
use super::{CHECK, NAME};
use crate::attention::{self, Options};
use crate::operation::Settings;
use crate::{Error, Result};

/// How many ranks there are where nobody says.
pub const RANKS: usize = 4;

/// The most ranks that text may ask for: threads of one process, or processes of a job.
const MOST_RANKS: usize = 256;

/// The options that text sets besides those of attention, in the order of messages.
const KEYS: [&str; 4] = ["ranks", "schedule", "partition", "engine"];

/// Schedules that are none of a ring, or none yet, and what to use instead.
const OTHERS: [(&str, &str); 4] = [
    ("rsa", "use kv-ring, which gives the same, or `ring::forward_scores` from Rust"),
    ("ulysses", "use two-way, which also shares heads among its messages"),
    ("gathered", "use kv-ring, which holds two shards of keys at a time"),
    ("hybrid", "use kv-ring or token-ring over all ranks"),
];

/// What carries messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Ranks are threads of this process: [`Local`](crate::collective::Local).
    #[default]
    Local,
    /// Ranks are processes that `mpirun` has started.
    Mpi,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Mpi => "mpi",
        })
    }
}

/// A call of a ring as text gives it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// How attention is to be computed.
    pub options: Options,
    /// The ranks; [`RANKS`] of the engine `local`, all of a job of the engine `mpi`, where absent.
    pub ranks: Option<usize>,
    /// How sequences are cut; in a zigzag where sight is causal, and contiguously otherwise, where
    /// absent.
    pub scheme: Option<Scheme>,
    /// The way of shards; that of the least bytes where absent.
    pub algorithm: Option<Algorithm>,
    /// What carries messages.
    pub engine: Engine,
    /// A schedule that this version lacks, and what to do instead.
    lacking: Option<(String, &'static str)>,
}

impl Request {
    /// What texts under their names set.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for an unknown key or a value that makes no sense.
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        let mut request = Self::default();
        for (key, value) in &settings.options {
            request.set(key, value)?;
        }
        request.options.variant.clone_from(&settings.variant);
        Ok(request)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "ranks" => {
                let ranks = value.trim().parse().ok().filter(|n| (1..=MOST_RANKS).contains(n));
                let expected = format!("a number from 1 to {MOST_RANKS}");
                self.ranks = Some(ranks.ok_or_else(|| CHECK.wrong_option(key, &expected, value))?);
            }
            "schedule" => self.set_schedule(value)?,
            "partition" => {
                let found = Scheme::ALL.into_iter().find(|scheme| scheme.to_string() == value);
                let expected = "contiguous, zigzag or striped";
                self.scheme = Some(found.ok_or_else(|| CHECK.wrong_option(key, expected, value))?);
            }
            "engine" => {
                let found = [Engine::Local, Engine::Mpi];
                let found = found.into_iter().find(|engine| engine.to_string() == value);
                self.engine =
                    found.ok_or_else(|| CHECK.wrong_option(key, "local or mpi", value))?;
            }
            _ if attention::KEYS.contains(&key) => self.options.set(key, value)?,
            _ => {
                let known: Vec<&str> = attention::KEYS.into_iter().chain(KEYS).collect();
                let expected = format!("one of {}", known.join(", "));
                return Err(CHECK.wrong_option(key, &expected, "an unknown option"));
            }
        }
        Ok(())
    }

    fn set_schedule(&mut self, value: &str) -> Result<()> {
        let nodes = value.strip_prefix("hybrid:").and_then(|nodes| nodes.parse::<usize>().ok());
        let name = if nodes.is_some_and(|nodes| nodes > 0) { "hybrid" } else { value };
        let lacking = OTHERS.into_iter().find(|(other, _)| *other == name);
        self.lacking = lacking.map(|(_, instead)| (value.to_owned(), instead));
        self.algorithm = Algorithm::ALL.into_iter().find(|way| way.to_string() == value);
        let is_known = value == "auto" || self.algorithm.is_some() || self.lacking.is_some();
        match is_known && value != "hybrid" {
            true => Ok(()),
            false => {
                let expected = "auto, kv-ring, two-way, token-ring, rsa, ulysses, gathered or \
                                hybrid:M of M nodes";
                Err(CHECK.wrong_option("schedule", expected, value))
            }
        }
    }

    /// The ring of sequences of so many tokens among so many ranks.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for no ranks.
    pub fn ring(&self, [queries, keys]: [usize; 2], ranks: usize) -> Result<Ring> {
        let usual = match self.options.mask.causal {
            true => Scheme::Zigzag,
            false => Scheme::Contiguous,
        };
        let cut = |total| Partition::new(self.scheme.unwrap_or(usual), total, ranks);
        let mut ring = Ring::new(cut(queries)?).with_keys(cut(keys)?);
        ring.algorithm = self.algorithm;
        Ok(ring)
    }

    /// The schedule is one that this version has.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`], with what to use instead.
    pub fn check_ability(&self) -> Result<()> {
        match &self.lacking {
            None => Ok(()),
            Some((schedule, instead)) => Err(Error::Unsupported {
                operation: NAME,
                backend: format!("the engine {}", self.engine),
                what: format!("the schedule {schedule}"),
                instead: (*instead).to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn request(pairs: &[(&str, &str)]) -> Result<Request> {
        let options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Request::from_settings(&Settings { options: options.collect(), ..Settings::default() })
    }

    #[test]
    fn rings_are_read_from_text() {
        let pairs = [("causal", "true"), ("ranks", "3"), ("schedule", "token-ring")];
        let causal = request(&pairs).unwrap();
        let ring = causal.ring([9, 9], 3).unwrap();
        assert_eq!((ring.ranks(), ring.queries.scheme()), (3, Scheme::Zigzag));
        assert_eq!(ring.algorithm, Some(Algorithm::TokenRing));
        let dense = request(&[("schedule", "auto"), ("engine", "mpi")]).unwrap();
        assert_eq!(dense.engine, Engine::Mpi);
        let ring = dense.ring([9, 7], 4).unwrap();
        assert_eq!((ring.queries.scheme(), ring.algorithm), (Scheme::Contiguous, None));
        assert_eq!((ring.queries.total(), ring.keys.total()), (9, 7));
        let striped = request(&[("partition", "striped")]).unwrap();
        assert_eq!(striped.ring([9, 9], 2).unwrap().keys.scheme(), Scheme::Striped);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| request(&[(key, value)]).unwrap_err().to_string();
        assert_eq!(
            message("partition", "zig"),
            "ring-attention: option `partition`: expected contiguous, zigzag or striped, found zig"
        );
        assert!(message("ranks", "0").contains("expected a number from 1 to 256, found 0"));
        assert!(message("engine", "nccl").contains("expected local or mpi"));
        for schedule in ["ring", "hybrid", "hybrid:0", "hybrid:x"] {
            assert!(message("schedule", schedule).contains("expected auto, kv-ring"), "{schedule}");
        }
        let unknown = message("rank", "4");
        assert!(unknown.contains("ring-attention") && unknown.contains("causal"), "{unknown}");
    }

    /// What the specification knows and this version lacks is no mistake of the caller.
    #[test]
    fn schedules_that_are_lacking_are_told_from_those_that_are_unknown() {
        for schedule in ["rsa", "ulysses", "gathered", "hybrid:2"] {
            let error = request(&[("schedule", schedule)]).unwrap().check_ability().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Ability, "{error}");
            assert!(error.to_string().contains("; use "), "{error}");
        }
        request(&[("schedule", "kv-ring")]).unwrap().check_ability().unwrap();
    }
}
