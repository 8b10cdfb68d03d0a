//! Drain: not ready → wait for the probes to notice → stop accepting, ask connections to end → deadline.
//!
//! A signal drains and then ends the process; `POST /drain` drains and leaves it running, so that whoever asked
//! can see that it is done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::DrainOptions;
use crate::connection::accept::Seats;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No drain.
    Serving,
    /// Not ready any more; connections are still accepted until the probes have noticed.
    Noticing,
    /// Not accepting; connections are asked to end.
    Ending,
    /// No connection is left, or the deadline has passed.
    Drained,
}

impl Phase {
    /// The word in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Noticing => "noticing",
            Self::Ending => "ending",
            Self::Drained => "drained",
        }
    }
}

/// The drain of this process. Begins once.
pub struct Drain {
    options: Mutex<DrainOptions>,
    readiness: Arc<Readiness>,
    seats: Arc<Seats>,
    metrics: Arc<Metrics>,
    phase: watch::Sender<Phase>,
    ending: watch::Sender<bool>,
    cutting: watch::Sender<bool>,
    never: watch::Sender<bool>,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new(
        options: DrainOptions,
        readiness: Arc<Readiness>,
        seats: Arc<Seats>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            options: Mutex::new(options),
            readiness,
            seats,
            metrics,
            phase: watch::Sender::new(Phase::Serving),
            ending: watch::Sender::new(false),
            cutting: watch::Sender::new(false),
            never: watch::Sender::new(false),
        }
    }

    /// It will keep to these, unless it has begun.
    pub fn set_options(&self, options: DrainOptions) {
        *self.options.lock() = options;
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Turns true when connections are to end.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Turns true when connections that have not ended are cut.
    pub fn cutting(&self) -> watch::Receiver<bool> {
        self.cutting.subscribe()
    }

    /// Never turns true: for what goes on until the process ends.
    pub fn never(&self) -> watch::Receiver<bool> {
        self.never.subscribe()
    }

    /// Begins, unless it has begun. Must be called inside a runtime that outlives the drain.
    pub fn begin(self: &Arc<Self>) {
        let first = self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Serving;
            *phase = if first { Phase::Noticing } else { *phase };
            first
        });
        if first {
            let drain = Arc::clone(self);
            tokio::spawn(async move { drain.run().await });
        }
    }

    /// Resolves when it is over.
    pub async fn done(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|phase| *phase == Phase::Drained).await;
    }

    async fn run(&self) {
        self.readiness.drain();
        self.metrics.draining();
        self.metrics.ready(false);
        let options = self.options.lock().clone();
        let seats = &self.seats;
        tracing::info!(
            notice_seconds = options.notice.as_secs_f64(),
            connections = seats.taken(),
            "drain: not ready; waiting for the probes to notice"
        );
        sleep(options.notice).await;
        self.phase.send_replace(Phase::Ending);
        self.ending.send_replace(true);
        tracing::info!(
            timeout_seconds = options.timeout.as_secs_f64(),
            connections = seats.taken(),
            "drain: not accepting; connections are asked to end"
        );
        let deadline = Instant::now() + options.timeout;
        let empty = async {
            let mut told = Instant::now();
            while seats.taken() > 0 {
                sleep(LOOK_INTERVAL).await;
                if told.elapsed() >= TELL_INTERVAL {
                    told = Instant::now();
                    tracing::info!(connections = seats.taken(), "drain: waiting");
                }
            }
        };
        let _ = timeout_at(deadline, empty).await;
        let left = seats.taken();
        if left == 0 {
            tracing::info!("drain: done");
        } else {
            tracing::warn!(
                connections = left,
                "drain: deadline; these connections are cut"
            );
            self.cut().await;
        }
        self.phase.send_replace(Phase::Drained);
    }
}

impl Drain {
    /// Cuts whatever is open, so that each request in flight gets its line in the access log.
    async fn cut(&self) {
        self.cutting.send_replace(true);
        let deadline = Instant::now() + CUT_TIMEOUT;
        while self.seats.taken() > 0 && Instant::now() < deadline {
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// SIGTERM and SIGQUIT drain and end; SIGINT ends at once, even a drain.
pub struct Signals {
    drain: Arc<Drain>,
}

impl Signals {
    /// Signals that drain by `drain`.
    pub fn new(drain: Arc<Drain>) -> Self {
        Self { drain }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut quit), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::quit()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::error!("signals cannot be watched; this process ends only by SIGKILL");
            return std::future::pending().await;
        };
        tokio::select! {
            () = first_of(&mut terminate, &mut quit) => {}
            _ = interrupt.recv() => return self.fast().await,
        }
        self.drain.begin();
        tokio::select! {
            () = self.drain.done() => {}
            _ = interrupt.recv() => return self.fast().await,
        }
        ShutdownSignal::FastShutdown
    }
}

impl Signals {
    async fn fast(&self) -> ShutdownSignal {
        tracing::warn!("SIGINT: stopping at once");
        self.drain.cut().await;
        ShutdownSignal::FastShutdown
    }
}

async fn first_of(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const TELL_INTERVAL: Duration = Duration::from_secs(5);
// Limit: a cut connection is gone as soon as its thread comes round to it.
const CUT_TIMEOUT: Duration = Duration::from_millis(500);
