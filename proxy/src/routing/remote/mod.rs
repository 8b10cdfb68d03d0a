//! Routes from the account-routing service.
//!
//! ```text
//!   RouteCache ── lookup ──▶ mod: rooms, second attempt ──▶ client ──▶ HTTP/2, mutual TLS ──▶ the service
//!       ▲                          ▲ answer: judged                                              │
//!       └─ apply, fill, confirm ── follow ◀── stream, snapshot ◀────────── changes, snapshot ────┘
//!                                    └── contact: readiness
//! ```
//!
//! * `client`: connections, requests. `answer`: what the service says, made into what we go by.
//! * `follow`: keeps the cache up to date for ever, from a `snapshot` on disk or of the service, by the change `stream`.
//! * `contact`: when the service was last heard of, and whether we are ready.
//!
//! Invariant: the service is never believed about more than was asked, and its silence is never a "no".

mod answer;
mod client;
mod contact;
mod follow;
mod snapshot;
mod stream;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use postern_api::{HostName, LinkId};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::sleep;

use answer::{Answers, Distrusted};
pub use client::ClientOptions;
use client::{Client, ClientError, Dial, Query, Tcp};
pub use contact::Contact;

use crate::credentials::Credentials;
use crate::metrics::Metrics;
use crate::routing::{Answer, ClusterName, Lookup, LookupError, RouteCache, RouteSource};

/// How the service is asked and followed.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// How it is reached.
    pub client: ClientOptions,
    /// How long the first attempt of a lookup may take before a second one is made beside it.
    pub hedge_after: Duration,
    /// How long the change stream may be silent before it is taken for broken.
    pub silence_max: Duration,
    /// Where a snapshot is kept for the next start.
    pub snapshot: Option<PathBuf>,
    /// How often it is written, if something changed.
    pub snapshot_interval: Duration,
    /// How long routes hold without the service.
    pub stale_max: Duration,
    /// How many pairs of link and host are remembered at most.
    pub entries_max: u64,
}

/// The service as a source of routes.
pub struct RemoteRoutes {
    options: RemoteOptions,
    client: Client,
    answers: Answers,
    contact: Contact,
    generation: watch::Sender<u64>,
    /// The newest change that an answer has to know of. Set *before* the cache is brought up to date: what is asked
    /// after that must not bring back what was before.
    known: AtomicU64,
    /// One more than the newest change that the cache knows of, 0 while changes are missing. Set *after* the cache was
    /// brought up to date: a snapshot of it may be given a change twice, but must not miss one.
    applied: AtomicU64,
    /// Counts what a snapshot on disk would not have: changes that were applied, routes that were found.
    news: AtomicU64,
    /// In front of this source, once it is followed. Both live as long as the process.
    cache: OnceLock<RouteCache>,
    rooms: Rooms,
    metrics: Arc<Metrics>,
}

/// Room for lookups, so that a flood of one kind leaves room for the others.
struct Rooms {
    /// For every lookup.
    any: Semaphore,
    /// For refreshing what the cache holds, once the other is full.
    known: Semaphore,
    /// For second attempts: if everything is slow, they would only make it slower.
    second: Semaphore,
}

/// Why an attempt gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer broke off or has more than {LOOKUP_BYTES_MAX} bytes")]
    Body,
    #[error(transparent)]
    Distrusted(#[from] Distrusted),
}

impl RemoteRoutes {
    /// Routes may live on these `clusters` and no other. Nothing is opened before the first lookup.
    pub fn new(
        options: RemoteOptions,
        clusters: impl IntoIterator<Item = ClusterName>,
        credentials: Arc<Credentials>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self::by(Arc::new(Tcp), options, clusters, credentials, metrics)
    }

