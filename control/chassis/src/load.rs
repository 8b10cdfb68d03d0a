//! A whole configuration: one TOML file, overrides from the environment, validated.
//!
//! Promises that what [`load`] gives has been read without an unknown key, and that the program's own validation
//! found nothing. Never opens what a path names.

use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::{self, Setting};
use crate::problems::{ConfigError, Findings, Section};
use crate::{environment, toml_error};

/// The whole configuration of a program, declared with [`options!`](crate::options!).
pub trait Root: Setting + Default + Serialize + DeserializeOwned {
    /// The program's command, as in "`postern defaults`".
    const PROGRAM: &'static str;

    /// How the environment variables begin that override keys: `POSTERN_`.
    const PREFIX: &'static str;

    /// Longer prefixes that begin with [`Self::PREFIX`] and are another program's: such variables are not ours.
    const OTHERS: &'static [&'static str];

    /// What stands above the printed defaults, each line a TOML comment.
    const INTRODUCTION: &'static str;

    /// Notes what makes no sense.
    fn validate(&self, at: Section<'_>);

    /// Makes relative paths relative to the folder of the file.
    fn resolve(&mut self, folder: &Path);
}

/// Reads the file, puts the variables of `env` on top, and validates the whole.
pub fn load<T: Root>(
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let text = read(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    let refuse = |error| ConfigError::File(toml_error::describe(path, &text, &error));
    // Read as a whole before the overrides: this way an error in the file has its line and column, even
    // where a variable would have hidden it.
    let root: T = toml::from_str(&text).map_err(refuse)?;
    let table = toml::from_str(&text).map_err(refuse)?;
    let (mut root, overrides) = environment::apply(root, table, env)?;
    let mut problems = Vec::new();
    root.validate(Section::top(&mut problems));
    if let Some(findings) = Findings::locate(&problems, path, &text, &overrides) {
        return Err(ConfigError::Invalid(findings));
    }
    root.resolve(path.parent().unwrap_or(Path::new("")));
    Ok(root)
}

/// The defaults with the variables of `env` on top, validated, for a program that needs no file.
pub fn without_file<T: Root>(
    env: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let (root, overrides): (T, _) = environment::apply(T::default(), toml::Table::new(), env)?;
    let mut problems = Vec::new();
    root.validate(Section::top(&mut problems));
    match Findings::locate(&problems, Path::new("the configuration"), "", &overrides) {
        Some(findings) => Err(ConfigError::Invalid(findings)),
        None => Ok(root),
    }
}

/// Every option with its default and what it does, as a TOML file.
pub fn print_defaults<T: Root>() -> String {
    format!("{}{}", T::INTRODUCTION, options::print::<T>())
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
    if file.read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    Ok(text)
}

// Limit: a configuration is a few kilobytes; what is larger is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;
