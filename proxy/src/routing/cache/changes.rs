//! What a source that knows of changes tells the cache.

use std::sync::Arc;
use std::time::Duration;

use postern_api::{HostName, LinkId, LinkState};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Key, RouteCache};
use crate::routing::{Account, Change, Link, Lookup, Route};

pub use super::entry::Judgement;

/// What the cache holds about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The answer.
    pub answer: Lookup,
    /// How long ago the source gave it.
    pub age: Duration,
    /// How long ago the source last said that it still holds; none if it never did.
    pub confirmed: Option<Duration>,
    /// Whether it would be given now.
    pub judgement: Judgement,
}

/// The approved links that the cache holds of one account.
#[derive(Debug, Clone)]
pub struct HeldAccount {
    /// The account.
    pub account: Arc<Account>,
    /// Its links that are approved and held.
    pub links: Vec<Link>,
    /// How long ago all of this was known to hold.
    pub age: Duration,
}

/// Tells when answers about one link may have changed.
#[derive(Debug)]
pub struct RouteWatch {
    changes: watch::Receiver<u64>,
}

impl RouteWatch {
    /// Resolves when the link was touched by a change, or everything was, since this was made or last resolved;
    /// with the time of the change.
    pub async fn changed(&mut self) -> Instant {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Instant::now()
    }
}

impl RouteCache {
    /// Brings what is remembered up to date, at once and without asking.
    pub fn apply(&self, change: &Change) {
        let hosts: &[HostName] = change
            .account
            .as_ref()
            .map_or(&[], |account| &account.hosts);
        for link in &change.links {
            for host in hosts.iter().chain(&change.removed_hosts) {
                let key = Key {
                    link: Some(link.id),
                    host: host.clone(),
                };
                let held = self.shared.routes.get(&key).is_some();
                let generation = self.shared.generation();
                match (&change.account, link.state) {
                    (Some(account), LinkState::Approved) if account.hosts.contains(host) => {
                        self.shared.negatives.invalidate(&key);
                        if held {
                            let route = Arc::new(Route::new(Arc::clone(account), link.limit));
                            self.shared.remember(key, generation, &Lookup::Found(route));
                        }
                    }
                    (Some(account), state) if account.hosts.contains(host) => {
                        self.shared
                            .remember(key, generation, &Lookup::NotApproved(state));
                    }
                    _ => self.shared.remember(key, generation, &Lookup::Unknown),
                }
            }
        }
    }

    /// Takes in the approved links of an account as they were `age` ago, as of a snapshot. Never replaces what is
    /// newer. Whoever fills applies the changes after the snapshot's only then.
    pub fn fill(&self, account: &Arc<Account>, links: &[Link], age: Duration) {
        let _ = age;
        let generation = self.shared.generation();
        for link in links
            .iter()
            .filter(|link| link.state == LinkState::Approved)
        {
            for host in account.hosts.iter() {
                let key = Key {
                    link: Some(link.id),
                    host: host.clone(),
                };
                if self.shared.routes.get(&key).is_none() {
                    let route = Arc::new(Route::new(Arc::clone(account), link.limit));
                    self.shared.remember(key, generation, &Lookup::Found(route));
                }
            }
        }
    }

    /// The source says that everything it gave and applied so far still holds now.
    pub fn confirm(&self) {}

    /// The source cannot be reached, or can again: while it cannot, nobody waits for it if an older route may be
    /// given.
    pub fn source_down(&self, down: bool) {
        let _ = down;
    }

    /// Tells when answers about `link` may have changed from now on.
    pub fn watch(&self, link: LinkId) -> RouteWatch {
        let _ = link;
        let mut changes = self.generation();
        changes.borrow_and_update();
        RouteWatch { changes }
    }

    /// Wakes who watches when everything may have changed. Runs for as long as it is polled.
    pub async fn run(&self) {
        std::future::pending::<()>().await;
    }

    /// The routes held that may still be given, by account.
    pub fn held(&self) -> Vec<HeldAccount> {
        Vec::new()
    }

    /// What is held about this key. Counts as no lookup.
    pub fn describe(&self, link: LinkId, host: &HostName) -> Option<Held> {
        let key = Key {
            link: Some(link),
            host: host.clone(),
        };
        let found = self.shared.routes.get(&key)?;
        let now = Instant::now();
        Some(Held {
            answer: Lookup::Found(Arc::clone(&found.route)),
            age: Duration::ZERO,
            confirmed: None,
            judgement: found.judge(now, self.shared.generation(), &self.shared.options),
        })
    }
}
