//! Operations chosen at run time: by name, on tensors that carry names, with options as text.
//!
//! The command, the C ABI and the bindings go through this door; Rust programs that know what
//! they want call the operation's own module.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::backend::{Cpu, Device, Named, in_f64};
use crate::element::DType;
use crate::{
    Error, Result, attention, causal_conv1d, cross_entropy, group_sparse, ring, rnn,
    scan_attention, selective_scan, spgemm,
};

/// Every operation of the crate.
pub const OPERATIONS: [&dyn Operation; 12] = [
    &selective_scan::RunTime,
    &selective_scan::state_update::RunTime,
    &causal_conv1d::RunTime,
    &causal_conv1d::update::RunTime,
    &scan_attention::RunTime,
    &rnn::RunTime,
    &attention::RunTime,
    &attention::merge::RunTime,
    &cross_entropy::RunTime,
    &ring::RunTime,
    &spgemm::RunTime,
    &group_sparse::RunTime,
];

/// The operation of this name; `ring` is short for `ring-attention`.
///
/// # Errors
///
/// [`Error::Option`] where there is none.
pub fn find(name: &str) -> Result<&'static dyn Operation> {
    let whole = if name == "ring" { ring::NAME } else { name };
    OPERATIONS.into_iter().find(|operation| operation.name() == whole).ok_or_else(|| unknown(name))
}

pub(crate) fn unknown(name: &str) -> Error {
    Error::Option {
        operation: "warpwright",
        option: "operation".to_owned(),
        expected: OPERATIONS.map(Operation::name).join(" or "),
        found: name.to_owned(),
    }
}

/// An operation whose tensors, element type and device are known only at run time.
pub trait Operation: Sync {
    /// The operation, as messages and the command name it.
    fn name(&self) -> &'static str;

    /// The axes that say how large a call is.
    fn axes(&self) -> &'static [Axis];

    /// Checks all that can be told without a device: options, names, shapes, types, values of
    /// indices.
    ///
    /// # Errors
    ///
    /// What does not fit.
    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()>;

    /// Runs a call on a device: uploads, warms up, runs, downloads.
    ///
    /// # Errors
    ///
    /// What does not fit, and the device's refusals.
    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran>;

    /// Runs the reference, in f64, on the CPU.
    ///
    /// # Errors
    ///
    /// What does not fit.
    fn reference(&self, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        self.run(&Device::Cpu(Cpu), &in_f64(named)?, settings)
    }

    /// What would run for a call of these sizes, and why, in lines; no tensor is needed.
    ///
    /// # Errors
    ///
    /// Sizes or options that make no sense, and what the device cannot do.
    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String>;
}

/// Options as text, as case files and the command line give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The options, under their keys.
    pub options: BTreeMap<String, String>,
    /// The kernel variant to use instead of the planned one.
    pub variant: Option<String>,
    /// What a file says besides, under keys with a dot; `gqsa.layers` describes compressed layers.
    pub metadata: BTreeMap<String, String>,
}

/// What a call gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ran {
    /// The variant that ran.
    pub variant: &'static str,
    /// The time from the launch to the end of the work, after a warm-up that loads the kernel.
    pub elapsed: Duration,
    /// The outputs, under their names.
    pub outputs: Named<Cpu>,
    /// What is to be known of them besides, for the metadata of a file.
    pub metadata: BTreeMap<String, String>,
}

impl Ran {
    pub(crate) fn new(variant: &'static str, elapsed: Duration, outputs: Named<Cpu>) -> Self {
        Self { variant, elapsed, outputs, metadata: BTreeMap::new() }
    }

    pub(crate) fn with_metadata(
        mut self,
        metadata: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        self.metadata.extend(metadata);
        self
    }
}

/// An axis that says how large a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Axis {
    /// Its name in the operation's documentation: `B`.
    pub name: &'static str,
    /// Its length where none is given.
    pub default: Option<usize>,
}

impl Axis {
    /// An axis whose length must be given.
    pub(crate) const fn required(name: &'static str) -> Self {
        Self { name, default: None }
    }

    /// An axis that has this length where none is given.
    pub(crate) const fn or(name: &'static str, default: usize) -> Self {
        Self { name, default: Some(default) }
    }
}

/// The lengths of an operation's axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Vec<(&'static str, usize)>);

impl Sizes {
    /// These lengths for all axes of an operation, in their order.
    pub fn new<const N: usize>(axes: &[Axis; N], lengths: [usize; N]) -> Self {
        Self(axes.iter().map(|axis| axis.name).zip(lengths).collect())
    }

    /// Reads `B=4,D=768`.
    ///
    /// # Errors
    ///
    /// What was expected, where the text names another axis or leaves one out.
    pub fn parse(axes: &[Axis], text: &str) -> std::result::Result<Self, String> {
        let known = || axes.iter().map(|axis| axis.name).collect::<Vec<_>>().join(", ");
        let mut lengths: Vec<Option<usize>> = axes.iter().map(|axis| axis.default).collect();
        for part in text.split(',') {
            let (name, length) = part
                .split_once('=')
                .ok_or_else(|| format!("expected AXIS=LENGTH, found {part}"))?;
            let place = axes
                .iter()
                .position(|axis| axis.name == name.trim())
                .ok_or_else(|| format!("expected an axis of {}, found {name}", known()))?;
            let length = length.trim().parse();
            lengths[place] = Some(length.map_err(|_| format!("expected a length in {part}"))?);
        }
        let named = axes.iter().zip(lengths).map(|(axis, length)| Some((axis.name, length?)));
        let all: Option<Vec<_>> = named.collect();
        all.map(Self).ok_or_else(|| format!("expected {}, found {text}", known()))
    }

    /// The lengths in the order of the axes of an operation.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where they are the sizes of an operation with other axes.
    pub(crate) fn lengths<const N: usize>(&self, operation: &'static str) -> Result<[usize; N]> {
        let lengths: Vec<usize> = self.0.iter().map(|(_, length)| *length).collect();
        lengths.try_into().map_err(|_| Error::Option {
            operation,
            option: "shape".to_owned(),
            expected: format!("{N} axes"),
            found: self.to_string(),
        })
    }

    /// Name and length of each axis.
    pub fn axes(&self) -> &[(&'static str, usize)] {
        &self.0
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (axis, length)) in self.0.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{axis}={length}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: [Axis; 3] = [Axis::required("B"), Axis::required("L"), Axis::or("G", 1)];

    #[test]
    fn sizes_are_read_from_text() {
        assert_eq!(Sizes::parse(&AXES, "L=7, B=2").unwrap(), Sizes::new(&AXES, [2, 7, 1]));
        assert_eq!(Sizes::parse(&AXES, "B=2,L=7,G=3").unwrap().to_string(), "B=2 L=7 G=3");
    }

    #[test]
    fn wrong_sizes_say_what_would_be_right() {
        let message = |text| Sizes::parse(&AXES, text).unwrap_err();
        assert_eq!(message("B=2"), "expected B, L, G, found B=2");
        assert_eq!(message("B"), "expected AXIS=LENGTH, found B");
        assert_eq!(message("X=1"), "expected an axis of B, L, G, found X");
        assert_eq!(message("B=-1"), "expected a length in B=-1");
    }

    #[test]
    fn unknown_operations_are_told_what_there_is() {
        let message = find("scan").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("selective-scan"), "{message}");
        assert!(find(selective_scan::NAME).is_ok());
        assert_eq!(find("ring").map(Operation::name), Ok(ring::NAME));
    }
}
