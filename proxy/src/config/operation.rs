//! What operators meet: credentials' rotation, logs, drain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::{Setting, options};
use super::period;
use super::problems::Section;

options! {
    /// How rotated credentials are noticed.
    pub struct CredentialOptions {
        /// Time between looks for a new generation.
        #[serde(with = "period")]
        pub check_interval: Duration = Duration::from_secs(1);
    }
}

options! {
    /// The access log.
    pub struct AccessLogOptions {
        /// "stdout", "off", or a file to append to. A file that was renamed away is opened anew.
        pub output: AccessLogOutput = AccessLogOutput::Stdout;
        /// Lines that may wait for the disk; more are dropped and counted.
        pub queue_max: usize = 65_536;
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AccessLogOutput {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to this file.
    File(PathBuf),
}

impl Setting for AccessLogOutput {}

impl From<String> for AccessLogOutput {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stdout" => Self::Stdout,
            "off" => Self::Off,
            _ => Self::File(text.into()),
        }
    }
}

impl From<AccessLogOutput> for String {
    fn from(output: AccessLogOutput) -> Self {
        match output {
            AccessLogOutput::Stdout => "stdout".into(),
            AccessLogOutput::Off => "off".into(),
            AccessLogOutput::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

options! {
    /// The operational log: JSON to standard error.
    pub struct LogOptions {
        /// "off", "error", "warn", "info", "debug" or "trace". PUT /log-level changes it while running.
        pub level: LogLevel = LogLevel::Info;
    }
}

/// How much the operational log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What needs a person.
    Error,
    /// What may need one soon.
    Warn,
    /// What changed.
    Info,
    /// What was decided, connection by connection.
    Debug,
    /// Everything.
    Trace,
}

impl Setting for LogLevel {}

impl LogLevel {
    /// Every level, quietest first.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The word in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The text names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log level is one of off, error, warn, info, debug, trace")]
pub struct InvalidLogLevel;

impl std::str::FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.label() == text)
            .ok_or(InvalidLogLevel)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

options! {
    /// How the process goes away.
    pub struct DrainOptions {
        /// Time between "not ready" and asking connections to end, so that probes notice. "0s" turns this off.
        #[serde(with = "period")]
        pub notice: Duration = Duration::from_secs(10);
        /// Time connections then get to end before they are cut.
        #[serde(with = "period")]
        pub timeout: Duration = Duration::from_mins(5);
    }
}

// Limit: a waiting line is about 500 bytes and at most about 3 KiB, so a million are 3 GiB at worst.
const QUEUE: std::ops::RangeInclusive<usize> = 1..=1_048_576;

impl CredentialOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("check_interval", self.check_interval);
    }
}

impl AccessLogOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let AccessLogOutput::File(path) = &mut self.output
            && !path.as_os_str().is_empty()
        {
            *path = folder.join(&path);
        }
    }

    pub(super) fn validate(&self, mut at: Section<'_>) {
        let empty =
            matches!(&self.output, AccessLogOutput::File(path) if path.as_os_str().is_empty());
        at.require("output", !empty, || {
            "must be \"stdout\", \"off\" or a file path".into()
        });
        at.within("queue_max", self.queue_max, QUEUE);
    }
}

impl DrainOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("timeout", self.timeout);
    }
}
