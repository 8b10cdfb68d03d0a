//! What a source that knows of changes tells the cache, and what the cache can tell about what it holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_api::{HostName, LinkId, LinkState};

use super::RouteCache;
use super::clock::Moment;
use super::entry::{Found, Judgement, Negative, No, Present};
use super::interest::RouteWatch;
use super::table::Then;
use crate::routing::{Account, Change, Link, Lookup, RequestRate, Route};

/// What the cache holds about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The answer.
    pub answer: Lookup,
    /// How long ago the source gave it.
    pub age: Duration,
    /// How long ago the source last said that it holds; no longer than the age.
    pub confirmed: Duration,
    /// Whether it would be given now.
    pub judgement: Judgement,
}

/// The approved links that the cache holds of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAccount {
    /// The account, as it was known last.
    pub account: Arc<Account>,
    /// Its links that are approved and held, by link id.
    pub links: Vec<Link>,
    /// How long ago all of this was known to hold.
    pub age: Duration,
}

/// The routes of the links of one account: one for all that have no limit of their own.
struct Routes<'a> {
    account: &'a Arc<Account>,
    shared: Arc<Route>,
}

impl RouteCache {
    /// Brings what is remembered up to date, at once and without asking. The caller sees to the order of changes.
    ///
    /// What is no longer approved is a definite "no" from now on, a route that is held is replaced, and what is
    /// remembered of the account's hosts otherwise is forgotten. No answer that was under way meanwhile is taken.
    /// Connections of the links are woken.
    pub fn apply(&self, change: &Change) {
        let generation = self.shared.generation();
        let routes = change.account.as_ref().map(Routes::of);
        let current: &[HostName] = change
            .account
            .as_ref()
            .map_or(&[], |account| &account.hosts);
        for link in &change.links {
            for host in current {
                match (&routes, link.state) {
                    (Some(routes), LinkState::Approved) => {
                        self.approve(link, host, routes, generation);
                    }
                    (_, state) => self.deny(link.id, host, No::NotApproved(state), generation),
                }
            }
            let removed = change.removed_hosts.iter();
            for host in removed.filter(|host| !current.contains(host)) {
                self.deny(link.id, host, No::Unknown, generation);
            }
        }
        for host in current.iter().chain(&change.removed_hosts) {
            self.forget_whoever(host);
        }
        let now = self.shared.clock.now();
        for link in &change.links {
            self.shared.interests.wake(link.id, now);
        }
    }

    /// Takes in the approved links of an account as they were `age` ago, from a snapshot. Never replaces what is
    /// newer, nor a "no" that is.
    ///
    /// Whoever fills must apply the changes since the snapshot *after* that, even if it applied them before: what
    /// is not held is not known to be newer.
    pub fn fill(&self, account: &Arc<Account>, links: &[Link], age: Duration) {
        let shared = &self.shared;
        let generation = shared.generation();
        let at = shared.clock.now().before(age);
        let routes = Routes::of(account);
        for link in links {
            if link.state != LinkState::Approved {
                continue;
            }
            let route = routes.of_link(link.limit);
            for host in account.hosts.iter() {
                let key = shared.keys.key(Some(link.id), host);
                // Under the lock of the flights, so that no newer answer comes between the look and the write.
                shared.flights.hold(|| {
                    let newer_no = shared
                        .negatives
                        .look(key, |no| no.generation == generation && no.at >= at);
                    if newer_no == Some(true) {
                        return;
                    }
                    shared.routes.update(key, |found| match found {
                        Some(found) if found.generation == generation && found.at >= at => {
                            Then::Keep
                        }
                        _ => Then::Put(Found::new(
                            Arc::clone(&route),
                            at,
                            generation,
                            None,
                            &shared.times,
                        )),
                    });
                    shared.negatives.update(key, |_| Then::Remove);
                });
            }
        }
    }

    /// The source says that everything it gave or applied so far holds now.
    pub fn confirm(&self) {
        let now = self.shared.clock.now();
        self.shared.confirmed.fetch_max(now.0, Ordering::Relaxed);
    }

