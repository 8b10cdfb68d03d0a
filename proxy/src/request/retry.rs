//! Whether a request is sent to the ingress once more.
//!
//! At most twice, and only if that cannot make anything happen twice: it was never sent, or it is idempotent (RFC 9110
//! section 9.2.2) and the connection it was sent on was closed before a byte of an answer: a pooled one that went
//! stale, or a new one that an ingress accepted just before it reloaded. Its body must be there from its first byte:
//! not read yet, or, if the ingress says that it did not process what it got of it, still kept.
//!
//! An ingress that breaks whatever it gets must not get three times as much of it: what it may have worked on is sent
//! again within a [`Budget`]. What it says it never touched costs it nothing and is not counted.

use std::sync::atomic::{AtomicU64, Ordering};

use http::request::Parts;

use crate::outcome::Refusal;
use crate::request::body::RequestBody;
use crate::upstream::{SendError, Way};

/// Retries that one worker still has: a reserve that each retry takes one from, and each request gives a share back to.
///
/// A reserve without a clock: an ingress that restarts breaks as many requests at once as are on their way, and that
/// is what the reserve is for; one that goes on breaking them gets no more than the share on top of its load.
#[derive(Debug)]
pub struct Budget {
    /// In hundredths of a retry.
    hundredths: AtomicU64,
    /// What a request gives back, in hundredths of a retry.
    percent: AtomicU64,
    max: AtomicU64,
}

impl Budget {
    /// A full reserve of `reserve` retries, and `percent` of a retry for each request.
    pub const fn new(reserve: u32, percent: u32) -> Self {
        let max = reserve as u64 * 100;
        Self {
            hundredths: AtomicU64::new(max),
            percent: AtomicU64::new(percent as u64),
            max: AtomicU64::new(max),
        }
    }

    /// Another reserve and share from now on. What of the reserve is left stays, within the new one: a change is no
    /// new reserve.
    pub fn set(&self, reserve: u32, percent: u32) {
        let max = u64::from(reserve) * 100;
        self.max.store(max, Ordering::Relaxed);
        self.percent.store(u64::from(percent), Ordering::Relaxed);
        self.hundredths.fetch_min(max, Ordering::Relaxed);
    }

    /// A request is sent for the first time. One load while nothing breaks.
    pub fn earn(&self) {
        let max = self.max.load(Ordering::Relaxed);
        if self.hundredths.load(Ordering::Relaxed) < max {
            let percent = self.percent.load(Ordering::Relaxed);
            let more = |now: u64| Some((now + percent).min(max));
            let _ = self
                .hundredths
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    /// Takes a retry, if there is one.
    fn spend(&self) -> bool {
        self.hundredths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_sub(100)
            })
            .is_ok()
    }
}

/// Why a request is not sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum No {
    /// It was sent often enough, or must not be sent twice.
    Final,
    /// The budget is used up.
    OverBudget,
}

impl From<No> for Refusal {
    fn from(_: No) -> Self {
        Self::UpstreamBroke
    }
}

/// On which connection the request is sent again, if it is.
///
/// Where many requests share a connection that the ingress ends, they all meet on the next one, and it may end
/// as well before all of them had their turn. So the last attempt opens a connection whose first request it is.
pub fn again(
    budget: &Budget,
    error: &SendError,
    attempt: u32,
    parts: &Parts,
    body: &RequestBody,
) -> Result<Way, No> {
    if attempt > RETRIES_MAX {
        return Err(No::Final);
    }
    if error.never_sent() {
        let way = if attempt < RETRIES_MAX {
            Way::Pooled
        } else {
            Way::Fresh
        };
        return body.whole().then_some(way).ok_or(No::Final);
    }
    if !error.before_answer() || !parts.method.is_idempotent() || body.touched() {
        return Err(No::Final);
    }
    if budget.spend() {
        Ok(Way::Fresh)
    } else {
        Err(No::OverBudget)
    }
}

// Limit: one for the pooled connection that went stale, one for the new one that met a reload.
const RETRIES_MAX: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &Budget) -> usize {
        (0..1000).take_while(|_| budget.spend()).count()
    }

    #[test]
    fn the_reserve_is_for_a_burst_and_requests_fill_it_again() {
        let budget = Budget::new(3, 20);
        assert_eq!(spent(&budget), 3);
        (0..4).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 0);
        budget.earn();
        assert_eq!(spent(&budget), 1);
        (0..1000).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 3);
    }

    #[test]
    fn an_ingress_that_breaks_everything_gets_no_more_than_the_share() {
        let budget = Budget::new(10, 20);
        let retries = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        // The first request finds the reserve full and has nothing to give.
        assert_eq!(retries.count(), 10 + 999 / 5);
    }

    #[test]
    fn another_reserve_is_filled_by_requests_alone() {
        let budget = Budget::new(10, 20);
        budget.set(4, 100);
        assert_eq!(spent(&budget), 4);
        budget.set(6, 100);
        assert_eq!(spent(&budget), 0);
        (0..1000).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 6);
    }

    #[test]
    fn without_a_reserve_nothing_is_sent_again() {
        let budget = Budget::new(0, 100);
        budget.earn();
        assert!(!budget.spend());
    }
}
