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

/// Options by key, with the values in force where nothing else is said.
pub type Defaults = toml::Table;

/// One documented option, or a section of them.
#[derive(Debug, Clone)]
pub struct Entry {
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
pub enum Shape {
    /// One value.
    Value,
    /// A list of values.
    List,
    /// A section with these options.
    Section(Vec<Entry>),
    /// A section that may be left out as a whole.
    Optional {
        /// Its options.
        entries: Vec<Entry>,
        /// Their defaults where the section is there.
        defaults: Defaults,
    },
    /// Sections under names that the operator chooses.
    Named {
        /// The options of each.
        entries: Vec<Entry>,
        /// Their defaults.
        defaults: Defaults,
    },
}

/// A type that can stand under a key.
pub trait Setting {
    /// What it looks like in the file.
    fn shape() -> Shape {
        Shape::Value
    }

    /// The defaults of the options in it; none for what is no section.
    fn defaults() -> Defaults {
        Defaults::new()
    }
}

macro_rules! single_values {
    ($($ty:ty),+ $(,)?) => { $(impl Setting for $ty {})+ };
}

single_values!(
    bool, f64, u16, u32, u64, usize, String, PathBuf, Duration, SocketAddr, IpNet, HostName
);

impl<T: Setting> Setting for Option<T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Section(entries) => Shape::Optional {
                entries,
                defaults: T::defaults(),
            },
            other => other,
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn shape() -> Shape {
        Shape::List
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Section(entries) => Shape::Named {
                entries,
                defaults: T::defaults(),
            },
            other => other,
        }
    }
}

/// Declares a section: `/// doc`, `pub key: Type = default;`, and `=> "example"` before the semicolon for a key
/// without a usable default. Each section is a `struct` that `serde` reads and writes, and a [`Setting`].
#[macro_export]
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

        impl $crate::Setting for $name {
            fn shape() -> $crate::Shape {
                $crate::Shape::Section(vec![$(
                    $crate::Entry {
                        key: stringify!($field),
                        doc: &[$($doc),+],
                        example: [$($example,)? ""].first().copied().filter(|text| !text.is_empty()),
                        shape: <$ty as $crate::Setting>::shape(),
                    }
                ),+])
            }

            fn defaults() -> $crate::Defaults {
                $crate::Defaults::try_from(Self::default()).unwrap_or_default()
            }
        }
    };
}

/// The options of `T` with their defaults as a commented TOML file.
pub(crate) fn print<T: Setting>() -> String {
    let mut out = String::new();
    if let Shape::Section(entries) = T::shape() {
        section(&entries, &T::defaults(), "", "", &mut out);
    }
    out
}

/// Prints single values first, because in TOML they belong to the section above them.
fn section(entries: &[Entry], defaults: &Defaults, path: &str, comment: &str, out: &mut String) {
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
                let empty = Defaults::new();
                let defaults = defaults
                    .get(entry.key)
                    .and_then(toml::Value::as_table)
                    .unwrap_or(&empty);
                section(inner, defaults, &path, comment, out);
            }
            Shape::Optional {
                entries: inner,
                defaults,
            } => {
                out.push('\n');
                document(entry, out);
                let _ = writeln!(out, "# [{path}]");
                section(inner, defaults, &path, "# ", out);
            }
            Shape::Named {
                entries: inner,
                defaults,
            } => {
                out.push('\n');
                document(entry, out);
                let path = format!("{path}.{}", entry.example.unwrap_or("NAME"));
                let _ = writeln!(out, "# [{path}]");
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
