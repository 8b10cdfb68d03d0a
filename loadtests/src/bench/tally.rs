//! What is counted while a run goes on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::StatusCode;

/// Why a request was not answered well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// TCP, or the PROXY header.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// The TLS handshake.
    Tls,
    /// The server chose another HTTP.
    Alpn,
    /// HTTP did not start.
    Http,
    /// No head of an answer.
    Send,
    /// The answer broke off.
    Body,
    /// A status of 400 or above.
    Status(StatusCode),
    /// Still in flight, or not even sent, when the run was over.
    Unanswered,
}

impl Failure {
    fn label(self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::ConnectTimeout => "connect_timeout".to_owned(),
            Self::Tls => "tls".to_owned(),
            Self::Alpn => "alpn".to_owned(),
            Self::Http => "http".to_owned(),
            Self::Send => "send".to_owned(),
            Self::Body => "body".to_owned(),
            Self::Status(status) => format!("status_{}", status.as_u16()),
            Self::Unanswered => "unanswered".to_owned(),
        }
    }
}

/// The counters of one run, on one thread.
#[derive(Debug)]
pub(super) struct Tally {
    latency: RefCell<Histogram<u64>>,
    answers: Cell<u64>,
    received: Cell<u64>,
    sent: Cell<u64>,
    connections: Cell<u64>,
    resumed: Cell<u64>,
    failures: RefCell<BTreeMap<Failure, u64>>,
    last: Cell<Option<Instant>>,
}

impl Tally {
    pub(super) fn new() -> Self {
        // Bounds and precision are constants that the crate takes; the other way it costs more memory.
        let latency = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)
            .or_else(|_| Histogram::new(3))
            .map_or_else(|_| unreachable!("3 digits are allowed"), RefCell::new);
        Self {
            latency,
            answers: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
            connections: Cell::new(0),
            resumed: Cell::new(0),
            failures: RefCell::default(),
            last: Cell::new(None),
        }
    }

    /// A connection is open.
    pub(super) fn connected(&self, resumed: bool) {
        add(&self.connections, 1);
        add(&self.resumed, u64::from(resumed));
    }

    /// A whole answer came to a request that was due at `intended`.
    pub(super) fn answered(&self, intended: Instant, sent: u64, received: u64) {
        let now = Instant::now();
        let nanos = now.saturating_duration_since(intended).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.latency.borrow_mut().saturating_record(nanos.max(1));
        add(&self.answers, 1);
        add(&self.sent, sent);
        add(&self.received, received);
        self.last.set(Some(now));
    }

    /// A request was not answered well.
    pub(super) fn failed(&self, failure: Failure) {
        self.failed_times(failure, 1);
    }

    /// As many were not.
    pub(super) fn failed_times(&self, failure: Failure, times: u64) {
        if times > 0 {
            *self.failures.borrow_mut().entry(failure).or_default() += times;
        }
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.borrow().values().sum()
    }

    pub(super) fn failures_by_kind(&self) -> BTreeMap<String, u64> {
        let failures = self.failures.borrow();
        failures
            .iter()
            .map(|(failure, count)| (failure.label(), *count))
            .collect()
    }

    pub(super) fn received(&self) -> u64 {
        self.received.get()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.get()
    }

    pub(super) fn resumed(&self) -> u64 {
        self.resumed.get()
    }

    /// From `start` to the last answer.
    pub(super) fn elapsed(&self, start: Instant) -> Duration {
        let end = self.last.get().unwrap_or_else(Instant::now);
        end.saturating_duration_since(start)
    }

    /// A look at the latencies.
    pub(super) fn latency<T>(&self, look: impl FnOnce(&Histogram<u64>) -> T) -> T {
        look(&self.latency.borrow())
    }
}

fn add(cell: &Cell<u64>, value: u64) {
    cell.set(cell.get() + value);
}

// Limit: longer ones are counted as ten minutes.
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;
