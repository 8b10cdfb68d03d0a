//! The route cache: asks the source once, remembers the answer as long as it may hold, and no longer.
//!
//! | what is remembered | and the source | is answered |
//! |---|---|---|
//! | found, younger than `ttl` and than its own lifetime | – | at once |
//! | found, then `stale_while_revalidate` longer | is asked in the background | at once |
//! | found, older, or of an older generation | answers | the new answer |
//! | found, known to hold less than `stale_max` ago | fails | the old answer; then so at once, and the source is asked in the background |
//! | found, known to hold less than `stale_max` ago | is known to be out of reach | the old answer at once, and the source is asked in the background |
//! | not found or not approved, younger than `not_found_ttl` | – | at once |
//! | nothing of these | answers | the new answer |
//! | nothing of these | fails | the error, which is not remembered |
//!
//! The source is asked once for a key at a time, however many wait; they share its answer or its error.
//! A source call goes on if those who wait for it leave. Answers that say no are kept apart and bounded apart, so
//! that a flood of unknown link ids cannot push out routes.
//!
//! A source that knows of changes applies them ([`RouteCache::apply`]), so that nothing has to be asked for and
//! nobody waits for a revocation; and it confirms that what is held still holds, which counts for `stale_max`.
//!
//! A hit waits for memory as seldom as can be: the key and the route's pointer stand side by side, the lock of
//! their shard is held for a few instructions, and nothing is allocated.
//!
//! Invariant: once the source has a new generation, no answer of an older one is given before the source was
//! asked again. A definite "no" forgets the route that was there before. What was applied is
//! never undone by an answer that was under way meanwhile.

mod changes;
mod clock;
mod entry;
mod flights;
mod interest;
mod stats;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Answer, Lookup, LookupError, Route, RouteSource};
use crate::metrics::{LookupEnd, Metrics};
pub use changes::{Held, HeldAccount};
use clock::{Clock, Moment};
pub use entry::Judgement;
use entry::{Found, Negative, No, Present, Times};
use flights::{Flights, Lead, Ticket};
use interest::Interests;
pub use interest::RouteWatch;
use stats::Counters;
pub use stats::RouteCacheStats;
use table::{Key, Keys, Table, Then};

/// How long and how much the route cache remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteCacheOptions {
    /// How long a route holds without asking again.
    pub ttl: Duration,
    /// How much longer it is given out while the source is asked in the background.
    pub stale_while_revalidate: Duration,
    /// How long an answer that says no (unknown, not approved) holds.
    pub not_found_ttl: Duration,
    /// For how long after a route was last known to hold it is given out while the source fails.
    pub stale_max: Duration,
    /// How many routes are remembered; a sixteenth of it more for answers that say no.
    pub entries_max: u64,
    /// How long the source may take to answer.
    pub lookup_timeout: Duration,
}

impl Default for RouteCacheOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_mins(1),
            stale_while_revalidate: Duration::from_mins(1),
            not_found_ttl: Duration::from_secs(5),
            stale_max: Duration::from_hours(1),
            // Limit: 175 bytes each beside the route itself, of which 128 are the slot.
            entries_max: 1_000_000,
            lookup_timeout: Duration::from_secs(2),
        }
    }
}

/// The route cache in front of a [`RouteSource`]. Cloning copies a pointer.
///
/// Must be used inside a tokio runtime: it spawns the calls of the source.
#[derive(Clone)]
pub struct RouteCache {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn RouteSource>,
    lookup_timeout: Duration,
    times: Times,
    clock: Clock,
    keys: Keys,
    routes: Table<Found>,
    negatives: Table<Negative>,
    generation: ArcSwap<Generation>,
    /// The generation that those who watch were woken for last.
    followed: watch::Receiver<u64>,
    /// A [`Moment`]: when the source last said that everything holds.
    confirmed: AtomicU64,
    down: AtomicBool,
    flights: Flights,
    interests: Arc<Interests>,
    counters: Counters,
    metrics: Option<Arc<Metrics>>,
}

/// A generation of the source, and how to tell that it has passed without taking a lock.
struct Generation {
    number: u64,
    changes: watch::Receiver<u64>,
}

// Limit: each costs a task and a call of the source. Far more than connections arrive within `lookup_timeout`
// at the rate that one instance can shake hands with (a few thousand a second).
const LOOKUPS_MAX: usize = 16_384;

// A generation may pass, or a change be applied, while an answer is awaited. Each further try of the first kind
// takes a whole call of the source, so a source that changes this often is answering nobody.
const TRIES_MAX: usize = 4;

