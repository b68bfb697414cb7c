//! How a convolution is to be done.

use std::fmt;

use super::NAME;
use crate::Result;
use crate::check::Check;
pub use crate::layout::Layout;
use crate::operation::Settings;

/// What the sum of the taps passes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// x sigmoid(x).
    Silu,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Silu => "silu",
        })
    }
}

/// How a convolution is to be done. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The layout of the activations.
    pub layout: Layout,
    /// What the sum of the taps passes through.
    pub activation: Activation,
    /// The kernel variant to use instead of the one that the plan would choose.
    pub variant: Option<String>,
}

impl Options {
    /// With the layout of the activations.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With an activation.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
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
        self.set_for(NAME, key, value)
    }

    fn set_for(&mut self, operation: &'static str, key: &str, value: &str) -> Result<()> {
        let wrong =
            |expected: &str, found: &str| Check { operation }.wrong_option(key, expected, found);
        match (key, value) {
            ("layout", _) => {
                self.layout = Layout::parse(value).ok_or_else(|| wrong("BDL or BLD", value))?;
            }
            ("activation", "none") => self.activation = Activation::None,
            ("activation", "silu") => self.activation = Activation::Silu,
            ("activation", _) => return Err(wrong("none or silu", value)),
            _ => return Err(wrong("one of layout, activation", "an unknown option")),
        }
        Ok(())
    }

    /// Options of an operation that come as text.
    pub(crate) fn from_settings(operation: &'static str, settings: &Settings) -> Result<Self> {
        let mut options = Self { variant: settings.variant.clone(), ..Self::default() };
        for (key, value) in &settings.options {
            options.set_for(operation, key, value)?;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let mut options = Options::default();
        options.set("layout", "BLD").unwrap();
        options.set("activation", "silu").unwrap();
        let expected =
            Options::default().with_layout(Layout::Bld).with_activation(Activation::Silu);
        assert_eq!(options, expected);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| Options::default().set(key, value).unwrap_err().to_string();
        assert_eq!(
            message("activation", "relu"),
            "causal-conv1d: option `activation`: expected none or silu, found relu"
        );
        assert!(message("layout", "LBD").contains("expected BDL or BLD, found LBD"));
        assert!(message("act", "silu").contains("unknown option"));
    }
}
