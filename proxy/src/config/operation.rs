//! What operators meet: credentials' rotation, logs, drain, upgrade.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_chassis::log::LogLevel;
use postern_chassis::{Section, Setting, options, period};
use serde::{Deserialize, Serialize};

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
        /// "off", "error", "warn", "info", "debug" or "trace". PUT /log-level changes it while running, until it is
        /// changed here or there again.
        pub level: LogLevel = LogLevel::Info;
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
        /// Time an HTTP/1.1 connection then may be without a request, since its client may be about to send one. The
        /// answer to that tells it to close.
        #[serde(with = "period")]
        pub idle_grace: Duration = Duration::from_secs(30);
    }
}

options! {
    /// How a new process takes over (SIGUSR2).
    pub struct UpgradeOptions {
        /// Time until the new process must be ready. If it is not, it is ended, and this one goes on.
        #[serde(with = "period")]
        pub timeout: Duration = Duration::from_mins(1);
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

impl UpgradeOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("timeout", self.timeout);
    }
}
