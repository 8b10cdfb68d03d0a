//! What each worker serves new connections with.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::connection::Connections;
use crate::request::Requests;
use crate::server::parts;

/// What one worker serves new connections with. Loaded once for each of them, which then keeps it.
pub type Worker = Arc<ArcSwap<Connections>>;

/// Every worker of the process.
#[derive(Default)]
pub struct Workers(Mutex<Vec<Worker>>);

impl Workers {
    /// One more, which serves with these.
    pub fn add(&self, connections: Connections) -> Worker {
        let worker = Worker::new(ArcSwap::from_pointee(connections));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&worker));
        worker
    }

    /// Connections that are opened from now on keep to the bounds of this configuration. Retries of all are counted
    /// against the one budget, as it is now.
    pub fn reload(&self, config: &Config) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in all.iter() {
            let now = worker.load_full();
            let upstream = &config.upstream;
            (now.requests.retries).set(upstream.retry_reserve, upstream.retry_percent);
            let requests = Requests {
                options: parts::request(config),
                ..(*now.requests).clone()
            };
            worker.store(Arc::new(Connections {
                options: parts::connection(config),
                requests: Arc::new(requests),
                ..(*now).clone()
            }));
        }
    }
}
