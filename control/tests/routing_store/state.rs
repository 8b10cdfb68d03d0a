//! What a store holds, by its tables and by its log.

use std::collections::BTreeMap;
use std::path::Path;

use postern_api::LinkId;
use postern_api::routing::{AccountRoute, Change, Link};
use postern_control::routing::store::Store as _;
use postern_control::routing::store::sqlite::{SqliteOptions, SqliteStore};

/// The accounts with their links.
pub type State = BTreeMap<String, (AccountRoute, BTreeMap<LinkId, Link>)>;

/// A store in which nobody else writes any more.
pub struct Reopened {
    pub log: Vec<Change>,
    pub state: State,
}

impl Reopened {
    /// Opens it, and sees that the log is contiguous and comes to what the tables say.
    pub fn new(path: &Path) -> Self {
        block_on(Self::read(path))
    }

    async fn read(path: &Path) -> Self {
        let store = SqliteStore::open(&SqliteOptions::new(path)).await.unwrap();
        let log = log(&store).await;
        for (change, sequence) in log.iter().zip(1..) {
            assert_eq!(change.sequence, sequence, "the log is not contiguous");
        }
        let state = tables(&store).await;
        assert_eq!(
            state,
            replayed(&log),
            "the log says otherwise than the tables"
        );
        for (account, links) in state.values() {
            for (host, link) in account
                .hosts
                .iter()
                .flat_map(|host| links.keys().map(move |link| (host, link)))
            {
                let (sequence, _) = store.lookup(Some(*link), host).await.unwrap();
                assert_eq!(sequence, log.len() as u64);
            }
        }
        Self { log, state }
    }
}

async fn log(store: &SqliteStore) -> Vec<Change> {
    let mut log = Vec::new();
    loop {
        let after = log.len() as u64;
        let page = store.changes(after, 1000).await.unwrap();
        log.extend(page.changes);
        if log.len() as u64 == page.head.sequence {
            return log;
        }
        assert!(log.len() as u64 > after, "the log ends before its head");
    }
}

async fn tables(store: &SqliteStore) -> State {
    let mut snapshot = store.snapshot().await.unwrap();
    let mut state = State::new();
    while let Some(account) = snapshot.accounts.recv().await {
        let account = account.unwrap();
        let links = account.links.iter().map(|link| (link.link_id, *link));
        let name = account.account.account.clone();
        state.insert(name, (account.account, links.collect()));
    }
    assert_eq!(state.len() as u64, snapshot.head.accounts);
    state
}

fn replayed(log: &[Change]) -> State {
    let mut state = State::new();
    for change in log {
        let Some(route) = change.route.clone() else {
            assert!(state.remove(&change.account).is_some(), "{change:?}");
            continue;
        };
        let account = state
            .entry(change.account.clone())
            .or_insert_with(|| (route.clone(), BTreeMap::new()));
        let gone = account
            .0
            .hosts
            .iter()
            .filter(|host| !route.hosts.contains(host));
        assert!(gone.eq(&change.removed_hosts), "{change:?}");
        account.0 = route;
        if change.what.starts_with("account.") {
            account.1.clear();
        }
        for link in &change.links {
            if change.what == "connection.deleted" {
                account.1.remove(&link.link_id);
            } else {
                account.1.insert(link.link_id, *link);
            }
        }
    }
    state
}

/// Does it, and closes every connection that it has opened: whoever comes next finds what a process has left, and no
/// other one that knows how far it was.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

/// Numbers that look like chance, the same ones for the same beginning (a linear congruential generator).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}
