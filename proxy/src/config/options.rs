//! Options that describe themselves: one declaration gives the type, its defaults, its reader and its page in
//! the printed defaults.
//!
//! Promises that no option exists without a sentence that says what it does, and that what is printed is what
//! is in force. Reads and validates nothing itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use postern_api::HostName;
use serde::Serialize;

/// One documented option, or a section of them.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The TOML key.
    pub key: &'static str,
    /// What it does, line by line.
    pub doc: &'static [&'static str],
    /// A value to show in place of a default, in TOML, for a key that has none.
    pub example: Option<&'static str>,
    /// What stands under the key.
    pub shape: Shape,
}

/// What may stand under a key.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// One value.
    Value,
    /// A list of values.
    List,
    /// A section with these options.
    Section(Vec<Entry>),
    /// Sections under names that the operator chooses.
    Named {
        /// The options of each.
        entries: Vec<Entry>,
        /// Their defaults.
        defaults: toml::Table,
    },
}

/// A type that can stand under a key.
pub(super) trait Setting {
    /// What it looks like in the file.
    fn shape() -> Shape {
        Shape::Value
    }
}

macro_rules! single_values {
    ($($ty:ty),+ $(,)?) => { $(impl Setting for $ty {})+ };
}

single_values!(
    u16, u32, u64, usize, String, PathBuf, Duration, SocketAddr, IpNet, HostName
);

impl<T: Setting> Setting for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn shape() -> Shape {
        Shape::List
    }
}

impl<T: Setting + Default + Serialize> Setting for BTreeMap<String, T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Section(entries) => Shape::Named {
                entries,
                defaults: toml::Table::try_from(T::default()).unwrap_or_default(),
            },
            other => other,
        }
    }
}

/// Declares a section: `/// doc`, `pub key: Type = default;`, and `=> "example"` before the semicolon for a key
/// without a usable default.
macro_rules! options {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                pub $field:ident: $ty:ty = $default:expr $(=> $example:literal)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                $(#[serde($($serde)+)])?
                pub $field: $ty,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $crate::config::options::Setting for $name {
            fn shape() -> $crate::config::options::Shape {
                $crate::config::options::Shape::Section(vec![$(
                    $crate::config::options::Entry {
                        key: stringify!($field),
                        doc: &[$($doc),+],
                        example: [$($example,)? ""].first().copied().filter(|text| !text.is_empty()),
                        shape: <$ty as $crate::config::options::Setting>::shape(),
                    }
                ),+])
            }
        }
    };
}
pub(super) use options;

/// The options of `T` with their defaults as a commented TOML file.
pub(super) fn print<T: Setting + Default + Serialize>() -> String {
    let mut out = String::new();
    if let Shape::Section(entries) = T::shape() {
        let defaults = toml::Table::try_from(T::default()).unwrap_or_default();
        section(&entries, &defaults, "", "", &mut out);
    }
    out
}

/// Prints single values first, because in TOML they belong to the section above them.
fn section(entries: &[Entry], defaults: &toml::Table, path: &str, comment: &str, out: &mut String) {
    for entry in entries {
        if matches!(entry.shape, Shape::Value | Shape::List) {
            document(entry, out);
            // Writing to a `String` cannot fail.
            let _ = match (entry.example, defaults.get(entry.key)) {
                (Some(example), _) => writeln!(out, "# {} = {example}", entry.key),
                (None, Some(value)) => writeln!(out, "{comment}{} = {value}", entry.key),
                (None, None) => writeln!(out, "# {} is not set", entry.key),
            };
        }
    }
    for entry in entries {
        let path = if path.is_empty() {
            entry.key.to_owned()
        } else {
            format!("{path}.{}", entry.key)
        };
        match &entry.shape {
            Shape::Value | Shape::List => {}
            Shape::Section(inner) => {
                out.push('\n');
                document(entry, out);
                let _ = writeln!(out, "{comment}[{path}]");
                let empty = toml::Table::new();
                let defaults = defaults
                    .get(entry.key)
                    .and_then(toml::Value::as_table)
                    .unwrap_or(&empty);
                section(inner, defaults, &path, comment, out);
            }
            Shape::Named {
                entries: inner,
                defaults,
            } => {
                out.push('\n');
                document(entry, out);
                let _ = writeln!(out, "# [{path}.{}]", entry.example.unwrap_or("NAME"));
                section(inner, defaults, &path, "# ", out);
            }
        }
    }
}

fn document(entry: &Entry, out: &mut String) {
    for line in entry.doc {
        let _ = writeln!(out, "# {}", line.trim());
    }
}
