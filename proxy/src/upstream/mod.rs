//! The way to the ingress: cluster → connect → pool.
//!
//! [`Upstream`] belongs to one worker thread: its connections are opened, used and closed there, so that
//! nothing on the path of a request waits for another thread. [`Upstream::lease`] gives the right to send
//! one request; the [`Lease`] goes back when the answer's body has ended.
//!
//! Only requests with a permit get here: a [`ClusterName`] that names a cluster comes from a permit's route.

mod answer;
mod cluster;
mod connect;
mod dns;
mod endpoints;
mod health;
mod http2;
mod pool;
mod resolve;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{Request, Response};

pub use answer::{BodyError, IngressBody};
pub use cluster::{Cluster, Clusters, Protocol};
pub use connect::ConnectError;
pub use dns::Dns;
pub use endpoints::{Place, Target};
pub use health::Health;
pub use resolve::{Options as ResolveOptions, Resolver, Unresolved};

use crate::credentials::{ClientCredentials, Credentials};
use crate::metrics::Metrics;
use crate::request::body::RequestBody;
use crate::routing::ClusterName;
use connect::Opened;
use pool::{Pool, Pooled};
use tally::Tally;

/// Bounds towards the ingress.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// TCP and TLS of a new connection.
    pub connect_timeout: Duration,
    /// How long a connection waits in the pool.
    pub idle_timeout: Duration,
    /// How old a connection may get before no more requests are sent on it.
    pub connection_age_max: Duration,
    /// How long a connection may stay busy after its credentials were replaced.
    pub superseded_timeout: Duration,
}

/// The bounds in force, for every worker and all that is open.
#[derive(Debug)]
pub struct Bounds(ArcSwap<Options>);

impl Bounds {
    /// These.
    pub fn new(options: Options) -> Self {
        Self(ArcSwap::from_pointee(options))
    }

    /// These from now on.
    pub fn set(&self, options: Options) {
        self.0.store(Arc::new(options));
    }

    fn now(&self) -> Options {
        **self.0.load()
    }
}

/// One worker's connections to the ingress.
pub struct Upstream {
    bounds: Arc<Bounds>,
    clusters: Arc<Clusters>,
    credentials: Arc<Credentials>,
    pool: Arc<Pool>,
    tally: Arc<Tally>,
    metrics: Arc<Metrics>,
}

/// What there is for a request.
enum Found {
    /// A connection.
    Lease(Lease),
    /// Places to connect to.
    Search(Search),
}

/// What is needed to connect, whatever is replaced meanwhile.
struct Search {
    cluster: Arc<Cluster>,
    identity: Arc<ClientCredentials>,
    protocol: Protocol,
    candidates: Vec<SocketAddr>,
}

/// Where a connection to send on comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One that is there, or a new one that others may share at once.
    Pooled,
    /// A new one, whose first request it will be.
    Fresh,
}

/// What is known of a request when a connection is chosen for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Whether it could be sent once more, whatever becomes of the connection: it has no body.
    pub replayable: bool,
    /// Whether a large answer is likely, which costs less by HTTP/1.1: no windows to keep, no frames to cut.
    pub bulk: bool,
}

/// Who serves a request, for its log line.
#[derive(Debug, Clone)]
pub struct Served {
    /// The endpoint's address.
    pub endpoint: SocketAddr,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// How long connecting took, if a connection was opened for this request.
    pub connect: Option<Duration>,
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// No client certificate has been proven yet.
    #[error("no client certificate and CA to connect with yet")]
    NoIdentity,
    /// The route names a cluster that the configuration does not have.
    #[error("no cluster `{0}` is configured")]
    NoCluster(ClusterName),
    /// The cluster's names have no addresses: none has been resolved, or not for too long.
    #[error("no address of an ingress endpoint of `{0}` is known")]
    NoEndpoint(ClusterName),
    /// No endpoint could be connected to.
    #[error("no endpoint of the cluster answered; last tried {endpoint}")]
    Connect {
        /// The last endpoint tried.
        endpoint: SocketAddr,
        /// Why it failed.
        source: ConnectError,
    },
}

impl LeaseError {
    /// Whether the endpoint is there and does not speak the HTTP it was asked for.
    fn is_alpn(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.is_alpn())
    }

    /// Whether it was time that ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Connect {
                source: ConnectError::Timeout(_),
                ..
            }
        )
    }
}

