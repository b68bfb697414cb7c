//! Which kernel runs, and how, for operations that walk time.

use std::fmt;

/// How time is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// One step after the other; the state never leaves the registers.
    Serial,
    /// Chunks of time side by side, then their carries, then the chunks again from the right
    /// states.
    Chunked {
        /// Steps of a chunk.
        chunk: u32,
    },
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial => f.write_str("serial in time"),
            Self::Chunked { chunk } => write!(f, "chunks of {chunk} steps side by side"),
        }
    }
}

/// The kernel that was chosen for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Plan {
    /// The variant, as listed by `warpwright list`.
    pub variant: &'static str,
    /// How time is walked.
    pub schedule: Schedule,
    /// Blocks, or workgroups, along each axis of the grid.
    pub blocks: [u32; 3],
    /// Bytes of device memory that the call needs besides its tensors.
    pub workspace: u64,
    /// Why this variant, in a sentence.
    pub reason: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.blocks;
        writeln!(f, "variant    {}", self.variant)?;
        writeln!(f, "schedule   {}", self.schedule)?;
        writeln!(f, "blocks     {x} x {y} x {z}")?;
        writeln!(f, "workspace  {} bytes", self.workspace)?;
        write!(f, "because    {}", self.reason)
    }
}
