//! One worker's pool of connections to the ingress, by endpoint and credential generation.
//!
//! HTTP/1.1 connections wait here between requests, the latest used first, so that the surplus ages and is
//! closed. HTTP/2 connections stay here and are shared, as few as their streams allow. The mutex is never
//! contended: only the worker's own thread takes it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::client::conn::http1;

use crate::metrics::Metrics;
use crate::request::body::RequestBody;
use crate::upstream::answer::IngressBody;
use crate::upstream::cluster::Protocol;
use crate::upstream::connect::Opened;
use crate::upstream::http2;
use crate::upstream::{Bounds, Options, SendError};

/// What a pooled connection is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The number of the cluster, whose name was verified.
    pub cluster: u64,
    /// Where it goes.
    pub endpoint: SocketAddr,
    /// Which client certificate and CA it was opened with.
    pub generation: u64,
    /// What it was opened for.
    pub protocol: Protocol,
}

/// The pool.
pub struct Pool {
    bounds: Arc<Bounds>,
    metrics: Arc<Metrics>,
    /// A handful: one for each endpoint and protocol, and for a while those of the former generation.
    places: Mutex<Vec<(Key, Place)>>,
}

#[derive(Default)]
struct Place {
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    gate: Arc<tokio::sync::Mutex<()>>,
    speaks_http1: bool,
    /// Whether the endpoint ends HTTP/2 connections after some number of requests.
    counts_requests: bool,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    opened: Instant,
    since: Instant,
}

#[derive(Clone)]
struct Shared {
    sender: http2::Sender,
    opened: Instant,
    streams: Arc<AtomicUsize>,
    /// Requests that were sent on it.
    requests: usize,
}

/// A connection taken from the pool, or a stream of one.
pub enum Pooled {
    /// The connection.
    Http1 {
        /// Sends the next request.
        sender: http1::SendRequest<RequestBody>,
        /// When it was opened.
        opened: Instant,
    },
    /// A stream of a shared connection.
    Http2 {
        /// Sends on it.
        sender: http2::Sender,
        /// Counts the streams in use.
        #[expect(dead_code, reason = "counts until it is dropped")]
        stream: Stream,
    },
}

/// One stream in use of a shared connection.
pub struct Stream(Arc<AtomicUsize>);

