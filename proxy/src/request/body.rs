//! Bodies on their way through: never collected, counted as they pass.
//!
//! A body is forwarded as the `Bytes` it arrived in. [`RequestBody`] can be taken back as long as nothing of
//! it was read, so that a request whose connection turned out to be stale can be sent once more.
//! [`AnswerBody`] holds the [`Exchange`] and the upstream [`Lease`] until the last frame: the lease is given
//! back when the *body* ends, not when its head arrived.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::connection::http::Connection;
use crate::request::exchange::Exchange;
use crate::upstream::Lease;

/// The body of a request, shared between whoever sends it and whoever may have to send it again.
#[derive(Clone)]
pub struct RequestBody(Option<Arc<Shared>>);

struct Shared {
    incoming: Mutex<Incoming>,
    touched: std::sync::atomic::AtomicBool,
    bytes: AtomicU64,
    connection: Arc<Connection>,
}

impl RequestBody {
    /// Wraps what the client sends. A body that is known to be empty costs nothing.
    pub fn new(incoming: Incoming, connection: &Arc<Connection>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        Self(Some(Arc::new(Shared {
            incoming: Mutex::new(incoming),
            touched: std::sync::atomic::AtomicBool::new(false),
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

    /// Bytes that passed so far.
    pub fn bytes(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |shared| shared.bytes.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn passed(&self, frame: Option<&Frame<Bytes>>) {
        match frame {
            Some(frame) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    self.connection.activity.touch(Instant::now());
                }
            }
            None => {
                if let Some(framing) = &self.connection.framing {
                    framing.body_ended();
                }
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(shared) = &self.0 else {
            return Poll::Ready(None);
        };
        let mut incoming = shared
            .incoming
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.touched.store(true, Ordering::Relaxed);
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx)).transpose()?;
        shared.passed(frame.as_ref());
        if frame.is_some() && incoming.is_end_stream() {
            shared.passed(None);
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            shared
                .incoming
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(shared) => shared
                .incoming
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .size_hint(),
        }
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