impl RouteCache {
    /// An empty cache in front of `source`, seen by nobody.
    pub fn new(source: Arc<dyn RouteSource>, options: RouteCacheOptions) -> Self {
        Self::make(source, options, None)
    }

    /// An empty cache in front of `source`. How long that takes to answer is told to `metrics`.
    pub fn observed(
        source: Arc<dyn RouteSource>,
        options: RouteCacheOptions,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self::make(source, options, Some(metrics))
    }

    fn make(
        source: Arc<dyn RouteSource>,
        options: RouteCacheOptions,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        let negatives_max = (options.entries_max / 16).max(1);
        let generation = Generation::of(source.generation());
        let clock = Clock::new();
        let keys = Keys::default();
        let shared = Shared {
            source,
            lookup_timeout: options.lookup_timeout,
            times: Times::of(&options),
            clock,
            routes: Table::new(options.entries_max, keys.clone()),
            negatives: Table::new(negatives_max, keys.clone()),
            keys,
            followed: generation.changes.clone(),
            generation: ArcSwap::from_pointee(generation),
            confirmed: AtomicU64::new(Moment::NEVER.0),
            down: AtomicBool::new(false),
            flights: Flights::new(LOOKUPS_MAX),
            interests: Arc::new(Interests::new(clock)),
            counters: Counters::default(),
            metrics,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What `link` may reach as `host`: remembered, or asked for.
    ///
    /// Fails only if the source does and nothing usable is remembered; then nothing may be forwarded.
    pub async fn get(&self, link: LinkId, host: &HostName) -> Result<Lookup, LookupError> {
        self.get_key(self.shared.keys.key(Some(link), host)).await
    }

    /// The answer, if it can be given at once. Allocates nothing if it is fresh; if it may be given stale, the
    /// source is asked in the background. `None` is no answer: only [`RouteCache::get`] can tell.
    #[cfg(test)]
    fn try_hit(&self, link: LinkId, host: &HostName) -> Option<Lookup> {
        self.remembered(self.shared.keys.key(Some(link), host))
    }

    /// The route of `host`, whoever asks. Only for enforcement mode `audit`, which lets refused requests pass.
    pub async fn get_host(&self, host: &HostName) -> Result<Option<Arc<Route>>, LookupError> {
        match self.get_key(self.shared.keys.key(None, host)).await? {
            Lookup::Found(route) => Ok(Some(route)),
            Lookup::NotApproved(_) | Lookup::Unknown => Ok(None),
        }
    }

    /// The generation of the source, now.
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// What the cache has done so far and holds now.
    pub fn stats(&self) -> RouteCacheStats {
        let shared = &self.shared;
        RouteCacheStats {
            entries: shared.routes.entries(),
            negative_entries: shared.negatives.entries(),
            evictions: shared.routes.evictions(),
            negative_evictions: shared.negatives.evictions(),
            ..shared.counters.read()
        }
    }

    async fn get_key(&self, key: Key<'_>) -> Result<Lookup, LookupError> {
        for _ in 0..TRIES_MAX {
            if let Some(answer) = self.remembered(key) {
                return Ok(answer);
            }
            let mut landing = match self.shared.flights.join(key, self.shared.generation())? {
                Ticket::Lead(lead) => {
                    // A flight may have landed since we looked. After this one took its place, none can.
                    if let Some(answer) = self.remembered(key) {
                        lead.abandon();
                        return Ok(answer);
                    }
                    self.shared.counters.miss();
                    let landing = lead.landing();
                    tokio::spawn(Arc::clone(&self.shared).fly(lead));
                    landing
                }
                Ticket::Wait(landing) => {
                    self.shared.counters.coalesced();
                    landing
                }
            };
            match landing.wait().await {
                Some(Err(error)) => return Err(error),
                Some(Ok(answer)) if landing.generation >= self.shared.generation() => {
                    return Ok(answer);
                }
                Some(Ok(_)) | None => {}
            }
        }
        Err(LookupError::Unsettled)
    }

    /// What can be answered without waiting for the source.
    fn remembered(&self, key: Key<'_>) -> Option<Lookup> {
        let shared = &self.shared;
        let generation = shared.generation();
        let now = shared.clock.now();
        let held = shared.routes.read(key, |found| {
            if found.is_fresh(now, generation) {
                return Some((Arc::clone(&found.route), Judgement::Fresh, false));
            }
            let judgement = found.judge(&shared.present_at(now, generation), &shared.times);
            (judgement == Judgement::Stale).then(|| {
                let refresh = found.begin_refresh(now);
                (Arc::clone(&found.route), judgement, refresh)
            })
        });
        match held {
            Some(Some((route, Judgement::Fresh, _))) => {
                shared.counters.hit();
                Some(Lookup::Found(route))
            }
            Some(Some((route, _, refresh))) => {
                shared.counters.stale();
                if refresh {
                    self.refresh(key, generation);
                }
                Some(Lookup::Found(route))
            }
            Some(None) => None,
            None => {
                let negative = shared.negatives.read(key, |negative| {
                    negative.is_fresh(now, generation).then_some(negative.no)
                });
                let no = negative.flatten()?;
                shared.counters.negative_hit();
                Some(no.into())
            }
        }
    }

    /// Asks the source in the background, unless somebody is asking already or too many are.
    fn refresh(&self, key: Key<'_>, generation: u64) {
        if let Ok(Ticket::Lead(lead)) = self.shared.flights.join(key, generation) {
            tokio::spawn(Arc::clone(&self.shared).fly(lead));
        }
    }
}

impl Shared {
    /// The generation of the source, now. One atomic load as long as it does not change.
    fn generation(&self) -> u64 {
        let known = self.generation.load();
        // An error means that the source is gone; it may have said something before it went.
        let changed = known.changes.has_changed();
        if !changed.unwrap_or_else(|_| *known.changes.borrow() != known.number) {
            return known.number;
        }
        let newer = Generation::of(known.changes.clone());
        let number = newer.number;
        self.generation.store(Arc::new(newer));
        number
    }

    fn present(&self) -> Present {
        self.present_at(self.clock.now(), self.generation())
    }

    fn present_at(&self, now: Moment, generation: u64) -> Present {
        Present {
            now,
            generation,
            confirmed: Moment(self.confirmed.load(Ordering::Relaxed)),
            down: self.down.load(Ordering::Relaxed),
        }
    }

    /// One call of the source, and what follows from it.
    async fn fly(self: Arc<Self>, lead: Lead) {
        let began = self.clock.now();
        let answer = match timeout(self.lookup_timeout, self.ask(&lead)).await {
            Ok(answer) => answer,
            Err(_) => Err(LookupError::Late(self.lookup_timeout)),
        };
        if let Some(metrics) = &self.metrics {
            let took = Duration::from_nanos(self.clock.now().since(began));
            metrics.route_asked(LookupEnd::of(&answer), took);
        }
        let (link, host) = lead.asked().clone();
        let generation = lead.generation();
        lead.land(|may_write| {
            let key = self.keys.key(link, &host);
            match answer {
                Ok(answer) => {
                    if may_write {
                        self.remember(key, generation, &answer);
                    }
                    Ok(answer.lookup)
                }
                Err(error) => {
                    self.counters.error();
                    self.fall_back(key, generation).ok_or(error)
                }
            }
        });
    }

    async fn ask(&self, lead: &Lead) -> Result<Answer, LookupError> {
        match lead.asked() {
            (Some(link), host) => self.source.lookup(*link, host).await,
            (None, host) => self.source.lookup_host(host).await,
        }
    }

    fn remember(&self, key: Key<'_>, generation: u64, answer: &Answer) {
        let now = self.clock.now();
        let Answer { lookup, lifetime } = answer;
        // Whether connections may rely on something else: a change that nobody told us of.
        let mut differs = false;
        let no = match lookup {
            Lookup::Found(route) => {
                let found = Found::new(Arc::clone(route), now, generation, *lifetime, &self.times);
                self.routes.update(key, |held| {
                    differs = held.is_some_and(|held| held.route != *route);
                    Then::Put(found)
                });
                self.negatives.update(key, |_| Then::Remove);
                None
            }
            Lookup::NotApproved(state) => Some(No::NotApproved(*state)),
            Lookup::Unknown => Some(No::Unknown),
        };
        if let Some(no) = no {
            // First: the route no longer holds, not even while the source fails.
            self.routes.update(key, |held| {
                differs = held.is_some();
                Then::Remove
            });
            let no = Negative::new(no, now, generation, *lifetime, &self.times);
            self.negatives.update(key, |_| Then::Put(no));
        }
        if let (true, Some(link)) = (differs, key.link) {
            self.interests.wake(link, now);
        }
    }

    /// The last good answer, if it may still be given although the source failed.
    fn fall_back(&self, key: Key<'_>, generation: u64) -> Option<Lookup> {
        let present = self.present_at(self.clock.now(), generation);
        self.routes.look(key, |found| {
            found.source_failed(present.now, generation);
            match found.judge(&present, &self.times) {
                Judgement::TooOld => None,
                _ => Some(Lookup::Found(Arc::clone(&found.route))),
            }
        })?
    }
}

impl Generation {
    fn of(mut changes: watch::Receiver<u64>) -> Self {
        let number = *changes.borrow_and_update();
        Self { number, changes }
    }
}
