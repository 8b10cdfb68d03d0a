//! The route cache: asks the source once, remembers the answer as long as it may hold, and no longer.
//!
//! | what is remembered | and the source | is answered |
//! |---|---|---|
//! | found, younger than `ttl` | – | at once |
//! | found, then `stale_while_revalidate` longer | is asked in the background | at once |
//! | found, older, or of an older generation | answers | the new answer |
//! | found, younger than `stale_max` | fails | the old answer; then so at once, and the source is asked in the background |
//! | not found or not approved, younger than `not_found_ttl` | – | at once |
//! | nothing of these | answers | the new answer |
//! | nothing of these | fails | the error, which is not remembered |
//!
//! The source is asked once for a key at a time, however many wait; they share its answer or its error.
//! A source call goes on if those who wait for it leave. Answers that say no are kept apart and bounded apart, so
//! that a flood of unknown link ids cannot push out routes.
//!
//! Invariant: once the source has a new generation, no answer of an older one is given before the source was
//! asked again. A definite "no" forgets the route that was there before.

mod changes;
mod entry;
mod flights;
mod stats;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::sync::Cache;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Lookup, LookupError, Route, RouteSource};
pub use changes::{Held, HeldAccount, Judgement, RouteWatch};
use entry::{Found, Negative};
use flights::{Flights, Lead, Ticket};
use stats::Counters;
pub use stats::RouteCacheStats;

/// How long and how much the route cache remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteCacheOptions {
    /// How long a route holds without asking again.
    pub ttl: Duration,
    /// How much longer it is given out while the source is asked in the background.
    pub stale_while_revalidate: Duration,
    /// How long an answer that says no (unknown, not approved) holds.
    pub not_found_ttl: Duration,
    /// The age up to which a route is given out while the source fails.
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
            // Limit: measured at about 500 bytes each, so half a gigabyte when full.
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
    options: RouteCacheOptions,
    routes: Cache<Key, Arc<Found>>,
    negatives: Cache<Key, Negative>,
    generation: ArcSwap<Generation>,
    flights: Flights,
    counters: Counters,
}

/// Who asks for which host. No link is "whoever asks".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    link: Option<LinkId>,
    host: HostName,
}

/// A generation of the source, and how to tell that it has passed without taking a lock.
struct Generation {
    number: u64,
    changes: watch::Receiver<u64>,
}

// Limit: each costs a task and a call of the source. Far more than connections arrive within `lookup_timeout`
// at the rate that one instance can shake hands with (a few thousand a second).
const LOOKUPS_MAX: usize = 16_384;

// A generation may pass while its answer is awaited. Each further try takes a whole call of the source, so a
// source that changes this often is answering nobody.
const TRIES_MAX: usize = 4;

