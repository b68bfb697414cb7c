//! Variants that callers force instead of the planned one.

use crate::Error;

/// The variant that the caller or the environment forces, if it is one of this operation's.
pub(crate) fn forced(operation: &str, asked: Option<&String>) -> Option<String> {
    let prefix = format!("{}_", operation.replace('-', "_"));
    asked.cloned().or_else(|| {
        std::env::var("WARPWRIGHT_VARIANT").ok().filter(|name| name.starts_with(&prefix))
    })
}

/// The variant that was asked for is not one of those that fit.
pub(crate) fn no_such_variant<'a>(
    operation: &'static str,
    backend: String,
    asked: &str,
    fitting: impl IntoIterator<Item = &'a str>,
) -> Error {
    let fitting: Vec<&str> = fitting.into_iter().collect();
    Error::Unsupported {
        operation,
        backend,
        what: format!("variant `{asked}` for this call"),
        instead: match fitting.as_slice() {
            [] => "no variant fits it".to_owned(),
            names => format!("use {}", names.join(" or ")),
        },
    }
}