    fn by(
        dial: Arc<dyn Dial>,
        options: RemoteOptions,
        clusters: impl IntoIterator<Item = ClusterName>,
        credentials: Arc<Credentials>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client: Client::new(options.client.clone(), credentials, dial),
            answers: Answers::new(clusters, Arc::clone(&metrics)),
            contact: Contact::new(options.stale_max, Arc::clone(&metrics)),
            generation: watch::Sender::new(0),
            known: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            news: AtomicU64::new(0),
            cache: OnceLock::new(),
            rooms: Rooms {
                any: Semaphore::new(LOOKUPS_MAX),
                known: Semaphore::new(KNOWN_LOOKUPS_MAX),
                second: Semaphore::new(SECOND_ATTEMPTS_MAX),
            },
            options,
            metrics,
        }
    }

    /// Routes may live on these clusters from now on. Those that are remembered of others lead nowhere.
    pub fn know(&self, clusters: impl IntoIterator<Item = ClusterName>) {
        self.answers.know(clusters);
    }

    /// When the service was last heard of.
    pub const fn contact(&self) -> &Contact {
        &self.contact
    }

    /// The newest change that the cache knows of; none before there was a snapshot, and while changes are missing.
    pub fn sequence(&self) -> Option<u64> {
        self.applied.load(Ordering::Acquire).checked_sub(1)
    }

    async fn ask(&self, link: Option<LinkId>, host: &HostName) -> Result<Answer, LookupError> {
        let _room = self.room(link, host).await?;
        let asked = self.attempt_twice(link, host).await;
        let answer = asked.map_err(LookupError::source_failed)?;
        self.contact.heard();
        if matches!(answer.lookup, Lookup::Found(_)) {
            self.news.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }

    async fn room(
        &self,
        link: Option<LinkId>,
        host: &HostName,
    ) -> Result<SemaphorePermit<'_>, LookupError> {
        let Rooms { any, known, .. } = &self.rooms;
        if let Ok(room) = any.try_acquire() {
            return Ok(room);
        }
        let held = |cache: &RouteCache| cache.describe(link?, host);
        let rooms = match self.cache.get().and_then(held).map(|held| held.answer) {
            Some(Lookup::Found(_)) => known,
            _ => any,
        };
        rooms.acquire().await.map_err(LookupError::source_failed)
    }

    /// One attempt, and a second one on another way if the first fails or takes too long.
    async fn attempt_twice(
        &self,
        link: Option<LinkId>,
        host: &HostName,
    ) -> Result<Answer, AttemptError> {
        let way = self.client.first();
        let other = self.client.after(way);
        let mut first = std::pin::pin!(self.attempt(way, link, host));
        let failed = tokio::select! {
            biased;
            answer = &mut first => match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => Some(error),
            },
            () = sleep(self.options.hedge_after) => None,
        };
        let Ok(_room) = self.rooms.second.try_acquire() else {
            return match failed {
                Some(error) => Err(error),
                None => first.await,
            };
        };
        self.metrics.route_service().second_attempt();
        let second = self.attempt(other, link, host);
        if failed.is_some() {
            let answer = second.await?;
            self.client.prefer(other, way);
            return Ok(answer);
        }
        let mut second = std::pin::pin!(second);
        tokio::select! {
            answer = &mut first => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => second.await.inspect(|_| self.client.prefer(other, way)),
            },
            answer = &mut second => match answer {
                Ok(answer) => {
                    self.client.prefer(other, way);
                    Ok(answer)
                }
                Err(_) => first.await,
            },
        }
    }

    async fn attempt(
        &self,
        way: usize,
        link: Option<LinkId>,
        host: &HostName,
    ) -> Result<Answer, AttemptError> {
        // Before it is asked: what is applied meanwhile, the cache itself sees to.
        let known = self.known.load(Ordering::Acquire);
        // A host name has no character that would have to be encoded.
        let path = match link {
            Some(link) => format!("/v1/lookup?linkId={link}&host={}", host.as_str()),
            None => format!("/v1/lookup?host={}", host.as_str()),
        };
        let query = Query {
            path: &path,
            kind: "application/json",
        };
        let body = self.client.ask(way, query).await?;
        let body = Limited::new(body, LOOKUP_BYTES_MAX).collect().await;
        let body = body.map_err(|_| AttemptError::Body)?.to_bytes();
        Ok(self.answers.lookup(link, host, known, &body)?)
    }
}

#[async_trait]
impl RouteSource for RemoteRoutes {
    async fn lookup(&self, link: LinkId, host: &HostName) -> Result<Answer, LookupError> {
        self.ask(Some(link), host).await
    }

    async fn lookup_host(&self, host: &HostName) -> Result<Answer, LookupError> {
        let answer = self.ask(None, host).await?;
        Ok(match answer.lookup {
            Lookup::Found(_) => answer,
            Lookup::NotApproved(_) | Lookup::Unknown => Answer {
                lookup: Lookup::Unknown,
                ..answer
            },
        })
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

// Limit: a lookup takes the service about a millisecond, so that this is a hundred thousand a second.
const LOOKUPS_MAX: usize = 128;
const KNOWN_LOOKUPS_MAX: usize = 32;
const SECOND_ATTEMPTS_MAX: usize = 32;
// Limit: an account with 16 host names takes 5 KiB.
const LOOKUP_BYTES_MAX: usize = 64 * 1024;
