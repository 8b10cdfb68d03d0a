//! Changes that a source applies, and snapshots that it fills from.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use postern_api::{HostName, LinkId, LinkState};
use tokio::time::advance;

use super::{LINK, SECOND, Told, account, account_at, change, get, host, link, route, settle};
use crate::routing::{Change, Judgement, Link, Lookup, LookupError, Route, RouteCache};

fn other() -> HostName {
    HostName::parse("b.dicom.example").unwrap()
}

fn no(state: LinkState) -> Lookup {
    Lookup::NotApproved(state)
}

/// Asks in a task of its own.
fn ask(cache: &RouteCache) -> tokio::task::JoinHandle<Result<Lookup, LookupError>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.get(LINK, &host()).await })
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_approved_is_a_no_at_once() {
    for state in [
        LinkState::Pending,
        LinkState::Rejected,
        LinkState::Disconnected,
    ] {
        let source = Told::new(route("a"));
        let cache = source.cache();
        get(&cache).await;
        cache.apply(&change("a", state));
        assert_eq!(cache.try_hit(LINK, &host()), Some(no(state)));
        assert_eq!(source.calls(), 1);
        assert_eq!(cache.stats().entries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_approved_links_route_is_replaced_at_once_and_fresh() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    advance(99 * SECOND).await;
    let limited = Link {
        limit: NonZeroU32::new(5),
        ..link(LINK, LinkState::Approved)
    };
    cache.apply(&Change {
        links: vec![limited],
        ..change("b", LinkState::Approved)
    });
    let now = Lookup::Found(Arc::new(Route::new(account("b"), limited.limit)));
    assert_eq!(cache.try_hit(LINK, &host()), Some(now));
    assert_eq!(
        cache.describe(LINK, &host()).unwrap().judgement,
        Judgement::Fresh
    );
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_approval_forgets_the_no_and_remembers_nothing_that_nobody_asked_for() {
    let source = Told::new(no(LinkState::Pending));
    let cache = source.cache();
    get(&cache).await;
    cache.apply(&change("a", LinkState::Approved));
    assert_eq!(cache.describe(LINK, &host()), None);
    source.answers(route("a"));
    assert_eq!(get(&cache).await, route("a"));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_gone_is_unknown_and_the_others_go_on() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    cache.get(LINK, &other()).await.unwrap();
    cache.apply(&Change {
        removed_hosts: vec![other()],
        ..change("a", LinkState::Approved)
    });
    assert_eq!(cache.try_hit(LINK, &other()), Some(Lookup::Unknown));
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    // The account itself goes.
    cache.apply(&Change {
        account: None,
        removed_hosts: vec![host()],
        links: vec![link(LINK, LinkState::Disconnected)],
    });
    assert_eq!(cache.try_hit(LINK, &host()), Some(Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_host_named_as_gone_and_as_current_is_current() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    cache.apply(&Change {
        removed_hosts: vec![host()],
        ..change("b", LinkState::Approved)
    });
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("b")));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_host_of_the_account_asks_again() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    cache.get_host(&host()).await.unwrap();
    cache.get_host(&other()).await.unwrap();
    source.answers(route("b"));
    cache.apply(&Change {
        removed_hosts: vec![other()],
        ..change("b", LinkState::Approved)
    });
    for name in [host(), other()] {
        let found = cache.get_host(&name).await.unwrap().unwrap();
        assert_eq!(Lookup::Found(found), route("b"));
    }
    assert_eq!(source.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_when_a_link_is_revoked_is_given_to_nobody_and_not_written() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let waiting = [ask(&cache), ask(&cache)];
    settle().await;
    cache.apply(&change("a", LinkState::Rejected));
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap(), no(LinkState::Rejected));
    }
    assert_eq!(source.calls(), 1, "nobody waited for the source");
    source.lets(1);
    settle().await;
    assert_eq!(
        cache.try_hit(LINK, &host()),
        Some(no(LinkState::Rejected)),
        "the older answer came, and was not taken"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_a_link_is_approved_asks_again() {
    let source = Told::new(no(LinkState::Pending));
    let cache = source.cache();
    source.hangs();
    let waiting = ask(&cache);
    settle().await;
    cache.apply(&change("a", LinkState::Approved));
    settle().await;
    assert_eq!(source.calls(), 2);
    source.answers(route("a"));
    source.lets(2);
    assert_eq!(waiting.await.unwrap().unwrap(), route("a"));
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_under_way_does_not_undo_a_change() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    advance(10 * SECOND).await;
    source.hangs();
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    settle().await;
    assert_eq!(source.calls(), 2);
    cache.apply(&change("b", LinkState::Approved));
    source.lets(1);
    settle().await;
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("b")));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_other_links_disturbs_no_lookup() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.hangs();
    let waiting = ask(&cache);
    settle().await;
    cache.apply(&Change {
        links: vec![link(LinkId::new(8), LinkState::Rejected)],
        ..change("a", LinkState::Approved)
    });
    source.lets(1);
    assert_eq!(waiting.await.unwrap().unwrap(), route("a"));
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_served_without_the_source_for_as_long_as_it_may() {
    let source = Told::new(Lookup::Unknown);
    let cache = source.cache();
    source.fails();
    let links = [
        link(LINK, LinkState::Approved),
        link(LinkId::new(8), LinkState::Pending),
    ];
    cache.fill(&account("a"), &links, 40 * SECOND);
    assert_eq!(cache.stats().entries, 1, "no more than what is approved");
    assert_eq!(
        cache.try_hit(LINK, &host()),
        None,
        "the source is asked first"
    );
    cache.source_down(true);
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    settle().await;
    advance(60 * SECOND).await;
    assert_eq!(cache.try_hit(LINK, &host()), None);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_never_replaces_what_is_newer() {
    let links = [link(LINK, LinkState::Approved)];
    let source = Told::new(route("b"));
    let cache = source.cache();
    get(&cache).await;
    advance(SECOND).await;
    cache.fill(&account("a"), &links, 2 * SECOND);
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("b")));
    cache.fill(&account("a"), &links, Duration::ZERO);
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    cache.apply(&change("a", LinkState::Rejected));
    advance(SECOND).await;
    cache.fill(&account("a"), &links, 2 * SECOND);
    assert_eq!(
        cache.try_hit(LINK, &host()),
        Some(no(LinkState::Rejected)),
        "a newer no"
    );
    // After a gap, what was known before it is not newer than a snapshot after it.
    source.changes();
    cache.fill(&account("c"), &links, 9 * SECOND);
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("c")));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_fills_another_cache() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    let both = account_at("a", &[host(), other()]);
    let limited = Link {
        limit: NonZeroU32::new(5),
        ..link(LinkId::new(8), LinkState::Approved)
    };
    let links = [link(LINK, LinkState::Approved), limited];
    cache.fill(&both, &links, 3 * SECOND);
    cache.apply(&Change {
        account: None,
        removed_hosts: vec![],
        links: vec![],
    });
    cache.get(LinkId::new(9), &host()).await.unwrap();
    let mut held = cache.held();
    assert_eq!(held.len(), 1, "of one name is one account");
    let held = held.remove(0);
    assert_eq!(held.age, 3 * SECOND);
    let ids: Vec<_> = held.links.iter().map(|link| link.id.get()).collect();
    assert_eq!(ids, [7, 8, 9]);
    assert_eq!(held.links[1], limited);
    // The latest that is known of the account.
    let latest = Lookup::Found(Arc::new(Route::new(Arc::clone(&held.account), None)));
    assert_eq!(latest, route("a"));

    let second = source.cache();
    second.fill(&held.account, &held.links, held.age);
    assert_eq!(second.try_hit(LINK, &host()), Some(route("a")));
    advance(100 * SECOND).await;
    assert!(cache.held().is_empty(), "too old to be given");
    cache.confirm();
    assert_eq!(cache.held()[0].age, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_of_a_key_can_be_seen_with_its_age() {
    let source = Told::new(no(LinkState::Pending));
    let cache = source.cache();
    assert_eq!(cache.describe(LINK, &host()), None);
    get(&cache).await;
    advance(2 * SECOND).await;
    let held = cache.describe(LINK, &host()).unwrap();
    assert_eq!(held.answer, no(LinkState::Pending));
    assert_eq!((held.age, held.judgement), (2 * SECOND, Judgement::Fresh));
    advance(3 * SECOND).await;
    let held = cache.describe(LINK, &host()).unwrap();
    assert_eq!(held.judgement, Judgement::TooOld);
    assert_eq!(cache.stats().negative_hits, 0, "to look is not to ask");
}