    /// The source cannot be reached, or can again. While it cannot, nobody waits for it where an older route may be
    /// given.
    pub fn source_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::Relaxed);
    }

    /// Tells when answers about `link` may have changed from now on: watch first, then ask.
    pub fn watch(&self, link: LinkId) -> RouteWatch {
        self.shared.interests.watch(link)
    }

    /// Wakes who watches when everything may have changed. Goes on for as long as it is polled.
    pub async fn run(&self) {
        let mut generation = self.shared.followed.clone();
        while generation.changed().await.is_ok() {
            let now = self.shared.clock.now();
            self.shared.interests.wake_all(now).await;
        }
        // The source is gone, and nothing will ever change again.
        std::future::pending::<()>().await;
    }

    /// The routes held that may still be given, by account, for a snapshot. Takes as much memory as that has text;
    /// each part of the cache is locked against changes while it is read.
    pub fn held(&self) -> Vec<HeldAccount> {
        let shared = &self.shared;
        let present = shared.present();
        let mut accounts: HashMap<Arc<str>, Gathered> = HashMap::new();
        shared.routes.each(|link, found| {
            let judgement = found.judge(&present, &shared.times);
            // What may have ceased to hold unseen must not come back from a snapshot as if it had been seen.
            let is_good = found.generation == present.generation && judgement != Judgement::TooOld;
            let (Some(id), true) = (link, is_good) else {
                return;
            };
            let limit = found.route.link_limit();
            let known = found.known(&present);
            let account = found.route.account();
            match accounts.entry(Arc::clone(&account.name)) {
                Entry::Vacant(first) => {
                    first.insert(Gathered {
                        account: Arc::clone(account),
                        latest: found.at,
                        oldest: known,
                        links: vec![approved(id, limit)],
                    });
                }
                Entry::Occupied(mut others) => {
                    let others = others.get_mut();
                    if found.at > others.latest {
                        others.account = Arc::clone(account);
                        others.latest = found.at;
                    }
                    others.oldest = others.oldest.min(known);
                    others.links.push(approved(id, limit));
                }
            }
        });
        accounts
            .into_values()
            .map(|gathered| gathered.into_held(&present))
            .collect()
    }

    /// What is held about this key. Counts as no lookup.
    pub fn describe(&self, link: LinkId, host: &HostName) -> Option<Held> {
        let shared = &self.shared;
        let key = shared.keys.key(Some(link), host);
        let present = shared.present();
        let since = |moment| Duration::from_nanos(present.now.since(moment));
        let found = shared.routes.look(key, |found| Held {
            answer: Lookup::Found(Arc::clone(&found.route)),
            age: since(found.at),
            confirmed: since(found.known(&present)),
            judgement: found.judge(&present, &shared.times),
        });
        found.or_else(|| {
            shared.negatives.look(key, |negative| Held {
                answer: negative.no.into(),
                age: since(negative.at),
                confirmed: since(negative.at),
                judgement: if negative.is_fresh(present.now, present.generation) {
                    Judgement::Fresh
                } else {
                    Judgement::TooOld
                },
            })
        })
    }

    /// The answer that would be given at once. Counts as no lookup, and asks nobody.
    pub fn peek(&self, link: LinkId, host: &HostName) -> Option<Lookup> {
        let held = self.describe(link, host)?;
        matches!(held.judgement, Judgement::Fresh | Judgement::Stale).then_some(held.answer)
    }

    /// Whether what is held about this key was given since everything may have changed last. `false` if nothing is.
    pub fn is_current(&self, link: LinkId, host: &HostName) -> bool {
        let shared = &self.shared;
        let key = shared.keys.key(Some(link), host);
        let generation = shared.generation();
        let found = shared
            .routes
            .look(key, |found| found.generation == generation);
        let current =
            found.or_else(|| shared.negatives.look(key, |no| no.generation == generation));
        current == Some(true)
    }

    /// The link is approved for the host: a route that is held is this one now, a "no" is forgotten.
    fn approve(&self, link: &Link, host: &HostName, routes: &Routes<'_>, generation: u64) {
        let shared = &self.shared;
        let key = shared.keys.key(Some(link.id), host);
        shared.flights.overtake(key, || {
            let now = shared.clock.now();
            shared.routes.update(key, |held| match held {
                None => Then::Keep,
                Some(_) => Then::Put(Found::new(
                    routes.of_link(link.limit),
                    now,
                    generation,
                    None,
                    &shared.times,
                )),
            });
            shared.negatives.update(key, |_| Then::Remove);
        });
    }

    /// The link is not approved for the host. Remembered even if nobody asked so far: it must hold if the source
    /// cannot say it again.
    fn deny(&self, link: LinkId, host: &HostName, no: No, generation: u64) {
        let shared = &self.shared;
        let key = shared.keys.key(Some(link), host);
        shared.flights.overtake(key, || {
            let now = shared.clock.now();
            shared.routes.update(key, |_| Then::Remove);
            let no = Negative::new(no, now, generation, None, &shared.times);
            shared.negatives.update(key, |_| Then::Put(no));
        });
    }

    fn forget_whoever(&self, host: &HostName) {
        let shared = &self.shared;
        let key = shared.keys.key(None, host);
        shared.flights.overtake(key, || {
            shared.routes.update(key, |_| Then::Remove);
            shared.negatives.update(key, |_| Then::Remove);
        });
    }
}

/// What was found of one account so far.
struct Gathered {
    account: Arc<Account>,
    latest: Moment,
    oldest: Moment,
    /// Once for each host.
    links: Vec<Link>,
}

impl Gathered {
    fn into_held(mut self, present: &Present) -> HeldAccount {
        self.links.sort_unstable_by_key(|link| link.id);
        self.links.dedup_by_key(|link| link.id);
        HeldAccount {
            account: self.account,
            links: self.links,
            age: Duration::from_nanos(present.now.since(self.oldest)),
        }
    }
}

const fn approved(id: LinkId, limit: Option<RequestRate>) -> Link {
    Link {
        id,
        state: LinkState::Approved,
        limit,
    }
}

impl<'a> Routes<'a> {
    fn of(account: &'a Arc<Account>) -> Self {
        Self {
            account,
            shared: Arc::new(Route::new(Arc::clone(account), None)),
        }
    }

    fn of_link(&self, limit: Option<RequestRate>) -> Arc<Route> {
        match limit {
            None => Arc::clone(&self.shared),
            Some(_) => Arc::new(Route::new(Arc::clone(self.account), limit)),
        }
    }
}
