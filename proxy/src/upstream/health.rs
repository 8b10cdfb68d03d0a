//! Health checks: each endpoint of each cluster is connected to now and then, over the same mutual TLS.
//!
//! An endpoint that failed gets requests again once a check succeeds; an endpoint that cannot be reached gets
//! none even before a request finds out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::credentials::{ClientCredentials, Credentials};
use crate::metrics::Metrics;
use crate::readiness::Condition;
use crate::upstream::cluster::{Cluster, Clusters};
use crate::upstream::tally::Tally;
use crate::upstream::{Bounds, connect};

/// Checks all clusters.
pub struct Health {
    clusters: Arc<Clusters>,
    credentials: Arc<Credentials>,
    bounds: Arc<Bounds>,
    ingress: Condition,
    tally: Arc<Tally>,
}

impl Health {
    /// Checks `clusters` with these credentials. `ingress` is the condition that some endpoint can be reached.
    pub fn new(
        clusters: Arc<Clusters>,
        credentials: Arc<Credentials>,
        bounds: Arc<Bounds>,
        ingress: Condition,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            clusters,
            credentials,
            bounds,
            ingress,
            tally: Arc::new(Tally::new(metrics)),
        }
    }

    /// Checks for ever, and at once when addresses change.
    pub async fn run(&self, interval: Duration) {
        let mut changes = self.clusters.changes();
        let mut begun = false;
        loop {
            let reached = self.check().await;
            // At first, names must have been asked for, so that no cluster is without addresses for want of asking.
            begun |= reached && self.clusters.iter().all(|it| it.endpoints().all_asked());
            self.ingress.set(reached && begun);
            let soon = if reached {
                interval
            } else {
                interval.min(UNREACHED_INTERVAL)
            };
            let _ = tokio::time::timeout(soon, changes.changed()).await;
        }
    }

    /// Checks each endpoint once. Whether any can be reached.
    async fn check(&self) -> bool {
        // Without credentials there is nothing to check with; readiness waits for them by name.
        let Some(identity) = self.credentials.client() else {
            return false;
        };
        let all = self.clusters.iter().flat_map(|cluster| {
            let states = cluster.states();
            states.map(move |(endpoint, _)| (Arc::clone(&cluster), endpoint))
        });
        let identity = &identity;
        let checks = all.map(|(cluster, endpoint)| async move {
            self.check_one(&cluster, endpoint, identity).await
        });
        // All at once: one that does not answer must not keep the others waiting.
        join_all(checks).await.contains(&true)
    }

    async fn check_one(
        &self,
        cluster: &Cluster,
        endpoint: SocketAddr,
        identity: &ClientCredentials,
    ) -> bool {
        let (protocol, options) = (cluster.protocol, self.bounds.now());
        match connect::open(endpoint, cluster, protocol, identity, options, &self.tally).await {
            Ok(_) => {
                cluster.succeeded(endpoint);
                true
            }
            Err(error) => {
                cluster.failed(endpoint, &error);
                false
            }
        }
    }
}

// While nothing can be reached, readiness waits for us.
const UNREACHED_INTERVAL: Duration = Duration::from_secs(1);
