//! Time as the cache keeps it: eight bytes that can be compared, and changed by several threads.

use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds on the clock of one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

/// The clock of one cache. Stands still when tokio's does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
}

// What is older than the process has a moment, too: the clock starts at a year. It goes on for another 583.
const START: u64 = 365 * 24 * 3600 * 1_000_000_000;

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Moment {
        Moment(START.saturating_add(nanos(self.started.elapsed())))
    }

    /// The moment as others tell time.
    pub(super) fn instant(&self, moment: Moment) -> Instant {
        self.started + Duration::from_nanos(moment.0.saturating_sub(START))
    }
}

impl Moment {
    /// Before every other.
    pub(super) const NEVER: Self = Self(0);

    /// How long this is after `earlier`, in nanoseconds; 0 if it is not.
    pub(super) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// So long before.
    pub(super) fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(age)))
    }
}

/// A time in nanoseconds; the longest there is if it is longer.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
