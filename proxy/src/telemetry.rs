//! The operational log: JSON to standard error, one object a line.
//!
//! Promises that the level can be changed while running, and that what libraries log through `log` or `tracing`
//! is in the same log, each quieter than ourselves. Never logs a request's content; requests are in the access log.
//!
//! pingora tells of a connection that could not be accepted in its log and nowhere else, so it is counted here,
//! whatever the level.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, Subscriber};
use tracing::{Event, Level};
use tracing_log::log::SetLoggerError;
use tracing_log::{AsLog as _, LogTracer, NormalizeEvent as _};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::LogLevel;

/// The operational log that is set up. Cloning copies pointers.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Changes the level.
    pub level: LevelHandle,
    /// Counts connections that could not be accepted.
    pub accept_errors: AcceptErrors,
}

/// Counts what pingora's log says of connections that could not be accepted, such as for want of file descriptors.
#[derive(Debug, Clone, Default)]
pub struct AcceptErrors(Arc<AtomicU64>);

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
pub fn start(level: LogLevel) -> Result<Telemetry, TelemetryError> {
    let (subscriber, telemetry) = subscriber(level, io::stderr);
    tracing::subscriber::set_global_default(subscriber)?;
    LogTracer::builder()
        .with_max_level(heard(level).as_log())
        .init()?;
    Ok(telemetry)
}

impl LevelHandle {
    /// Changes the level, from the next event on.
    pub fn set_level(&self, level: LogLevel) -> Result<(), SetLevelError> {
        self.0.reload(targets(level))?;
        tracing_log::log::set_max_level(heard(level).as_log());
        Ok(())
    }

    /// The level now.
    pub fn level(&self) -> Result<LogLevel, SetLevelError> {
        let now = self.0.with_current(Targets::default_level)?;
        let named = |level: &LogLevel| Some(filter(*level)) == now;
        Ok(LogLevel::ALL
            .into_iter()
            .find(named)
            .unwrap_or(LogLevel::Off))
    }
}

impl AcceptErrors {
    /// How many there were.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for AcceptErrors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let bridged = event.normalized_metadata();
        let metadata = bridged.as_ref().unwrap_or_else(|| event.metadata());
        if metadata.target() != ACCEPTS || *metadata.level() != Level::ERROR {
            return;
        }
        let mut failed = SaysFailed(false);
        event.record(&mut failed);
        self.0.fetch_add(u64::from(failed.0), Ordering::Relaxed);
    }
}

/// Whether an event's message says that a connection could not be accepted.
struct SaysFailed(bool);

impl Visit for SaysFailed {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}").starts_with(ACCEPT_FAILED);
    }
}

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

/// The subscriber and what goes with it, not set up for anybody yet.
pub(crate) fn subscriber<W>(
    level: LogLevel,
    writer: W,
) -> (impl Subscriber + Send + Sync, Telemetry)
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
    let accept_errors = AcceptErrors::default();
    let counted = Targets::new().with_target(ACCEPTS, LevelFilter::ERROR);
    let subscriber = tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .with(accept_errors.clone().with_filter(counted));
    let level = LevelHandle(handle);
    (
        subscriber,
        Telemetry {
            level,
            accept_errors,
        },
    )
}

/// What `log` has to hand over at this level: errors always, since some of them are counted.
fn heard(level: LogLevel) -> LevelFilter {
    filter(level).max(LevelFilter::ERROR)
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

/// Where pingora's accept loop logs, and how what it says begins. An end-to-end test tells when either changes.
const ACCEPTS: &str = "pingora_core::services::listening";
const ACCEPT_FAILED: &str = "Accept() failed";

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
        let (subscriber, telemetry) = subscriber(LogLevel::Info, move || writer.clone());
        let handle = telemetry.level;
        tracing::subscriber::with_default(subscriber, || {
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

    fn log(target: &str, level: tracing_log::log::Level, text: &str) {
        use tracing_log::log::{Log as _, Record};
        let args = format_args!("{text}");
        let record = Record::builder()
            .target(target)
            .level(level)
            .args(args)
            .build();
        LogTracer::new().log(&record);
    }

    #[test]
    fn a_failed_accept_is_counted_whatever_the_level() {
        use tracing_log::log::Level;
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, telemetry) = subscriber(LogLevel::Info, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let failed = "Accept() failed Fail to accept() cause: Too many open files";
            log(ACCEPTS, Level::Error, failed);
            log(ACCEPTS, Level::Error, "Downstream handshake timeout");
            log("elsewhere", Level::Error, failed);
            telemetry.level.set_level(LogLevel::Off).unwrap();
            assert!(tracing_log::log::max_level() >= Level::Error);
            log(ACCEPTS, Level::Error, failed);
        });
        assert_eq!(telemetry.accept_errors.total(), 2);
        assert_eq!(page.lines().len(), 3);
    }

    #[test]
    fn what_libraries_log_is_in_the_same_log() {
        use tracing_log::log::Level;
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, _telemetry) = subscriber(LogLevel::Info, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            for (target, level, text) in [
                ("moka", Level::Info, "said"),
                ("pingora_core", Level::Info, "not said"),
                ("pingora_core", Level::Error, "said too"),
            ] {
                log(target, level, text);
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
