//! When account routing was last heard of, and what follows: readiness, and two lines of the log.
//!
//! Invariant: the condition holds exactly while the last contact is younger than the time that routes may be
//! given out without their source.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use postern_chassis::whole;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::metrics::Metrics;
use crate::readiness::Condition;

/// When account routing was last heard of.
pub struct Contact {
    /// How long routes hold without it.
    holds: Duration,
    state: Mutex<State>,
    heard: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    out_of_reach: Option<Instant>,
}

impl Contact {
    /// Nothing was heard yet. Without contact, routes hold for `holds`.
    pub(super) fn new(holds: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            holds,
            state: Mutex::default(),
            heard: Notify::new(),
            metrics,
        }
    }

    /// How long ago account routing was last heard of, in this process or in the one that wrote the snapshot.
    pub fn age(&self) -> Option<Duration> {
        self.state().last.map(|last| last.elapsed())
    }

    /// Whether the last attempt to reach it failed.
    pub fn is_out_of_reach(&self) -> bool {
        self.state().out_of_reach.is_some()
    }

    /// It has answered, just now.
    pub(super) fn heard(&self) {
        self.state().last = Some(Instant::now());
        self.heard.notify_one();
        self.metrics.route_service().heard(Timestamp::now());
    }

    /// What is remembered was known to hold so long ago.
    pub(super) fn remembered(&self, age: Duration) {
        let mut state = self.state();
        // A time before the clock began cannot be told; then it was no contact.
        let then = Instant::now().checked_sub(age);
        state.last = state.last.max(then);
        drop(state);
        self.heard.notify_one();
    }

    /// It follows again.
    pub(super) fn regained(&self) {
        let out_of_reach = self.state().out_of_reach.take();
        if let Some(since) = out_of_reach {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(out_of_reach_seconds = seconds, "account routing is back");
        }
        self.heard();
    }

    /// An attempt to reach it failed. Told once until it is back.
    pub(super) fn lost(&self, error: &dyn std::error::Error) {
        let mut state = self.state();
        if state.out_of_reach.is_some() {
            return;
        }
        state.out_of_reach = Some(Instant::now());
        let age = state.last.map(|last| last.elapsed());
        drop(state);
        let now = Timestamp::now();
        let since = age.and_then(|age| shifted(now, age, -1));
        let until = age.and_then(|age| shifted(now, self.holds.saturating_sub(age), 1));
        tracing::error!(
            error = whole(error),
            last_contact = since.map(tracing::field::display),
            routes_hold_until = until.map(tracing::field::display),
            "account routing is out of reach; what is remembered holds for a while"
        );
    }

    /// Tells `ready` for ever whether contact is recent enough.
    pub(super) async fn tell(&self, ready: &Condition) {
        loop {
            let last = self.state().last;
            match last.map(|last| last + self.holds) {
                Some(end) if Instant::now() < end => {
                    ready.set(true);
                    sleep_until(end).await;
                }
                _ => {
                    ready.set(false);
                    self.heard.notified().await;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shifted(time: Timestamp, by: Duration, sign: i32) -> Option<Timestamp> {
    let by = SignedDuration::try_from(by).ok()?.checked_mul(sign)?;
    time.checked_add(by).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::AccessLog;
    use crate::config::Mode;
    use crate::readiness::Readiness;

    const HOUR: Duration = Duration::from_hours(1);

    fn contact() -> Arc<Contact> {
        let metrics = Metrics::new(Mode::Enforce, AccessLog::off()).unwrap();
        Arc::new(Contact::new(HOUR, Arc::new(metrics)))
    }

    fn told(contact: &Arc<Contact>) -> Readiness {
        let readiness = Readiness::default();
        let condition = readiness.condition("routes");
        let contact = Arc::clone(contact);
        tokio::spawn(async move { contact.tell(&condition).await });
        readiness
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn ready_from_the_first_contact_to_exactly_the_ceiling_and_again_by_itself() {
        let contact = contact();
        let readiness = told(&contact);
        pass(HOUR).await;
        assert!(!readiness.is_ready());
        contact.heard();
        pass(Duration::ZERO).await;
        assert!(readiness.is_ready());
        pass(HOUR / 2).await;
        contact.heard();
        pass(HOUR.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert!(readiness.is_ready());
        // The timer of tokio is precise to the millisecond and never early.
        pass(Duration::from_millis(2)).await;
        assert!(!readiness.is_ready());
        contact.regained();
        pass(Duration::ZERO).await;
        assert!(readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_snapshot_remembers_counts_from_when_it_held() {
        let contact = contact();
        let readiness = told(&contact);
        contact.remembered(HOUR / 4);
        pass(HOUR / 2).await;
        assert!(readiness.is_ready());
        pass(HOUR / 4 + Duration::from_millis(1)).await;
        assert!(!readiness.is_ready());
        contact.remembered(HOUR * 2);
        pass(Duration::ZERO).await;
        assert!(!readiness.is_ready(), "the later of the two counts");
        assert_eq!(contact.age(), Some(HOUR + Duration::from_millis(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn out_of_reach_is_not_yet_lost() {
        let contact = contact();
        let readiness = told(&contact);
        contact.heard();
        contact.lost(&std::io::Error::other("refused"));
        contact.lost(&std::io::Error::other("refused"));
        pass(Duration::ZERO).await;
        assert!(contact.is_out_of_reach() && readiness.is_ready());
        contact.regained();
        assert!(!contact.is_out_of_reach());
    }
}