impl RouteCache {
    /// An empty cache in front of `source`.
    pub fn new(source: Arc<dyn RouteSource>, options: RouteCacheOptions) -> Self {
        let negatives_max = (options.entries_max / 16).max(1);
        let generation = Generation::of(source.generation());
        let shared = Shared {
            source,
            options,
            routes: Cache::new(options.entries_max),
            negatives: Cache::new(negatives_max),
            generation: ArcSwap::from_pointee(generation),
            flights: Flights::new(LOOKUPS_MAX),
            counters: Counters::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What `link` may reach as `host`: remembered, or asked for.
    ///
    /// Fails only if the source does and nothing usable is remembered; then nothing may be forwarded.
    pub async fn get(&self, link: LinkId, host: &HostName) -> Result<Lookup, LookupError> {
        self.get_key(Key {
            link: Some(link),
            host: host.clone(),
        })
        .await
    }

    /// The answer, if it can be given at once. Allocates nothing if it is fresh; if it may be given stale, the
    /// source is asked in the background. `None` is no answer: only [`RouteCache::get`] can tell.
    pub fn try_hit(&self, link: LinkId, host: &HostName) -> Option<Lookup> {
        self.remembered(&Key {
            link: Some(link),
            host: host.clone(),
        })
    }

    /// The route of `host`, whoever asks. Only for enforcement mode `audit`, which lets refused requests pass.
    pub async fn get_host(&self, host: &HostName) -> Result<Option<Arc<Route>>, LookupError> {
        match self
            .get_key(Key {
                link: None,
                host: host.clone(),
            })
            .await?
        {
            Lookup::Found(route) => Ok(Some(route)),
            Lookup::NotApproved(_) | Lookup::Unknown => Ok(None),
        }
    }

    /// Changes after answers may have ceased to hold: whoever still relies on one asks again.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.shared.source.generation()
    }

    /// What the cache has done so far and holds now.
    pub fn stats(&self) -> RouteCacheStats {
        let entries = self.shared.routes.entry_count();
        self.shared
            .counters
            .read(entries, self.shared.negatives.entry_count())
    }

    async fn get_key(&self, key: Key) -> Result<Lookup, LookupError> {
        for _ in 0..TRIES_MAX {
            if let Some(answer) = self.remembered(&key) {
                return Ok(answer);
            }
            let mut landing = match self.shared.flights.join(&key, self.shared.generation())? {
                Ticket::Lead(lead) => {
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
            let answer = landing.wait().await?;
            if landing.generation >= self.shared.generation() {
                return Ok(answer);
            }
        }
        Err(LookupError::Unsettled)
    }

    /// What can be answered without waiting for the source.
    fn remembered(&self, key: &Key) -> Option<Lookup> {
        let shared = &self.shared;
        let generation = shared.generation();
        let now = Instant::now();
        if let Some(found) = shared.routes.get(key) {
            return match found.judge(now, generation, &shared.options) {
                Judgement::Fresh => {
                    shared.counters.hit();
                    Some(Lookup::Found(Arc::clone(&found.route)))
                }
                Judgement::Stale => {
                    shared.counters.stale();
                    if found.begin_refresh(now) {
                        self.refresh(key, generation);
                    }
                    Some(Lookup::Found(Arc::clone(&found.route)))
                }
                Judgement::OnlyIfSourceFails | Judgement::TooOld => None,
            };
        }
        let negative = shared.negatives.get(key)?;
        if !negative.is_fresh(now, generation, shared.options.not_found_ttl) {
            return None;
        }
        shared.counters.negative_hit();
        Some(negative.answer)
    }

    /// Asks the source in the background, unless somebody is asking already or too many are.
    fn refresh(&self, key: &Key, generation: u64) {
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

    /// One call of the source, and what follows from it.
    async fn fly(self: Arc<Self>, lead: Lead) {
        let limit = self.options.lookup_timeout;
        let answer = match timeout(limit, self.ask(lead.key())).await {
            Ok(answer) => answer,
            Err(_) => Err(LookupError::Late(limit)),
        };
        let (key, generation) = (lead.key().clone(), lead.generation());
        lead.land(|may_write| match answer {
            Ok(answer) => {
                if may_write {
                    self.remember(key, generation, &answer);
                }
                Ok(answer)
            }
            Err(error) => {
                self.counters.error();
                self.fall_back(&key, generation).ok_or(error)
            }
        });
    }

    async fn ask(&self, key: &Key) -> Result<Lookup, LookupError> {
        let answer = match key.link {
            Some(link) => self.source.lookup(link, &key.host).await?,
            None => self.source.lookup_host(&key.host).await?,
        };
        Ok(answer.lookup)
    }

    fn remember(&self, key: Key, generation: u64, answer: &Lookup) {
        let now = Instant::now();
        if let Lookup::Found(route) = answer {
            // The route's own copy of the name, so that a million connections' copies need not be kept.
            let own = route
                .hosts()
                .iter()
                .find(|host| **host == key.host)
                .cloned();
            let key = Key {
                link: key.link,
                host: own.unwrap_or(key.host),
            };
            self.negatives.invalidate(&key);
            self.routes.insert(
                key,
                Arc::new(Found::new(Arc::clone(route), now, generation)),
            );
        } else {
            // First: the route no longer holds, not even while the source fails.
            self.routes.invalidate(&key);
            self.negatives.insert(
                key,
                Negative {
                    answer: answer.clone(),
                    at: now,
                    generation,
                },
            );
        }
    }

    /// The last good answer, if it may still be given although the source failed.
    fn fall_back(&self, key: &Key, generation: u64) -> Option<Lookup> {
        let found = self.routes.get(key)?;
        let now = Instant::now();
        found.source_failed(now, generation);
        match found.judge(now, generation, &self.options) {
            Judgement::TooOld => None,
            _ => Some(Lookup::Found(Arc::clone(&found.route))),
        }
    }
}

impl Generation {
    fn of(mut changes: watch::Receiver<u64>) -> Self {
        let number = *changes.borrow_and_update();
        Self { number, changes }
    }
}
