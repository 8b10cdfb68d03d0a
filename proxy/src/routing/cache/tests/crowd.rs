//! Floods, pressure, and threads.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use async_trait::async_trait;
use postern_api::{HostName, LinkId, LinkState};
use tokio::sync::watch;

use super::{Told, account, host, link, options, route};
use crate::routing::cache::{RouteCache, RouteCacheOptions};
use crate::routing::{
    Account, Answer, Change, Lookup, LookupError, RequestRate, Route, RouteSource,
};

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_takes_no_more_room_and_pushes_out_no_known_one() {
    // A million take a minute where nothing is optimised.
    const KEYS: u32 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let source = Told::new(route("a"));
    let cache = source.cache_with(RouteCacheOptions {
        entries_max: 16_000,
        ..options()
    });
    for link in 0..1_000 {
        cache.get(LinkId::new(link), &host()).await.unwrap();
    }
    source.answers(Lookup::Unknown);
    let host = host();
    for link in 1_000..6_000 {
        cache.get(LinkId::new(link), &host).await.unwrap();
    }
    let mut random: u32 = 1;
    let mut places = 0;
    for number in 0..KEYS {
        // A full period of a generator of Lehmer's kind, far from the known ones.
        random = random.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let unknown = Some(LinkId::new(random | 1 << 31));
        // What a lookup comes to in the end; a task for each would take a minute.
        let (shared, host) = (&cache.shared, &host);
        shared.remember(shared.keys.key(unknown, host), 1, &Lookup::Unknown.into());
        if number == 10_000 {
            places = cache.shared.negatives.places();
        }
    }
    let stats = cache.stats();
    assert!(stats.negative_entries <= 1_000, "{stats:?}");
    assert_eq!(cache.shared.negatives.places(), places);
    assert_eq!((stats.entries, stats.evictions), (1_000, 0));
    for link in 0..1_000 {
        assert_eq!(cache.try_hit(LinkId::new(link), &host), Some(route("a")));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_outlives_what_is_not() {
    const BUSY: u32 = 500;
    let source = Told::new(route("a"));
    let cache = source.cache_with(RouteCacheOptions {
        entries_max: 1_000,
        ..options()
    });
    let hits = || {
        let held = |link: &u32| cache.try_hit(LinkId::new(*link), &host()).is_some();
        (0..BUSY).filter(held).count()
    };
    for link in 0..BUSY {
        cache.get(LinkId::new(link), &host()).await.unwrap();
    }
    for link in 0..20_000 {
        cache.get(LinkId::new(BUSY + link), &host()).await.unwrap();
        if link % 10 == 0 {
            hits();
        }
    }
    assert!(hits() >= 495, "{} of {BUSY}", hits());
    let stats = cache.stats();
    assert_eq!(stats.entries, 1_000);
    assert_eq!(stats.evictions, 19_500);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_asked_for_again_goes_first() {
    let source = Told::new(route("a"));
    let cache = source.cache_with(RouteCacheOptions {
        entries_max: 100,
        ..options()
    });
    for link in 0..100 {
        cache.get(LinkId::new(link), &host()).await.unwrap();
    }
    for link in 0..50 {
        cache.try_hit(LinkId::new(link), &host());
    }
    for link in 100..120 {
        cache.get(LinkId::new(link), &host()).await.unwrap();
    }
    let kept = (0..50).filter(|link| cache.describe(LinkId::new(*link), &host()).is_some());
    assert!(kept.count() >= 48);
}

#[tokio::test(start_paused = true)]
async fn names_of_every_length_are_told_apart() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let names: Vec<_> = (1..=250)
        .map(|length| {
            let name: String = (0..length)
                .map(|at| if at % 60 == 59 { '.' } else { 'a' })
                .collect();
            HostName::parse(name.trim_end_matches('.')).unwrap()
        })
        .collect();
    for (number, name) in (0..).zip(&names) {
        let answer = Lookup::Found(Arc::new(Route::new(account("a"), NonZeroU32::new(number))));
        source.answers(answer);
        cache.get(LinkId::new(7), name).await.unwrap();
    }
    let mut different = names.clone();
    different.dedup();
    assert_eq!(cache.stats().entries, different.len() as u64);
    for name in &different {
        let answer = cache.try_hit(LinkId::new(7), name);
        assert!(matches!(answer, Some(Lookup::Found(_))), "{name}");
        assert!(cache.describe(LinkId::new(8), name).is_none());
    }
    assert_eq!(
        cache
            .get_host(&names[0])
            .await
            .unwrap()
            .unwrap()
            .link_limit(),
        NonZeroU32::new(249)
    );
}

/// Account routing at some version: even ones approve the link, with the version as a limit; odd ones refuse it.
struct Versions {
    newest: AtomicU32,
    generation: watch::Sender<u64>,
}

fn at(version: u32) -> (LinkState, Arc<Account>) {
    let state = if version.is_multiple_of(2) {
        LinkState::Approved
    } else {
        LinkState::Rejected
    };
    let limit: Option<RequestRate> = NonZeroU32::new(version);
    let account = Account {
        limit,
        ..Account::clone(&account("a"))
    };
    (state, Arc::new(account))
}

#[async_trait]
impl RouteSource for Versions {
    async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Answer, LookupError> {
        let version = self.newest.load(Ordering::SeqCst);
        // It may be overtaken on its way.
        for _ in 0..version % 7 {
            tokio::task::yield_now().await;
        }
        let lookup = match at(version) {
            (LinkState::Approved, account) => Lookup::Found(Arc::new(Route::new(account, None))),
            (state, _) => Lookup::NotApproved(state),
        };
        Ok(lookup.into())
    }

    async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
        Ok(Lookup::Unknown.into())
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_thread_ever_sees_what_was_before_a_change_that_was_applied() {
    const VERSIONS: u32 = 4_000;
    const KEY: LinkId = LinkId::new(7);
    let source = Arc::new(Versions {
        newest: AtomicU32::new(2),
        generation: watch::Sender::new(1),
    });
    let asked: Arc<dyn RouteSource> = Arc::<Versions>::clone(&source);
    let cache = RouteCache::new(asked, options());
    let applied = Arc::new(AtomicU32::new(2));
    let answers = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (cache, source) = (cache.clone(), Arc::clone(&source));
            let (applied, answers) = (Arc::clone(&applied), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut seen = 0;
                loop {
                    let oldest = applied.load(Ordering::SeqCst);
                    let answer = cache.get(KEY, &host()).await;
                    let newest = source.newest.load(Ordering::SeqCst);
                    match answer {
                        Ok(Lookup::Found(route)) => {
                            let version = route.account_limit().map_or(0, NonZeroU32::get);
                            assert!(
                                (oldest..=newest).contains(&version) && version >= seen,
                                "{version} after {oldest} was applied and {seen} was seen"
                            );
                            seen = version;
                        }
                        Ok(_) => assert!(
                            (oldest..=newest).any(|version| version % 2 == 1),
                            "refused at {oldest}, before anything else"
                        ),
                        Err(LookupError::Unsettled) => {}
                        Err(error) => panic!("{error}"),
                    }
                    answers.fetch_add(1, Ordering::SeqCst);
                    if oldest >= VERSIONS {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for version in 3..=VERSIONS {
        source.newest.store(version, Ordering::SeqCst);
        let (state, account) = at(version);
        cache.apply(&Change {
            account: Some(account),
            removed_hosts: vec![],
            links: vec![link(KEY, state)],
        });
        applied.store(version, Ordering::SeqCst);
        let before = answers.load(Ordering::SeqCst);
        // Some versions are there for long enough to be read, and some are not.
        while version % 3 == 0 && answers.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
}
