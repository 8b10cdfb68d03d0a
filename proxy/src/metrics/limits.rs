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

/// The metrics of [`Limits`].
pub(super) struct Bounds {
    connections: IntGauge,
    requests: IntGauge,
    route_stale: IntGauge,
}

impl Bounds {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            connections: maker.gauge("postern_connections_max")?,
            requests: maker.gauge("postern_requests_max")?,
            route_stale: maker.gauge("postern_route_stale_max_seconds")?,
        })
    }

    pub(super) fn set(&self, limits: Limits) {
        let bounded = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.set(bounded(limits.connections as u64));
        self.requests.set(bounded(limits.requests as u64));
        let seconds = limits.route_stale.map_or(0, |time| time.as_secs());
        self.route_stale.set(bounded(seconds));
    }
}

/// Addresses of the ingress, for each cluster.
pub(super) struct Endpoints {
    gauges: IntGaugeVec,
    shown: Mutex<BTreeSet<String>>,
}

impl Endpoints {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            gauges: maker.gauges("postern_upstream_endpoints")?,
            shown: Mutex::default(),
        })
    }

    /// Name, addresses that are up, addresses that are down.
    pub(super) fn set(&self, clusters: impl Iterator<Item = (String, usize, usize)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *shown);
        for (cluster, up, down) in clusters {
            for (state, count) in [(EndpointState::Up, up), (EndpointState::Down, down)] {
                if let Ok(gauge) = self
                    .gauges
                    .get_metric_with_label_values(&[cluster.as_str(), state.label()])
                {
                    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
            gone.remove(&cluster);
            shown.insert(cluster);
        }
        for cluster in gone {
            for state in [EndpointState::Up, EndpointState::Down] {
                // It was shown, so it is there.
                let _ = self.gauges.remove_label_values(&[&cluster, state.label()]);
            }
        }
    }
}
