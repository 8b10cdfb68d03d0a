//! HTTP on a secured connection: hyper's HTTP/1.1 or HTTP/2 server, and everything that may end it.
//!
//! One future drives the connection; beside it, `signals` listens for the reasons to end: drain, a change
//! of routes, a request that asked for the end, silence. All of them end a connection gently first (HTTP/2
//! GOAWAY, HTTP/1.1 `Connection: close`), so that requests in flight finish. A connection that was upgraded is
//! listened for just the same, until its tunnel ends.

#[cfg(feature = "testing")]
mod detached;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::http::HeaderValue;
use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_api::{HostName, LinkId};
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::connection::Connections;
use crate::connection::accept::Seat;
use crate::connection::authorize::Standing;
use crate::connection::framing::{Framing, Tap};
use crate::connection::gate::Gate;
use crate::connection::handshake::Secured;
use crate::connection::registry::{Entry, Registry};
use crate::connection::signals::{End, Signals};
use crate::outcome::{Ending, Refusal};
use crate::request;

#[cfg(feature = "testing")]
pub use self::detached::Detached;

/// Bounds of HTTP towards clients.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// From a request head's first byte to its last.
    pub header_timeout: Duration,
    /// Without a request, or without a byte moved in either direction while one is in progress.
    pub idle_timeout: Duration,
    /// Largest request head, in bytes.
    pub head_bytes_max: usize,
    /// Most header fields of a request.
    pub headers_max: usize,
    /// HTTP/2 streams open at once on one connection.
    pub streams_max: u32,
    /// How long connections of a revoked link may take to end.
    pub revoked_timeout: Duration,
    /// How long an upgraded connection may be silent in both directions.
    pub upgraded_idle_timeout: Duration,
}

/// What an upgraded HTTP/1.1 connection goes on as.
pub type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An HTTP connection, as its requests see it.
pub struct Connection {
    /// The private endpoint.
    pub link_id: LinkId,
    /// The client's own address.
    pub client: SocketAddr,
    /// The TCP peer.
    pub source: SocketAddr,
    /// When it was accepted.
    pub opened: Instant,
    /// The name in the `ClientHello`.
    pub sni: HostName,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls_version: &'static str,
    /// Whether TLS was resumed.
    pub resumed: bool,
    /// How long authorization took.
    pub authorize: Duration,
    /// What it may do, as of now.
    pub standing: ArcSwap<Standing>,
    /// How its message heads are framed; HTTP/1.1 only.
    pub framing: Option<Arc<Framing>>,
    /// `X-MS-Private-Link-Id`.
    pub link_id_header: HeaderValue,
    /// `X-Forwarded-For`.
    pub client_header: HeaderValue,
    /// Whether anything moves.
    pub activity: Activity,
    spoken: OnceLock<HeaderValue>,
    /// Whether it was accepted before, but ready only after, this process began to drain.
    pub born_draining: bool,
    cut: AtomicBool,
    closing: Notify,
    tunnel: Mutex<Option<Tunnel>>,
    _seat: Seat,
    _entry: Entry<Self>,
}

impl Connection {
    fn new(
        secured: Secured,
        born_draining: bool,
        registry: &Arc<Registry<Self>>,
    ) -> (
        Arc<Self>,
        tokio_rustls::server::TlsStream<crate::connection::client_hello::TlsIo>,
    ) {
        let http2 = secured.is_http2();
        let (tls_version, resumed) = (secured.tls_version(), secured.resumed());
        let connection = registry.enter(|entry| Self {
            link_id: secured.link_id,
            client: secured.client,
            source: secured.source,
            opened: secured.opened,
            http2,
            tls_version,
            resumed,
            authorize: secured.authorize,
            framing: (!http2).then(Arc::default),
            link_id_header: HeaderValue::from(secured.link_id.get()),
            client_header: ip_header(secured.client),
            standing: ArcSwap::from_pointee(secured.standing),
            sni: secured.sni,
            activity: Activity::new(),
            spoken: OnceLock::new(),
            born_draining,
            cut: AtomicBool::new(false),
            closing: Notify::new(),
            tunnel: Mutex::default(),
            _seat: secured.seat,
            _entry: entry,
        });
        (connection, secured.stream)
    }

