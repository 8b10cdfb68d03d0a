//! Bodies on their way through: never collected, counted as they pass.
//!
//! A body is forwarded as the `Bytes` it arrived in. [`RequestBody`] can be taken back as long as nothing of
//! it was read, so that a request whose connection turned out to be stale can be sent once more.
//! A body that nobody wants any more, such as that of a refused upload, is read and forgotten within bounds: a
//! client that writes everything before it reads would otherwise meet a reset instead of its answer.
//! [`AnswerBody`] holds the [`Exchange`] and the upstream [`Lease`] until the last frame: the lease is given
//! back when the *body* ends, not when its head arrived.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::connection::http::Connection;
use crate::request::exchange::Exchange;
use crate::request::headers;
use crate::upstream::Lease;

/// The body of a request, shared between whoever sends it and whoever may have to send it again.
#[derive(Clone)]
pub struct RequestBody(Option<Arc<Shared>>);

struct Shared {
    /// `None` only while it is dropped.
    incoming: Mutex<Option<Incoming>>,
    touched: AtomicBool,
    /// Whether the client waits for `100 Continue` before it sends anything.
    expects: bool,
    broken: OnceLock<Broken>,
    bytes: AtomicU64,
    connection: Arc<Connection>,
}

/// How the body of a request broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Its framing makes no sense.
    Malformed,
    /// The client broke off.
    Gone,
}

impl Broken {
    fn of(error: &hyper::Error) -> Self {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(error) = cause.downcast_ref::<std::io::Error>() {
                return match error.kind() {
                    // What hyper's decoder says of a chunk that is none.
                    std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                        Self::Malformed
                    }
                    _ => Self::Gone,
                };
            }
            source = cause.source();
        }
        Self::Gone
    }
}

impl RequestBody {
    /// Wraps what the client sends. A body that is known to be empty costs nothing.
    pub fn new(incoming: Incoming, headers: &HeaderMap, connection: &Arc<Connection>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        Self(Some(Arc::new(Shared {
            incoming: Mutex::new(Some(incoming)),
            touched: AtomicBool::new(false),
            expects: headers.contains_key(EXPECT),
            broken: OnceLock::new(),
            bytes: AtomicU64::new(0),
            connection: Arc::clone(connection),
        })))
    }

    /// A body of no bytes.
    pub fn empty() -> Self {
        Self(None)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a part of it was read, so that it cannot be sent again.
    pub fn touched(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|shared| shared.touched.load(Ordering::Relaxed))
    }

    /// Where it ends is in doubt: nothing more of it will be read.
    pub fn distrust(&self) {
        if let Some(shared) = &self.0 {
            // What is known to be broken stays so.
            let _ = shared.broken.set(Broken::Malformed);
        }
    }

    /// How it broke, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.0
            .as_ref()
            .and_then(|shared| shared.broken.get().copied())
    }

    /// Bytes that passed so far.
    pub fn bytes(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |shared| shared.bytes.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut incoming = self.incoming();
        let Some(incoming) = incoming.as_mut() else {
            return Poll::Ready(None);
        };
        self.touched.store(true, Ordering::Relaxed);
        let frame = match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Err(error)) => {
                // The first error is the one that tells.
                let _ = self.broken.set(Broken::of(&error));
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => Some(self.passed(frame)),
            None => None,
        };
        if frame.is_none() || incoming.is_end_stream() {
            self.ended();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn passed(&self, mut frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            self.connection.activity.touch(Instant::now());
        }
        if let Some(trailers) = frame.trailers_mut() {
            headers::trailers_to_ingress(trailers);
        }
        frame
    }

    fn ended(&self) {
        if let Some(framing) = &self.connection.framing {
            framing.body_ended();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let incoming = self.incoming.get_mut();
        let incoming = incoming.unwrap_or_else(PoisonError::into_inner).take();
        let Some(incoming) = incoming else { return };
        let waits_for_us = self.expects && !*self.touched.get_mut();
        let settled = incoming.is_end_stream() || self.broken.get().is_some() || waits_for_us;
        // HTTP/2 resets the stream; its connection goes on.
        if self.connection.http2 || settled {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(forget(incoming, Arc::clone(&self.connection)));
        }
    }
}

