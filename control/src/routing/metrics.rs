//! Metrics of the account-routing service: one table of name, type, labels and help; and their values.
//!
//! Promises that a metric which is not in the table does not exist. `postern-control metrics routing` prints it, and
//! deploy/METRICS-routing.md is that print. Label values are closed sets, or words of the program.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use postern_api::routing::{Answer, Head};
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::api::Operation;
use super::options::Role;
use super::store::StoreError;
use crate::metrics::{Maker, MetricsError, Registered, page, table, words};

table! {
    gauge     postern_routing_build_info[version]                      "Always 1; the label says which version runs."
    gauge     postern_routing_ready                                    "1 while the store answers and our certificate and the clients' CAs are valid."
    counter   postern_routing_requests_total[operation, status]        "Requests, by what was asked and the status of the answer."
    histogram postern_routing_request_seconds[operation]               "Time until the answer began."
    counter   postern_routing_lookups_total[answer]                    "Lookups that were answered, by the answer."
    counter   postern_routing_authorizations_total[answer]             "Requests that were judged for an ingress, by the answer or why not."
    counter   postern_routing_changes_total[what]                      "Changes that were read from the log since the start, by what happened."
    gauge     postern_routing_head_sequence                            "The newest change in the log."
    gauge     postern_routing_oldest_sequence                          "The oldest change that is kept."
    gauge     postern_routing_subscribers                              "Open streams of changes."
    counter   postern_routing_subscribers_cut_total                    "Streams of changes whose connection was cut, as nobody read them."
    counter   postern_routing_store_errors_total[reason]               "Times that the store did not do what it should."
    gauge     postern_routing_connections                              "Open connections, after the handshake."
    counter   postern_routing_connections_ended_total[reason]          "Connections that have ended, by how."
    counter   postern_routing_refusals_total[role]                     "Requests that were refused, as their client has not the role."
    counter   postern_routing_credential_refusals_total[key]           "Times that new certificates were refused. What was in use stays."
    gauge     postern_routing_credential_not_after_seconds[key]        "When what is in use ends, in seconds since 1970."
    gauge     process_resident_memory_bytes                            "Resident memory."
    counter   process_cpu_seconds_total                                "User and system CPU time."
    gauge     process_open_fds                                         "Open file descriptors."
    gauge     process_start_time_seconds                               "When the process started, in seconds since 1970."
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// There was no certificate to show yet.
    NoCredentials,
    /// The handshake failed: such as no certificate, or one that is not trusted.
    Handshake,
    /// The handshake took too long.
    HandshakeLate,
    /// By the client, or in good order with it.
    Closed,
    /// In good order, as it or its client's certificate had its age.
    Aged,
    /// In good order, as the process stopped.
    Drained,
    /// It did not end in time when it should.
    Cut,
    /// A stream was not read.
    Stalled,
}

impl ConnectionEnd {
    const ALL: [Self; 8] = [
        Self::NoCredentials,
        Self::Handshake,
        Self::HandshakeLate,
        Self::Closed,
        Self::Aged,
        Self::Drained,
        Self::Cut,
        Self::Stalled,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Handshake => "handshake_failed",
            Self::HandshakeLate => "handshake_late",
            Self::Closed => "closed",
            Self::Aged => "aged",
            Self::Drained => "drained",
            Self::Cut => "cut",
            Self::Stalled => "stalled",
        }
    }
}

/// The values.
pub struct Metrics {
    ready: IntGaugeVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    lookups: IntCounterVec,
    authorizations: IntCounterVec,
    changes: IntCounterVec,
    head: IntGaugeVec,
    oldest: IntGaugeVec,
    subscribers: IntGaugeVec,
    subscribers_cut: IntCounterVec,
    store_errors: IntCounterVec,
    connections: IntGaugeVec,
    connections_ended: IntCounterVec,
    refusals: IntCounterVec,
    credential_refusals: IntCounterVec,
    credential_not_after: IntGaugeVec,
    registered: Registered,
}

