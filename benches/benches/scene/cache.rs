//! A route cache that is full, and account routing that makes its answers up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use postern::routing::{
    Account, Answer, ClusterName, Lookup, LookupError, Route, RouteCache, RouteCacheOptions,
    RouteSource,
};
use postern_api::{CustomerKey, HostName, LinkId, ServiceKind};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::Harness;

// An account of the service has a few private endpoints.
const LINKS_PER_ACCOUNT: usize = 10;
// Tasks that wait for one unknown key.
const CROWD: usize = 1_000;
// Unknown links that the cache remembers as such. It keeps a sixteenth of what it keeps of routes, so it must have
// room for this many of them.
const UNKNOWN: u32 = 50;
const ROUTES_MIN: usize = 1_000;

// A prime, so that busy keys are anywhere.
const STRIDE: usize = 611_953;
// Links that are busy at a time.
const BUSY: usize = 500;

pub fn cases(harness: &mut impl Harness, routes: usize) {
    floor(harness, routes);
    hit(
        harness,
        &format!("cache/hit/{routes}"),
        routes,
        Full::any_key,
    );
    let busy = format!("cache/hit_busy/{routes}");
    hit(harness, &busy, routes, Full::busy_key);
    harness.case(
        &format!("cache/negative/{routes}"),
        || Full::of(routes),
        Full::unknown_key,
        |full, (link, host)| match full.cache.get(*link, host).now_or_never() {
            Some(Ok(answer @ Lookup::Unknown)) => answer,
            other => panic!("{other:?}"),
        },
    );
    harness.case(
        &format!("cache/stampede/{routes}"),
        || Full::of(routes),
        Full::new_key,
        |full, (link, host)| {
            let before = full.source.calls.load(Ordering::Relaxed);
            let crowd = (0..CROWD).map(|_| full.cache.get(*link, host));
            let answers = full.runtime.block_on(join_all(crowd));
            let calls = full.source.calls.load(Ordering::Relaxed) - before;
            assert_eq!(calls, 1, "{CROWD} asked for one key");
            answers
        },
    );
}

/// What a hit is to be compared with. `wait`: one read whose place only the read before it tells, in as much memory as
/// the cache takes, so that no two overlap: a hit is two of these, the slot and then the route's count. `floor`: a look
/// in a plain hash table of numbers, and one more pointer to a route, many of which a processor does at a time.
fn floor(harness: &mut impl Harness, routes: usize) {
    harness.case(
        &format!("cache/wait/{routes}"),
        || {
            // One cycle through all places, by Sattolo's shuffle.
            let mut next: Vec<Line> = (0..routes).map(Line).collect();
            for place in (1..routes).rev() {
                next.swap(place, mixed(place as u64, place));
            }
            (next, AtomicUsize::new(0))
        },
        |_| (),
        |(next, at), ()| {
            let place = next[at.load(Ordering::Relaxed)].0;
            at.store(place, Ordering::Relaxed);
            place
        },
    );
    harness.case(
        &format!("cache/floor/{routes}"),
        || {
            let full = Full::of(routes);
            let table: HashMap<u64, Arc<Route>> = (0..routes)
                .map(|number| {
                    let route = &full.source.accounts[number / LINKS_PER_ACCOUNT];
                    (number as u64, Arc::clone(route))
                })
                .collect();
            (full, table)
        },
        |(full, _)| full.any_number() as u64,
        |(_, table), number| Arc::clone(&table[number]),
    );
}

fn hit(
    harness: &mut impl Harness,
    name: &str,
    routes: usize,
    key: impl Fn(&Arc<Full>) -> (LinkId, HostName),
) {
    harness.case(
        name,
        || Full::of(routes),
        key,
        |full, (link, host)| match full.cache.get(*link, host).now_or_never() {
            Some(Ok(Lookup::Found(route))) => route,
            other => panic!("{other:?}"),
        },
    );
}

/// A cache that holds every route there is.
pub struct Full {
    pub cache: RouteCache,
    source: Arc<Source>,
    runtime: Runtime,
    step: AtomicUsize,
    next_unknown: AtomicU32,
}

impl Full {
    /// The one with so many routes. Made once: a million take a second, and half a gigabyte.
    pub fn of(routes: usize) -> Arc<Self> {
        static MADE: Mutex<Vec<Arc<Full>>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap();
        if let Some(full) = made.iter().find(|full| full.source.routes == routes) {
            return Arc::clone(full);
        }
        let full = Arc::new(Self::fill(routes));
        made.push(Arc::clone(&full));
        full
    }

