//! The operational log: JSON to standard error, one object a line.
//!
//! Promises that the level can be changed while running, and that what libraries log through `log` or `tracing`
//! is in the same log, each quieter than ourselves. Never logs a request's content; requests are in the access log.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, Subscriber};
use tracing_log::log::SetLoggerError;
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::LogLevel;

/// Changes the level of the operational log while running. Cloning copies a pointer.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<Targets, Registry>);

/// The operational log could not be set up: it already was.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
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

/// Libraries that say at `info` what we would say at `debug`.
const NOISY: [&str; 10] = [
    "pingora",
    "pingora_core",
    "pingora_load_balancing",
    "pingora_pool",
    "pingora_runtime",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tokio",
];

/// Sets the operational log up for the process. Once, at start, before anything else is made.
pub fn start(level: LogLevel) -> Result<LevelHandle, TelemetryError> {
    let (subscriber, handle) = subscriber(level, io::stderr);
    tracing::subscriber::set_global_default(subscriber)?;
    LogTracer::builder()
        .with_max_level(filter(level).as_log())
        .init()?;
    Ok(handle)
}

impl LevelHandle {
    /// Changes the level, from the next event on.
    pub fn set_level(&self, level: LogLevel) -> Result<(), SetLevelError> {
        self.0.reload(targets(level))?;
        tracing_log::log::set_max_level(filter(level).as_log());
        Ok(())
    }
}

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

fn subscriber<W>(level: LogLevel, writer: W) -> (impl Subscriber + Send + Sync, LevelHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (targets, handle) = reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer);
    (
        tracing_subscriber::registry().with(lines.with_filter(targets)),
        LevelHandle(handle),
    )
}

/// Libraries are two steps quieter, but never so quiet that a warning is lost while we still say what changed.
fn targets(level: LogLevel) -> Targets {
    let libraries = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug => LevelFilter::WARN,
        LogLevel::Trace => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(filter(level))
        .with_targets(NOISY.map(|target| (target, libraries)))
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
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

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
    }

    #[test]
    fn a_line_is_json_and_the_level_can_be_changed() {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, handle) = subscriber(LogLevel::Info, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                generation = 4,
                "credentials were taken into use\nand \"more\""
            );
            tracing::debug!("not said");
            handle.set_level(LogLevel::Debug).unwrap();
            tracing::debug!("said");
            tracing::info!(target: "pingora_core::server", "not said");
            tracing::warn!(target: "pingora_core::server", "said too");
            handle.set_level(LogLevel::Off).unwrap();
            tracing::error!("not said");
        });
        let lines = page.lines();
        let messages: Vec<_> = lines
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect();
        assert_eq!(
            messages,
            [
                "credentials were taken into use\nand \"more\"",
                "said",
                "said too"
            ]
        );
        assert_eq!(lines[0]["generation"], 4);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn what_libraries_log_is_in_the_same_log() {
        use tracing_log::log::{Level, Log as _, Record};
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, _handle) = subscriber(LogLevel::Info, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let bridge = LogTracer::new();
            for (target, level, text) in [
                ("moka", Level::Info, "said"),
                ("pingora_core", Level::Info, "not said"),
                ("pingora_core", Level::Error, "said too"),
            ] {
                let args = format_args!("{text}");
                bridge.log(
                    &Record::builder()
                        .target(target)
                        .level(level)
                        .args(args)
                        .build(),
                );
            }
        });
        let lines = page.lines();
        let messages: Vec<_> = lines
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect();
        assert_eq!(messages, ["said", "said too"]);
        assert_eq!(lines[1]["target"], "pingora_core");
    }
}
