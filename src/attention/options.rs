//! How attention is to be computed.

use std::fmt;

use super::check::CHECK;
use super::{Alignment, Mask, Positions};
use crate::Result;
use crate::backend::Backend;
use crate::check::Check;
use crate::operation::Settings;
use crate::tensor::View;

/// The order of the axes of queries, keys, values and outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// (B, S, H, D); packed (T, H, D).
    #[default]
    Bshd,
    /// (B, H, S, D); packed (H, T, D).
    Bhsd,
}

impl Layout {
    /// The layout that an option's text says.
    pub(super) fn from_text(check: Check, text: &str) -> Result<Self> {
        match text {
            "BSHD" => Ok(Self::Bshd),
            "BHSD" => Ok(Self::Bhsd),
            _ => Err(check.wrong_option("layout", "BSHD or BHSD", text)),
        }
    }

    /// A tensor's axes in the order batch, head, token, feature; packed tensors are one batch
    /// entry. An axis of parts before these stays where it is.
    pub(super) fn heads_first<B: Backend>(self, view: &View<B>) -> Result<View<B>> {
        let view = if view.shape().len() == 3 { view.unsqueezed(0)? } else { view.clone() };
        let token = view.shape().len().saturating_sub(3);
        match self {
            Self::Bshd => view.transposed(token, token + 1),
            Self::Bhsd => Ok(view),
        }
    }

    /// Lengths given in that order, in this layout.
    pub(super) fn axes<X>(self, [batch, heads, tokens, features]: [X; 4]) -> [X; 4] {
        match self {
            Self::Bshd => [batch, tokens, heads, features],
            Self::Bhsd => [batch, heads, tokens, features],
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bshd => "BSHD",
            Self::Bhsd => "BHSD",
        })
    }
}

/// The options that text sets, in the order of messages.
pub(crate) const KEYS: [&str; 7] =
    ["layout", "scale", "causal", "alignment", "window", "softcap", "splits"];

/// How attention is to be computed. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The layout of queries, keys, values and outputs.
    pub layout: Layout,
    /// What the products of queries and keys are multiplied with; 1/√D where it is not given.
    pub scale: Option<f32>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// The bound c of scores, which become c tanh(x / c).
    pub softcap: Option<f32>,
    /// The tokens of the whole sequence that the queries are; all of them where absent.
    pub queries: Option<Positions>,
    /// The tokens of the whole sequence that the keys are; all of them where absent.
    pub keys: Option<Positions>,
    /// Whether the result is merged into what the outputs hold, as [`merge_into`](super::merge_into)
    /// does with one that is there already.
    pub accumulate: bool,
    /// Parts that the keys are cut into, to be worked on side by side; the plan's choice where
    /// absent.
    pub splits: Option<usize>,
    /// The kernel variant to use instead of the one that the plan would choose, in the pass that
    /// it is made for.
    pub variant: Option<String>,
}

impl Options {
    /// With the layout of queries, keys, values and outputs.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With a factor for the products of queries and keys.
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// With which keys a query sees.
    pub fn with_mask(mut self, mask: Mask) -> Self {
        self.mask = mask;
        self
    }

    /// With scores bounded by this magnitude.
    pub fn with_softcap(mut self, softcap: f32) -> Self {
        self.softcap = Some(softcap);
        self
    }

    /// With queries that are some tokens of a whole sequence.
    pub fn with_queries(mut self, queries: Positions) -> Self {
        self.queries = Some(queries);
        self
    }

    /// With keys that are some tokens of a whole sequence.
    pub fn with_keys(mut self, keys: Positions) -> Self {
        self.keys = Some(keys);
        self
    }

    /// With the result merged into what the outputs hold.
    pub fn with_accumulate(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }

    /// With keys cut into so many parts.
    pub fn with_splits(mut self, splits: usize) -> Self {
        self.splits = Some(splits);
        self
    }

    /// With this kernel variant, as listed by `warpwright list`.
    pub fn with_variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }

    /// The options that texts under their names set.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in &settings.options {
            options.set(key, value)?;
        }
        options.variant.clone_from(&settings.variant);
        Ok(options)
    }

    /// Sets the option `key` from text, as it stands in case files and on the command line.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for an unknown key or a value that makes no sense.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "layout" => self.layout = Layout::from_text(CHECK, value)?,
            "scale" => self.scale = Some(CHECK.number(key, value)?),
            "causal" => self.mask.causal = CHECK.truth(key, value)?,
            "alignment" => {
                self.mask.alignment = match value {
                    "bottom-right" => Alignment::BottomRight,
                    "top-left" => Alignment::TopLeft,
                    _ => return Err(CHECK.wrong_option(key, "bottom-right or top-left", value)),
                }
            }
            "window" => self.mask.window = window(value)?,
            "softcap" => {
                let softcap: f32 = CHECK.number(key, value)?;
                self.softcap = (softcap != 0.0).then_some(softcap);
            }
            "splits" => self.splits = Some(CHECK.number(key, value)?),
            _ => {
                let expected = format!("one of {}", KEYS.join(", "));
                return Err(CHECK.wrong_option(key, &expected, "an unknown option"));
            }
        }
        self.check()
    }

    /// The options make sense.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(scale) = self.scale.filter(|scale| !scale.is_finite()) {
            return Err(CHECK.wrong_option("scale", "a finite number", &scale.to_string()));
        }
        if let Some(softcap) = self.softcap.filter(|cap| !cap.is_finite() || *cap <= 0.0) {
            let expected = "a positive number, or 0 for none";
            return Err(CHECK.wrong_option("softcap", expected, &softcap.to_string()));
        }
        if self.splits == Some(0) {
            return Err(CHECK.wrong_option("splits", "at least one part of the keys", "0"));
        }
        Ok(())
    }
}

/// Reads `left,right`, of which -1 is no bound.
fn window(text: &str) -> Result<(Option<usize>, Option<usize>)> {
    let side = |text: &str| match text.trim() {
        "-1" => Some(None),
        reach => reach.parse().ok().map(Some),
    };
    let sides = text.split_once(',').and_then(|(left, right)| Some((side(left)?, side(right)?)));
    let expected = "left,right as two numbers, of which -1 is no bound";
    sides.ok_or_else(|| CHECK.wrong_option("window", expected, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let mut options = Options::default();
        for (key, value) in [
            ("layout", "BHSD"),
            ("scale", "-0.5"),
            ("causal", "true"),
            ("alignment", "top-left"),
            ("window", "7, -1"),
            ("softcap", "30"),
            ("splits", "4"),
        ] {
            options.set(key, value).unwrap();
        }
        let mask = Mask::causal().with_alignment(Alignment::TopLeft).with_window(Some(7), None);
        let same = Options::default()
            .with_layout(Layout::Bhsd)
            .with_scale(-0.5)
            .with_mask(mask)
            .with_softcap(30.0)
            .with_splits(4);
        assert_eq!(options, same);
        options.set("softcap", "0").unwrap();
        assert_eq!(options.softcap, None);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| Options::default().set(key, value).unwrap_err().to_string();
        assert_eq!(
            message("layout", "THD"),
            "attention: option `layout`: expected BSHD or BHSD, found THD"
        );
        assert!(message("window", "3").contains("left,right as two numbers"));
        assert!(message("window", "-2,1").contains("-1 is no bound"));
        assert!(message("softcap", "-1").contains("a positive number, or 0 for none"));
        assert!(message("scale", "inf").contains("a finite number"));
        assert!(message("splits", "0").contains("at least one part"));
        assert!(message("dropuot", "0.1").contains("unknown option"));
    }
}
