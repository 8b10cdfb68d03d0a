//! What the data plane and the control plane have in common and is neither's subject: how they are configured,
//! how they log, and what they know of themselves.
//!
//! ```text
//!   options! { … }  ──▶  the type · its defaults · `PROGRAM defaults` · the names of environment variables
//!
//!   FILE.toml ──▶ toml_error ──┐
//!   PREFIX_A__B=… ─▶ environment ──▶ load::<Root>() ──▶ the configuration, whole and sensible
//!                     problems ──┘         └──────────▶ ConfigError: FILE:LINE:COLUMN, KEY or VARIABLE, and what
//! ```
//!
//! In reading order: [`options!`] declares sections, of [`Setting`]s such as a [`period`]; [`Root`] is the whole of
//! them, which [`load()`] reads by `environment`, [`toml_error`] and [`Section`]; [`log`] is the operational log, [`process`] what metrics say of
//! the process.
//!
//! This crate opens no socket and knows no program: each tells it its name, its prefix and its options.

mod environment;
mod load;
pub mod log;
mod options;
pub mod period;
mod problems;
pub mod process;
#[cfg(test)]
mod tests;
pub mod toml_error;

pub use load::{Root, load, print_defaults, without_file};
pub use options::{Defaults, Entry, Setting, Shape};
pub use problems::{ConfigError, Findings, Section};

/// An error and its causes, in one line: `what: because: because`.
pub fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
