//! How a product is to be computed.

use std::fmt;

/// Who computes which groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Equal shares of the kept groups, whatever rows they are of.
    TaskCentric,
    /// Whole rows.
    DataCentric,
}

impl Scheme {
    /// Both.
    pub const ALL: [Self; 2] = [Self::TaskCentric, Self::DataCentric];

    /// As options name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TaskCentric => "task-centric",
            Self::DataCentric => "data-centric",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What may be chosen of a product; by default the plan chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The scheme to use instead of the planned one.
    pub scheme: Option<Scheme>,
    /// How many workers share a task-centric product, in place of the planned number.
    pub workers: Option<usize>,
    /// The kernel variant to use instead of the planned one.
    pub variant: Option<String>,
}

impl Options {
    /// With this scheme.
    pub fn with_scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = Some(scheme);
        self
    }

    /// With so many workers; 0 counts as 1.
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// With this variant.
    pub fn with_variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }
}
