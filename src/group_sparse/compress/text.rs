//! Options as texts under their names, as the command line and files give them.

use std::collections::BTreeMap;
use std::fmt;

use super::options::{Options, OutlierRule, Promote, Range, Saliency, Scope, Store, Target};
use crate::Result;
use crate::check::Check;
use crate::element::DType;
use crate::group_sparse::NAME;
use crate::group_sparse::format::{Mode, ScaleScope};

const CHECK: Check = Check { operation: NAME };

impl Options {
    /// The options that texts under their names set; all else is as usual.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use warpwright::group_sparse::compress::Options;
    ///
    /// let options = Options::default().with_bits(3).with_sparsity(0.25);
    /// assert_eq!(options.texts()["bits"], "3");
    /// assert_eq!(Options::from_texts(&options.texts())?, options);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) as [`set`](Self::set) and [`check`](Self::check).
    pub fn from_texts(texts: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self::default();
        // What the rule of outliers belongs to has to be known first.
        if let Some(outliers) = texts.get("outliers") {
            options.set("outliers", outliers)?;
        }
        for (key, value) in texts.iter().filter(|(key, _)| *key != "outliers") {
            options.set(key, value)?;
        }
        options.check()?;
        Ok(options)
    }

    /// Sets the option `key` from text. `outliers` comes before `n_sigma`, `max_fraction` and
    /// `outlier_scope`, which say more of it. Whether options fit together is for
    /// [`check`](Self::check) to tell.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for an unknown key or a text that says nothing.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "bits" => self.bits = CHECK.number(key, value)?,
            "group" => self.group = CHECK.number(key, value)?,
            "mode" => self.mode = choice(key, value, &Mode::ALL)?,
            "sparsity" => self.target = Target::Sparsity(CHECK.number(key, value)?),
            "mask" => {
                return Err(CHECK.wrong_option(key, "a mask from `with_mask`, not a text", value));
            }
            "saliency" => self.saliency = choice(key, value, Saliency::ALL)?,
            "normalize" => {
                self.normalize_mean = match value {
                    "none" => false,
                    "mean" => true,
                    _ => return Err(CHECK.wrong_option(key, "none or mean", value)),
                }
            }
            "scope" => self.scope = choice(key, value, Scope::ALL)?,
            "min_row_fraction" => self.min_row_fraction = CHECK.number(key, value)?,
            "row_quantum" => self.row_quantum = CHECK.number(key, value)?,
            "range" => self.range = choice(key, value, Range::ALL)?,
            "sym_restricted" => self.sym_restricted = CHECK.truth(key, value)?,
            "scale_scope" => {
                self.scale_scope = choice(key, value, &[ScaleScope::Group, ScaleScope::Row])?;
            }
            "scale_dtype" if value == "auto" => self.scale_dtype = None,
            "scale_dtype" => {
                let dtypes = [DType::F16, DType::BF16, DType::F32];
                let found = dtypes.into_iter().find(|dtype| dtype.name() == value);
                let expected = "auto, f16, bf16 or f32";
                let dtype = found.ok_or_else(|| CHECK.wrong_option(key, expected, value))?;
                self.scale_dtype = Some(dtype);
            }
            "scale_promote" => self.scale_promote = choice(key, value, Promote::ALL)?,
            "outliers" => {
                let rule = self.outliers.unwrap_or_default();
                self.outliers = CHECK.truth(key, value)?.then_some(rule);
            }
            "n_sigma" => self.rule(key, value)?.n_sigma = CHECK.number(key, value)?,
            "max_fraction" => self.rule(key, value)?.max_fraction = CHECK.number(key, value)?,
            "outlier_scope" => self.rule(key, value)?.scope = choice(key, value, Scope::ALL)?,
            "refit_weights" => self.refit_weights = CHECK.truth(key, value)?,
            "pattern" => self.pattern = choice(key, value, Store::ALL)?,
            _ => return Err(CHECK.wrong_option(key, &known(), "an unknown option")),
        }
        Ok(())
    }

    /// The rule that `key` says more of.
    fn rule(&mut self, key: &str, value: &str) -> Result<&mut OutlierRule> {
        let none = || CHECK.wrong_option(key, "nothing, but with outliers=true", value);
        self.outliers.as_mut().ok_or_else(none)
    }

    /// The options as texts under their names, from which [`from_texts`](Self::from_texts) makes
    /// them again; of a mask they only say that there was one.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut text = |key: &str, value: &dyn fmt::Display| {
            texts.insert(key.to_owned(), value.to_string());
        };
        text("bits", &self.bits);
        text("group", &self.group);
        text("mode", &self.mode);
        match &self.target {
            Target::Sparsity(sparsity) => text("sparsity", sparsity),
            Target::Mask(_) => text("mask", &"given"),
        }
        text("saliency", &self.saliency);
        text("normalize", &if self.normalize_mean { "mean" } else { "none" });
        text("scope", &self.scope);
        text("min_row_fraction", &self.min_row_fraction);
        text("row_quantum", &self.row_quantum);
        text("range", &self.range);
        text("sym_restricted", &self.sym_restricted);
        text("scale_scope", &self.scale_scope);
        text("scale_dtype", &self.scale_dtype.map_or("auto", DType::name));
        text("scale_promote", &self.scale_promote);
        text("outliers", &self.outliers.is_some());
        if let Some(rule) = &self.outliers {
            text("n_sigma", &rule.n_sigma);
            text("max_fraction", &rule.max_fraction);
            text("outlier_scope", &rule.scope);
        }
        text("refit_weights", &self.refit_weights);
        text("pattern", &self.pattern);
        texts
    }
}

