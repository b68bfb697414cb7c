//! What can go wrong, as one matchable enum.
//!
//! Every message names the operation, the tensor or option, what was expected,
//! what came, and, where there is a way out, what to do. A failed call leaves
//! the caller's data as it was.

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape, or other strides, than the operation needs.
    #[error("{operation}: tensor `{tensor}`: expected {expected}, found {found}")]
    Shape {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The tensor, as the specification names it.
        tensor: String,
        /// The shape or the strides that would be right.
        expected: String,
        /// What came.
        found: String,
    },
    /// A tensor has another element type than the operation needs.
    #[error("{operation}: tensor `{tensor}`: expected elements {expected}, found {found}")]
    Dtype {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The tensor.
        tensor: String,
        /// The element types that would be right.
        expected: String,
        /// What came.
        found: String,
    },
    /// A tensor of indices holds values that make no sense.
    #[error("{operation}: tensor `{tensor}`: expected {expected}, found {found}")]
    Value {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The tensor.
        tensor: String,
        /// The rule that the values must keep.
        expected: String,
        /// The first value that breaks it, with its position.
        found: String,
    },
    /// A tensor that the operation needs is missing, or one that it does not know is present.
    #[error("{operation}: tensor `{tensor}`: expected {expected}, found {found}")]
    Tensor {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The tensor.
        tensor: String,
        /// What the operation needs.
        expected: String,
        /// What came.
        found: String,
    },
    /// An option is unknown or has a value that makes no sense.
    #[error("{operation}: option `{option}`: expected {expected}, found {found}")]
    Option {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The option.
        option: String,
        /// The values that would be right.
        expected: String,
        /// What came.
        found: String,
    },
    /// A tensor that is written shares memory with another one of the same call.
    #[error(
        "{operation}: tensor `{written}` is written, but shares memory with `{other}`: \
         give it memory of its own"
    )]
    Aliased {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The tensor that is written.
        written: String,
        /// The tensor that lies in the same bytes.
        other: String,
    },
    /// Another call, on another thread, is using the same memory.
    #[error(
        "{device}: memory of this call is being {access} by another call: \
         finish that one first, or use memory of its own"
    )]
    InUse {
        /// The device.
        device: String,
        /// What the other call does with it: `read` or `written`.
        access: &'static str,
    },
    /// A sparse matrix is not what it should be.
    #[error("{operation}: {}{fault}", if matrix.is_empty() { String::new() } else { format!("matrix `{matrix}`: ") })]
    Sparse {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The matrix, as the specification names it; empty where there is but one.
        matrix: String,
        /// What is wrong.
        fault: crate::sparse::Fault,
    },
    /// The product has more entries than its row pointers can count.
    #[error(
        "{operation}: expected at most {limit} entries in the product, found {nnz}; use row pointers u64, or multiply some rows at a time"
    )]
    OutputTooLarge {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The entries of the product.
        nnz: u64,
        /// The most that fit.
        limit: u64,
    },
    /// A Matrix Market file cannot be read.
    #[error("Matrix Market, line {line}: {kind}")]
    MatrixMarket {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        kind: crate::sparse::matrix_market::Fault,
    },
    /// A file, or another stream, cannot be read or written.
    #[error("{what}: {reason}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// The backend cannot do this, though another may.
    #[error("{operation}: {backend} does not support {what}; {instead}")]
    Unsupported {
        /// The operation, as the command names it.
        operation: &'static str,
        /// The backend or device.
        backend: String,
        /// What was asked for.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// There is no such device, or its driver cannot be loaded.
    #[error("device `{device}` is not available: {reason}; {instead}")]
    Unavailable {
        /// The device that was asked for.
        device: String,
        /// Why it is not there.
        reason: String,
        /// What to do instead.
        instead: String,
    },
    /// The device has not enough memory.
    #[error(
        "{device}: out of memory: {asked} bytes asked for, {}; use smaller shapes, or split the batch",
        available.map_or_else(|| "how many are free is not known".to_owned(), |bytes| format!("{bytes} available"))
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// The bytes asked for.
        asked: u64,
        /// The bytes that were free, where the device tells.
        available: Option<u64>,
    },
    /// The device stopped answering; every tensor on it is lost.
    #[error("{device}: the device is lost: {reason}; open it again and upload the tensors anew")]
    DeviceLost {
        /// The device.
        device: String,
        /// What it said last.
        reason: String,
    },
    /// The driver refused a call.
    #[error("{device}: {call} failed: {reason}")]
    Driver {
        /// The device.
        device: String,
        /// The call.
        call: &'static str,
        /// What the driver said, with the assembler's log where there is one.
        reason: String,
    },
    /// Ranks did not come to an end together.
    #[error("rank {rank}: {fault}")]
    Communication {
        /// The rank that tells.
        rank: usize,
        /// What went wrong.
        fault: crate::collective::Fault,
    },
}

/// Which of three groups an error belongs to; the command's exit status follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's input is wrong.
    Input,
    /// The device is not there or cannot do this.
    Ability,
    /// The run itself failed.
    Run,
}

impl Error {
    /// The group that the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::Value { .. }
            | Self::Tensor { .. }
            | Self::Option { .. }
            | Self::Aliased { .. }
            | Self::Sparse { .. }
            | Self::OutputTooLarge { .. }
            | Self::MatrixMarket { .. } => ErrorKind::Input,
            Self::Unsupported { .. } | Self::Unavailable { .. } => ErrorKind::Ability,
            Self::InUse { .. }
            | Self::Io { .. }
            | Self::OutOfMemory { .. }
            | Self::DeviceLost { .. }
            | Self::Driver { .. }
            | Self::Communication { .. } => ErrorKind::Run,
        }
    }
}
