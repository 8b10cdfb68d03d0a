//! What was asked of a vault, for assertions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

// Limit: requests remembered; the oldest go first. Ten times what the longest scenario sends.
const REQUESTS_MAX: usize = 200_000;

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When it came in, from the start of the vault.
    pub at: Duration,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The status of its answer.
    pub status: u16,
}

/// The requests of one vault, oldest first.
#[derive(Debug)]
pub struct Log {
    start: Instant,
    requests: Mutex<VecDeque<Request>>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            requests: Mutex::default(),
        }
    }
}

impl Log {
    /// How long the vault has been running.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn add(&self, request: Request) {
        let mut requests = self.locked();
        if requests.len() >= REQUESTS_MAX {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    /// All of them.
    pub fn requests(&self) -> Vec<Request> {
        self.locked().iter().cloned().collect()
    }

    /// How many of them have this method and a path that begins like this.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.locked()
            .iter()
            .filter(|request| request.method == method && request.path.starts_with(path))
            .count()
    }

    /// How many of them were answered with this status.
    pub fn count_status(&self, status: u16) -> usize {
        let requests = self.locked();
        requests.iter().filter(|r| r.status == status).count()
    }

    /// The most requests within any second, wherever it begins.
    pub fn busiest_second(&self) -> usize {
        let mut times: Vec<_> = self.locked().iter().map(|request| request.at).collect();
        times.sort_unstable();
        busiest(&times)
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.locked().clear();
    }

    /// The figures: `total`, `busiest_second`, and how many by `METHOD PATH STATUS`.
    pub fn summary(&self) -> Value {
        let busiest_second = self.busiest_second();
        let mut counts = BTreeMap::<_, usize>::new();
        let requests = self.locked();
        for request in requests.iter() {
            let key = format!("{} {} {}", request.method, request.path, request.status);
            *counts.entry(key).or_default() += 1;
        }
        json!({ "total": requests.len(), "busiest_second": busiest_second, "counts": counts })
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most of these ascending times within any second, the second's end excluded.
fn busiest(times: &[Duration]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (index, time) in times.iter().enumerate() {
        while times[first] + Duration::from_secs(1) <= *time {
            first += 1;
        }
        most = most.max(index + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_begins_anywhere() {
        let at = |times: &[u64]| {
            let times: Vec<_> = times.iter().copied().map(Duration::from_millis).collect();
            busiest(&times)
        };
        assert_eq!(at(&[]), 0);
        assert_eq!(at(&[0, 1000, 2000]), 1);
        assert_eq!(at(&[0, 900, 1000, 1800, 1899]), 4);
    }
}