fn known() -> String {
    let rule = OutlierRule::default();
    let all = Options::default().with_outliers(rule).texts();
    format!("one of {}", all.into_keys().collect::<Vec<_>>().join(", "))
}

fn choice<C: Copy + fmt::Display>(option: &str, text: &str, all: &[C]) -> Result<C> {
    all.iter().copied().find(|choice| choice.to_string() == text).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(C::to_string).collect();
        CHECK.wrong_option(option, &names.join(" or "), text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_back_from_their_texts() {
        let rule = OutlierRule { n_sigma: 3.5, max_fraction: 0.003, scope: Scope::Row };
        let options = Options::default()
            .with_bits(3)
            .with_group(32)
            .with_mode(Mode::Affine)
            .with_sparsity(0.3)
            .with_saliency(Saliency::Magnitude)
            .with_normalize_mean(true)
            .with_scope(Scope::Row)
            .with_min_row_fraction(0.1)
            .with_row_quantum(4)
            .with_range(Range::Rtn)
            .with_scale_scope(ScaleScope::Row)
            .with_scale_dtype(DType::BF16)
            .with_scale_promote(Promote::Deny)
            .with_outliers(rule)
            .with_refit_weights(true)
            .with_pattern(Store::Free);
        for options in [Options::default(), options] {
            let texts = options.texts();
            assert_eq!(Options::from_texts(&texts).unwrap(), options, "from {texts:?}");
        }
    }

    #[test]
    fn wrong_texts_say_what_would_be_right() {
        let message = |key: &str, value: &str| {
            let texts = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            Options::from_texts(&texts).unwrap_err().to_string()
        };
        assert_eq!(
            message("bits", "5"),
            "group-sparse: option `bits`: expected 2, 3, 4 or 8, found 5"
        );
        assert_eq!(
            message("mode", "nf4"),
            "group-sparse: option `mode`: expected sym or asym or affine, found nf4"
        );
        assert!(message("sparsity", "1").contains("expected a number from 0 to below 1"));
        assert!(message("sparsity", "NaN").contains("expected a number from 0 to below 1"));
        assert!(message("n_sigma", "3").contains("nothing, but with outliers=true"));
        assert!(message("range", "adam").contains("but for scale_scope row and mode sym"));
        assert!(message("row_quantum", "3").contains("1, 2, 4, 8 or 16"));
        assert!(message("mask", "1,0").contains("with_mask"));
        assert!(message("nibbles", "1").contains("one of bits, group, max_fraction"));
    }
}