impl Upstream {
    /// A worker's way to `clusters`. Opens nothing yet. The bounds are those that `bounds` holds at the time.
    pub fn new(
        bounds: Arc<Bounds>,
        clusters: Arc<Clusters>,
        credentials: Arc<Credentials>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let pool = Arc::new(Pool::new(Arc::clone(&bounds), Arc::clone(&metrics)));
        Self {
            bounds,
            clusters,
            credentials,
            pool,
            tally: Arc::new(Tally::new(Arc::clone(&metrics))),
            metrics,
        }
    }

    /// The right to send one request to an endpoint of the cluster, by whatever protocol suits it.
    pub async fn lease(
        &self,
        cluster: &ClusterName,
        way: Way,
        traffic: Traffic,
    ) -> Result<Lease, LeaseError> {
        let suits = |cluster: &Cluster| cluster.protocol_for(traffic);
        loop {
            let search = match self.look(cluster, suits, way, traffic)? {
                Found::Lease(lease) => return Ok(lease),
                Found::Search(search) => search,
            };
            let (cluster, protocol) = (Arc::clone(&search.cluster), search.protocol);
            // Boxed: connecting is rare and its future is large; every request would carry it.
            match Box::pin(self.connect(search, way, traffic)).await {
                Err(error) if protocol != cluster.protocol && error.is_alpn() => {
                    cluster.speaks_no_http1();
                }
                leased => return leased,
            }
        }
    }

    /// The same by HTTP/1.1, for upgrades.
    pub async fn lease_http1(&self, cluster: &ClusterName) -> Result<Lease, LeaseError> {
        let traffic = Traffic {
            replayable: false,
            bulk: false,
        };
        match self.look(cluster, |_| Protocol::Http1, Way::Pooled, traffic)? {
            Found::Lease(lease) => Ok(lease),
            Found::Search(search) => Box::pin(self.connect(search, Way::Pooled, traffic)).await,
        }
    }

    /// Looks for a connection to the endpoint whose turn it is. Never waits: clusters and endpoints may be replaced
    /// while we do, and here none of them is.
    fn look(
        &self,
        name: &ClusterName,
        protocol: impl Fn(&Cluster) -> Protocol,
        way: Way,
        traffic: Traffic,
    ) -> Result<Found, LeaseError> {
        let clusters = self.clusters.load();
        let cluster =
            cluster::find(&clusters, name).ok_or_else(|| LeaseError::NoCluster(name.clone()))?;
        let identity = self.credentials.client().ok_or(LeaseError::NoIdentity)?;
        let protocol = protocol(cluster);
        let (endpoints, turn) = cluster.turn();
        let mut candidates = endpoints.candidates(turn);
        let Some(first) = candidates.next() else {
            return Err(LeaseError::NoEndpoint(name.clone()));
        };
        let key = pool::Key {
            cluster: cluster.number,
            endpoint: first,
            generation: identity.generation,
            protocol,
        };
        Ok(match self.pooled(&key, way, traffic) {
            Some(pooled) => Found::Lease(self.reuse(key, pooled)),
            None => Found::Search(Search {
                cluster: Arc::clone(cluster),
                identity,
                protocol,
                candidates: std::iter::once(first).chain(candidates).collect(),
            }),
        })
    }

    async fn connect(
        &self,
        search: Search,
        way: Way,
        traffic: Traffic,
    ) -> Result<Lease, LeaseError> {
        let Search {
            cluster,
            identity,
            protocol,
            candidates,
        } = search;
        let mut last = None;
        for endpoint in candidates {
            let key = pool::Key {
                cluster: cluster.number,
                endpoint,
                generation: identity.generation,
                protocol,
            };
            if let Some(pooled) = self.pooled(&key, way, traffic) {
                return Ok(self.reuse(key, pooled));
            }
            // One connection at a time where many requests may share it.
            let gate = match way {
                Way::Pooled => self.pool.gate(&key),
                Way::Fresh => None,
            };
            let _turn = match &gate {
                Some(gate) => Some(gate.lock().await),
                None => None,
            };
            if gate.is_some()
                && let Some(pooled) = self.pool.take(&key, traffic.replayable)
            {
                return Ok(self.reuse(key, pooled));
            }
            let started = Instant::now();
            let (options, tally) = (self.bounds.now(), &self.tally);
            match connect::open(endpoint, &cluster, protocol, &identity, options, tally).await {
                Ok(opened) => {
                    cluster.succeeded(endpoint);
                    self.metrics.upstream_connected(true);
                    return Ok(self.begin(key, opened, started.elapsed()));
                }
                Err(error) => {
                    // It answered; what it does not speak is no fault.
                    if !error.is_alpn() {
                        cluster.failed(endpoint, &error);
                    }
                    self.metrics.upstream_connected(false);
                    last = Some((endpoint, error));
                }
            }
        }
        match last {
            Some((endpoint, source)) => Err(LeaseError::Connect { endpoint, source }),
            None => Err(LeaseError::NoEndpoint(cluster.name.clone())),
        }
    }

