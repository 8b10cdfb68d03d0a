//! What is counted about the names of ingress endpoints, by cluster.

use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGaugeVec};

use super::MetricsError;
use super::families::Maker;
use super::labels::{DnsOutcome, Label as _};

/// The metrics of name resolution. A cluster without names has none.
pub struct Dns {
    lookups: IntCounterVec,
    answer: IntGaugeVec,
}

impl Dns {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            lookups: maker.counters("postern_dns_lookups_total")?,
            answer: maker.gauges("postern_dns_answer_seconds")?,
        })
    }

    /// Names of the cluster are looked up from now on: all is 0.
    pub fn begin(&self, cluster: &str) {
        for outcome in DnsOutcome::VALUES {
            self.count(cluster, *outcome, 0);
        }
        let _ = self.answer.get_metric_with_label_values(&[cluster]);
    }

    /// A lookup ended.
    pub fn looked_up(&self, cluster: &str, outcome: DnsOutcome) {
        self.count(cluster, outcome, 1);
    }

    /// A good answer came at `now`.
    pub fn answered(&self, cluster: &str, now: Timestamp) {
        if let Ok(answer) = self.answer.get_metric_with_label_values(&[cluster]) {
            answer.set(now.as_second());
        }
    }

    /// No name of the cluster is looked up any more.
    pub fn end(&self, cluster: &str) {
        for outcome in DnsOutcome::VALUES {
            let _ = self
                .lookups
                .remove_label_values(&[cluster, outcome.label()]);
        }
        let _ = self.answer.remove_label_values(&[cluster]);
    }

    fn count(&self, cluster: &str, outcome: DnsOutcome, by: u64) {
        let labels = [cluster, outcome.label()];
        if let Ok(lookups) = self.lookups.get_metric_with_label_values(&labels) {
            lookups.inc_by(by);
        }
    }
}
