//! HTTP on a secured connection: hyper's HTTP/1.1 server or our HTTP/2, and everything that may end it.
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
use std::time::{Duration, Instant};

use ::http::header::CONNECTION;
use ::http::uri::Authority;
use ::http::{HeaderValue, Request, Response};
use arc_swap::ArcSwap;
use hyper::service::service_fn;
use postern_api::{HostName, LinkId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;
use tokio_rustls::server::TlsStream;

use crate::connection::accept::Seat;
use crate::connection::authorize::Standing;
use crate::connection::client_hello::TlsIo;
use crate::connection::framing::{Framing, Tap};
use crate::connection::gate::Gate;
use crate::connection::handshake::Secured;
use crate::connection::http1::Http1;
use crate::connection::http2::Http2;
use crate::connection::registry::{Entry, Registry};
use crate::connection::signals::{End, Signal, Signals};
use crate::connection::{Born, Connections};
use crate::outcome::{Ending, Refusal};
use crate::request;
use crate::request::body::{AnswerBody, Incoming};
use crate::routing::RouteWatch;
use crate::short_slices::ShortSlices;

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
    spoken: OnceLock<Spoken>,
    /// When in the life of the process it got ready.
    pub born: Born,
    last_answer: AtomicBool,
    cut: AtomicBool,
    closing: Notify,
    tunnel: Mutex<Option<Tunnel>>,
    _seat: Seat,
    _entry: Entry<Self>,
}

impl Connection {
    /// What the stages before learned, and what is read and written.
    pub fn new(
        secured: Secured,
        born: Born,
        registry: &Arc<Registry<Self>>,
    ) -> (Arc<Self>, Box<TlsStream<TlsIo>>) {
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
            born,
            last_answer: AtomicBool::new(born != Born::Serving),
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
    pub fn spoken(&self, text: &str) -> Option<&Spoken> {
        self.spoken.get().filter(|spoken| spoken.header == text)
    }

    /// A request was found good with this authority.
    pub fn speaks(&self, authority: &Spoken) {
        // A client that spells it in several ways is read each time.
        let _ = self.spoken.set(authority.clone());
    }

    /// From now on, each answer over HTTP/1.1 is the last one.
    pub fn answer_once_more(&self) {
        self.last_answer.store(true, Ordering::Relaxed);
    }

    /// "A server that does not support persistent connections MUST send the "close" connection option in every
    /// response message that does not have a 1xx (Informational) status code." (RFC 9112 section 9.3)
    fn tell_of_the_end(&self, answer: &mut Response<AnswerBody>) {
        if self.last_answer.load(Ordering::Relaxed) && !answer.status().is_informational() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
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

    /// What it goes on as, told once.
    pub fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel().take()
    }

    fn tunnel(&self) -> MutexGuard<'_, Option<Tunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Host or `:authority`, as a client spells it.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// As the value of a header.
    pub header: HeaderValue,
    /// As a part of a URI.
    pub authority: Authority,
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
    latest_answer: AtomicU64,
    tunnels: AtomicU32,
    parked: AtomicBool,
}

impl Activity {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            last_micros: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            served: AtomicU64::new(0),
            latest_answer: AtomicU64::new(0),
            tunnels: AtomicU32::new(0),
            parked: AtomicBool::new(false),
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

