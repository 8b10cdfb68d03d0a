//! Who is woken by what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postern_api::{LinkId, LinkState};
use tokio::time::{Instant, advance, timeout};

use super::{LINK, SECOND, Told, change, get, host, link, route, settle};
use crate::routing::{Change, Lookup, RouteCache};

/// A connection of each of so many links, which counts how often it is woken.
fn watchers(cache: &RouteCache, links: u32) -> Vec<Arc<AtomicUsize>> {
    (0..links)
        .map(|link| {
            let mut watch = cache.watch(LinkId::new(link));
            let woken = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&woken);
            tokio::spawn(async move {
                loop {
                    watch.changed().await;
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            woken
        })
        .collect()
}

fn woken(watchers: &[Arc<AtomicUsize>]) -> usize {
    let counts = watchers.iter().map(|count| count.load(Ordering::SeqCst));
    counts.sum()
}

#[tokio::test(start_paused = true)]
async fn a_revocation_wakes_the_connections_of_its_link_and_no_other_of_ten_thousand() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let watchers = watchers(&cache, 10_000);
    let second_of_its_link = watchers_of(&cache, LINK);
    settle().await;
    cache.apply(&change("a", LinkState::Rejected));
    settle().await;
    assert_eq!(woken(&watchers), 1);
    assert_eq!(watchers[7].load(Ordering::SeqCst), 1);
    assert_eq!(second_of_its_link.load(Ordering::SeqCst), 1);
}

fn watchers_of(cache: &RouteCache, link: LinkId) -> Arc<AtomicUsize> {
    let mut watch = cache.watch(link);
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    tokio::spawn(async move {
        loop {
            watch.changed().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    woken
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_wakes_everybody_a_few_at_a_time() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let watchers = watchers(&cache, 10_000);
    let run = cache.clone();
    tokio::spawn(async move { run.run().await });
    settle().await;
    source.changes();
    settle().await;
    let first = woken(&watchers);
    assert!((1..1_000).contains(&first), "{first} at once");
    advance_to_the_end(&watchers, 10_000).await;
    // Once more for the next, and not again for the first.
    source.changes();
    advance_to_the_end(&watchers, 20_000).await;
}

async fn advance_to_the_end(watchers: &[Arc<AtomicUsize>], wakes: usize) {
    let began = Instant::now();
    while woken(watchers) < wakes {
        settle().await;
        advance(Duration::from_millis(1)).await;
        assert!(began.elapsed() < SECOND, "{} in a second", woken(watchers));
    }
    advance(SECOND).await;
    settle().await;
    assert_eq!(woken(watchers), wakes);
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_passed_before_anybody_followed_is_told() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let mut watch = cache.watch(LINK);
    source.changes();
    let run = cache.clone();
    tokio::spawn(async move { run.run().await });
    timeout(SECOND, watch.changed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_happens_between_two_looks_is_told_with_its_time() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let mut watch = cache.watch(LINK);
    advance(SECOND).await;
    let at = Instant::now();
    cache.apply(&change("a", LinkState::Approved));
    advance(5 * SECOND).await;
    // Given up half way, as a `select!` does.
    let mut second = cache.watch(LINK);
    assert!(timeout(SECOND, second.changed()).await.is_err());
    assert_eq!(watch.changed().await, at);
    assert!(timeout(SECOND, watch.changed()).await.is_err(), "told once");
    cache.apply(&change("a", LinkState::Rejected));
    watch.changed().await;
    second.changed().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_is_forgotten_with_its_last_watch() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let interests = &cache.shared.interests;
    let (one, two) = (cache.watch(LINK), cache.watch(LINK));
    let other = cache.watch(LinkId::new(8));
    assert_eq!(interests.links(), 2);
    drop(one);
    assert_eq!(interests.links(), 2);
    drop(two);
    assert_eq!(interests.links(), 1);
    drop(other);
    assert_eq!(interests.links(), 0);
}

#[test]
fn a_watch_is_a_few_words() {
    // Limit: each open connection has one.
    assert!(size_of::<crate::routing::RouteWatch>() <= 32);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_only_a_lookup_shows_wakes_too() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    for (answer, wakes) in [
        (route("a"), false),
        (route("b"), true),
        (Lookup::Unknown, true),
    ] {
        let mut watch = cache.watch(LINK);
        source.answers(answer.clone());
        advance(10 * SECOND).await;
        cache.try_hit(LINK, &host());
        settle().await;
        assert_eq!(cache.try_hit(LINK, &host()), Some(answer));
        let woken = timeout(SECOND, watch.changed()).await.is_ok();
        assert_eq!(woken, wakes);
    }
}

#[tokio::test(start_paused = true)]
async fn all_links_of_a_change_are_woken() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let watchers = watchers(&cache, 100);
    settle().await;
    cache.apply(&Change {
        links: (10..30)
            .map(|id| link(LinkId::new(id), LinkState::Approved))
            .collect(),
        ..change("a", LinkState::Approved)
    });
    settle().await;
    assert_eq!(woken(&watchers), 20);
    assert_eq!(woken(&watchers[10..30]), 20);
}
