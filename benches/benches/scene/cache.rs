//! A route cache that is full, and account routing that makes its answers up.

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

// A prime, so that every key has its turn.
const STRIDE: usize = 611_953;
// Links that are busy at a time.
const BUSY: usize = 500;

pub fn cases(harness: &mut impl Harness, routes: usize) {
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
                let (link, host) = full.source.key(number);
                assert!(matches!(
                    full.cache.get(link, &host).await,
                    Ok(Lookup::Found(_))
                ));
            }
            for number in 0..UNKNOWN {
                let (link, host) = full.unknown(FIRST_UNKNOWN + number);
                assert!(matches!(
                    full.cache.get(link, &host).await,
                    Ok(Lookup::Unknown)
                ));
            }
        });
        full
    }

    /// One of all keys, far from the one before: with a million, hardly ever in the processor's own caches.
    pub fn any_key(self: &Arc<Self>) -> (LinkId, HostName) {
        let step = self.step.fetch_add(STRIDE, Ordering::Relaxed);
        self.source.key(step % self.source.routes)
    }

    /// One of a few hundred keys that are asked for again and again.
    fn busy_key(self: &Arc<Self>) -> (LinkId, HostName) {
        let step = self.step.fetch_add(1, Ordering::Relaxed) % BUSY;
        self.source.key(step * STRIDE % self.source.routes)
    }

    fn unknown_key(self: &Arc<Self>) -> (LinkId, HostName) {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        self.unknown(FIRST_UNKNOWN + u32::try_from(step).unwrap_or(0) % UNKNOWN)
    }

    fn new_key(self: &Arc<Self>) -> (LinkId, HostName) {
        self.unknown(self.next_unknown.fetch_add(1, Ordering::Relaxed))
    }

    fn unknown(&self, link: u32) -> (LinkId, HostName) {
        (
            LinkId::new(link),
            self.source.accounts[0].hosts()[0].clone(),
        )
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
            let host = format!("hospital-{number:07}.dicom.example");
            let account = Account {
                name: format!("hospital-{number:07}").into(),
                kind: ServiceKind::Dicom,
                cluster: ClusterName::new("dicom"),
                hosts: Arc::new([HostName::parse(&host).unwrap()]),
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

    fn key(&self, number: usize) -> (LinkId, HostName) {
        let account = &self.accounts[number / LINKS_PER_ACCOUNT];
        let link = LinkId::new(u32::try_from(number).unwrap());
        (link, account.hosts()[0].clone())
    }
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
