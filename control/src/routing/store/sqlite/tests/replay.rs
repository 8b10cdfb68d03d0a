//! Whoever applies the changes one after the other knows what who asks is told.

use std::collections::BTreeMap;

use postern_api::LinkState::{self, Approved, Disconnected, Pending, Rejected};
use postern_api::routing::{AccountRoute, Answer, Change, Link};
use postern_api::{HostName, LinkId};
use proptest::prelude::*;

use super::scene::{Scene, account, account_id, connection, connection_id, entry, host};
use crate::routing::store::{Condition, Decision, Store as _};

/// One of a few accounts, hosts and connections, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Account(usize, Vec<usize>),
    DeleteAccount(usize),
    Connection(usize, usize, u32, LinkState),
    Decide(usize, usize, LinkState),
    DeleteConnection(usize, usize),
    Import(usize, Vec<usize>, usize, u32, LinkState),
}

const ACCOUNTS: [&str; 3] = ["clinic/images", "clinic/records", "lab/images"];
const HOSTS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];
const NAMES: [&str; 3] = ["pe-1", "pe-2", "pe-3"];
const LINKS: u32 = 4;

fn step() -> impl Strategy<Value = Step> {
    let account = || 0..ACCOUNTS.len();
    let hosts = || proptest::sample::subsequence((0..HOSTS.len()).collect::<Vec<_>>(), 1..=2);
    let name = || 0..NAMES.len();
    let state = || proptest::sample::select(vec![Pending, Approved, Rejected, Disconnected]);
    prop_oneof![
        4 => (account(), hosts()).prop_map(|(a, h)| Step::Account(a, h)),
        1 => account().prop_map(Step::DeleteAccount),
        6 => (account(), name(), 0..LINKS, state()).prop_map(|(a, n, l, s)| Step::Connection(a, n, l, s)),
        6 => (account(), name(), state()).prop_map(|(a, n, s)| Step::Decide(a, n, s)),
        2 => (account(), name()).prop_map(|(a, n)| Step::DeleteConnection(a, n)),
        2 => (account(), hosts(), name(), 0..LINKS, state())
            .prop_map(|(a, h, n, l, s)| Step::Import(a, h, n, l, s)),
    ]
}

async fn take(scene: &Scene, step: &Step) {
    let names = |hosts: &[usize]| hosts.iter().map(|at| HOSTS[*at]).collect::<Vec<_>>();
    let pe = |a: usize, n: usize| connection_id(&format!("{}/{}", ACCOUNTS[a], NAMES[n]));
    let store = &scene.store;
    let before = scene.dump();
    let any = Condition::Any;
    let done = match step.clone() {
        Step::Account(a, hosts) => {
            let id = account_id(ACCOUNTS[a]);
            let put = store.put_account(&id, account(&names(&hosts)), any);
            put.await.is_ok()
        }
        Step::DeleteAccount(a) => store
            .delete_account(&account_id(ACCOUNTS[a]), any)
            .await
            .is_ok(),
        Step::Connection(a, n, link, state) => store
            .put_connection(&pe(a, n), connection(link, state), any)
            .await
            .is_ok(),
        Step::Decide(a, n, state) => {
            let decision = Decision {
                state,
                description: None,
            };
            store.decide(&pe(a, n), decision, any).await.is_ok()
        }
        Step::DeleteConnection(a, n) => store.delete_connection(&pe(a, n), any).await.is_ok(),
        Step::Import(a, hosts, n, link, state) => {
            let entry = entry(ACCOUNTS[a], &names(&hosts), &[(NAMES[n], link, state)]);
            store.import(vec![entry]).await.is_ok()
        }
    };
    assert!(
        done || scene.dump() == before,
        "{step:?} was refused and changed something"
    );
}

/// What is known of (link id, host), and of each host for whoever asks, by the changes alone.
#[derive(Default)]
struct Known {
    links: BTreeMap<(LinkId, HostName), Answer>,
    hosts: BTreeMap<HostName, AccountRoute>,
}

impl Known {
    fn apply(&mut self, change: &Change) {
        for host in &change.removed_hosts {
            self.hosts.remove(host);
            self.links.retain(|(_, of), _| of != host);
        }
        let Some(route) = &change.route else { return };
        for host in &route.hosts {
            self.hosts.insert(host.clone(), route.clone());
            for link in &change.links {
                let answer = match link.state {
                    Approved => Answer::Found {
                        account: route.clone(),
                        link: Some(*link),
                    },
                    state => Answer::NotApproved { state },
                };
                self.links.insert((link.link_id, host.clone()), answer);
            }
        }
    }

    /// What is disconnected and what is not there any more comes to the same.
    fn answer(&self, link: LinkId, host: &HostName) -> Answer {
        let known = self.links.get(&(link, host.clone())).cloned();
        known.unwrap_or(Answer::Unknown)
    }
}

fn the_same(known: Answer) -> Answer {
    match known {
        Answer::NotApproved {
            state: Disconnected,
        } => Answer::Unknown,
        other => other,
    }
}

async fn check(steps: Vec<Step>) {
    let scene = Scene::new().await;
    for step in &steps {
        take(&scene, step).await;
    }
    let log = scene.log().await;
    let mut known = Known::default();
    for (change, sequence) in log.iter().zip(1..) {
        assert_eq!(change.sequence, sequence);
        known.apply(change);
    }
    for name in HOSTS.map(host) {
        for link in (0..LINKS).map(LinkId::new) {
            let (_, told) = scene.store.lookup(Some(link), &name).await.unwrap();
            assert_eq!(
                the_same(known.answer(link, &name)),
                the_same(told),
                "{link} {name} after {steps:#?}"
            );
        }
        let (_, told) = scene.store.lookup(None, &name).await.unwrap();
        let route = known.hosts.get(&name).cloned();
        let found = route.map_or(Answer::Unknown, |account| Answer::Found {
            account,
            link: None,
        });
        assert_eq!(told, found, "{name} after {steps:#?}");
    }
    let mut snapshot = scene.store.snapshot().await.unwrap();
    assert_eq!(snapshot.head.sequence, log.len() as u64);
    while let Some(account) = snapshot.accounts.recv().await {
        let account = account.unwrap();
        for name in &account.account.hosts {
            assert_eq!(known.hosts[name], account.account);
            for link in &account.links {
                let Link { link_id, state, .. } = *link;
                let expected = match state {
                    Approved => Answer::Found {
                        account: account.account.clone(),
                        link: Some(*link),
                    },
                    state => Answer::NotApproved { state },
                };
                assert_eq!(known.answer(link_id, name), expected);
            }
        }
    }
}

proptest! {
    // Limit: each case is a file of its own, with some thirty commits.
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_changes_tell_all_that_a_lookup_would(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(steps));
    }
}
