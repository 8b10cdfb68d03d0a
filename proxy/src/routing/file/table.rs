//! The routes of one file, as they are looked up.
//!
//! Host to account to link, so that a link is stored once however many hosts its account has: 12 bytes and a
//! share of the hash table, where a map from (link id, host) would take 32 for each host.

use std::collections::HashMap;
use std::sync::Arc;

use postern_api::{HostName, LinkId, LinkState};

use crate::routing::{Account, Lookup, RequestRate, Route};

/// All accounts of a file.
#[derive(Debug, Default)]
pub(super) struct Table {
    hosts: HashMap<HostName, Arc<Entry>>,
    accounts: usize,
    links: usize,
}

/// One account with its links.
#[derive(Debug)]
struct Entry {
    /// The route of every link that has no limit of its own.
    route: Arc<Route>,
    links: HashMap<LinkId, Link>,
}

/// One link of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) state: LinkState,
    pub(super) limit: Option<RequestRate>,
}

impl Table {
    /// Adds an account. The caller has seen to it that no other account has one of its hosts.
    pub(super) fn insert(&mut self, account: Account, links: HashMap<LinkId, Link>) {
        self.accounts += 1;
        self.links += links.len();
        let hosts = Arc::clone(&account.hosts);
        let route = Arc::new(Route::new(Arc::new(account), None));
        let entry = Arc::new(Entry { route, links });
        for host in hosts.iter() {
            self.hosts.insert(host.clone(), Arc::clone(&entry));
        }
    }

    pub(super) fn lookup(&self, link: LinkId, host: &HostName) -> Lookup {
        let Some(entry) = self.hosts.get(host) else {
            return Lookup::Unknown;
        };
        match entry.links.get(&link) {
            None => Lookup::Unknown,
            Some(Link {
                state: LinkState::Approved,
                limit: None,
            }) => Lookup::Found(Arc::clone(&entry.route)),
            Some(Link {
                state: LinkState::Approved,
                limit,
            }) => Lookup::Found(Arc::new(Route::new(
                Arc::clone(entry.route.account()),
                *limit,
            ))),
            Some(Link { state, .. }) => Lookup::NotApproved(*state),
        }
    }

    pub(super) fn lookup_host(&self, host: &HostName) -> Lookup {
        let route = self.hosts.get(host).map(|entry| Arc::clone(&entry.route));
        route.map_or(Lookup::Unknown, Lookup::Found)
    }

    /// Accounts and links.
    pub(super) const fn counts(&self) -> (usize, usize) {
        (self.accounts, self.links)
    }
}