    fn pooled(&self, key: &pool::Key, way: Way, traffic: Traffic) -> Option<Pooled> {
        match way {
            Way::Pooled => self.pool.take(key, traffic.replayable),
            Way::Fresh => None,
        }
    }

    fn reuse(&self, key: pool::Key, pooled: Pooled) -> Lease {
        Lease {
            pool: Arc::clone(&self.pool),
            key,
            pooled,
            reused: true,
            connect: None,
            tally: Arc::clone(&self.tally),
        }
    }

    fn begin(&self, key: pool::Key, opened: Opened, took: Duration) -> Lease {
        let pooled = self.pool.admit(&key, opened);
        Lease {
            pool: Arc::clone(&self.pool),
            key,
            pooled,
            reused: false,
            connect: Some(took),
            tally: Arc::clone(&self.tally),
        }
    }

    /// Closes what is idle for too long, too old, of a former credential generation or goes to where the cluster is no
    /// longer, and in the end what is busy with a former generation, for ever.
    pub async fn sweep_for_ever(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if let Some(current) = self.credentials.client() {
                self.tally.supersede(current.generation);
                self.tally.cut(self.bounds.now().superseded_timeout);
                let clusters = self.clusters.load();
                self.pool.sweep(|key| {
                    key.generation == current.generation
                        && clusters.iter().any(|cluster| cluster.uses(key))
                });
            }
        }
    }
}

/// The right to send one request on a connection to the ingress.
pub struct Lease {
    pool: Arc<Pool>,
    key: pool::Key,
    pooled: Pooled,
    reused: bool,
    connect: Option<Duration>,
    tally: Arc<Tally>,
}

impl Lease {
    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.pooled.is_http2()
    }

    /// Waits until a tunnel on this connection is to be cut, since its credentials were replaced long ago.
    pub fn cutting(&self) -> impl Future<Output = ()> + use<> {
        self.tally.cutting(self.key.generation)
    }

    /// Who serves.
    pub fn served(&self) -> Served {
        Served {
            endpoint: self.key.endpoint,
            protocol: if self.is_http2() {
                "HTTP/2.0"
            } else {
                "HTTP/1.1"
            },
            connect: self.connect,
        }
    }

    /// Sends the request and waits for the answer's head; tells when that came.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<IngressBody>, Instant), SendError> {
        self.pool.count_request(self.is_http2(), self.reused);
        let sent = Instant::now();
        let response = self.pooled.send(request).await?;
        let now = Instant::now();
        self.pool.count_answer(now.saturating_duration_since(sent));
        Ok((response, now))
    }

    /// The exchange is over: the connection may serve the next.
    pub fn give_back(self) {
        self.pool.put(self.key, self.pooled);
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    error: BodyError,
    never_sent: bool,
}

impl SendError {
    fn http1(error: hyper::Error, returned: bool) -> Self {
        Self {
            never_sent: returned || error.is_canceled(),
            error: error.into(),
        }
    }

    fn http2(error: h2::Error, sent: http2::Sent) -> Self {
        let never_sent = sent == http2::Sent::Nothing || refused_unprocessed(&error);
        Self {
            never_sent,
            error: error.into(),
        }
    }

    /// Whether the ingress cannot have seen the request, or says that it did not process it.
    pub fn never_sent(&self) -> bool {
        self.never_sent
    }

    /// Whether the connection ended before a byte of an answer.
    pub fn before_answer(&self) -> bool {
        match &self.error {
            // hyper gives an error instead of a head only if there was no head.
            BodyError::Http1(error) => !error.is_parse() && !error.is_timeout() && !error.is_user(),
            BodyError::Http2(error) => error.is_io() || error.is_go_away(),
        }
    }
}

/// Whether HTTP/2 itself says that the request was not processed: `REFUSED_STREAM`, or a GOAWAY whose last
/// stream is an earlier one (RFC 9113 sections 6.8 and 8.7).
fn refused_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)))
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
