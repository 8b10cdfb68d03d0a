//! Who wants to know when answers about a link may have changed: one place a link, however many connections.
//!
//! A change wakes those who watch its links and nobody else. When everything may have changed, all are woken, a
//! few links at a time, so that the source is not asked for all of them at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use postern_api::LinkId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::clock::{Clock, Moment};

/// Every link that is watched.
pub(super) struct Interests {
    clock: Clock,
    shards: Box<[Mutex<Links>]>,
}

type Links = HashMap<LinkId, Arc<Interest>>;

#[derive(Default)]
struct Interest {
    /// The moment of the latest change. Grows with each.
    touched: AtomicU64,
    wake: Notify,
    /// Changed under the lock of the link's shard alone.
    watches: AtomicU32,
}

/// Tells when answers about one link may have changed. The link is forgotten with the last of its watches.
pub struct RouteWatch {
    interests: Arc<Interests>,
    interest: Arc<Interest>,
    link: LinkId,
    seen: u64,
}

// Each is locked for one look-up of a hash table.
const SHARDS: usize = 64;

// A hundred thousand links are woken in four tenths of a second, within the second that a revocation may take.
const WAKES_AT_ONCE: usize = 256;
const WAKES_PAUSE: Duration = Duration::from_millis(1);

impl Interests {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Tells of every change from now on.
    pub(super) fn watch(self: &Arc<Self>, link: LinkId) -> RouteWatch {
        let mut links = self.shard(link).lock();
        let interest = Arc::clone(links.entry(link).or_default());
        interest.watches.fetch_add(1, Ordering::Relaxed);
        drop(links);
        RouteWatch {
            interests: Arc::clone(self),
            seen: interest.touched.load(Ordering::Acquire),
            interest,
            link,
        }
    }

    /// Wakes those who watch `link`.
    pub(super) fn wake(&self, link: LinkId, at: Moment) {
        if let Some(interest) = self.shard(link).lock().get(&link) {
            interest.wake(at);
        }
    }

    /// Wakes all, a few links at a time.
    pub(super) async fn wake_all(&self, at: Moment) {
        let mut left = WAKES_AT_ONCE;
        for shard in &self.shards {
            let watched: Vec<_> = shard.lock().values().map(Arc::clone).collect();
            for interest in watched {
                if left == 0 {
                    sleep(WAKES_PAUSE).await;
                    left = WAKES_AT_ONCE;
                }
                left -= 1;
                interest.wake(at);
            }
        }
    }

    /// How many links are watched.
    #[cfg(test)]
    pub(super) fn links(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, link: LinkId) -> &Mutex<Links> {
        // Link ids are given one after the other.
        &self.shards[link.get() as usize % SHARDS]
    }
}

impl Interest {
    fn wake(&self, at: Moment) {
        let _ = self
            .touched
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
                Some(at.0.max(before.saturating_add(1)))
            });
        self.wake.notify_waiters();
    }
}

impl RouteWatch {
    /// Resolves when the link was touched by a change, or everything was, since this was made or last resolved;
    /// with the time of that change. Nothing is lost if it is dropped before.
    pub async fn changed(&mut self) -> Instant {
        loop {
            // Before the look: what happens after it wakes this.
            let woken = self.interest.wake.notified();
            let touched = self.interest.touched.load(Ordering::Acquire);
            if touched != self.seen {
                self.seen = touched;
                return self.interests.clock.instant(Moment(touched));
            }
            woken.await;
        }
    }
}

impl Drop for RouteWatch {
    fn drop(&mut self) {
        let mut links = self.interests.shard(self.link).lock();
        if self.interest.watches.fetch_sub(1, Ordering::Relaxed) == 1 {
            links.remove(&self.link);
        }
    }
}

impl fmt::Debug for RouteWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteWatch")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
