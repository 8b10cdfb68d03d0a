//! What is remembered about one key, and the rules by which it may be given out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_api::LinkState;

use super::RouteCacheOptions;
use super::clock::{Moment, nanos};
use crate::routing::{Lookup, Route};

/// A route that the source has given.
pub(super) struct Found {
    pub(super) route: Arc<Route>,
    pub(super) at: Moment,
    pub(super) generation: u64,
    /// How long it is fresh, in nanoseconds.
    fresh: u64,
    // Looked at only when the route is no longer fresh:
    /// When a refresh was begun last.
    begun: AtomicU64,
    /// The generation under which the source failed last.
    failed: AtomicU64,
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
pub(super) struct Negative {
    pub(super) no: No,
    pub(super) at: Moment,
    pub(super) generation: u64,
    fresh: u64,
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum No {
    Unknown,
    NotApproved(LinkState),
}

/// What there is to judge by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    pub(super) now: Moment,
    /// The source's generation.
    pub(super) generation: u64,
    /// When the source last said that all it gave under this generation holds.
    pub(super) confirmed: Moment,
    /// Whether the source is known to be out of reach.
    pub(super) down: bool,
}

/// The times of [`RouteCacheOptions`] in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) ttl: u64,
    pub(super) stale_while_revalidate: u64,
    pub(super) stale_max: u64,
    pub(super) not_found_ttl: u64,
}

// While a source fails, each route asks it again this often and not more.
const REFRESH_PAUSE: u64 = 1_000_000_000;

/// No generation gets this far.
const NONE: u64 = u64::MAX;

impl Found {
    /// A route given at this moment, which may be used for `lifetime`.
    pub(super) fn new(
        route: Arc<Route>,
        at: Moment,
        generation: u64,
        lifetime: Option<Duration>,
        times: &Times,
    ) -> Self {
        Self {
            route,
            at,
            generation,
            fresh: lifetime.map_or(times.ttl, |lifetime| nanos(lifetime).min(times.ttl)),
            begun: AtomicU64::new(Moment::NEVER.0),
            failed: AtomicU64::new(NONE),
        }
    }

    /// Whether it may be given at once and nobody has to be asked: what nearly every request comes to.
    pub(super) fn is_fresh(&self, now: Moment, generation: u64) -> bool {
        self.generation == generation && now.since(self.at) < self.fresh
    }

    /// Whether the route may be given out.
    pub(super) fn judge(&self, present: &Present, times: &Times) -> Judgement {
        let age = present.now.since(self.at);
        if self.is_fresh(present.now, present.generation) {
            Judgement::Fresh
        } else if self.generation == present.generation
            && age < self.fresh.saturating_add(times.stale_while_revalidate)
        {
            Judgement::Stale
        } else if present.now.since(self.known(present)) >= times.stale_max {
            Judgement::TooOld
        } else if present.down || self.failed.load(Ordering::Relaxed) == present.generation {
            // Nobody has to wait for an answer that is known not to come.
            Judgement::Stale
        } else {
            Judgement::OnlyIfSourceFails
        }
    }

    /// When the route was last known to hold.
    pub(super) fn known(&self, present: &Present) -> Moment {
        if self.generation == present.generation {
            self.at.max(present.confirmed)
        } else {
            self.at
        }
    }

    /// Whether the caller is the one to ask the source. True once in a while, however many call.
    pub(super) fn begin_refresh(&self, now: Moment) -> bool {
        let due = |begun: u64| (now.since(Moment(begun)) >= REFRESH_PAUSE).then_some(now.0);
        self.begun
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due)
            .is_ok()
    }

    /// Remembers that the source could not answer.
    pub(super) fn source_failed(&self, now: Moment, generation: u64) {
        self.begun.store(now.0, Ordering::Relaxed);
        self.failed.store(generation, Ordering::Relaxed);
    }
}

impl Negative {
    /// A "no" given at this moment, which may be used for `lifetime`.
    pub(super) fn new(
        no: No,
        at: Moment,
        generation: u64,
        lifetime: Option<Duration>,
        times: &Times,
    ) -> Self {
        let ttl = times.not_found_ttl;
        Self {
            no,
            at,
            generation,
            fresh: lifetime.map_or(ttl, |lifetime| nanos(lifetime).min(ttl)),
        }
    }

    /// Whether the answer may be given out.
    pub(super) fn is_fresh(&self, now: Moment, generation: u64) -> bool {
        self.generation == generation && now.since(self.at) < self.fresh
    }
}

impl Judgement {
    /// The word for operators.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::OnlyIfSourceFails => "only_if_source_fails",
            Self::TooOld => "too_old",
        }
    }
}

impl From<No> for Lookup {
    fn from(no: No) -> Self {
        match no {
            No::Unknown => Self::Unknown,
            No::NotApproved(state) => Self::NotApproved(state),
        }
    }
}

impl Times {
    pub(super) fn of(options: &RouteCacheOptions) -> Self {
        Self {
            ttl: nanos(options.ttl),
            stale_while_revalidate: nanos(options.stale_while_revalidate),
            stale_max: nanos(options.stale_max),
            not_found_ttl: nanos(options.not_found_ttl),
        }
    }
}
