//! How a scan is to be done.

use super::check::CHECK;
use crate::Result;
pub use crate::layout::Layout;
use crate::operation::Settings;

/// How a scan is to be done. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The layout of the activations.
    pub layout: Layout,
    /// Whether the step size passes through softplus.
    pub delta_softplus: bool,
    /// The least and the largest step size, after softplus.
    pub delta_clamp: Option<(f32, f32)>,
    /// Whether decays keep their distance from 1, at two to three times the arithmetic: for memories
    /// that last some thousand steps. Where decays are rounded, to 24 bits and by the GPU's `ex2`
    /// always to the same side, such a memory has a wrong length. [`Cpu`](crate::Cpu) and the WGSL
    /// always do it, CUDA also wherever step sizes are clamped: many are equal then, and so are the
    /// errors of their decays.
    pub accurate_decays: bool,
    /// Whether the states at every [`CHECKPOINT`](super::CHECKPOINT)-th step are kept for the
    /// backward pass.
    pub save: bool,
    /// Whether the gradients of variable `B` and `C` come out in the state's type instead of the
    /// activation's.
    pub wide_maps: bool,
    /// Whether `A`, `B` and `C` are complex, as pairs of f32. No backend does this yet.
    pub complex: bool,
    /// The kernel variant to use instead of the one that the plan would choose.
    pub variant: Option<String>,
}

impl Options {
    /// With the layout of the activations.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With softplus on the step size.
    pub fn with_delta_softplus(mut self, delta_softplus: bool) -> Self {
        self.delta_softplus = delta_softplus;
        self
    }

    /// With bounds of the step size, applied after softplus.
    pub fn with_delta_clamp(mut self, min: f32, max: f32) -> Self {
        self.delta_clamp = Some((min, max));
        self
    }

    /// With decays that keep their distance from 1.
    pub fn with_accurate_decays(mut self, accurate_decays: bool) -> Self {
        self.accurate_decays = accurate_decays;
        self
    }

    /// With states kept for the backward pass.
    pub fn with_save(mut self, save: bool) -> Self {
        self.save = save;
        self
    }

    /// With gradients of variable `B` and `C` in the state's type.
    pub fn with_wide_maps(mut self, wide_maps: bool) -> Self {
        self.wide_maps = wide_maps;
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
                self.layout = Layout::parse(value)
                    .ok_or_else(|| CHECK.wrong_option(key, "BDL or BLD", value))?;
            }
            "delta_softplus" => self.delta_softplus = CHECK.truth(key, value)?,
            "accurate_decays" => self.accurate_decays = CHECK.truth(key, value)?,
            "complex" => self.complex = CHECK.truth(key, value)?,
            "delta_clamp" => {
                self.delta_clamp = Some(CHECK.bounds(key, value)?);
                self.check()?;
            }
            _ => {
                let known = "one of layout, delta_softplus, delta_clamp, accurate_decays, complex";
                return Err(CHECK.wrong_option(key, known, "an unknown option"));
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

    /// Whether a backend with two routes takes the one that keeps decays' distance from 1.
    #[cfg(feature = "cuda")]
    pub(super) fn keeps_decays_accurate(&self) -> bool {
        self.accurate_decays || self.delta_clamp.is_some()
    }

    /// The options make sense together.
    pub(crate) fn check(&self) -> Result<()> {
        match self.delta_clamp {
            Some((min, max)) if min.is_nan() || max.is_nan() || min > max => {
                Err(CHECK.wrong_option("delta_clamp", "min <= max", &format!("{min},{max}")))
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
        options.set("layout", "BLD").unwrap();
        options.set("delta_softplus", "true").unwrap();
        options.set("delta_clamp", "0.001, 0.1").unwrap();
        options.set("accurate_decays", "true").unwrap();
        let expected = Options::default()
            .with_layout(Layout::Bld)
            .with_delta_softplus(true)
            .with_delta_clamp(0.001, 0.1)
            .with_accurate_decays(true);
        assert_eq!(options, expected);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| Options::default().set(key, value).unwrap_err().to_string();
        assert_eq!(
            message("layout", "LBD"),
            "selective-scan: option `layout`: expected BDL or BLD, found LBD"
        );
        assert!(message("delta_softplus", "yes").contains("expected true or false, found yes"));
        assert!(message("delta_clamp", "1").contains("min,max"));
        assert!(message("delta_clamp", "2,1").contains("min <= max"));
        assert!(message("delta_clamp", "NaN,1").contains("min <= max"));
        assert!(message("softplus", "true").contains("unknown option"));
    }
}
