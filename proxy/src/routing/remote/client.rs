//! Connections to the account-routing service, and requests on them: HTTP/2 over mutual TLS.
//!
//! A *way* is a place for one connection to one endpoint. There are at least two, so that a second attempt never
//! shares the fate of the first one. A connection is used for everything until it breaks or our credentials change;
//! then a new one takes its place, and the old one ends when what is on it has ended. Which way comes first changes
//! when another one was better.
//!
//! Invariant: the server's name is verified against the internal CA alone.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::credentials::{ClientCredentials, Credentials};
use crate::upstream::Protocol;

/// How the service is reached.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where it listens: host and port.
    pub endpoints: Vec<(String, u16)>,
    /// The name that its certificate must have.
    pub name: ServerName<'static>,
    /// The same, as requests carry it.
    pub authority: String,
    /// Name resolution, TCP and TLS of a new connection.
    pub connect_timeout: Duration,
}

/// The connections to the service.
pub(super) struct Client {
    options: ClientOptions,
    credentials: Arc<Credentials>,
    dial: Arc<dyn Dial>,
    ways: Vec<Way>,
    first: AtomicUsize,
    /// Where connections live, so that no worker's thread has to serve those of the others.
    home: OnceLock<Handle>,
}

/// How a connection to an endpoint begins.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// Opens a way for bytes.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Wire>>;
}

/// Bytes in both directions.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// By TCP.
pub(super) struct Tcp;

struct Way {
    host: String,
    port: u16,
    place: Arc<Mutex<Place>>,
}

#[derive(Default)]
struct Place {
    connection: Option<Connection>,
    failed: Option<(Instant, ClientError)>,
}

#[derive(Clone)]
struct Connection {
    generation: u64,
    requests: SendRequest<Empty<Bytes>>,
    /// Why it ended, once it has.
    ended: watch::Receiver<Option<Arc<hyper::Error>>>,
}

/// Why there is no answer. Cloned to everybody who waited for the same connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No client certificate has been proven yet.
    #[error("no client certificate and CA to connect with yet")]
    NoIdentity,
    /// There is no connection and none can be opened.
    #[error("{endpoint}: no connection")]
    Connect {
        /// Host and port.
        endpoint: String,
        /// What TCP or TLS says.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The connection broke before the answer's head came.
    #[error("{endpoint}: the request broke off")]
    Broken {
        /// Host and port.
        endpoint: String,
        /// Why.
        source: Arc<hyper::Error>,
    },
    /// The answer has another status than 200: no answer.
    #[error("{endpoint}: the answer is {status}")]
    Status {
        /// Host and port.
        endpoint: String,
        /// The status.
        status: StatusCode,
    },
    /// The answer is of another kind than was asked for.
    #[error("{endpoint}: the answer is not {wanted}")]
    Kind {
        /// Host and port.
        endpoint: String,
        /// The media type that was asked for.
        wanted: &'static str,
    },
}

impl ClientError {
    /// Whether the service could not be reached at all.
    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::NoIdentity | Self::Connect { .. } | Self::Broken { .. }
        )
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    /// Path and query, encoded.
    pub(super) path: &'a str,
    /// The media type that the answer must have.
    pub(super) kind: &'static str,
}

impl Client {
    pub(super) fn new(
        options: ClientOptions,
        credentials: Arc<Credentials>,
        dial: Arc<dyn Dial>,
    ) -> Self {
        let ways = options.endpoints.iter();
        // The second of a single endpoint is another connection to the same.
        let ways = ways.cycle().take(options.endpoints.len().max(2));
        Self {
            ways: ways.map(Way::to).collect(),
            options,
            credentials,
            dial,
            first: AtomicUsize::new(0),
            home: OnceLock::new(),
        }
    }

    /// Connections are opened and driven in this runtime from now on.
    pub(super) fn settle(&self, home: Handle) {
        // Whoever came first stays.
        let _ = self.home.set(home);
    }

