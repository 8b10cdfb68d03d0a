mod changes;
mod crowd;
mod flights;
mod judgement;
mod model;
mod wakes;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postern_api::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};
use tokio::sync::{Semaphore, watch};
use tokio::time::advance;

use super::{RouteCache, RouteCacheOptions};
use crate::routing::{
    Account, Answer, Change, ClusterName, Link, Lookup, LookupError, Route, RouteSource,
};

const LINK: LinkId = LinkId::new(7);
const SECOND: Duration = Duration::from_secs(1);

fn options() -> RouteCacheOptions {
    RouteCacheOptions {
        ttl: 10 * SECOND,
        stale_while_revalidate: 20 * SECOND,
        not_found_ttl: 5 * SECOND,
        stale_max: 100 * SECOND,
        entries_max: 1000,
        lookup_timeout: 2 * SECOND,
    }
}

fn host() -> HostName {
    HostName::parse("a.dicom.example").unwrap()
}

/// An account of this name, with the host that everybody asks for.
fn account(name: &str) -> Arc<Account> {
    account_at(name, &[host()])
}

fn account_at(name: &str, hosts: &[HostName]) -> Arc<Account> {
    Arc::new(Account {
        name: name.into(),
        kind: ServiceKind::Dicom,
        cluster: ClusterName::new("dicom"),
        hosts: hosts.into(),
        customer_key: CustomerKey::Accessible,
        limit: None,
    })
}

/// The route of an account of this name.
fn route(name: &str) -> Lookup {
    Lookup::Found(Arc::new(Route::new(account(name), None)))
}

fn link(id: LinkId, state: LinkState) -> Link {
    Link {
        id,
        state,
        limit: None,
    }
}

/// The account of this name, with the one link in this state.
fn change(name: &str, state: LinkState) -> Change {
    Change {
        account: Some(account(name)),
        removed_hosts: vec![],
        links: vec![link(LINK, state)],
    }
}

/// A source that answers as it is told, once it is let.
struct Told {
    answer: Mutex<Result<Answer, LookupError>>,
    calls: AtomicUsize,
    gate: Semaphore,
    generation: watch::Sender<u64>,
}

impl Told {
    fn new(answer: Lookup) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Ok(answer.into())),
            calls: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            generation: watch::Sender::new(1),
        })
    }

    fn cache(self: &Arc<Self>) -> RouteCache {
        self.cache_with(options())
    }

    fn cache_with(self: &Arc<Self>, options: RouteCacheOptions) -> RouteCache {
        RouteCache::new(Arc::clone(self) as Arc<dyn RouteSource>, options)
    }

    fn answers(&self, answer: impl Into<Answer>) {
        *self.answer.lock().unwrap() = Ok(answer.into());
    }

    fn fails(&self) {
        let cause = std::io::Error::other("no database");
        *self.answer.lock().unwrap() = Err(LookupError::source_failed(cause));
    }

    fn hangs(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn lets(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    fn changes(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn answer(&self) -> Result<Answer, LookupError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.answer.lock().unwrap().clone()
    }
}

#[async_trait]
impl RouteSource for Told {
    async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Answer, LookupError> {
        self.answer().await
    }

    async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
        self.answer().await
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

async fn get(cache: &RouteCache) -> Lookup {
    cache.get(LINK, &host()).await.unwrap()
}

/// Lets spawned tasks run until they wait for something else than their turn.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_is_asked_for_once_within_its_ttl() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    assert_eq!(cache.try_hit(LINK, &host()), None);
    assert_eq!(get(&cache).await, route("a"));
    advance(Duration::from_nanos(9_999_999_999)).await;
    assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    assert_eq!(get(&cache).await, route("a"));
    assert_eq!(source.calls(), 1);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.stale), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_route_is_given_at_once_and_asked_for_once_in_the_background() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.answers(route("b"));
    source.hangs();
    advance(10 * SECOND).await;
    for _ in 0..1000 {
        assert_eq!(get(&cache).await, route("a"));
        assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
    }
    settle().await;
    assert_eq!(source.calls(), 2);
    source.lets(1);
    settle().await;
    assert_eq!(get(&cache).await, route("b"));
    assert_eq!(source.calls(), 2);
    assert_eq!(cache.stats().stale, 2000);
}

