//! How a product is to be made.

use super::tuning::{Hash, Tokens, Tuning};
use super::{CHECK, Semiring};
use crate::Result;
use crate::operation::Settings;

/// How a product is to be made. Made by `Options::default()` and the `with_…` methods.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// What sum and product mean.
    pub semiring: Semiring,
    /// α; for plus-times.
    pub alpha: f64,
    /// β, where there is a C0; for plus-times.
    pub beta: Option<f64>,
    /// Whether the mask names the places that are left out.
    pub complement: bool,
    /// Whether entries of C0 that the mask does not let through are dropped.
    pub replace: bool,
    /// Whether every value is the sum from left to right, with the same bits on every device that
    /// promises them.
    pub deterministic: bool,
    /// Whether a matrix that must be canonical and is not is made so, in a copy.
    pub auto_canonical: bool,
    /// How GPUs share the rows out.
    pub tuning: Tuning,
    /// The variant to use instead of the planned one.
    pub variant: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            semiring: Semiring::default(),
            alpha: 1.0,
            beta: None,
            complement: false,
            replace: false,
            deterministic: false,
            auto_canonical: true,
            tuning: Tuning::default(),
            variant: None,
        }
    }
}

impl Options {
    /// With these meanings of sum and product.
    pub fn with_semiring(mut self, semiring: Semiring) -> Self {
        self.semiring = semiring;
        self
    }

    /// With a factor of the product.
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// With the factor of C0.
    pub fn with_beta(mut self, beta: f64) -> Self {
        self.beta = Some(beta);
        self
    }

    /// With the mask naming the places to leave out.
    pub fn with_complement(mut self, complement: bool) -> Self {
        self.complement = complement;
        self
    }

    /// With entries of C0 dropped where the mask does not let through.
    pub fn with_replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// With every value the sum from left to right.
    pub fn with_deterministic(mut self, deterministic: bool) -> Self {
        self.deterministic = deterministic;
        self
    }

    /// With copies of matrices that are not canonical and must be.
    pub fn with_auto_canonical(mut self, auto_canonical: bool) -> Self {
        self.auto_canonical = auto_canonical;
        self
    }

    /// With the rows shared out like this, on a GPU.
    pub fn with_tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// With this variant, as listed by `warpwright list`.
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
            "semiring" => self.semiring = Semiring::parse(value)?,
            "alpha" => self.alpha = CHECK.number(key, value)?,
            "beta" => self.beta = Some(CHECK.number(key, value)?),
            "complement" => self.complement = CHECK.truth(key, value)?,
            "replace" => self.replace = CHECK.truth(key, value)?,
            "deterministic" => self.deterministic = CHECK.truth(key, value)?,
            "hash" => self.tuning.hash = named(key, value, Hash::ALL, Hash::name)?,
            "tokens" => self.tuning.tokens = named(key, value, Tokens::ALL, Tokens::name)?,
            _ => {
                let keys = "one of semiring, alpha, beta, complement, replace, deterministic, \
                            hash, tokens";
                return Err(CHECK.wrong_option(key, keys, "an unknown option"));
            }
        }
        Ok(())
    }

    /// Options that come as text; `a_shape` and `b_shape` belong to the tensors.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self> {
        let mut options = Self { variant: settings.variant.clone(), ..Self::default() };
        for (key, value) in &settings.options {
            if !SHAPES.contains(&key.as_str()) {
                options.set(key, value)?;
            }
        }
        Ok(options)
    }
}

/// The sides of the factors, `rows,cols`, in case files.
pub(super) const SHAPES: [&str; 2] = ["a_shape", "b_shape"];

fn named<T: Copy, const N: usize>(
    key: &str,
    value: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T> {
    let found = all.into_iter().find(|&one| name(one) == value);
    found.ok_or_else(|| CHECK.wrong_option(key, &all.map(name).join(" or "), value))
}
