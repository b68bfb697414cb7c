//! Which axis of an operation's activations is the fastest.

use std::fmt;

use crate::backend::Backend;
use crate::tensor::View;

/// Which axis of the activations is the fastest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// (B, D, L): time is the fastest axis.
    #[default]
    Bdl,
    /// (B, L, D): the channel is the fastest axis.
    Bld,
}

impl Layout {
    /// Reads `BDL` or `BLD`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "BDL" => Some(Self::Bdl),
            "BLD" => Some(Self::Bld),
            _ => None,
        }
    }

    /// The names of the axes.
    pub(crate) fn names(self) -> &'static str {
        match self {
            Self::Bdl => "(B, D, L)",
            Self::Bld => "(B, L, D)",
        }
    }

    /// The axes of activations with these lengths of B, D and L.
    pub(crate) fn axes(self, [b, d, l]: [usize; 3]) -> [(&'static str, usize); 3] {
        match self {
            Self::Bdl => [("B", b), ("D", d), ("L", l)],
            Self::Bld => [("B", b), ("L", l), ("D", d)],
        }
    }

    /// B, D and L among the lengths of activations.
    pub(crate) fn lengths(self, shape: &[usize]) -> Option<[usize; 3]> {
        match (self, shape) {
            (Self::Bdl, &[b, d, l]) | (Self::Bld, &[b, l, d]) => Some([b, d, l]),
            _ => None,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bdl => "BDL",
            Self::Bld => "BLD",
        })
    }
}

/// Distances in elements between neighbours in an activation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationStrides {
    pub batch: usize,
    pub channel: usize,
    pub time: usize,
}

impl ActivationStrides {
    pub fn of<B: Backend>(view: &View<B>, layout: Layout) -> Self {
        let (batch, second) = (view.strides()[0], view.strides()[1]);
        // The last axis may have any stride where its length is 1; it is never used then.
        match layout {
            Layout::Bdl => Self { batch, channel: second, time: 1 },
            Layout::Bld => Self { batch, channel: 1, time: second },
        }
    }

    pub fn index(&self, batch: usize, channel: usize, t: usize) -> usize {
        batch * self.batch + channel * self.channel + t * self.time
    }
}
