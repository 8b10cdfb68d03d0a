//! What was refused within the last minutes: the counters now, against what they were.
//!
//! Nothing runs in the background for it: whoever asks for the metrics or the page leaves a sample. So the stretch is
//! told, and is longer than [`WINDOW`] where nobody has asked for a while.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outcome::Refusal;

/// Samples of the counters of refusals.
#[derive(Debug)]
pub(super) struct Recent {
    began: Instant,
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    totals: HashMap<Refusal, u64>,
}

/// What was refused, by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Within so long.
    pub(super) within: Duration,
    /// Whether that is since the start.
    pub(super) since_start: bool,
    /// The most frequent first; none with 0.
    pub(super) counts: Vec<(Refusal, u64)>,
}

impl Recent {
    /// All counters are 0 now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            samples: Mutex::default(),
        }
    }

    /// Takes the counters, and tells what has been refused lately.
    pub(super) fn take(&self, now: Instant, totals: HashMap<Refusal, u64>) -> Refused {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |sample: &Sample| now.saturating_duration_since(sample.at);
        // The oldest is the youngest that is old enough.
        while samples.get(1).is_some_and(|next| age(next) >= WINDOW) {
            samples.pop_front();
        }
        let before = samples.front().filter(|oldest| age(oldest) >= WINDOW);
        let since = before.map_or(self.began, |sample| sample.at);
        let count = |(refusal, total): (&Refusal, &u64)| {
            let earlier = before.and_then(|sample| sample.totals.get(refusal));
            (*refusal, total - earlier.copied().unwrap_or(0).min(*total))
        };
        let mut counts: Vec<_> = totals.iter().map(count).filter(|it| it.1 > 0).collect();
        counts.sort_by_key(|(refusal, count)| (Reverse(*count), refusal.label()));
        let refused = Refused {
            within: now.saturating_duration_since(since),
            since_start: before.is_none(),
            counts,
        };
        if samples.back().is_none_or(|last| age(last) >= APART) {
            samples.push_back(Sample { at: now, totals });
        }
        refused
    }
}

const WINDOW: Duration = Duration::from_mins(5);
// Limit: with it, at most 21 samples are held.
const APART: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(unknown: u64, shed: u64) -> HashMap<Refusal, u64> {
        [
            (Refusal::LinkUnknown, unknown),
            (Refusal::Overloaded, shed),
            (Refusal::SniMissing, 0),
        ]
        .into()
    }

    #[test]
    fn the_last_minutes_are_told_apart_from_what_was_before() {
        let start = Instant::now();
        let recent = Recent::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = recent.take(at(60), totals(100, 0));
        assert!(first.since_start);
        assert_eq!(first.within, Duration::from_mins(1));
        assert_eq!(first.counts, [(Refusal::LinkUnknown, 100)]);
        for minute in 2..=10 {
            recent.take(at(minute * 60), totals(100, minute));
        }
        let later = recent.take(at(11 * 60), totals(101, 20));
        assert!(!later.since_start);
        assert_eq!(later.within, WINDOW);
        let expected = [(Refusal::Overloaded, 14), (Refusal::LinkUnknown, 1)];
        assert_eq!(later.counts, expected);
        let long_after = recent.take(at(3 * 3600), totals(101, 21));
        assert_eq!(long_after.within, Duration::from_mins(3 * 60 - 11));
        assert_eq!(long_after.counts, [(Refusal::Overloaded, 1)]);
    }

    #[test]
    fn however_often_somebody_asks_few_samples_are_held() {
        let start = Instant::now();
        let recent = Recent::new(start);
        for second in 0..3600 {
            recent.take(start + Duration::from_secs(second), totals(second, 0));
        }
        assert_eq!(recent.samples.lock().unwrap().len(), 21);
    }
}
