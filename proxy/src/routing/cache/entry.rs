//! What is remembered about one key, and the rules by which it may be given out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::RouteCacheOptions;
use crate::routing::{Lookup, Route};

/// A route that the source has given.
pub(super) struct Found {
    pub(super) route: Arc<Route>,
    at: Instant,
    generation: u64,
    /// Looked at only when the route is no longer fresh.
    refresh: Mutex<Refresh>,
}

#[derive(Default)]
struct Refresh {
    begun: Option<Instant>,
    /// The generation under which the source failed last.
    failed: Option<u64>,
}

/// Whether a route may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// At once.
    Fresh,
    /// At once, while the source is asked.
    Stale,
    /// After the source was asked and could not answer.
    OnlyIfSourceFails,
    /// Not at all.
    TooOld,
}

/// An answer that says no.
#[derive(Clone)]
pub(super) struct Negative {
    pub(super) answer: Lookup,
    pub(super) at: Instant,
    pub(super) generation: u64,
}

// While a source fails, each route asks it again this often and not more.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

impl Found {
    pub(super) fn new(route: Arc<Route>, at: Instant, generation: u64) -> Self {
        Self {
            route,
            at,
            generation,
            refresh: Mutex::default(),
        }
    }

    /// Whether the route may be given out `now`, while the source is at `generation`.
    pub(super) fn judge(
        &self,
        now: Instant,
        generation: u64,
        options: &RouteCacheOptions,
    ) -> Judgement {
        let age = now.saturating_duration_since(self.at);
        let current = self.generation == generation;
        if current && age < options.ttl {
            Judgement::Fresh
        } else if current && age < options.ttl.saturating_add(options.stale_while_revalidate) {
            Judgement::Stale
        } else if age >= options.stale_max {
            Judgement::TooOld
        } else if self.refresh().failed == Some(generation) {
            // Somebody has asked under this generation and got no answer. Nobody else has to wait for that.
            Judgement::Stale
        } else {
            Judgement::OnlyIfSourceFails
        }
    }

    /// Whether the caller is the one to ask the source. True once in a while, however many call.
    pub(super) fn begin_refresh(&self, now: Instant) -> bool {
        let mut refresh = self.refresh();
        let due = refresh
            .begun
            .is_none_or(|begun| now.saturating_duration_since(begun) >= REFRESH_PAUSE);
        if due {
            refresh.begun = Some(now);
        }
        due
    }

    /// Remembers that the source could not answer.
    pub(super) fn source_failed(&self, now: Instant, generation: u64) {
        let mut refresh = self.refresh();
        refresh.begun = Some(now);
        refresh.failed = Some(generation);
    }

    fn refresh(&self) -> MutexGuard<'_, Refresh> {
        // Each field holds by itself, whatever a panic left undone.
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Negative {
    /// Whether the answer may be given out `now`, while the source is at `generation`.
    pub(super) fn is_fresh(&self, now: Instant, generation: u64, ttl: Duration) -> bool {
        self.generation == generation && now.saturating_duration_since(self.at) < ttl
    }
}