    /// The way to try first.
    pub(super) fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }

    /// The way to try after `way`.
    pub(super) fn after(&self, way: usize) -> usize {
        (way + 1) % self.ways.len()
    }

    /// `other` answered where `way` did not.
    pub(super) fn prefer(&self, other: usize, way: usize) {
        // Somebody else may have found out before.
        let order = Ordering::Relaxed;
        let _ = self.first.compare_exchange(way, other, order, order);
    }

    /// The generation of the credentials that a new connection would have.
    pub(super) fn generation(&self) -> Option<u64> {
        self.credentials.routing().map(|it| it.generation)
    }

    /// Connections of credentials that were replaced take no more requests, and end with those that they have.
    pub(super) fn retire(&self) {
        let generation = self.generation();
        for way in &self.ways {
            // Whoever has it locked is opening a new one.
            if let Ok(mut place) = way.place.try_lock() {
                let connection = place.connection.take();
                place.connection = connection.filter(|it| Some(it.generation) == generation);
            }
        }
    }

    /// Asks on one way, and gives the answer's body if the answer is 200 and of the right kind.
    ///
    /// Waits no longer than the connection lives, which notices a dead peer by itself: the caller has a deadline.
    pub(super) async fn ask(&self, way: usize, query: Query<'_>) -> Result<Incoming, ClientError> {
        let way = &self.ways[way % self.ways.len()];
        let endpoint = || way.endpoint();
        let uri = format!("https://{}{}", self.options.authority, query.path);
        let request = Request::get(uri)
            .header(ACCEPT, query.kind)
            .header(USER_AGENT, AGENT)
            .body(Empty::new());
        let request = request.map_err(|error| ClientError::Connect {
            endpoint: endpoint(),
            source: Arc::new(error),
        })?;
        let mut connection = self.connection(way).await?;
        let answer = match connection.requests.send_request(request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(ClientError::Broken {
                    endpoint: endpoint(),
                    source: connection.reason(error).await,
                });
            }
        };
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(ClientError::Status {
                endpoint: endpoint(),
                status,
            });
        }
        if !is_of_kind(&answer, query.kind) {
            return Err(ClientError::Kind {
                endpoint: endpoint(),
                wanted: query.kind,
            });
        }
        Ok(answer.into_body())
    }

    /// The way's connection; a new one if there is none that is good for new requests.
    async fn connection(&self, way: &Way) -> Result<Connection, ClientError> {
        let identity = self.credentials.routing().ok_or(ClientError::NoIdentity)?;
        let mut place = Arc::clone(&way.place).lock_owned().await;
        if let Some(connection) = place.usable(identity.generation) {
            return Ok(connection);
        }
        if let Some(error) = place.failed_just_now() {
            return Err(error);
        }
        // A task of its own: it goes on if who asked leaves, for those who wait for the place.
        let opening = self.open(way, identity);
        let home = self.home.get().cloned().unwrap_or_else(Handle::current);
        let opened = home.spawn(async move {
            let opened = opening.await;
            match &opened {
                Ok(connection) => {
                    place.failed = None;
                    place.connection = Some(connection.clone());
                }
                Err(error) => place.failed = Some((Instant::now(), error.clone())),
            }
            opened
        });
        match opened.await {
            Ok(opened) => opened,
            Err(error) => Err(way.not_connected(error)),
        }
    }

    fn open(
        &self,
        way: &Way,
        identity: Arc<ClientCredentials>,
    ) -> impl Future<Output = Result<Connection, ClientError>> + Send + 'static {
        let (dial, name) = (Arc::clone(&self.dial), self.options.name.clone());
        let (limit, way) = (self.options.connect_timeout, way.clone());
        async move {
            let established = timeout(limit, way.establish(&*dial, name, &identity)).await;
            match established {
                Ok(established) => established,
                Err(late) => Err(way.not_connected(late)),
            }
        }
    }
}

impl Clone for Way {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            port: self.port,
            place: Arc::clone(&self.place),
        }
    }
}

impl Way {
    fn to((host, port): &(String, u16)) -> Self {
        Self {
            host: host.clone(),
            port: *port,
            place: Arc::default(),
        }
    }

    fn endpoint(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn not_connected(&self, source: impl Error + Send + Sync + 'static) -> ClientError {
        ClientError::Connect {
            endpoint: self.endpoint(),
            source: Arc::new(source),
        }
    }

    async fn establish(
        &self,
        dial: &dyn Dial,
        name: ServerName<'static>,
        identity: &ClientCredentials,
    ) -> Result<Connection, ClientError> {
        let wire = dial.dial(&self.host, self.port).await;
        let wire = wire.map_err(|error| self.not_connected(error))?;
        let tls = TlsConnector::from(identity.tls(Protocol::Http2));
        let stream = tls.connect(name, wire).await;
        let stream = stream.map_err(|error| self.not_connected(error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let error = io::Error::other("the endpoint does not speak HTTP/2");
            return Err(self.not_connected(error));
        }
        let started = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (requests, connection) = started.map_err(|error| self.not_connected(error))?;
        let endpoint = self.endpoint();
        let (told, ended) = watch::channel(None);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%endpoint, %error, "connection to account routing ended");
                told.send_replace(Some(Arc::new(error)));
            }
        });
        Ok(Connection {
            generation: identity.generation,
            requests,
            ended,
        })
    }
}

impl Connection {
    /// Why a request broke off. The connection may know better: that our certificate is refused shows after the TLS
    /// handshake (RFC 8446 section 4.4.2), and only if the alert is read before the peer's end of the connection.
    async fn reason(mut self, error: hyper::Error) -> Arc<hyper::Error> {
        if self.requests.is_closed() {
            // An error is told, too: that nobody is left who could say more.
            let _ = timeout(REASON_TIMEOUT, self.ended.changed()).await;
        }
        let reason = self.ended.borrow().clone();
        reason.unwrap_or_else(|| Arc::new(error))
    }
}

impl Place {
    fn usable(&self, generation: u64) -> Option<Connection> {
        let connection = self.connection.as_ref()?;
        let is_good = connection.generation == generation && !connection.requests.is_closed();
        is_good.then(|| connection.clone())
    }

    fn failed_just_now(&self) -> Option<ClientError> {
        let (at, error) = self.failed.as_ref()?;
        (at.elapsed() < FAILURE_PAUSE).then(|| error.clone())
    }
}

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

fn is_of_kind(answer: &Response<Incoming>, kind: &str) -> bool {
    let given = answer.headers().get(CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok());
    let essence = given.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(kind))
}

const AGENT: &str = concat!("postern/", env!("CARGO_PKG_VERSION"));
// A peer that is gone without a word is noticed within the two together.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
// Limit: a place that could not be connected to is not tried again sooner, however many ask.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
// Limit: a connection that is closed ends within the same turn of its thread.
const REASON_TIMEOUT: Duration = Duration::from_millis(100);
// Limit: what is sent ahead of us: 256 KiB for a snapshot or the change stream, which leaves the connection room for
// as many lookups as may be under way.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
// Limit: an answer's head has a few hundred bytes.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
