//! What is wrong with a configuration, said so that an operator can put it right.
//!
//! Promises that every finding names its key, and the line of the file or the variable that it came from.

use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::environment::Overrides;
use crate::{period, toml_error};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: the configuration file cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of the wrong type: `FILE:LINE:COLUMN: what`.
    #[error("{0}")]
    File(String),
    /// An environment variable names no option, or its value does not fit.
    #[error("{variable}: {what}")]
    Environment {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        what: String,
    },
    /// All values were read, but they make no sense: one line for each, `FILE:LINE: key: what`.
    #[error("{0}")]
    Invalid(Findings),
}

/// What validation found, with where each came from. Printed one to a line.
#[derive(Debug)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Looks up where each problem comes from. `None` if there is none.
    pub(crate) fn locate(
        problems: &[Problem],
        path: &Path,
        text: &str,
        overrides: &Overrides,
    ) -> Option<Self> {
        let table = DeTable::parse(text).ok();
        let lines = problems.iter().map(|Problem { key, what }| {
            if let Some(variable) = overrides.variable(key) {
                return format!("{variable}: {key}: {what}");
            }
            match table
                .as_ref()
                .and_then(|table| offset(table.get_ref(), key))
            {
                Some(offset) => format!(
                    "{}:{}: {key}: {what}",
                    path.display(),
                    toml_error::position(text, offset).0
                ),
                None => format!("{}: {key}: {what}", path.display()),
            }
        });
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then_some(Self(lines))
    }
}

impl Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// One key with a value that makes no sense, or without the value it needs.
#[derive(Debug)]
pub(crate) struct Problem {
    key: String,
    what: String,
}

/// One section under validation: collects what is wrong, by key.
pub struct Section<'a> {
    path: String,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// The top level.
    pub(crate) fn top(problems: &'a mut Vec<Problem>) -> Self {
        Self {
            path: String::new(),
            problems,
        }
    }

    /// The section `name` in this one.
    pub fn under(&mut self, name: &str) -> Section<'_> {
        Section {
            path: self.key(name),
            problems: self.problems,
        }
    }

    /// Notes `what` about `key` unless `fine`.
    pub fn require(&mut self, key: &str, fine: bool, what: impl FnOnce() -> String) {
        if !fine {
            let key = self.key(key);
            self.problems.push(Problem { key, what: what() });
        }
    }

    /// A number within bounds.
    pub fn within<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        value: T,
        bounds: RangeInclusive<T>,
    ) {
        self.require(key, bounds.contains(&value), || {
            format!(
                "must be from {} to {}, and is {value}",
                bounds.start(),
                bounds.end()
            )
        });
    }

    /// A length of time within bounds.
    pub fn period(&mut self, key: &str, value: Duration, bounds: RangeInclusive<Duration>) {
        self.require(key, bounds.contains(&value), || {
            let [start, end, value] = [*bounds.start(), *bounds.end(), value].map(period::show);
            format!("must be from {start} to {end}, and is {value}")
        });
    }

    /// A length of time that is not zero.
    pub fn wait(&mut self, key: &str, value: Duration) {
        self.require(key, !value.is_zero(), || "must not be zero".into());
    }

    /// An address with a port that others can know.
    pub fn port(&mut self, key: &str, value: SocketAddr) {
        self.require(key, value.port() != 0, || {
            format!("`{value}` needs a port other than 0")
        });
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// Where in the text `key` stands, or the section that lacks it.
fn offset(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key
        .split_once('.')
        .map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    let deeper = match (value.get_ref(), rest) {
        (DeValue::Table(inner), Some(rest)) => offset(inner, rest),
        _ => None,
    };
    Some(deeper.unwrap_or(name.span().start))
}