    /// A request is over, whose answer had a body of so many bytes.
    pub fn end(&self, now: Instant, answer_bytes: u64) {
        self.latest_answer.store(answer_bytes, Ordering::Relaxed);
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

    /// Bytes of the latest answer's body. The next one is likely to be like it.
    pub fn latest_answer(&self) -> u64 {
        self.latest_answer.load(Ordering::Relaxed)
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

    /// It holds nothing for requests now, or does so again.
    pub fn park(&self, whether: bool) {
        self.parked.store(whether, Ordering::Relaxed);
    }

    /// Whether it holds nothing for requests, since none has come for a while.
    pub fn parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Since when nothing has moved.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_micros(self.last_micros.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(last)
    }
}

/// Serves HTTP until the connection ends. `routes` tells when its standing may have changed.
pub async fn serve(
    own: &Connections,
    connection: Arc<Connection>,
    stream: Box<TlsStream<TlsIo>>,
    drain: watch::Receiver<bool>,
    routes: Option<RouteWatch>,
) -> Ending {
    let options = own.options.http;
    if let Some(framing) = connection.framing.clone() {
        let io = Tap::new(ShortSlices::new(stream), framing);
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let request = request.map(Incoming::Http1);
            // Boxed where it is made: hyper moves a request's future several times before it first polls it.
            let answer = Box::pin(request::handle(&own.requests, &connection, request));
            let connection = &connection;
            async move {
                let mut answer = answer.await;
                connection.tell_of_the_end(&mut answer);
                Ok::<_, Infallible>(answer)
            }
        });
        let served = Http1::new(io, service, &connection, options);
        drive(own, &connection, pin!(served), drain, routes).await
    } else {
        let served = Http2::new(
            ShortSlices::new(stream),
            options,
            &own.requests,
            &connection,
        );
        drive(own, &connection, Box::pin(served).as_mut(), drain, routes).await
    }
}

/// What a connection of HTTP/1.1 and one of HTTP/2 have in common.
pub(super) trait Graceful<E: Broke>: Future<Output = Result<(), E>> {
    /// Ends when that fails no request, those included that may be on their way.
    fn drain(self: Pin<&mut Self>);

    /// Ends once the requests in flight are done.
    fn end_gently(self: Pin<&mut Self>);

    /// Nothing moves: lets go of what only requests need.
    fn park(self: Pin<&mut Self>) {}
}

/// How a connection broke.
pub(super) trait Broke: std::error::Error {
    /// The word for it.
    fn ending(&self) -> Ending;
}

impl<T: AsyncRead + AsyncWrite + Unpin> Graceful<h2::Error> for Http2<'_, T> {
    /// GOAWAY says which requests are on their way.
    fn drain(self: Pin<&mut Self>) {
        self.end_gently();
    }

    fn end_gently(self: Pin<&mut Self>) {
        self.get_mut().end_gently();
    }
}

impl Broke for hyper::Error {
    fn ending(&self) -> Ending {
        // hyper has answered these by itself, with 431 and 400 and no body.
        if self.is_parse_too_large() {
            Ending::Refused(Refusal::HeadTooLarge)
        } else if self.is_parse() {
            Ending::Refused(Refusal::BadRequest)
        } else {
            Ending::ClientBroke
        }
    }
}

impl Broke for h2::Error {
    fn ending(&self) -> Ending {
        // Whether it was we who found the client at fault (RFC 9113 section 7).
        if self.is_library() {
            Ending::ProtocolError
        } else {
            Ending::ClientBroke
        }
    }
}

/// Polls the connection, and ends it for one of the reasons of [`Signals`]: gently at first, then by a cut.
async fn drive<E: Broke>(
    own: &Connections,
    connection: &Connection,
    mut served: Pin<&mut impl Graceful<E>>,
    drain: watch::Receiver<bool>,
    routes: Option<RouteWatch>,
) -> Ending {
    let mut signals = Signals::new(own, connection, drain, routes);
    let mut asked: Option<Option<Ending>> = None;
    let mut deadline = None;
    loop {
        // What comes seldom in a connection's life costs its traffic nothing.
        let reasons = Gate::new(async {
            tokio::select! {
                () = passed(deadline) => None,
                signal = signals.next() => Some(signal),
            }
        });
        let signal = tokio::select! {
            biased;
            result = served.as_mut() => return ending(result, asked.flatten()),
            signal = reasons => signal,
        };
        let End { reason, within } = match signal {
            Some(Signal::End(end)) => end,
            Some(Signal::Drain) => {
                served.as_mut().drain();
                asked = asked.or(Some(Some(Ending::Drained)));
                continue;
            }
            Some(Signal::Quiet) => {
                served.as_mut().park();
                continue;
            }
            None => {
                connection.cut.store(true, Ordering::Relaxed);
                return asked.flatten().unwrap_or(Ending::Idle);
            }
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

fn ending(result: Result<(), impl Broke>, reason: Option<Ending>) -> Ending {
    match (result, reason) {
        (_, Some(reason)) => reason,
        (Ok(()), None) => Ending::Closed,
        (Err(error), None) => {
            tracing::debug!(%error, "connection broke");
            error.ending()
        }
    }
}
