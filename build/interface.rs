//! What a launch of an entry has to pass, as Rust sees it.

use super::expand::Text;

/// A variant with its text.
pub struct Expanded {
    /// Its name.
    pub name: String,
    /// The text, and where its lines come from.
    pub text: Text,
    /// Bytes of static shared or workgroup memory.
    pub shared: u64,
}

/// The arguments of an entry, in the order of its text.
#[derive(Clone, Debug)]
pub enum Interface {
    /// The `.param` list.
    Ptx(Vec<Argument>),
    /// The members of the uniform, and the storage bindings.
    Wgsl {
        /// The uniform at binding 0.
        uniform: Uniform,
        /// The storage buffers from binding 1.
        storage: Vec<Argument>,
    },
}

/// One argument.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its declaration in the kernel, for messages and documentation.
    pub declared: String,
    /// The Rust type of its field.
    pub rust: String,
    /// The line of the expanded text that declares it.
    pub line: u32,
}

/// The uniform of a WGSL kernel.
#[derive(Clone, Debug)]
pub struct Uniform {
    /// The members; gaps of the layout are fields of their own.
    pub members: Vec<Argument>,
    /// The name of its variable, which names the field.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u32,
    /// The line of the expanded text that declares it.
    pub line: u32,
}

impl Interface {
    fn arguments(&self) -> Vec<&Argument> {
        match self {
            Self::Ptx(parameters) => parameters.iter().collect(),
            Self::Wgsl { uniform, storage } => uniform.members.iter().chain(storage).collect(),
        }
    }

    /// Whether another variant of the same table takes the same arguments; else the line of
    /// its text where it begins to differ, and how.
    pub fn same_as(&self, name: &str, other: &Self, other_name: &str) -> Result<(), (u32, String)> {
        let (mine, others) = (self.arguments(), other.arguments());
        let what = match self {
            Self::Ptx(_) => "`.param` list",
            Self::Wgsl { .. } => "list of bindings",
        };
        for at in 0..mine.len().max(others.len()) {
            let (mine, other) = (mine.get(at), others.get(at));
            if mine.map(|one| &one.declared) == other.map(|one| &one.declared) {
                continue;
            }
            let told = |one: Option<&&Argument>| {
                one.map_or("nothing".to_owned(), |one| format!("`{}`", one.declared))
            };
            let line = other.or(others.last()).map_or(1, |argument| argument.line);
            return Err((
                line,
                format!(
                    "all variants of a table share one {what}, but its item {} is {} in {name} \
                     and {} in {other_name}",
                    at + 1,
                    told(mine),
                    told(other),
                ),
            ));
        }
        Ok(())
    }
}