    /// Whether we cut it, with whatever was in flight.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The authority that `text` spells, if a request of this connection was found good with it before.
    pub fn spoken(&self, text: &str) -> Option<&HeaderValue> {
        self.spoken.get().filter(|spoken| *spoken == text)
    }

    /// A request was found good with this authority.
    pub fn speaks(&self, authority: &HeaderValue) {
        // A client that spells it in several ways is read each time.
        let _ = self.spoken.set(authority.clone());
    }

    /// Ends the connection once the requests in flight are done.
    pub fn close(&self) {
        self.closing.notify_one();
    }

    /// Resolves when a request asked for the end.
    pub async fn closing(&self) {
        self.closing.notified().await;
    }

    /// Goes on as `tunnel` once HTTP/1.1 has said its last: what ends the connection then ends the tunnel.
    pub fn go_on_as(&self, tunnel: Tunnel) {
        *self.tunnel() = Some(tunnel);
    }

    fn tunnel(&self) -> MutexGuard<'_, Option<Tunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ip_header(address: SocketAddr) -> HeaderValue {
    let ip = address.ip().to_canonical().to_string();
    // An address has only digits, dots, colons and letters.
    HeaderValue::from_str(&ip).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// When something last moved on a connection, and how many requests are in progress.
pub struct Activity {
    since: Instant,
    last_micros: AtomicU64,
    in_flight: AtomicU32,
    served: AtomicU64,
    tunnels: AtomicU32,
}

impl Activity {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            last_micros: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            served: AtomicU64::new(0),
            tunnels: AtomicU32::new(0),
        }
    }

    /// Something moved just now.
    pub fn touch(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.since).as_micros();
        self.last_micros
            .store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request begins.
    pub fn begin(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    /// A request is over.
    pub fn end(&self, now: Instant) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    /// Requests in progress.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that are over.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// A request became a tunnel.
    pub fn tunnel_began(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    /// A tunnel is over.
    pub fn tunnel_ended(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a tunnel is open.
    pub fn tunnels(&self) -> bool {
        self.tunnels.load(Ordering::Relaxed) > 0
    }

    /// Whether a request is in progress.
    pub fn busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Since when nothing has moved.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_micros(self.last_micros.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(last)
    }
}

/// Serves HTTP until the connection ends.
pub async fn serve(
    own: &Connections,
    secured: Secured,
    mut drain: watch::Receiver<bool>,
) -> Ending {
    let draining = *drain.borrow_and_update();
    let (connection, stream) = Connection::new(secured, draining, &own.registry);
    let service = service_fn({
        let (requests, connection) = (Arc::clone(&own.requests), Arc::clone(&connection));
        move |request| {
            let (requests, connection) = (Arc::clone(&requests), Arc::clone(&connection));
            // Boxed where it is made: hyper moves a request's future several times before it first polls it.
            let answer = Box::pin(request::handle(requests, connection, request));
            async move { Ok::<_, Infallible>(answer.await) }
        }
    });
    let options = own.options.http;
    if let Some(framing) = connection.framing.clone() {
        let io = TokioIo::new(Tap::new(stream, framing));
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1
            .half_close(false)
            .header_read_timeout(None)
            .max_header_size(options.head_bytes_max)
            .max_buf_size(options.head_bytes_max.max(HTTP1_BUFFER_BYTES));
        if options.headers_max > HYPER_HEADERS_MAX {
            http1.max_headers(options.headers_max);
        }
        let served = http1.serve_connection(io, service).with_upgrades();
        let served = Upgradable {
            served: pin!(served),
            connection: &connection,
            tunnel: None,
        };
        drive(own, &connection, pin!(served), drain).await
    } else {
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(options.streams_max)
            .max_header_list_size(u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(stream), service);
        drive(own, &connection, pin!(served), drain).await
    }
}

/// What the two hyper connections have in common.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end_gently(self: Pin<&mut Self>);
}

impl<I, S> Graceful for hyper::server::conn::http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = request::body::AnswerBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn end_gently(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Graceful for hyper::server::conn::http2::Connection<I, S, E>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = request::body::AnswerBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, request::body::AnswerBody>,
{
    fn end_gently(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// An HTTP/1.1 connection, and then the tunnel that it was upgraded to.
struct Upgradable<'a, C> {
    served: Pin<&'a mut C>,
    connection: &'a Connection,
    tunnel: Option<Tunnel>,
}

impl<C: Graceful> Future for Upgradable<'_, C> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        if this.tunnel.is_none() {
            ready!(this.served.as_mut().poll(cx))?;
            this.tunnel = this.connection.tunnel().take();
        }
        match &mut this.tunnel {
            Some(tunnel) => tunnel.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<C> Drop for Upgradable<'_, C> {
    /// A tunnel that never began holds the connection, which holds the tunnel.
    fn drop(&mut self) {
        let never_began = self.connection.tunnel().take();
        drop(never_began);
    }
}

impl<C: Graceful> Graceful for Upgradable<'_, C> {
    /// There is no gentle end for a tunnel: only its two sides know how to part.
    fn end_gently(mut self: Pin<&mut Self>) {
        if self.tunnel.is_none() {
            self.served.as_mut().end_gently();
        }
    }
}

/// Polls hyper, and ends it for one of the reasons of [`Signals`]: gently at first, then by a cut.
async fn drive<C: Graceful>(
    own: &Connections,
    connection: &Connection,
    mut served: Pin<&mut C>,
    drain: watch::Receiver<bool>,
) -> Ending {
    let mut signals = Signals::new(own, connection, drain);
    let mut asked: Option<Option<Ending>> = None;
    let mut deadline = None;
    loop {
        // What comes once in a connection's life costs its traffic nothing.
        let reasons = Gate::new(async {
            tokio::select! {
                () = passed(deadline) => None,
                end = signals.next() => Some(end),
            }
        });
        let end = tokio::select! {
            biased;
            result = served.as_mut() => return ending(result, asked.flatten()),
            end = reasons => end,
        };
        let Some(End { reason, within }) = end else {
            connection.cut.store(true, Ordering::Relaxed);
            return asked.flatten().unwrap_or(Ending::Idle);
        };
        served.as_mut().end_gently();
        // A cut tells its own reason; otherwise the first one counts.
        asked = if within.is_some() {
            Some(reason)
        } else {
            asked.or(Some(reason))
        };
        deadline = earlier(
            deadline,
            within.map(|within| tokio::time::Instant::now() + within),
        );
    }
}

async fn passed(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whether it was we who found the client at fault (RFC 9113 section 7).
fn broke_http2(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let h2 = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(h2::Error::is_library)
}

fn ending(result: hyper::Result<()>, reason: Option<Ending>) -> Ending {
    match (result, reason) {
        (_, Some(reason)) => reason,
        (Ok(()), None) => Ending::Closed,
        // hyper has answered these by itself, with 431 and 400 and no body.
        (Err(error), None) if error.is_parse_too_large() => Ending::Refused(Refusal::HeadTooLarge),
        (Err(error), None) if error.is_parse() => Ending::Refused(Refusal::BadRequest),
        (Err(error), None) if broke_http2(&error) => {
            tracing::debug!(%error, "the client broke HTTP/2");
            Ending::ProtocolError
        }
        (Err(error), None) => {
            tracing::debug!(%error, "connection broke");
            Ending::ClientBroke
        }
    }
}

// What hyper reads into a table on the stack. For more it allocates two tables for each request; for fewer,
// `admit` counts.
const HYPER_HEADERS_MAX: usize = 100;
// Limit: hyper reads a body in pieces of at most this; twice a TLS record keeps copies few.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
// Limit: what one client connection may make us hold of uploads: 1 MiB, a quarter of it per stream.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
// Limit: what one stream may hold of an answer that its client reads slowly.
const HTTP2_SEND_BUFFER_BYTES: usize = 256 * 1024;
