//! What the route cache counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a route cache has done since it was made, and what it holds. All but what is held only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteCacheStats {
    /// Routes given at once, fresh.
    pub hits: u64,
    /// Routes given at once while the source was asked in the background.
    pub stale: u64,
    /// Answers that say no, given at once.
    pub negative_hits: u64,
    /// Lookups that had to ask the source.
    pub misses: u64,
    /// Lookups that waited for a call of the source that was under way already.
    pub coalesced: u64,
    /// Calls of the source that failed or were late, background ones included.
    pub errors: u64,
    /// Routes held.
    pub entries: u64,
    /// Answers held that say no.
    pub negative_entries: u64,
    /// Routes that were pushed out by newer ones.
    pub evictions: u64,
    /// Answers that say no that were pushed out by newer ones.
    pub negative_evictions: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    hits: OwnLine,
    stale: AtomicU64,
    negative_hits: AtomicU64,
    misses: AtomicU64,
    coalesced: AtomicU64,
    errors: AtomicU64,
}

/// Two cache lines by itself (the pair that processors fetch together), since every thread writes it.
#[derive(Default)]
#[repr(align(128))]
struct OwnLine(AtomicU64);

impl Counters {
    pub(super) fn hit(&self) {
        add(&self.hits.0);
    }

    pub(super) fn stale(&self) {
        add(&self.stale);
    }

    pub(super) fn negative_hit(&self) {
        add(&self.negative_hits);
    }

    pub(super) fn miss(&self) {
        add(&self.misses);
    }

    pub(super) fn coalesced(&self) {
        add(&self.coalesced);
    }

    pub(super) fn error(&self) {
        add(&self.errors);
    }

    /// What was counted here; what the tables count themselves is 0.
    pub(super) fn read(&self) -> RouteCacheStats {
        RouteCacheStats {
            hits: self.hits.0.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            negative_hits: self.negative_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            coalesced: self.coalesced.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            ..RouteCacheStats::default()
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