impl Stream {
    fn of(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(streams))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pooled {
    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2 { .. })
    }

    /// Sends a request.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<IngressBody>, SendError> {
        match self {
            Self::Http1 { sender, .. } => match sender.try_send_request(request).await {
                Ok(response) => Ok(response.map(IngressBody::Http1)),
                Err(mut error) => {
                    let returned = error.take_message().is_some();
                    Err(SendError::http1(error.into_error(), returned))
                }
            },
            Self::Http2 { sender, .. } => match sender.send(request).await {
                Ok(response) => Ok(response.map(IngressBody::Http2)),
                Err((error, sent)) => Err(SendError::http2(error, sent)),
            },
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(bounds: Arc<Bounds>, metrics: Arc<Metrics>) -> Self {
        Self {
            bounds,
            metrics,
            places: Mutex::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<(Key, Place)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can take a request now; `replayable` if it could be sent once more.
    pub fn take(&self, key: &Key, replayable: bool) -> Option<Pooled> {
        let mut places = self.places();
        let (_, place) = places.iter_mut().find(|(at, _)| at == key)?;
        if !place.shared.is_empty() {
            let Place {
                shared: all,
                counts_requests,
                ..
            } = place;
            all.retain_mut(|shared| {
                let many = shared.requests >= REQUESTS_MAX;
                let closed = shared.sender.is_closed();
                *counts_requests |= closed && many;
                // Its age is looked at each second, by `sweep`.
                !(closed || many && *counts_requests)
            });
            let free = |shared: &&mut Shared| {
                shared.has_room() && (replayable || shared.requests < REQUESTS_MAX)
            };
            return all.iter_mut().find(free).map(|shared| {
                shared.requests += 1;
                Pooled::Http2 {
                    sender: shared.sender.clone(),
                    stream: Stream::of(&shared.streams),
                }
            });
        }
        let now = Instant::now();
        let Options {
            idle_timeout,
            connection_age_max: age_max,
            ..
        } = self.bounds.now();
        while let Some(idle) = place.idle.pop() {
            let usable = idle.sender.is_ready()
                && now.saturating_duration_since(idle.since) < idle_timeout
                && now.saturating_duration_since(idle.opened) < age_max;
            if usable {
                return Some(Pooled::Http1 {
                    sender: idle.sender,
                    opened: idle.opened,
                });
            }
        }
        None
    }

    /// Where to queue before opening a connection. `None`: each request needs one of its own.
    pub fn gate(&self, key: &Key) -> Option<Arc<tokio::sync::Mutex<()>>> {
        if key.protocol == Protocol::Http1 {
            return None;
        }
        let mut places = self.places();
        let place = place(&mut places, key);
        (!place.speaks_http1).then(|| Arc::clone(&place.gate))
    }

    /// Takes in a new connection and gives the right to use it.
    pub fn admit(&self, key: &Key, opened: Opened) -> Pooled {
        let now = Instant::now();
        match opened {
            Opened::Http1(sender) => {
                place(&mut self.places(), key).speaks_http1 = true;
                Pooled::Http1 {
                    sender,
                    opened: now,
                }
            }
            Opened::Http2(sender) => {
                let streams = Arc::new(AtomicUsize::new(0));
                let stream = Stream::of(&streams);
                let shared = Shared {
                    sender: sender.clone(),
                    opened: now,
                    streams,
                    requests: 1,
                };
                place(&mut self.places(), key).shared.push(shared);
                Pooled::Http2 { sender, stream }
            }
        }
    }

    /// Takes back a connection whose exchange is over.
    pub fn put(self: &Arc<Self>, key: Key, pooled: Pooled) {
        let Pooled::Http1 { mut sender, opened } = pooled else {
            return;
        };
        if sender.is_ready() {
            self.rest(key, sender, opened);
        } else if !sender.is_closed() {
            // hyper has handed out the last frame but not yet come round to the next request.
            let pool = Arc::clone(self);
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    pool.rest(key, sender, opened);
                }
            });
        }
    }

    fn rest(&self, key: Key, sender: http1::SendRequest<RequestBody>, opened: Instant) {
        let idle = Idle {
            sender,
            opened,
            since: Instant::now(),
        };
        let mut places = self.places();
        let place = place(&mut places, &key);
        if place.idle.len() < IDLE_MAX {
            place.idle.push(idle);
        }
    }

    /// Closes what is idle for too long, too old, closed, or not good for requests any more: `is_current` tells.
    pub fn sweep(&self, is_current: impl Fn(&Key) -> bool) {
        let options = self.bounds.now();
        let (idle_max, age_max) = (options.idle_timeout, options.connection_age_max);
        self.places().retain_mut(|(key, place)| {
            let current = is_current(key);
            if !current {
                place.idle.clear();
            }
            place.idle.retain(|idle| {
                !idle.sender.is_closed()
                    && idle.since.elapsed() < idle_max
                    && idle.opened.elapsed() < age_max
            });
            place.shared.retain_mut(|shared| {
                !shared.sender.is_closed() && current && shared.opened.elapsed() < age_max
            });
            current
        });
    }

    /// Counts a request that is sent.
    pub fn count_request(&self, http2: bool, reused: bool) {
        self.metrics.upstream_request(http2, reused);
    }

    /// Counts an answer, whose head came so long after the request was sent.
    pub fn count_answer(&self, took: Duration) {
        self.metrics.upstream_answered(took);
    }
}

/// The place of `key`, made if there is none.
fn place<'a>(places: &'a mut Vec<(Key, Place)>, key: &Key) -> &'a mut Place {
    let at = places
        .iter()
        .position(|(at, _)| at == key)
        .unwrap_or_else(|| {
            places.push((*key, Place::default()));
            places.len() - 1
        });
    &mut places[at].1
}

impl Shared {
    fn has_room(&self) -> bool {
        let streams = self.streams.load(Ordering::Relaxed);
        streams < STREAMS_MAX as usize
    }
}

// Limit: idle connections a worker keeps to one endpoint; more are closed when they come back.
const IDLE_MAX: usize = 512;
// Limit: streams on one HTTP/2 connection. nginx allows 128 and Envoy more; beyond this, head-of-line blocking
// of the one TCP connection costs more than a second connection.
pub const STREAMS_MAX: u32 = 100;
// Limit: requests on one HTTP/2 connection. nginx ends it after as many (`keepalive_requests`) and takes no notice
// of those already on their way. Whoever cannot be sent once more is not sent on such a connection; the others are
// until an endpoint turns out to be one that counts, which we then forestall.
const REQUESTS_MAX: usize = 1000;
