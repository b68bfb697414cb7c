//! How an update is to be done.

use super::check::CHECK;
use crate::Result;
use crate::operation::Settings;

/// How an update is to be done. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Whether the step size passes through softplus.
    pub dt_softplus: bool,
    /// The least and the largest step size, after softplus.
    pub dt_clamp: Option<(f32, f32)>,
    /// Whether `state` stays as it was: only outputs are written.
    pub keep_state: bool,
    /// The kernel variant to use instead of the one that the plan would choose.
    pub variant: Option<String>,
}

impl Options {
    /// With softplus on the step size.
    pub fn with_dt_softplus(mut self, dt_softplus: bool) -> Self {
        self.dt_softplus = dt_softplus;
        self
    }

    /// With bounds of the step size, applied after softplus.
    pub fn with_dt_clamp(mut self, min: f32, max: f32) -> Self {
        self.dt_clamp = Some((min, max));
        self
    }

    /// With `state` left as it was.
    pub fn with_keep_state(mut self, keep_state: bool) -> Self {
        self.keep_state = keep_state;
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
            "dt_softplus" => {
                self.dt_softplus = CHECK.truth(key, value)?;
            }
            "dt_clamp" => {
                self.dt_clamp = Some(CHECK.bounds(key, value)?);
                self.check()?;
            }
            _ => {
                return Err(CHECK.wrong_option(
                    key,
                    "one of dt_softplus, dt_clamp",
                    "an unknown option",
                ));
            }
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

    /// The options make sense together.
    pub(crate) fn check(&self) -> Result<()> {
        match self.dt_clamp {
            Some((min, max)) if min.is_nan() || max.is_nan() || min > max => {
                Err(CHECK.wrong_option("dt_clamp", "min <= max", &format!("{min},{max}")))
            }
            _ => Ok(()),
        }
    }
}
