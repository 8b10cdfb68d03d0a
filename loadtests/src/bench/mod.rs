//! `postern-load bench`: a load generator that begins each connection as a Private Link Service does, which
//! k6 and wrk cannot.
//!
//! `options` what was asked for · `plan` the same, proven and ready to run · `connect` TCP, PROXY header,
//! TLS, HTTP · `tickets` who may send when · `drive` the workers · `tally` what is counted ·
//! `report` what it came to.
//!
//! One thread does everything, so that it can be pinned to a core and nothing in it waits for a lock; only the
//! clock of a rate has its own. Bodies of answers are counted and thrown away.
//!
//! Invariant: with a rate, latency counts from when a request was due, not from when there was a free
//! connection for it; a slow server cannot hide its slowness by slowing us down (coordinated omission).

mod connect;
mod drive;
pub mod options;
mod plan;
mod progress;
pub mod report;
mod tally;
mod tickets;

use std::path::Path;
use std::process::ExitCode;

pub use options::{BenchOptions, BenchProtocol, Handshake};
pub use plan::PlanError;
pub use report::Report;

use crate::check::with_causes;
use crate::{interrupted, say};
use plan::Plan;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The options do not make sense, or a file they name does not.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The runtime could not be started.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
    /// The report could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Where to.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Runs a benchmark on the calling thread. The exit code is 0 if every request was answered well, 1 if not, 2
/// if the options are wrong.
pub fn run(options: &BenchOptions) -> ExitCode {
    match measure(options) {
        Ok(report) if report.failed() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench: {}", with_causes(&error)));
            match error {
                BenchError::Plan(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs a benchmark on the calling thread, and says and writes what it came to.
pub fn measure(options: &BenchOptions) -> Result<Report, BenchError> {
    let plan = Plan::new(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Start)?;
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&runtime, async {
        if plan.idle > 0 {
            let held = drive::hold(plan).await;
            tell(&held.report, options)?;
            if let Some(seconds) = options.seconds {
                let _ = tokio::time::timeout(seconds.into(), interrupted()).await;
            } else {
                interrupted().await;
            }
            Ok(held.report)
        } else {
            let report = drive::run(plan).await.map_err(BenchError::Start)?;
            tell(&report, options)?;
            Ok(report)
        }
    });
    // What was held, or hangs, needs no ceremony.
    runtime.shutdown_background();
    outcome
}

fn tell(report: &Report, options: &BenchOptions) -> Result<(), BenchError> {
    let Some(path) = &options.json else {
        say(&report.text());
        return Ok(());
    };
    let json = report.json();
    if path == Path::new("-") {
        say(&json);
        return Ok(());
    }
    say(&report.text());
    // By one rename: whoever waits for the file finds it whole.
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{json}\n"))
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|source| BenchError::Write {
            path: path.display().to_string(),
            source,
        })
}
