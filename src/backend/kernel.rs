//! The kernels that the build has expanded from `kernels/`: a row per variant.

use std::fmt;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use std::marker::PhantomData;

/// The rows of all tables, as the build wrote them.
pub(crate) mod tables {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    use super::Deflated;
    use super::VariantInfo;

    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}

/// The typed entries of kernels/common.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) mod common {
    include!(concat!(env!("OUT_DIR"), "/common.rs"));
}

/// A level of the PTX instruction set. The highest one that the device has is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Ampere and later: `cp.async`, `ldmatrix`, `mma.sync`.
    Sm80,
    /// Hopper: `wgmma`, bulk copies, clusters. Runs on compute capability 9.0 only.
    Sm90a,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sm80 => "sm_80",
            Self::Sm90a => "sm_90a",
        })
    }
}

/// What a kernel is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// CUDA PTX of a tier.
    Ptx(Tier),
    /// WebGPU's shading language.
    Wgsl,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ptx(tier) => write!(f, "PTX {tier}"),
            Self::Wgsl => f.write_str("WGSL"),
        }
    }
}

/// A variant of a kernel: one row of a `variants.toml`, with its expanded text.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariantInfo {
    /// The folder below `kernels/`: `selective_scan`.
    pub operation: &'static str,
    /// The table of the folder's `variants.toml`: `forward_ptx`. Its variants take the same
    /// arguments.
    pub entry: &'static str,
    /// What it computes: `forward`, `backward`, …
    pub pass: &'static str,
    /// Its name, unique in the crate; also the name of the PTX entry.
    pub name: &'static str,
    /// Names and values of its parameters: first those that vary within the table.
    pub parameters: &'static [(&'static str, &'static str)],
    /// What it is written in.
    pub language: Language,
    /// What a WGSL kernel uses besides what every WebGPU device has, in naga's words:
    /// `SHADER_FLOAT16`, `SUBGROUP`.
    pub capabilities: &'static [&'static str],
    /// Threads of a block, or invocations of a workgroup, along each axis.
    pub block: [u32; 3],
    /// Bytes of static shared, or workgroup, memory.
    pub shared_bytes: u32,
    /// The expanded text.
    pub(crate) text: Deflated,
    /// Where its lines come from; see [`VariantInfo::source`].
    pub(crate) lines: Deflated,
}

/// A text as the build has deflated it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deflated(&'static [u8]);

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Deflated {
    /// The text; empty if these were not the bytes that the build has written.
    fn inflated(self) -> String {
        let bytes = miniz_oxide::inflate::decompress_to_vec(self.0).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    fn len(self) -> usize {
        self.0.len()
    }
}

impl VariantInfo {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&'static str> {
        self.parameters.iter().find(|(other, _)| *other == name).map(|&(_, value)| value)
    }

    /// The value of a parameter that is a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.parameter(name)?.parse().ok()
    }

    /// The expanded text, which is inflated: a millisecond for the longest.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub fn text(&self) -> String {
        self.text.inflated()
    }

    /// Bytes that the text and the places of its lines take in a program.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub fn embedded_bytes(&self) -> usize {
        self.text.len() + self.lines.len()
    }

    /// The template, and the line in it, that a line of [`text`](Self::text) comes from, both
    /// counted from 1: `("selective_scan/forward.ptx", 42)`, a path below `kernels/`. A line
    /// that a macro wrote comes from the macro's file.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub fn source(&self, line: u32) -> Option<(String, u32)> {
        // The files, then a row per run of lines: its first line here, its file, and that
        // line there.
        let lines = self.lines.inflated();
        let (files, runs) = lines.split_once('\n')?;
        let mut found = None;
        for run in runs.lines() {
            let mut numbers = run.split(' ').map(str::parse::<u32>);
            let (first, file, source) =
                (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
            if first > line {
                break;
            }
            found = Some((file, source + (line - first)));
        }
        let (file, source) = found?;
        Some((files.split(' ').nth(usize::try_from(file).ok()?)?.to_owned(), source))
    }
}

impl fmt::Debug for VariantInfo {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariantInfo")
            .field("name", &self.name)
            .field("language", &self.language)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// A variant that takes the arguments `E`: that of another entry is another type.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) struct Variant<E> {
    /// The row of the table.
    pub info: &'static VariantInfo,
    entry: PhantomData<fn() -> E>,
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl<E> Variant<E> {
    /// Called by what the build generates, which knows the entry of a row.
    pub(crate) const fn new(info: &'static VariantInfo) -> Self {
        Self { info, entry: PhantomData }
    }
}

// Derives would ask the same of `E`.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl<E> Clone for Variant<E> {
    fn clone(&self) -> Self {
        *self
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl<E> Copy for Variant<E> {}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl<E> fmt::Debug for Variant<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

/// Every variant of every kernel that this build holds.
pub fn all() -> impl Iterator<Item = &'static VariantInfo> {
    tables::ALL.iter().copied().flatten()
}
