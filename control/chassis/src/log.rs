//! The operational log: JSON to standard error, one object a line.
//!
//! Promises that the level can be changed while running, and that what libraries log through `log` or `tracing`
//! is in the same log, each quieter than ourselves.

use std::fmt;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, Subscriber};
use tracing_log::log::SetLoggerError;
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::options::Setting;

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
    /// What was decided, connection by connection or round by round.
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

/// Changes the level of the operational log while running. Cloning copies a pointer.
#[derive(Clone)]
pub struct LevelHandle {
    filter: reload::Handle<Targets, Registry>,
    noisy: &'static [&'static str],
}

/// The operational log could not be set up: it already was.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is a global subscriber.
    #[error("the operational log is already set up")]
    Tracing(#[from] SetGlobalDefaultError),
    /// There is a global logger.
    #[error("the bridge for libraries' logs is already set up")]
    Log(#[from] SetLoggerError),
}

/// The level could not be changed: the log is gone.
#[derive(Debug, thiserror::Error)]
#[error("the operational log's level cannot be changed")]
pub struct SetLevelError(#[from] reload::Error);

/// The lines of the log, as the first layer over a [`Registry`], and what changes their level. `noisy` are the
/// libraries that say at `info` what we would say at `debug`: they are two steps quieter.
pub fn lines<W>(
    level: LogLevel,
    noisy: &'static [&'static str],
    writer: W,
) -> (impl Layer<Registry> + Send + Sync, LevelHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(level, noisy));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .with_filter(filter);
    let handle = LevelHandle {
        filter: handle,
        noisy,
    };
    (lines, handle)
}

/// The log as a whole, for a program that adds no layer of its own. Not set up for anybody yet: see [`install`].
pub fn subscriber<W>(
    level: LogLevel,
    noisy: &'static [&'static str],
    writer: W,
) -> (impl Subscriber + Send + Sync, LevelHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (lines, handle) = lines(level, noisy, writer);
    (tracing_subscriber::registry().with(lines), handle)
}

/// Sets the log up for the process: `subscriber` hears everything, also what libraries say through `log`. Once, at
/// start, before anything else is made.
pub fn install(subscriber: impl Subscriber + Send + Sync, level: LogLevel) -> Result<(), LogError> {
    tracing::subscriber::set_global_default(subscriber)?;
    LogTracer::builder()
        .with_max_level(heard(level).as_log())
        .init()?;
    Ok(())
}

impl LevelHandle {
    /// Changes the level, from the next event on.
    pub fn set_level(&self, level: LogLevel) -> Result<(), SetLevelError> {
        self.filter.reload(targets(level, self.noisy))?;
        tracing_log::log::set_max_level(heard(level).as_log());
        Ok(())
    }

    /// The level now.
    pub fn level(&self) -> Result<LogLevel, SetLevelError> {
        let now = self.filter.with_current(Targets::default_level)?;
        let named = |level: &LogLevel| Some(filter(*level)) == now;
        Ok(LogLevel::ALL
            .into_iter()
            .find(named)
            .unwrap_or(LogLevel::Off))
    }
}

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

/// What `log` has to hand over at this level: errors always, since a layer may count some of them.
fn heard(level: LogLevel) -> LevelFilter {
    filter(level).max(LevelFilter::ERROR)
}

/// Libraries are two steps quieter, but never so quiet that a warning is lost while we still say what changed.
fn targets(level: LogLevel, noisy: &'static [&'static str]) -> Targets {
    let libraries = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug => LevelFilter::WARN,
        LogLevel::Trace => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(filter(level))
        .with_targets(noisy.iter().map(|target| (*target, libraries)))
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use serde_json::Value;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn lines(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }

        fn messages(&self) -> Vec<String> {
            let lines = self.lines().into_iter();
            lines
                .map(|line| line["message"].as_str().unwrap().to_owned())
                .collect()
        }
    }

    /// Runs `said` with a log that is written to a page.
    fn logged(said: impl FnOnce(LevelHandle)) -> Page {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, handle) =
            subscriber(LogLevel::Info, &["pingora_core"], move || writer.clone());
        tracing::subscriber::with_default(subscriber, || said(handle));
        page
    }

    #[test]
    fn a_line_is_json_and_the_level_can_be_changed() {
        let page = logged(|handle| {
            tracing::info!(
                generation = 4,
                "credentials were taken into use\nand \"more\""
            );
            tracing::debug!("not said");
            assert_eq!(handle.level().unwrap(), LogLevel::Info);
            handle.set_level(LogLevel::Debug).unwrap();
            assert_eq!(handle.level().unwrap(), LogLevel::Debug);
            tracing::debug!("said");
            tracing::info!(target: "pingora_core::server", "not said");
            tracing::warn!(target: "pingora_core::server", "said too");
            handle.set_level(LogLevel::Off).unwrap();
            tracing::error!("not said");
        });
        assert_eq!(
            page.messages(),
            [
                "credentials were taken into use\nand \"more\"",
                "said",
                "said too"
            ]
        );
        let lines = page.lines();
        assert_eq!(lines[0]["generation"], 4);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn what_libraries_log_is_in_the_same_log() {
        use tracing_log::log::{Level, Log as _, Record};
        let page = logged(|_| {
            for (target, level, text) in [
                ("hyper", Level::Info, "said"),
                ("pingora_core", Level::Info, "not said"),
                ("pingora_core", Level::Error, "said too"),
            ] {
                LogTracer::new().log(
                    &Record::builder()
                        .target(target)
                        .level(level)
                        .args(format_args!("{text}"))
                        .build(),
                );
            }
        });
        assert_eq!(page.messages(), ["said", "said too"]);
        assert_eq!(page.lines()[1]["target"], "pingora_core");
    }
}
