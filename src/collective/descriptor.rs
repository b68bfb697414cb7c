//! What all ranks must agree on before the first step.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Communicator, Fault};
use crate::backend::Backend;
use crate::{Error, Result};

/// What a rank takes its call for, field by field.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Descriptor {
    fields: Vec<(&'static str, String)>,
}

/// The layout of descriptors.
const VERSION: u32 = 1;

impl Descriptor {
    pub fn new() -> Self {
        Self { fields: vec![("version", VERSION.to_string())] }
    }

    pub fn with(mut self, field: &'static str, value: impl ToString) -> Self {
        self.fields.push((field, value.to_string()));
        self
    }

    /// Tells it from others; what messages are marked with.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// All ranks have the same.
    ///
    /// # Errors
    ///
    /// [`Fault::DescriptorMismatch`], on every rank, and what the communicator meets.
    pub fn agree<B: Backend>(&self, ranks: &impl Communicator<B>) -> Result<()> {
        let lines: Vec<&str> = self.fields.iter().map(|(_, value)| value.as_str()).collect();
        let said = ranks.gather_bytes(lines.join("\n").as_bytes())?;
        let said: Vec<Vec<String>> = said
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect())
            .collect();
        for (i, (field, own)) in self.fields.iter().enumerate() {
            let of_rank = |lines: &Vec<String>| lines.get(i).cloned().unwrap_or_default();
            let values: Vec<String> = said.iter().map(of_rank).collect();
            if values.iter().any(|value| value != own) {
                let fault = Fault::DescriptorMismatch { field, values };
                let error = Error::Communication { rank: ranks.rank(), fault };
                ranks.abort(&error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }
}
