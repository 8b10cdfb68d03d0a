//! Each line of the table in the module's own words, with a clock that stands still.

use std::time::Duration;

use postern_api::LinkState;
use tokio::time::advance;

use super::{LINK, SECOND, Told, change, get, host, route, settle};
use crate::routing::cache::RouteCacheOptions;
use crate::routing::{Answer, Judgement, Lookup, RouteCache};

const NANO: Duration = Duration::from_nanos(1);

/// A moment less.
fn just_under(time: Duration) -> Duration {
    time.checked_sub(NANO).unwrap()
}

fn judged(cache: &RouteCache) -> Judgement {
    cache.describe(LINK, &host()).unwrap().judgement
}

#[tokio::test(start_paused = true)]
async fn every_age_has_its_judgement() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    let mut age = Duration::ZERO;
    for (at, judgement) in [
        (Duration::ZERO, Judgement::Fresh),
        (just_under(10 * SECOND), Judgement::Fresh),
        (10 * SECOND, Judgement::Stale),
        (just_under(30 * SECOND), Judgement::Stale),
        (30 * SECOND, Judgement::OnlyIfSourceFails),
        (just_under(100 * SECOND), Judgement::OnlyIfSourceFails),
        (100 * SECOND, Judgement::TooOld),
    ] {
        advance(at.checked_sub(age).unwrap()).await;
        age = at;
        assert_eq!(judged(&cache), judgement, "{at:?}");
    }
    assert_eq!(source.calls(), 1, "to look is not to ask");
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.stale, stats.misses), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_no_longer_than_it_says_and_no_longer_than_we_want() {
    for (lifetime, fresh) in [(3 * SECOND, 3 * SECOND), (60 * SECOND, 10 * SECOND)] {
        let source = Told::new(Lookup::Unknown);
        source.answers(Answer {
            lookup: route("a"),
            lifetime: Some(lifetime),
        });
        let cache = source.cache();
        get(&cache).await;
        advance(just_under(fresh)).await;
        assert_eq!(judged(&cache), Judgement::Fresh);
        advance(NANO).await;
        assert_eq!(judged(&cache), Judgement::Stale);
        advance(20 * SECOND).await;
        assert_eq!(judged(&cache), Judgement::OnlyIfSourceFails);
    }
}

#[tokio::test(start_paused = true)]
async fn a_no_is_used_no_longer_than_it_says() {
    let source = Told::new(Lookup::Unknown);
    source.answers(Answer {
        lookup: Lookup::Unknown,
        lifetime: Some(SECOND),
    });
    let cache = source.cache();
    get(&cache).await;
    advance(just_under(SECOND)).await;
    assert_eq!(cache.try_hit(LINK, &host()), Some(Lookup::Unknown));
    advance(NANO).await;
    assert_eq!(cache.try_hit(LINK, &host()), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_source_that_is_known_to_be_out_of_reach() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.hangs();
    advance(30 * SECOND).await;
    assert_eq!(cache.try_hit(LINK, &host()), None);
    cache.source_down(true);
    for _ in 0..10 {
        assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    }
    settle().await;
    assert_eq!(source.calls(), 2, "asked in the background, once");
    cache.source_down(false);
    assert_eq!(cache.try_hit(LINK, &host()), None);
    cache.source_down(true);
    advance(70 * SECOND).await;
    assert_eq!(cache.try_hit(LINK, &host()), None, "older than stale_max");
}

#[tokio::test(start_paused = true)]
async fn a_source_out_of_reach_says_nothing_of_keys_that_are_not_held() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.fails();
    cache.source_down(true);
    assert!(cache.get(LINK, &host()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn known_links_are_served_for_the_full_hour_and_not_a_moment_longer() {
    let hour = Duration::from_hours(1);
    let source = Told::new(route("a"));
    let cache = source.cache_with(RouteCacheOptions::default());
    get(&cache).await;
    // The source has said for a while that everything holds, and then it is gone.
    advance(600 * SECOND).await;
    cache.confirm();
    source.fails();
    cache.source_down(true);
    let held = cache.describe(LINK, &host()).unwrap();
    assert_eq!(
        (held.age, held.confirmed),
        (600 * SECOND, Duration::ZERO),
        "old, and known to hold"
    );
    for _ in 0..59 {
        advance(Duration::from_mins(1)).await;
        assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
        settle().await;
    }
    advance(just_under(Duration::from_mins(1))).await;
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    settle().await;
    advance(NANO).await;
    assert_eq!(cache.try_hit(LINK, &host()), None, "{hour:?} have passed");
    assert!(cache.get(LINK, &host()).await.is_err());
    // By itself, as soon as the source answers.
    source.answers(route("b"));
    assert_eq!(get(&cache).await, route("b"));
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_is_what_was_given_under_this_generation() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.fails();
    source.changes();
    advance(99 * SECOND).await;
    cache.confirm();
    advance(SECOND).await;
    assert_eq!(judged(&cache), Judgement::TooOld);
    assert!(cache.get(LINK, &host()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn to_confirm_refreshes_nothing() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    advance(30 * SECOND).await;
    cache.confirm();
    assert_eq!(judged(&cache), Judgement::OnlyIfSourceFails);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_holds_even_if_the_source_fails_from_then_on() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.fails();
    cache.source_down(true);
    cache.apply(&change("a", LinkState::Rejected));
    assert_eq!(
        cache.try_hit(LINK, &host()),
        Some(Lookup::NotApproved(LinkState::Rejected))
    );
    for _ in 0..10 {
        advance(20 * SECOND).await;
        let later = cache.get(LINK, &host()).await;
        assert!(later.is_err(), "{later:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_revalidates_everything() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let links: Vec<_> = (0..100).map(postern_api::LinkId::new).collect();
    for link in &links {
        cache.get(*link, &host()).await.unwrap();
    }
    source.answers(route("b"));
    source.changes();
    for link in &links {
        assert!(!cache.is_current(*link, &host()));
        assert_eq!(cache.get(*link, &host()).await.unwrap(), route("b"));
        assert!(cache.is_current(*link, &host()));
    }
    assert_eq!(source.calls(), 200);
}
