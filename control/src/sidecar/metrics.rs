//! Metrics: one table of name, type, labels and help; and their values.
//!
//! Promises that a metric which is not in the table does not exist. `postern-control metrics` prints it, and
//! deploy/METRICS-control.md is that print. Label values are closed sets, or names of the configuration.

use std::fmt;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::events::{EventKind, Outcome as EventOutcome};
use super::outcome::{Outcome, Published, RoundError};
use crate::issue::{IssueError, Outcome as Issued};
use crate::metrics::{Maker, MetricsError, Registered, page, table, words};
use crate::vault::VaultError;

table! {
    gauge   postern_control_build_info[version]                       "Always 1; the label says which version runs."
    gauge   postern_control_ready                                     "1 while every certificate is published and none has ended."
    gauge   postern_control_not_after_seconds[certificate]            "When what is published ceases to be of use, in seconds since 1970."
    gauge   postern_control_generation[certificate]                   "The number of what is published, in its store."
    gauge   postern_control_last_success_seconds[certificate]         "When a round last ended well, in seconds since 1970: what is published was the newest then."
    gauge   postern_control_next_look_seconds[certificate]            "When the vault is looked into next, in seconds since 1970."
    counter postern_control_rounds_total[certificate, outcome]        "Rounds, by how they ended."
    counter postern_control_refusals_total[certificate, reason]       "Rounds that did not end well, by why. What was published before stays."
    counter postern_control_issues_total[certificate, outcome]        "Rounds of making a new version, by how they ended or why they did not."
    counter postern_control_vault_requests_total[vault, outcome]      "Calls to a vault, by how they ended."
    counter postern_control_notifications_total[outcome]              "Deliveries of notifications, by what became of them."
    counter postern_control_scheduled_events_total[type, outcome]     "Events of Azure's Scheduled Events, by what became of them."
    gauge   postern_control_scheduled_events_contact_seconds          "When the metadata service last said what is planned, in seconds since 1970; 0 before the first time. Not there unless [scheduled_events] is configured."
    histogram postern_control_drain_seconds                           "How long drains for a scheduled event took."
    gauge   process_resident_memory_bytes                             "Resident memory."
    counter process_cpu_seconds_total                                 "User and system CPU time."
    gauge   process_open_fds                                          "Open file descriptors."
    gauge   process_start_time_seconds                                "When the process started, in seconds since 1970."
}

/// What became of a delivery of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The subscription was confirmed.
    Validated,
    /// A look is earlier because of it.
    Woke,
    /// It is about nothing that we publish.
    Ignored,
    /// It did not show the token.
    Unauthorized,
    /// It is no notification.
    Malformed,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Validated,
        Self::Woke,
        Self::Ignored,
        Self::Unauthorized,
        Self::Malformed,
    ];

    /// The word in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Validated => "validated",
            Self::Woke => "woke",
            Self::Ignored => "ignored",
            Self::Unauthorized => "unauthorized",
            Self::Malformed => "malformed",
        }
    }
}

/// The values.
pub struct Metrics {
    ready: IntGaugeVec,
    not_after: IntGaugeVec,
    generation: IntGaugeVec,
    last_success: IntGaugeVec,
    next_look: IntGaugeVec,
    rounds: IntCounterVec,
    refusals: IntCounterVec,
    issues: IntCounterVec,
    vault_requests: IntCounterVec,
    notifications: IntCounterVec,
    events: IntCounterVec,
    events_contact: IntGaugeVec,
    drains: HistogramVec,
    registered: Registered,
}

