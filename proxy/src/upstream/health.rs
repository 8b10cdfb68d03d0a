//! Health checks: each endpoint of each cluster is connected to now and then, over the same mutual TLS.
//!
//! An endpoint that failed gets requests again once a check succeeds; an endpoint that cannot be reached gets
//! none even before a request finds out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::credentials::Credentials;
use crate::upstream::cluster::{Clusters, Protocol};
use crate::upstream::{Options, connect};

/// Checks all clusters.
pub struct Health {
    clusters: Arc<Clusters>,
    credentials: Arc<Credentials>,
    options: Options,
    reached: AtomicBool,
}

impl Health {
    /// Checks `clusters` with these credentials.
    pub fn new(clusters: Arc<Clusters>, credentials: Arc<Credentials>, options: Options) -> Self {
        Self { clusters, credentials, options, reached: AtomicBool::new(false) }
    }

    /// Whether any endpoint of any cluster can be reached, as far as is known. `false` before the first check.
    pub fn any_up(&self) -> bool {
        self.reached.load(Ordering::Relaxed) && self.clusters.iter().any(|cluster| cluster.any_up())
    }

    /// Checks for ever.
    pub async fn run(&self, interval: Duration) {
        loop {
            self.check().await;
            let soon = if self.any_up() { interval } else { interval.min(UNREACHED_INTERVAL) };
            tokio::time::sleep(soon).await;
        }
    }

    /// Checks each endpoint once.
    pub async fn check(&self) {
        let identity = self.credentials.client();
        for cluster in self.clusters.iter() {
            for endpoint in cluster.endpoints() {
                match connect::open(endpoint, cluster, Protocol::Auto, &identity, self.options).await {
                    Ok(_) => {
                        cluster.succeeded(endpoint);
                        self.reached.store(true, Ordering::Relaxed);
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
    }
}

// While nothing can be reached, readiness waits for us.
const UNREACHED_INTERVAL: Duration = Duration::from_secs(1);