#[tokio::test(start_paused = true)]
async fn a_route_past_its_stale_time_is_asked_for_before_it_is_given() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.answers(route("b"));
    advance(30 * SECOND).await;
    assert_eq!(cache.try_hit(LINK, &host()), None);
    assert_eq!(get(&cache).await, route("b"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_no_has_its_own_ttl() {
    for no in [Lookup::Unknown, Lookup::NotApproved(LinkState::Pending)] {
        let source = Told::new(no.clone());
        let cache = source.cache();
        assert_eq!(get(&cache).await, no);
        source.answers(route("a"));
        advance(Duration::from_nanos(4_999_999_999)).await;
        assert_eq!(cache.try_hit(LINK, &host()), Some(no));
        assert_eq!(source.calls(), 1);
        advance(Duration::from_nanos(1)).await;
        assert_eq!(get(&cache).await, route("a"));
        advance(6 * SECOND).await;
        assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
        assert_eq!(cache.stats().negative_hits, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_no_is_never_given_while_the_source_fails() {
    let source = Told::new(Lookup::Unknown);
    let cache = source.cache();
    get(&cache).await;
    source.fails();
    advance(5 * SECOND).await;
    assert!(cache.get(LINK, &host()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_definite_no_forgets_the_route_even_if_the_source_fails_next() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.answers(Lookup::NotApproved(LinkState::Disconnected));
    advance(30 * SECOND).await;
    get(&cache).await;
    source.fails();
    advance(5 * SECOND).await;
    assert!(cache.get(LINK, &host()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_not_remembered() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    source.fails();
    let error = cache.get(LINK, &host()).await.unwrap_err();
    assert_eq!(error.to_string(), "account routing could not answer");
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "no database"
    );
    source.answers(route("a"));
    assert_eq!(get(&cache).await, route("a"));
    assert_eq!(source.calls(), 2);
    assert_eq!(cache.stats().errors, 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_route_holds_while_the_source_fails_and_only_one_waits_for_that() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.hangs();
    advance(30 * SECOND).await;
    assert_eq!(
        cache.try_hit(LINK, &host()),
        None,
        "the source is asked first"
    );
    assert_eq!(get(&cache).await, route("a"), "after the deadline");
    assert_eq!(source.calls(), 2);
    assert_eq!(
        cache.try_hit(LINK, &host()),
        Some(route("a")),
        "and now at once"
    );

    // Background attempts go on, one a second.
    source.lets(1_000);
    source.fails();
    for calls in 3..10 {
        advance(SECOND).await;
        for _ in 0..10 {
            assert_eq!(cache.try_hit(LINK, &host()), Some(route("a")));
        }
        settle().await;
        assert_eq!(source.calls(), calls);
    }

    advance(100 * SECOND).await;
    assert_eq!(cache.try_hit(LINK, &host()), None);
    assert!(
        cache.get(LINK, &host()).await.is_err(),
        "older than stale_max"
    );
    source.answers(route("b"));
    assert_eq!(get(&cache).await, route("b"));
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_is_asked_before_anything_is_given() {
    for (old, new) in [
        (route("a"), route("b")),
        (route("a"), Lookup::Unknown),
        (Lookup::Unknown, route("a")),
    ] {
        let source = Told::new(old.clone());
        let cache = source.cache();
        assert_eq!(get(&cache).await, old);
        source.answers(new.clone());
        source.changes();
        assert_eq!(cache.try_hit(LINK, &host()), None);
        assert_eq!(get(&cache).await, new);
        assert_eq!(cache.try_hit(LINK, &host()), Some(new));
        assert_eq!(source.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_generation_may_be_given_only_after_the_source_failed() {
    let source = Told::new(route("a"));
    let cache = source.cache();
    get(&cache).await;
    source.fails();
    source.changes();
    assert_eq!(cache.try_hit(LINK, &host()), None);
    assert_eq!(get(&cache).await, route("a"));
    source.changes();
    assert_eq!(
        cache.try_hit(LINK, &host()),
        None,
        "the failure was of the generation before"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_is_remembered_apart_from_who_asks() {
    let source = Told::new(Lookup::Unknown);
    let cache = source.cache();
    assert_eq!(get(&cache).await, Lookup::Unknown);
    source.answers(route("a"));
    for _ in 0..2 {
        let found = cache.get_host(&host()).await.unwrap().unwrap();
        assert_eq!(Lookup::Found(found), route("a"));
    }
    assert_eq!(get(&cache).await, Lookup::Unknown);
    assert_eq!(source.calls(), 2);
}
