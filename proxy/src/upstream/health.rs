//! Health checks: each endpoint of each cluster is connected to now and then, over the same mutual TLS.
//!
//! An endpoint that failed gets requests again once a check succeeds; an endpoint that cannot be reached gets
//! none even before a request finds out.

use std::sync::Arc;
use std::time::Duration;

use crate::credentials::Credentials;
use crate::metrics::Metrics;
use crate::readiness::Condition;
use crate::upstream::cluster::{Clusters, Protocol};
use crate::upstream::tally::Tally;
use crate::upstream::{Options, connect};

/// Checks all clusters.
pub struct Health {
    clusters: Arc<Clusters>,
    credentials: Arc<Credentials>,
    options: Options,
    ingress: Condition,
    tally: Arc<Tally>,
}

impl Health {
    /// Checks `clusters` with these credentials. `ingress` is the condition that some endpoint can be reached.
    pub fn new(
        clusters: Arc<Clusters>,
        credentials: Arc<Credentials>,
        options: Options,
        ingress: Condition,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            clusters,
            credentials,
            options,
            ingress,
            tally: Arc::new(Tally::new(metrics)),
        }
    }

    /// Checks for ever.
    pub async fn run(&self, interval: Duration) {
        loop {
            let reached = self.check().await;
            self.ingress.set(reached);
            let soon = if reached {
                interval
            } else {
                interval.min(UNREACHED_INTERVAL)
            };
            tokio::time::sleep(soon).await;
        }
    }

    /// Checks each endpoint once. Whether any can be reached.
    async fn check(&self) -> bool {
        // Without credentials there is nothing to check with; readiness waits for them by name.
        let Some(identity) = self.credentials.client() else {
            return false;
        };
        let mut reached = false;
        for cluster in self.clusters.iter() {
            for endpoint in cluster.endpoints() {
                let (options, tally) = (self.options, &self.tally);
                match connect::open(endpoint, cluster, Protocol::Auto, &identity, options, tally)
                    .await
                {
                    Ok(_) => {
                        cluster.succeeded(endpoint);
                        reached = true;
                    }
                    Err(error) => {
                        tracing::warn!(
                            cluster = %cluster.name, %endpoint, %error,
                            cause = std::error::Error::source(&error).map(tracing::field::display),
                            "health check failed"
                        );
                        cluster.failed(endpoint);
                    }
                }
            }
        }
        reached
    }
}

// While nothing can be reached, readiness waits for us.
const UNREACHED_INTERVAL: Duration = Duration::from_secs(1);
