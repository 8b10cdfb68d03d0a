//! The operational log, and what is counted in it.
//!
//! Never logs a request's content; requests are in the access log.
//!
//! pingora tells of a connection that could not be accepted in its log and nowhere else, so it is counted here,
//! whatever the level.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postern_chassis::log::{self, LevelHandle, LogError, LogLevel};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Subscriber;
use tracing::{Event, Level};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt as _;

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
pub fn start(level: LogLevel) -> Result<Telemetry, LogError> {
    let (subscriber, telemetry) = subscriber(level, io::stderr);
    log::install(subscriber, level)?;
    Ok(telemetry)
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

/// The subscriber and what goes with it, not set up for anybody yet.
pub(crate) fn subscriber<W>(
    level: LogLevel,
    writer: W,
) -> (impl Subscriber + Send + Sync, Telemetry)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (lines, level) = log::lines(level, &NOISY, writer);
    let accept_errors = AcceptErrors::default();
    let counted = Targets::new().with_target(ACCEPTS, LevelFilter::ERROR);
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(accept_errors.clone().with_filter(counted));
    (
        subscriber,
        Telemetry {
            level,
            accept_errors,
        },
    )
}

/// Where pingora's accept loop logs, and how what it says begins. An end-to-end test tells when either changes.
const ACCEPTS: &str = "pingora_core::services::listening";
const ACCEPT_FAILED: &str = "Accept() failed";

#[cfg(test)]
mod tests {
    use tracing_log::LogTracer;
    use tracing_log::log::{Level, Log as _, Record};

    use super::*;

    fn log(target: &str, level: Level, text: &str) {
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
        let (subscriber, telemetry) = subscriber(LogLevel::Info, io::sink);
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
    }
}
