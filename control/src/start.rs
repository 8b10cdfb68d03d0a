//! What every command of this program begins with: the configuration, the log, the threads, the signals.

use std::io;
use std::path::Path;

use postern_chassis::{Root, log, whole};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why the process ends with a failure.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 1.
    Running(String),
    /// Exit code 2.
    Configuration(String),
}

impl Failure {
    /// A failure with its causes, which the configuration is to blame for or not.
    pub fn of(error: &dyn std::error::Error, is_configuration: bool) -> Self {
        let text = whole(error);
        if is_configuration {
            Self::Configuration(text)
        } else {
            Self::Running(text)
        }
    }

    /// A failure while running, with its causes.
    pub fn running(error: &dyn std::error::Error) -> Self {
        Self::of(error, false)
    }
}

/// The threads that a program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One: there is little to do, and a sidecar should be small.
    One,
    /// One a core.
    OneACore,
}

/// Reads the configuration and what the environment says of it.
pub fn load<T: Root>(path: &Path) -> Result<T, Failure> {
    let loaded = postern_chassis::load(path, environment());
    loaded.map_err(|error| Failure::Configuration(whole(&error)))
}

/// The environment's variables. What is not UTF-8 is kept, so that it is an error where it is one of ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

/// Sets the operational log up, to standard error.
pub fn log(level: log::LogLevel) -> Result<(), Failure> {
    let (subscriber, _) = log::subscriber(level, &NOISY, io::stderr);
    log::install(subscriber, level).map_err(|error| Failure::running(&error))
}

/// What everything runs on.
pub fn runtime(threads: Threads) -> Result<Runtime, Failure> {
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::OneACore => Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| Failure::running(&error))
}

/// Turns true at the first SIGTERM or SIGINT.
pub fn stopped() -> Result<watch::Receiver<bool>, Failure> {
    let heard = |kind| signal(kind).map_err(|error| Failure::running(&error));
    let mut terminate = heard(SignalKind::terminate())?;
    let mut interrupt = heard(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // Kept, since a sender that is gone stops as well.
        stop.closed().await;
    });
    Ok(stopped)
}

/// Libraries that say at `info` what we would say at `debug`.
const NOISY: [&str; 9] = [
    "azure_core",
    "azure_identity",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "tokio",
    "typespec_client_core",
];