impl Metrics {
    /// All of them, at 0.
    pub(super) fn new() -> Result<Self, MetricsError> {
        let maker = Maker::new(TABLE);
        let build = maker.gauge("postern_routing_build_info")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            ready: maker.gauge("postern_routing_ready")?,
            requests: maker.counter("postern_routing_requests_total")?,
            request_seconds: maker.histogram("postern_routing_request_seconds", &BOUNDS)?,
            lookups: maker.counter("postern_routing_lookups_total")?,
            authorizations: maker.counter("postern_routing_authorizations_total")?,
            changes: maker.counter("postern_routing_changes_total")?,
            head: maker.gauge("postern_routing_head_sequence")?,
            oldest: maker.gauge("postern_routing_oldest_sequence")?,
            subscribers: maker.gauge("postern_routing_subscribers")?,
            subscribers_cut: maker.counter("postern_routing_subscribers_cut_total")?,
            store_errors: maker.counter("postern_routing_store_errors_total")?,
            connections: maker.gauge("postern_routing_connections")?,
            connections_ended: maker.counter("postern_routing_connections_ended_total")?,
            refusals: maker.counter("postern_routing_refusals_total")?,
            credential_refusals: maker.counter("postern_routing_credential_refusals_total")?,
            credential_not_after: maker.gauge("postern_routing_credential_not_after_seconds")?,
            registered: maker.finish()?,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// What is there from the start shows its first event to `rate()`.
    fn begin(&self) {
        for answer in ANSWERS {
            self.lookups.with_label_values(&[answer]);
        }
        for reason in STORE_ERRORS {
            self.store_errors.with_label_values(&[reason]);
        }
        for end in ConnectionEnd::ALL {
            self.connections_ended.with_label_values(&[end.label()]);
        }
        for role in ROLES {
            self.refusals.with_label_values(&[role.label()]);
        }
        for key in ["tls.identity", "tls.trust"] {
            self.credential_refusals.with_label_values(&[key]);
        }
        single(&self.subscribers).set(0);
        single(&self.connections).set(0);
        self.subscribers_cut.with_label_values(&NONE);
    }

    pub(super) fn answered(&self, operation: Operation, status: StatusCode, took: Duration) {
        let operation = operation.label();
        self.requests
            .with_label_values(&[operation, status.as_str()])
            .inc();
        self.request_seconds
            .with_label_values(&[operation])
            .observe(took.as_secs_f64());
    }

    pub(super) fn looked_up(&self, answer: &Answer) {
        let word = match answer {
            Answer::Found { .. } => "found",
            Answer::NotApproved { .. } => "not_approved",
            Answer::Unknown => "unknown",
        };
        self.lookups.with_label_values(&[word]).inc();
    }

    pub(super) fn judged(&self, word: &'static str) {
        self.authorizations.with_label_values(&[word]).inc();
    }

    pub(super) fn change_read(&self, what: &str) {
        self.changes.with_label_values(&[what]).inc();
    }

    pub(super) fn head(&self, head: Head) {
        let number = |sequence| i64::try_from(sequence).unwrap_or(i64::MAX);
        single(&self.head).set(number(head.sequence));
        single(&self.oldest).set(number(head.oldest));
    }

    pub(super) fn subscriber(&self) -> Held {
        Held::new(single(&self.subscribers))
    }

    pub(super) fn subscriber_cut(&self) {
        self.subscribers_cut.with_label_values(&NONE).inc();
    }

    /// Counts what is the store's fault, and nothing else.
    pub(super) fn store_failed(&self, error: &StoreError) {
        let reason = match error {
            StoreError::Busy => "busy",
            StoreError::Unavailable(_) => "unavailable",
            _ => return,
        };
        self.store_errors.with_label_values(&[reason]).inc();
    }

    pub(super) fn connection_open(&self) -> Held {
        Held::new(single(&self.connections))
    }

    pub(super) fn connection_ended(&self, end: ConnectionEnd) {
        self.connections_ended
            .with_label_values(&[end.label()])
            .inc();
    }

    pub(super) fn refused(&self, role: Role) {
        self.refusals.with_label_values(&[role.label()]).inc();
    }

    pub(super) fn credential_refused(&self, key: &str) {
        self.credential_refusals.with_label_values(&[key]).inc();
    }

    pub(super) fn credential_taken(&self, key: &str, not_after: i64) {
        self.credential_not_after
            .with_label_values(&[key])
            .set(not_after);
    }

    /// All of them in Prometheus' text format.
    pub(super) fn text(&self, is_ready: bool) -> String {
        single(&self.ready).set(i64::from(is_ready));
        self.registered.text()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// One of what a gauge counts, until it is dropped.
pub(super) struct Held(IntGauge);

impl Held {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn single(gauge: &IntGaugeVec) -> IntGauge {
    gauge.with_label_values(&NONE)
}

const NONE: [&str; 0] = [];
const ANSWERS: [&str; 3] = ["found", "not_approved", "unknown"];
const STORE_ERRORS: [&str; 2] = ["busy", "unavailable"];
const ROLES: [Role; 3] = [Role::Read, Role::Authorize, Role::Write];
/// Seconds. A lookup takes some hundred microseconds, a change a few milliseconds.
const BOUNDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];

/// The table as a page of Markdown.
pub fn print_documentation() -> String {
    let values = [
        ("`operation`", words(&Operation::ALL.map(Operation::label))),
        ("`role`", words(&ROLES.map(Role::label))),
        (
            "`answer` of `postern_routing_lookups_total`",
            words(&ANSWERS),
        ),
        (
            "`answer` of `postern_routing_authorizations_total`",
            words(&super::api::JUDGEMENTS),
        ),
        (
            "`reason` of `postern_routing_store_errors_total`",
            words(&STORE_ERRORS),
        ),
        (
            "`reason` of `postern_routing_connections_ended_total`",
            words(&ConnectionEnd::ALL.map(ConnectionEnd::label)),
        ),
        ("`key`", words(&["tls.identity", "tls.trust"])),
    ];
    page(INTRODUCTION, TABLE, &values)
}

const INTRODUCTION: &str = "\
# Metrics of `postern-control routing`

Served at `/metrics` of the admin listener, in the Prometheus text format. Written by `postern-control metrics routing`.
`what` is a word of the change log, such as `connection.approved`.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_served_once_it_has_a_value_and_no_other_is() {
        let metrics = Metrics::new().unwrap();
        let unavailable = StoreError::Unavailable("disk".into());
        metrics.answered(
            Operation::Lookup,
            StatusCode::OK,
            Duration::from_micros(300),
        );
        metrics.judged("allowed");
        metrics.change_read("account.created");
        metrics.head(Head {
            sequence: 7,
            oldest: 3,
        });
        metrics.store_failed(&unavailable);
        metrics.store_failed(&StoreError::PreconditionFailed);
        metrics.credential_taken("tls.trust", 1_800_000_000);
        let held = metrics.connection_open();
        let text = metrics.text(true);
        for metric in TABLE {
            assert!(
                text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind)),
                "{} is not in {text}",
                metric.name
            );
        }
        let types = text.lines().filter(|line| line.starts_with("# TYPE"));
        assert_eq!(types.count(), TABLE.len());
        for line in [
            "postern_routing_requests_total{operation=\"lookup\",status=\"200\"} 1\n",
            "postern_routing_request_seconds_bucket{operation=\"lookup\",le=\"0.0005\"} 1\n",
            "postern_routing_head_sequence 7\n",
            "postern_routing_store_errors_total{reason=\"unavailable\"} 1\n",
            "postern_routing_connections 1\n",
            "postern_routing_ready 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        drop(held);
        assert!(
            metrics
                .text(false)
                .contains("postern_routing_connections 0\n")
        );
    }
}
