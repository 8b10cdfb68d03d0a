//! A TOML error as one line: where, what, and the name that was probably meant.

use std::path::Path;

/// `FILE:LINE:COLUMN: message`.
pub fn describe(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{line}:{column}: {}", path.display(), error.message())
}
