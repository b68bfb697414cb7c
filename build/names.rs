//! Identifiers.

use std::collections::BTreeMap;

use super::failure::{Failure, Place};
use super::table::Table;

/// Words that Rust keeps for itself.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Whether it is a name in PTX, WGSL and Rust alike.
pub fn identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether it can name a field of a Rust struct without a warning: `snake_case`, no keyword.
pub fn field(name: &str) -> bool {
    identifier(name)
        && !name.contains(|c: char| c.is_ascii_uppercase())
        && !KEYWORDS.contains(&name)
}

/// `forward_ptx` as `ForwardPtx`.
pub fn upper_camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}

/// Names of variants that two tables, or one table twice, give.
pub fn unique(tables: &[Table]) -> Vec<Failure> {
    let mut owners: BTreeMap<&str, &Table> = BTreeMap::new();
    let mut failures = Vec::new();
    for table in tables {
        for variant in &table.variants {
            if let Some(owner) = owners.insert(&variant.name, table) {
                failures.push(Failure::new(
                    Place::file(&table.file),
                    format!(
                        "[{}] names a variant `{}`, and so does [{}] of kernels/{}: names are \
                         unique in the crate",
                        table.key, variant.name, owner.key, owner.file,
                    ),
                ));
            }
        }
    }
    failures
}
