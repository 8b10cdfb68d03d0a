//! What is held against a bound: the bounds themselves, and which addresses of the ingress are left.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec};

use super::MetricsError;
use super::families::Maker;
use super::labels::EndpointState;

/// The bounds in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at once.
    pub connections: usize,
    /// Requests in flight at once.
    pub requests: usize,
    /// Silence of the account-routing service after which no route holds; none if routes come from elsewhere.
    pub route_stale: Option<Duration>,
}

/// The metrics of what there is room for. Read when metrics are asked for, but for the number of workers.
pub struct Capacity {
    workers: IntGauge,
    connections: IntGauge,
    requests: IntGauge,
    route_stale: IntGauge,
    endpoints: IntGaugeVec,
    /// The clusters whose endpoints are shown.
    shown: Mutex<BTreeSet<String>>,
}

impl Capacity {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            workers: maker.gauge("postern_workers")?,
            connections: maker.gauge("postern_connections_max")?,
            requests: maker.gauge("postern_requests_max")?,
            route_stale: maker.gauge("postern_route_stale_max_seconds")?,
            endpoints: maker.gauges("postern_upstream_endpoints")?,
            shown: Mutex::default(),
        })
    }

    /// So many threads serve connections.
    pub fn workers(&self, workers: usize) {
        self.workers.set(bounded(workers as u64));
    }

    /// These bounds are in force.
    pub fn limits(&self, limits: Limits) {
        self.connections.set(bounded(limits.connections as u64));
        self.requests.set(bounded(limits.requests as u64));
        let seconds = limits.route_stale.map_or(0, |time| time.as_secs());
        self.route_stale.set(bounded(seconds));
    }

    /// Each cluster with how many of its addresses are up and down. Of clusters that are not named nothing is shown any
    /// more.
    pub fn endpoints(&self, clusters: impl Iterator<Item = (String, usize, usize)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *shown);
        for (cluster, up, down) in clusters {
            for (state, count) in [(EndpointState::Up, up), (EndpointState::Down, down)] {
                let labels = [cluster.as_str(), state.label()];
                if let Ok(gauge) = self.endpoints.get_metric_with_label_values(&labels) {
                    gauge.set(bounded(count as u64));
                }
            }
            gone.remove(&cluster);
            shown.insert(cluster);
        }
        for cluster in gone {
            for state in [EndpointState::Up, EndpointState::Down] {
                // It was shown, so it is there.
                let _ = self
                    .endpoints
                    .remove_label_values(&[cluster.as_str(), state.label()]);
            }
        }
    }
}

fn bounded(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
