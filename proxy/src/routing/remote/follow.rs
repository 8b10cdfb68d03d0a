//! Follows the service for ever: from a snapshot, by the change stream, and again from where it broke.
//!
//! | what happens | what follows |
//! |---|---|
//! | start | the snapshot on disk, if it is good; else the service's |
//! | a change | it is applied, at once |
//! | a head that we are at | all that is remembered still holds: confirmed |
//! | a gap, of whatever kind | nothing older is given without asking; then a new snapshot |
//! | the stream breaks | another one after a pause, from the change after the last |
//! | no stream can be had | what is remembered is given without waiting for the service |
//! | our certificate was renewed | another stream over a new connection, in place of the old one |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use http::StatusCode;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use postern_chassis::whole;
use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::RemoteRoutes;
use super::client::{ClientError, Query};
use super::snapshot::{self, Reader, Snapshot, SnapshotError};
use super::stream::{ChangeStream, Next, StreamError};
use crate::readiness::Condition;
use crate::routing::RouteCache;

/// Why one attempt to follow is over.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("account routing did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("the snapshot of account routing is not used")]
    Snapshot(#[source] SnapshotError),
    #[error("the snapshot of account routing broke off")]
    Body(#[source] hyper::Error),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the changes that follow are no longer kept")]
    Gone,
}

impl FollowError {
    const fn is_gap(&self) -> bool {
        matches!(self, Self::Gone | Self::Stream(StreamError::Gap(_)))
    }
}

/// Where the following of a cache stands.
struct Follower {
    routes: Arc<RemoteRoutes>,
    cache: RouteCache,
    /// The newest change that the cache knows of. None before there was a snapshot, and after a gap.
    sequence: Option<u64>,
    /// Which way to the service is taken.
    way: usize,
    /// The first head of this attempt has come.
    is_up: bool,
}

impl RemoteRoutes {
    /// Keeps `cache` up to date and tells `ready` whether it is, for as long as it is polled.
    ///
    /// Connections to the service live in the runtime that polls it.
    pub async fn follow(self: &Arc<Self>, cache: &RouteCache, ready: &Condition) {
        self.client.settle(Handle::current());
        // Only the first one counts.
        let _ = self.cache.set(cache.clone());
        // Until it is heard of, nobody waits for it who can be served from a snapshot.
        cache.source_down(true);
        let follower = Follower {
            routes: Arc::clone(self),
            cache: cache.clone(),
            sequence: None,
            way: self.client.first(),
            is_up: false,
        };
        tokio::join!(
            self.contact.tell(ready),
            follower.run(),
            self.save_for_ever(cache)
        );
    }

    /// Writes the snapshot for the next start, if one is kept. Blocks on the disk.
    pub fn save(&self, cache: &RouteCache) {
        let Some(path) = &self.options.snapshot else {
            return;
        };
        // Before what is held is looked at: changes may be applied twice, but none may be left out.
        let Some(sequence) = self.sequence() else {
            return;
        };
        let held = cache.held();
        // If nothing is held any more, that has to be known at the next start, too.
        let age = held.iter().map(|account| account.age).max();
        let Some(age) = age.or_else(|| self.contact.age()) else {
            return;
        };
        // In whole seconds: rather older than it is.
        let age = age + Duration::from_secs(1);
        let at = Timestamp::now().as_second() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let service = self.metrics.route_service();
        match snapshot::write(path, sequence, at, &held) {
            Ok(bytes) => {
                service.snapshot_at(at);
                service.snapshot_bytes(bytes);
                let accounts = held.len();
                tracing::debug!(accounts, bytes, sequence, "snapshot of the routes written");
            }
            Err(error) => {
                service.snapshot_not_written();
                let path = path.display();
                tracing::error!(%path, error = whole(&error), "snapshot of the routes not written");
            }
        }
    }

    /// Writes it at intervals: when there is something new, and before the last one gets too old to be of use.
    async fn save_for_ever(self: &Arc<Self>, cache: &RouteCache) {
        if self.options.snapshot.is_none() {
            return;
        }
        let mut ticks = interval(self.options.snapshot_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once.
        ticks.tick().await;
        let (mut written, mut at) = (self.news.load(Ordering::Relaxed), Instant::now());
        loop {
            ticks.tick().await;
            let news = self.news.load(Ordering::Relaxed);
            if news == written && at.elapsed() < self.options.stale_max / 4 {
                continue;
            }
            let (routes, cache) = (Arc::clone(self), cache.clone());
            // Broken off only if the process ends, which writes it, too.
            let _ = tokio::task::spawn_blocking(move || routes.save(&cache)).await;
            (written, at) = (news, Instant::now());
        }
    }

    /// Everything that was answered before may have ceased to hold.
    fn forget(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Follower {
    async fn run(mut self) {
        self.begin_from_disk().await;
        let mut pauses = pauses();
        loop {
            let began = Instant::now();
            match self.attempt().await {
                Ok(()) => {
                    self.routes.client.retire();
                    tracing::info!("the change stream goes on with renewed credentials");
                }
                Err(error) => self.failed(&error),
            }
            // What has lasted is no part of the trouble before it.
            if began.elapsed() > PAUSE_MAX {
                pauses = self::pauses();
            }
            sleep(pauses.next().unwrap_or(PAUSE_MAX)).await;
        }
    }

    fn failed(&mut self, error: &FollowError) {
        let routes = &self.routes;
        let service = routes.metrics.route_service();
        service.streaming(false);
        if error.is_gap() {
            service.gap();
            let after = self.sequence.take();
            routes.applied.store(0, Ordering::Release);
            routes.known.store(0, Ordering::Release);
            routes.forget();
            tracing::warn!(
                error = whole(error),
                after,
                "changes were missed; every route is asked for again"
            );
        } else if self.is_up {
            let error = whole(error);
            tracing::warn!(
                error,
                after = self.sequence,
                "the change stream ended; it is resumed"
            );
        } else {
            routes.contact.lost(error);
            if !matches!(error, FollowError::Client(error) if !error.is_unreachable()) {
                self.cache.source_down(true);
            }
        }
        if !self.is_up {
            self.way = routes.client.after(self.way);
        }
        self.is_up = false;
    }

    /// One snapshot, if it is needed, and one stream, to its end.
    async fn attempt(&mut self) -> Result<(), FollowError> {
        let after = match self.sequence {
            Some(after) => after,
            None => self.begin_from_service().await?,
        };
        let generation = self.routes.client.generation();
        let path = format!("/v1/changes?after={after}");
        let query = Query {
            path: &path,
            kind: "text/event-stream",
        };
        let body = self.ask(query).await?;
        let silence_max = self.routes.options.silence_max;
        let mut stream = ChangeStream::new(body, after, silence_max);
        loop {
            let next = stream.next(&self.routes.answers).await?;
            let is_current = matches!(next, Next::Current);
            self.take(next, stream.sequence());
            if is_current && generation != self.routes.client.generation() {
                self.is_up = false;
                return Ok(());
            }
        }
    }

    fn take(&mut self, next: Next, sequence: u64) {
        self.reached(sequence);
        let service = self.routes.metrics.route_service();
        match next {
            Next::Change(both) => {
                let (change, ours) = *both;
                self.cache.apply(&ours);
                self.routes.news.fetch_add(1, Ordering::Relaxed);
                service.changed(change.at);
                tracing::debug!(
                    sequence,
                    what = change.what,
                    account = change.account,
                    links = change.links.len(),
                    "route change applied"
                );
            }
            Next::Current => {
                self.up();
                self.cache.confirm();
                self.routes.contact.heard();
            }
            Next::Behind => {
                self.up();
                self.routes.contact.heard();
            }
        }
        self.applied(sequence);
    }

    /// From now on an answer that does not know of this change is refused.
    fn reached(&mut self, sequence: u64) {
        self.sequence = Some(sequence);
        self.routes.known.store(sequence, Ordering::Release);
    }

    /// The cache knows of this change.
    fn applied(&self, sequence: u64) {
        let routes = &self.routes;
        let applied = sequence.saturating_add(1);
        routes.applied.store(applied, Ordering::Release);
        routes.metrics.route_service().sequence(sequence);
    }

    fn up(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.cache.source_down(false);
            self.routes.contact.regained();
            self.routes.metrics.route_service().streaming(true);
        }
    }

    async fn ask(&self, query: Query<'_>) -> Result<hyper::body::Incoming, FollowError> {
        let routes = &self.routes;
        let limit = routes.options.client.connect_timeout + HEAD_TIMEOUT;
        let asked = timeout(limit, routes.client.ask(self.way, query)).await;
        match asked.map_err(|_| FollowError::Late(limit))? {
            Err(ClientError::Status {
                status: StatusCode::GONE,
                ..
            }) => Err(FollowError::Gone),
            asked => Ok(asked?),
        }
    }

    async fn begin_from_disk(&mut self) {
        let routes = Arc::clone(&self.routes);
        let Some(path) = routes.options.snapshot.clone() else {
            return;
        };
        let reading = tokio::task::spawn_blocking({
            let (routes, path) = (Arc::clone(&routes), path.clone());
            move || {
                let options = &routes.options;
                let now = Timestamp::now().as_second();
                let (entries_max, age_max) = (options.entries_max, options.stale_max);
                snapshot::read(&path, &routes.answers, entries_max, age_max, now)
            }
        });
        let service = routes.metrics.route_service();
        match reading.await {
            // The process ends.
            Err(_) | Ok(Ok(None)) => {}
            Ok(Ok(Some((snapshot, age)))) => {
                let (accounts, head) = (snapshot.accounts.len(), snapshot.head);
                service.snapshot_at(head.at);
                self.reached(head.sequence);
                self.fill(snapshot, age).await;
                self.applied(head.sequence);
                routes.contact.remembered(age);
                let (sequence, age_seconds) = (head.sequence, age.as_secs());
                tracing::info!(
                    accounts,
                    sequence,
                    age_seconds,
                    "routes from the snapshot on disk"
                );
            }
            Ok(Err(error)) => {
                service.snapshot_refused(error.reason());
                let (path, error) = (path.display(), whole(&error));
                tracing::error!(%path, error, "snapshot of the routes refused; starting without it");
            }
        }
    }

    async fn begin_from_service(&mut self) -> Result<u64, FollowError> {
        let limit = SNAPSHOT_TIMEOUT;
        let began = Instant::now();
        let fetched = timeout(limit, self.fetch_snapshot()).await;
        let snapshot = fetched.map_err(|_| FollowError::Late(limit))??;
        let (accounts, sequence) = (snapshot.accounts.len(), snapshot.head.sequence);
        if snapshot.is_cut {
            tracing::warn!(
                accounts,
                "account routing has more routes than route_cache.entries_max; the rest is asked for one by one"
            );
        }
        self.reached(sequence);
        // Answers that were given since the last one may not know of changes that this one knows of, and that the
        // stream will not send.
        self.routes.forget();
        // As old as the question: it held then, whatever the service's clock says.
        self.fill(snapshot, began.elapsed()).await;
        self.applied(sequence);
        self.routes.contact.heard();
        tracing::info!(accounts, sequence, "routes from account routing");
        Ok(sequence)
    }

    async fn fetch_snapshot(&self) -> Result<Snapshot, FollowError> {
        let routes = &self.routes;
        let query = Query {
            path: "/v1/snapshot",
            kind: "application/x-ndjson",
        };
        let mut body = self.ask(query).await?;
        let mut reader = Reader::of_service(&routes.answers, routes.options.entries_max);
        let limit = routes.options.silence_max;
        loop {
            let frame = timeout(limit, body.frame()).await;
            match frame.map_err(|_| FollowError::Late(limit))? {
                None => return reader.finish().map_err(FollowError::Snapshot),
                Some(Err(error)) => return Err(FollowError::Body(error)),
                Some(Ok(frame)) => {
                    if let Some(piece) = frame.data_ref() {
                        reader.push(piece).map_err(FollowError::Snapshot)?;
                    }
                }
            }
        }
    }

    async fn fill(&self, snapshot: Snapshot, age: Duration) {
        let began = Instant::now();
        for (account, links) in snapshot.accounts {
            self.cache.fill(&account, &links, age + began.elapsed());
            tokio::task::consume_budget().await;
        }
        self.routes.news.fetch_add(1, Ordering::Relaxed);
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}

// After the head of a request is sent: a snapshot of a million links begins within a second.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
// Limit: a snapshot of ten million links is half a gigabyte.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_mins(5);
// With jitter up to twice as long: who follows again within a second misses no revocation for longer than that. A fleet of
// hundreds then makes hundreds of handshakes within a second, once.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(500);
