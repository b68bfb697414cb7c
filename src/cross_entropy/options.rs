//! How a loss is to be computed.

use std::fmt;

use super::check::CHECK;
use crate::Result;
use crate::operation::Settings;

/// What becomes of the losses of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Their mean over the tokens that are not ignored; 0 where all are.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Nothing: (T), 0 for an ignored token.
    None,
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Sum => "sum",
            Self::None => "none",
        })
    }
}

/// The columns of a vocabulary that a rank has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    /// The first of them.
    pub first: usize,
    /// Columns of all ranks, V.
    pub vocabulary: usize,
}

/// How a loss is to be computed. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The share of the loss that all columns have alike, 0 to 1.
    pub label_smoothing: f32,
    /// The weight of lse² in the loss, which keeps logits small; at least 0.
    pub z_loss: f32,
    /// The bound c of logits, which become c tanh(z / c).
    pub softcap: Option<f32>,
    /// A token with this target is ignored, as is one whose target is no column.
    pub ignore_index: i64,
    /// What becomes of the losses of tokens.
    pub reduction: Reduction,
    /// Which columns this rank has; all of them where absent.
    pub shard: Option<Shard>,
    /// The kernel variant to use instead of the one that the plan would choose, in the pass that
    /// it is made for.
    pub variant: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            z_loss: 0.0,
            softcap: None,
            ignore_index: -100,
            reduction: Reduction::Mean,
            shard: None,
            variant: None,
        }
    }
}

impl Options {
    /// With this share of the loss for all columns alike.
    pub fn with_label_smoothing(mut self, label_smoothing: f32) -> Self {
        self.label_smoothing = label_smoothing;
        self
    }

    /// With this weight of lse².
    pub fn with_z_loss(mut self, z_loss: f32) -> Self {
        self.z_loss = z_loss;
        self
    }

    /// With logits bounded by this magnitude.
    pub fn with_softcap(mut self, softcap: f32) -> Self {
        self.softcap = Some(softcap);
        self
    }

    /// With another target that is ignored.
    pub fn with_ignore_index(mut self, ignore_index: i64) -> Self {
        self.ignore_index = ignore_index;
        self
    }

    /// With another reduction.
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// With the columns from `first` on of a vocabulary of so many.
    pub fn with_shard(mut self, first: usize, vocabulary: usize) -> Self {
        self.shard = Some(Shard { first, vocabulary });
        self
    }

    /// With this kernel variant, as listed by `warpwright list`.
    pub fn with_variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }

    /// Sets the option `key` from text, as it stands in case files and on the command line.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for an unknown key or a value that makes no sense.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "label_smoothing" => self.label_smoothing = CHECK.number(key, value)?,
            "z_loss" => self.z_loss = CHECK.number(key, value)?,
            "softcap" => self.softcap = Some(CHECK.number(key, value)?).filter(|cap| *cap != 0.0),
            "ignore_index" => self.ignore_index = CHECK.number(key, value)?,
            "reduction" => {
                self.reduction = match value {
                    "mean" => Reduction::Mean,
                    "sum" => Reduction::Sum,
                    "none" => Reduction::None,
                    _ => return Err(CHECK.wrong_option(key, "mean, sum or none", value)),
                }
            }
            _ => {
                let expected =
                    "one of shards, label_smoothing, z_loss, softcap, ignore_index, reduction";
                return Err(CHECK.wrong_option(key, expected, "an unknown option"));
            }
        }
        self.check()
    }

    /// Options that come as text, without `shards`.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self> {
        let mut options = Self { variant: settings.variant.clone(), ..Self::default() };
        for (key, value) in settings.options.iter().filter(|(key, _)| *key != "shards") {
            options.set(key, value)?;
        }
        Ok(options)
    }

    /// The options make sense.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |option, expected, found: f32| {
            Err(CHECK.wrong_option(option, expected, &found.to_string()))
        };
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return wrong("label_smoothing", "a number from 0 to 1", self.label_smoothing);
        }
        if !(self.z_loss >= 0.0 && self.z_loss.is_finite()) {
            return wrong("z_loss", "a finite number of at least 0", self.z_loss);
        }
        match self.softcap {
            Some(softcap) if !(softcap > 0.0 && softcap.is_finite()) => {
                wrong("softcap", "a finite number above 0, or 0 for none", softcap)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let mut options = Options::default();
        for (key, value) in [
            ("label_smoothing", "0.1"),
            ("z_loss", "1e-4"),
            ("softcap", "30"),
            ("ignore_index", "-1"),
            ("reduction", "none"),
        ] {
            options.set(key, value).unwrap();
        }
        let expected = Options::default()
            .with_label_smoothing(0.1)
            .with_z_loss(1e-4)
            .with_softcap(30.0)
            .with_ignore_index(-1)
            .with_reduction(Reduction::None);
        assert_eq!(options, expected);
        options.set("softcap", "0").unwrap();
        assert_eq!(options.softcap, None);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| Options::default().set(key, value).unwrap_err().to_string();
        assert_eq!(
            message("reduction", "max"),
            "cross-entropy: option `reduction`: expected mean, sum or none, found max"
        );
        assert!(message("label_smoothing", "1.5").contains("expected a number from 0 to 1"));
        assert!(message("label_smoothing", "NaN").contains("expected a number from 0 to 1"));
        assert!(message("z_loss", "-1").contains("at least 0, found -1"));
        assert!(message("softcap", "inf").contains("expected a finite number above 0"));
        assert!(message("ignore_index", "none").contains("expected a number"));
        assert!(message("causal", "true").contains("unknown option"));
    }
}
