//! How a scan is to be done.

use std::fmt;

use super::check::CHECK;
use crate::Result;
use crate::operation::Settings;

/// The order of the axes of keys, values and outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// (B, H, L, D).
    #[default]
    Bhld,
    /// (B, L, H, D).
    Blhd,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bhld => "BHLD",
            Self::Blhd => "BLHD",
        })
    }
}

/// How a scan is to be done. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The layout of keys, values and outputs.
    pub layout: Layout,
    /// What the products of query and keys are multiplied with; 1/√Dk where it is not given.
    pub scale: Option<f32>,
    /// Whether the forward pass keeps what the backward pass needs.
    pub save: bool,
    /// The kernel variant to use instead of the one that the plan would choose, in the pass that
    /// it is made for.
    pub variant: Option<String>,
}

impl Options {
    /// With the layout of keys, values and outputs.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With a factor for the products of query and keys.
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// With what the backward pass needs kept.
    pub fn with_save(mut self, save: bool) -> Self {
        self.save = save;
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
            "layout" => {
                self.layout = match value {
                    "BHLD" => Layout::Bhld,
                    "BLHD" => Layout::Blhd,
                    _ => return Err(CHECK.wrong_option(key, "BHLD or BLHD", value)),
                }
            }
            "scale" => {
                self.scale = Some(CHECK.number(key, value)?);
                self.check()?;
            }
            _ => return Err(CHECK.wrong_option(key, "one of layout, scale", "an unknown option")),
        }
        Ok(())
    }

    /// Options that come as text.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self> {
        let mut options = Self { variant: settings.variant.clone(), ..Self::default() };
        for (key, value) in &settings.options {
            options.set(key, value)?;
        }
        Ok(options)
    }

    /// The options make sense.
    pub(crate) fn check(&self) -> Result<()> {
        match self.scale {
            Some(scale) if !scale.is_finite() => {
                Err(CHECK.wrong_option("scale", "a finite number", &scale.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The factor of the products of queries and keys of `width` features.
    pub(crate) fn scale(&self, width: usize) -> f64 {
        self.scale.map_or_else(|| 1.0 / (width.max(1) as f64).sqrt(), f64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let mut options = Options::default();
        options.set("layout", "BLHD").unwrap();
        options.set("scale", "0.25").unwrap();
        assert_eq!(options, Options::default().with_layout(Layout::Blhd).with_scale(0.25));
        assert_eq!(options.scale(64), 0.25);
        assert_eq!(Options::default().scale(64), 0.125);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| Options::default().set(key, value).unwrap_err().to_string();
        assert_eq!(
            message("layout", "BDL"),
            "scan-attention: option `layout`: expected BHLD or BLHD, found BDL"
        );
        assert!(message("scale", "much").contains("expected a number, found much"));
        assert!(message("scale", "inf").contains("expected a finite number"));
        assert!(message("causal", "true").contains("unknown option"));
    }
}