/// Reads on and forgets, until the end of the body or of our patience. hyper closes what is left unread.
async fn forget(mut incoming: Incoming, connection: Arc<Connection>) {
    let reading = async {
        let mut left = FORGET_BYTES_MAX;
        loop {
            let frame = match timeout(FORGET_SILENCE_MAX, incoming.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return,
            };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
        if let Some(framing) = &connection.framing {
            framing.body_ended();
        }
    };
    // Late: then it is closed.
    let _ = timeout(FORGET_TIMEOUT, reading).await;
}

// Limit: what a client may send after its answer before it is cut off; a DICOM instance or two. nginx reads on
// for 30 s (`lingering_time`) and through pauses of 5 s (`lingering_timeout`), without a bound of bytes.
const FORGET_BYTES_MAX: usize = 64 * 1024 * 1024;
const FORGET_TIMEOUT: Duration = Duration::from_secs(30);
const FORGET_SILENCE_MAX: Duration = Duration::from_secs(5);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &self.0 {
            None => Poll::Ready(None),
            Some(shared) => shared.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended =
            |shared: &Arc<Shared>| shared.incoming().as_ref().is_none_or(Body::is_end_stream);
        self.0.as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        let known = |shared: &Arc<Shared>| shared.incoming().as_ref().map(Body::size_hint);
        let hint = self.0.as_ref().and_then(known);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

/// The body of an answer.
pub struct AnswerBody(Kind);

enum Kind {
    /// Ours, or none.
    Local(
        Option<Bytes>,
        #[expect(dead_code, reason = "tells when dropped")] Exchange,
    ),
    /// None: the connection carries another protocol from here on.
    None,
    /// The ingress's.
    Upstream(Streamed),
}

/// An answer on its way from the ingress.
struct Streamed {
    /// `None` only while it is dropped.
    incoming: Option<Incoming>,
    exchange: Exchange,
    lease: Option<Lease>,
    /// What `Content-Length` still promises. HTTP/1.1 asks for no more frames once it has all of that, although
    /// the frame that ends an HTTP/2 stream may be still on its way.
    left: Option<u64>,
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Some(frame),
            Some(Err(error)) => {
                self.exchange.upstream_broke(&error);
                return Poll::Ready(Some(Err(error)));
            }
            None => None,
        };
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            self.exchange.answer_bytes(data.len());
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        let ended = frame.is_none() || incoming.is_end_stream();
        if ended || self.left == Some(0) {
            self.exchange.complete();
        }
        if ended && let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        Poll::Ready(frame.map(Ok))
    }
}

impl Drop for Streamed {
    /// Waits for the end of a stream that has said all it had to say: a reset instead would look like an abort,
    /// and an ingress ends connections that have many of those.
    fn drop(&mut self) {
        let (Some(mut incoming), Some(lease)) = (self.incoming.take(), self.lease.take()) else {
            return;
        };
        if self.left != Some(0) || !lease.is_http2() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let end = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx));
                if let Ok(None | Some(Ok(_))) = timeout(END_TIMEOUT, end).await {
                    lease.give_back();
                }
            });
        }
    }
}

// Limit: the end of a stream follows its last byte within a round trip.
const END_TIMEOUT: Duration = Duration::from_secs(1);

impl AnswerBody {
    /// A body of ours.
    pub fn local(bytes: Bytes, mut exchange: Exchange) -> Self {
        exchange.answer_bytes(bytes.len());
        exchange.complete();
        Self(Kind::Local((!bytes.is_empty()).then_some(bytes), exchange))
    }

    /// No body, and nothing to tell.
    pub fn none() -> Self {
        Self(Kind::None)
    }

    /// A body of the ingress's.
    pub fn upstream(incoming: Incoming, mut exchange: Exchange, lease: Lease) -> Self {
        let mut lease = Some(lease);
        if incoming.is_end_stream() {
            exchange.complete();
            if let Some(lease) = lease.take() {
                lease.give_back();
            }
        }
        let left = incoming.size_hint().exact();
        Self(Kind::Upstream(Streamed {
            incoming: Some(incoming),
            exchange,
            lease,
            left,
        }))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Kind::None => Poll::Ready(None),
            Kind::Local(bytes, _) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Upstream(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::None => true,
            Kind::Local(bytes, _) => bytes.is_none(),
            Kind::Upstream(streamed) => {
                let incoming = streamed.incoming.as_ref();
                incoming.is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::None => SizeHint::with_exact(0),
            Kind::Local(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Upstream(streamed) => {
                let incoming = streamed.incoming.as_ref();
                incoming.map_or_else(SizeHint::default, Body::size_hint)
            }
        }
    }
}
