//! How long something took that was done again and again.

use std::fmt;
use std::time::Duration;

/// How often, how long on average, and at most.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Latency {
    count: u32,
    sum: Duration,
    longest: Duration,
}

impl Latency {
    pub(super) fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        self.longest = self.longest.max(took);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }

    pub(super) const fn count(self) -> u32 {
        self.count
    }

    pub(super) const fn longest(self) -> Duration {
        self.longest
    }

    /// The longest, for a figure.
    pub(super) fn longest_milliseconds(self) -> u64 {
        u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = (self.sum / self.count.max(1)).as_secs_f64();
        let longest = self.longest.as_secs_f64();
        write!(f, "{mean:.3} s, {longest:.3} s at most")
    }
}