    fn fill(routes: usize) -> Self {
        let day = Duration::from_hours(24);
        let source = Arc::new(Source::new(routes));
        let options = RouteCacheOptions {
            ttl: day,
            stale_max: day,
            not_found_ttl: day,
            entries_max: 2 * routes.max(ROUTES_MIN) as u64,
            ..RouteCacheOptions::default()
        };
        let asked: Arc<dyn RouteSource> = Arc::<Source>::clone(&source);
        let full = Self {
            cache: RouteCache::new(asked, options),
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
            step: AtomicUsize::new(0),
            next_unknown: AtomicU32::new(FIRST_UNKNOWN + UNKNOWN),
            source,
        };
        full.runtime.block_on(async {
            for number in 0..routes {
                let (link, host) = key(number);
                assert!(matches!(
                    full.cache.get(link, &host).await,
                    Ok(Lookup::Found(_))
                ));
            }
            for number in 0..UNKNOWN {
                let (link, host) = Self::unknown(FIRST_UNKNOWN + number);
                assert!(matches!(
                    full.cache.get(link, &host).await,
                    Ok(Lookup::Unknown)
                ));
            }
        });
        full
    }

    /// One of all keys: with a million, what is known of it is hardly ever in the processor's own caches. The key
    /// itself is, as a key that was just read from a `ClientHello`: its name is a copy of its own, and nothing that
    /// the cache holds was looked at to make it.
    pub fn any_key(self: &Arc<Self>) -> (LinkId, HostName) {
        key(self.any_number())
    }

    /// Each as likely as any other, and no pattern that a processor could see.
    fn any_number(&self) -> usize {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        mixed(step as u64, self.source.routes)
    }

    /// One of a few hundred keys that are asked for again and again.
    fn busy_key(self: &Arc<Self>) -> (LinkId, HostName) {
        let step = self.step.fetch_add(1, Ordering::Relaxed) % BUSY;
        key(step * STRIDE % self.source.routes)
    }

    fn unknown_key(self: &Arc<Self>) -> (LinkId, HostName) {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        Self::unknown(FIRST_UNKNOWN + u32::try_from(step).unwrap_or(0) % UNKNOWN)
    }

    fn new_key(self: &Arc<Self>) -> (LinkId, HostName) {
        Self::unknown(self.next_unknown.fetch_add(1, Ordering::Relaxed))
    }

    fn unknown(link: u32) -> (LinkId, HostName) {
        (LinkId::new(link), host(0))
    }
}

// Links from here on are in no account.
const FIRST_UNKNOWN: u32 = 1 << 31;

/// Account routing: link `n` is approved for account `n / 10`.
struct Source {
    accounts: Vec<Arc<Route>>,
    routes: usize,
    calls: AtomicUsize,
    generation: watch::Sender<u64>,
}

impl Source {
    fn new(routes: usize) -> Self {
        let accounts = (0..routes.div_ceil(LINKS_PER_ACCOUNT)).map(|number| {
            let account = Account {
                name: format!("hospital-{number:07}").into(),
                kind: ServiceKind::Dicom,
                cluster: ClusterName::new("dicom"),
                hosts: Arc::new([host(number)]),
                customer_key: CustomerKey::Accessible,
                limit: None,
            };
            Arc::new(Route::new(Arc::new(account), None))
        });
        Self {
            accounts: accounts.collect(),
            routes,
            calls: AtomicUsize::new(0),
            generation: watch::Sender::new(1),
        }
    }
}

/// As much as one route takes in the cache.
#[repr(align(128))]
struct Line(usize);

/// The mixing function of `SplitMix64` over its own sequence, as a number below `end`.
fn mixed(step: u64, end: usize) -> usize {
    let mut mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
}

/// The key of route `number`.
fn key(number: usize) -> (LinkId, HostName) {
    let link = LinkId::new(u32::try_from(number).unwrap());
    (link, host(number / LINKS_PER_ACCOUNT))
}

fn host(account: usize) -> HostName {
    HostName::parse(&format!("hospital-{account:07}.dicom.example")).unwrap()
}

#[async_trait]
impl RouteSource for Source {
    async fn lookup(&self, link: LinkId, _: &HostName) -> Result<Answer, LookupError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let number = usize::try_from(link.get()).unwrap();
        if number < self.routes {
            let route = &self.accounts[number / LINKS_PER_ACCOUNT];
            return Ok(Lookup::Found(Arc::clone(route)).into());
        }
        // Whoever else wants to know has a chance to ask before this is answered.
        tokio::task::yield_now().await;
        Ok(Lookup::Unknown.into())
    }

    async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
        Ok(Lookup::Unknown.into())
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
