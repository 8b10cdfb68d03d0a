//! Many lookups at once, and the bounds.

use std::sync::Arc;

use async_trait::async_trait;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;

use super::{LINK, Told, get, host, options, route, settle};
use crate::routing::cache::{LOOKUPS_MAX, RouteCache, RouteCacheOptions};
use crate::routing::{Answer, Lookup, LookupError, RouteSource};

#[tokio::test(start_paused = true)]
async fn ten_thousand_lookups_of_a_cold_key_are_one_call_of_the_source() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let lookups: Vec<_> = (0..10_000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(LINK, &host()).await.unwrap() })
        })
        .collect();
    settle().await;
    source.lets(1);
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap(), route("a"));
    }
    assert_eq!(source.calls(), 1);
    assert_eq!((cache.stats().misses, cache.stats().coalesced), (1, 9_999));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_lookups_that_fail_are_one_call_of_the_source() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let lookups: Vec<_> = (0..10_000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(LINK, &host()).await.unwrap_err() })
        })
        .collect();
    // Nothing lets the source answer, so that paused time goes on to the deadline.
    for lookup in lookups {
        assert!(matches!(lookup.await.unwrap(), LookupError::Late(_)));
    }
    assert_eq!(source.calls(), 1);
    assert_eq!(cache.stats().errors, 1);
}

#[tokio::test(start_paused = true)]
async fn lookups_of_other_keys_do_not_wait_for_each_other() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let slow = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(LINK, &host()).await.unwrap() }
    });
    settle().await;
    source.lets(1);
    slow.await.unwrap();
    assert_eq!(get(&cache).await, route("a"));
    source.lets(1);
    cache.get(LinkId::new(8), &host()).await.unwrap();
    source.lets(1);
    cache
        .get(LINK, &HostName::parse("b.dicom.example").unwrap())
        .await
        .unwrap();
    assert_eq!(source.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_lookup_goes_on_when_the_one_who_began_it_leaves() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let ask = |cache: RouteCache| tokio::spawn(async move { cache.get(LINK, &host()).await });
    let first = ask(cache.clone());
    settle().await;
    let second = ask(cache.clone());
    settle().await;
    first.abort();
    settle().await;
    source.lets(1);
    assert_eq!(second.await.unwrap().unwrap(), route("a"));
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_a_new_generation_overtakes_is_asked_again() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let ask = |cache: RouteCache| tokio::spawn(async move { cache.get(LINK, &host()).await });
    let before = ask(cache.clone());
    settle().await;
    source.changes();
    let after = ask(cache.clone());
    settle().await;
    assert_eq!(source.calls(), 2);
    source.answers(route("b"));
    source.lets(2);
    assert_eq!(before.await.unwrap().unwrap(), route("b"));
    assert_eq!(after.await.unwrap().unwrap(), route("b"));
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("b")));
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_during_each_call_is_given_up() {
    struct Restless(watch::Sender<u64>);
    #[async_trait]
    impl RouteSource for Restless {
        async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Answer, LookupError> {
            self.0.send_modify(|generation| *generation += 1);
            Ok(route("a").into())
        }
        async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
            panic!("nobody asks")
        }
        fn generation(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }
    let cache = RouteCache::new(Arc::new(Restless(watch::Sender::new(0))), options());
    let error = cache.get(LINK, &host()).await.unwrap_err();
    assert!(matches!(error, LookupError::Unsettled));
    // A source that panics breaks the lookup off, and leaves nothing behind.
    for _ in 0..2 {
        let error = cache.get_host(&host()).await.unwrap_err();
        assert!(matches!(error, LookupError::BrokenOff));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_links_is_bounded_and_pushes_out_no_route() {
    let source = Told::new(route("a"));
    let cache = source.cache_with(RouteCacheOptions {
        entries_max: 160,
        ..options()
    });
    for link in 0..100 {
        cache.get(LinkId::new(link), &host()).await.unwrap();
    }
    source.answers(Lookup::Unknown);
    for link in 1000..11_000 {
        assert_eq!(
            cache.get(LinkId::new(link), &host()).await.unwrap(),
            Lookup::Unknown
        );
    }
    assert!(cache.stats().negative_entries <= 10, "{:?}", cache.stats());
    for link in 0..100 {
        assert_eq!(cache.try_hit(LinkId::new(link), &host()), Some(route("a")));
    }
}

#[tokio::test(start_paused = true)]
async fn routes_are_bounded() {
    let source = Told::new(route("a"));
    let cache = source.cache_with(RouteCacheOptions {
        entries_max: 100,
        ..options()
    });
    for link in 0..10_000 {
        cache.get(LinkId::new(link), &host()).await.unwrap();
    }
    assert!(cache.stats().entries <= 100, "{:?}", cache.stats());
}

#[tokio::test(start_paused = true)]
async fn lookups_under_way_are_bounded() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let lookups: Vec<_> = (0..20_000)
        .map(|link| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(LinkId::new(link), &host()).await })
        })
        .collect();
    let mut refused = 0;
    for lookup in lookups {
        let error = lookup.await.unwrap().unwrap_err();
        refused += usize::from(matches!(error, LookupError::TooMany(_)));
    }
    assert_eq!(refused, 20_000 - LOOKUPS_MAX);
    assert_eq!(source.calls(), LOOKUPS_MAX);
}