impl Metrics {
    /// All of them, at 0, for these certificates and vaults.
    pub fn new<'a>(
        certificates: impl IntoIterator<Item = &'a str>,
        vaults: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, MetricsError> {
        let maker = Maker::new(TABLE);
        let build = maker.gauge("postern_control_build_info")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            ready: maker.gauge("postern_control_ready")?,
            not_after: maker.gauge("postern_control_not_after_seconds")?,
            generation: maker.gauge("postern_control_generation")?,
            last_success: maker.gauge("postern_control_last_success_seconds")?,
            next_look: maker.gauge("postern_control_next_look_seconds")?,
            rounds: maker.counter("postern_control_rounds_total")?,
            refusals: maker.counter("postern_control_refusals_total")?,
            issues: maker.counter("postern_control_issues_total")?,
            vault_requests: maker.counter("postern_control_vault_requests_total")?,
            notifications: maker.counter("postern_control_notifications_total")?,
            events: maker.counter("postern_control_scheduled_events_total")?,
            events_contact: maker.gauge("postern_control_scheduled_events_contact_seconds")?,
            drains: maker.histogram("postern_control_drain_seconds", &DRAIN_BOUNDS)?,
            registered: maker.finish()?,
        };
        // A counter that is there from the start shows its first event to `rate()`.
        for certificate in certificates {
            for outcome in Outcome::LABELS {
                metrics.rounds.with_label_values(&[certificate, outcome]);
            }
        }
        for vault in vaults {
            for outcome in ["ok"].into_iter().chain(VaultError::LABELS) {
                metrics.vault_requests.with_label_values(&[vault, outcome]);
            }
        }
        for outcome in Delivery::ALL {
            metrics.notifications.with_label_values(&[outcome.label()]);
        }
        Ok(metrics)
    }

    /// What is published.
    pub(super) fn published(&self, certificate: &str, published: &Published) {
        let generation = i64::try_from(published.generation).unwrap_or(i64::MAX);
        self.generation
            .with_label_values(&[certificate])
            .set(generation);
        self.not_after
            .with_label_values(&[certificate])
            .set(published.until);
    }

    /// A round ended well at `now`.
    pub(super) fn succeeded(&self, certificate: &str, outcome: Outcome, now: i64) {
        self.rounds
            .with_label_values(&[certificate, outcome.label()])
            .inc();
        self.last_success.with_label_values(&[certificate]).set(now);
    }

    /// A round did not end well.
    pub(super) fn failed(&self, certificate: &str, error: &RoundError) {
        self.rounds
            .with_label_values(&[certificate, error.outcome()])
            .inc();
        self.refusals
            .with_label_values(&[certificate, error.label()])
            .inc();
    }

    /// When the next look is.
    pub(super) fn next_look(&self, certificate: &str, at: i64) {
        self.next_look.with_label_values(&[certificate]).set(at);
    }

    /// A round of making a new version.
    pub(super) fn issued(&self, certificate: &str, outcome: Result<&Issued, &IssueError>) {
        let word = outcome.map_or_else(IssueError::label, Issued::label);
        self.issues.with_label_values(&[certificate, word]).inc();
    }

    /// A vault was asked.
    pub(super) fn asked(&self, vault: &str, error: Option<&VaultError>) {
        let word = error.map_or("ok", VaultError::label);
        self.vault_requests.with_label_values(&[vault, word]).inc();
    }

    /// A delivery came.
    pub(super) fn delivered(&self, delivery: Delivery) {
        self.notifications
            .with_label_values(&[delivery.label()])
            .inc();
    }

    /// Scheduled events are watched from now on.
    pub(super) fn watching_events(&self) {
        self.events_contact(0);
        self.drains.with_label_values(&NONE);
        for kind in EventKind::ALL {
            for outcome in EventOutcome::ALL {
                let labels = [kind.label(), outcome.label()];
                self.events.with_label_values(&labels);
            }
        }
    }

    /// The metadata service said at `now` what is planned.
    pub(super) fn events_contact(&self, now: i64) {
        self.events_contact.with_label_values(&NONE).set(now);
    }

    /// What became of a scheduled event.
    pub(super) fn event(&self, kind: EventKind, outcome: EventOutcome) {
        let labels = [kind.label(), outcome.label()];
        self.events.with_label_values(&labels).inc();
    }

    /// A drain for a scheduled event is over.
    pub(super) fn drained(&self, took: Duration) {
        let drains = self.drains.with_label_values(&NONE);
        drains.observe(took.as_secs_f64());
    }

    /// All of them in Prometheus' text format.
    pub fn text(&self, is_ready: bool) -> String {
        self.ready.with_label_values(&NONE).set(i64::from(is_ready));
        self.registered.text()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The table as a page of Markdown.
pub fn print_documentation() -> String {
    let asked: Vec<_> = ["ok"].into_iter().chain(VaultError::LABELS).collect();
    let values = [
        (
            "`outcome` of `postern_control_rounds_total`",
            words(&Outcome::LABELS),
        ),
        (
            "`outcome` of `postern_control_vault_requests_total`",
            words(&asked),
        ),
        (
            "`outcome` of `postern_control_notifications_total`",
            words(&Delivery::ALL.map(Delivery::label)),
        ),
        (
            "`type` of `postern_control_scheduled_events_total`",
            words(&EventKind::ALL.map(EventKind::label)),
        ),
        (
            "`outcome` of `postern_control_scheduled_events_total`",
            words(&EventOutcome::ALL.map(EventOutcome::label)),
        ),
    ];
    page(INTRODUCTION, TABLE, &values) + REASONS
}

/// The labels of what has none.
const NONE: [&str; 0] = [];

/// Seconds: a drain that nothing holds up, up to the longest notice that a scale set gives.
const DRAIN_BOUNDS: [f64; 9] = [1.0, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0, 600.0, 900.0];

const INTRODUCTION: &str = "\
# Metrics of `postern-control sidecar`

Served at `/metrics` of the admin listener, in the Prometheus text format. Written by `postern-control metrics`.
`certificate` is a name of the configuration, `tickets` for the session-ticket keys; `vault` is a vault's host.
";

const REASONS: &str = "
`reason` of `postern_control_refusals_total` is a word of a vault's failures above; of what a version lacks, as in
`postern_credential_refusals_total` of the proxy; `no_trust` or `wrong_order` for a CA that is rotated in another order
than is safe; or `store_io`, `store_busy`, `store_not_durable` and `not_a_store` for a store that cannot be written.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_served_once_it_has_a_value_and_no_other_is() {
        let metrics = Metrics::new(["a"], ["v"]).unwrap();
        let published = Published {
            generation: 3,
            label: String::new(),
            subject: String::new(),
            until: 1_800_000_000,
        };
        metrics.published("a", &published);
        metrics.succeeded("a", Outcome::Published, 1_700_000_000);
        metrics.failed("a", &RoundError::Interrupted);
        metrics.next_look("a", 1);
        metrics.issued("a", Ok(&Issued::NotDue));
        metrics.watching_events();
        let text = metrics.text(true);
        for metric in TABLE {
            assert!(
                text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind)),
                "{text}"
            );
        }
        let served = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .count();
        assert_eq!(served, TABLE.len());
        for line in [
            "postern_control_generation{certificate=\"a\"} 3\n",
            "postern_control_not_after_seconds{certificate=\"a\"} 1800000000\n",
            "postern_control_rounds_total{certificate=\"a\",outcome=\"failed\"} 1\n",
            "postern_control_refusals_total{certificate=\"a\",reason=\"interrupted\"} 1\n",
            "postern_control_vault_requests_total{outcome=\"forbidden\",vault=\"v\"} 0\n",
            "postern_control_ready 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
