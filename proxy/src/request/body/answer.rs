//! The body of an answer: ours, or the ingress's on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http2::Tunnel;
use crate::request::exchange::Exchange;
use crate::upstream::{BodyError, IngressBody, Lease};

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
    /// None: the stream carries another protocol from here on, and goes to who waits for it.
    Tunnel(Option<oneshot::Sender<Tunnel>>),
    /// The ingress's.
    Upstream(Streamed),
}

/// An answer on its way from the ingress.
struct Streamed {
    /// `None` only while it is dropped.
    incoming: Option<IngressBody>,
    exchange: Exchange,
    lease: Option<Lease>,
    /// What `Content-Length` still promises. HTTP/1.1 asks for no more frames once it has all of that, although
    /// the frame that ends an HTTP/2 stream may be still on its way.
    left: Option<u64>,
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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

    /// No body: the stream, once the head is sent, is for `waiting`.
    pub fn tunnel(waiting: oneshot::Sender<Tunnel>) -> Self {
        Self(Kind::Tunnel(Some(waiting)))
    }

    /// Who waits for the stream, if it is not for a body.
    pub fn take_tunnel(&mut self) -> Option<oneshot::Sender<Tunnel>> {
        match &mut self.0 {
            Kind::Tunnel(waiting) => waiting.take(),
            _ => None,
        }
    }

    /// A body of the ingress's.
    pub fn upstream(incoming: IngressBody, mut exchange: Exchange, lease: Lease) -> Self {
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
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::None | Kind::Tunnel(_) => Poll::Ready(None),
            Kind::Local(bytes, _) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Upstream(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::None | Kind::Tunnel(_) => true,
            Kind::Local(bytes, _) => bytes.is_none(),
            Kind::Upstream(streamed) => {
                let incoming = streamed.incoming.as_ref();
                incoming.is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::None | Kind::Tunnel(_) => SizeHint::with_exact(0),
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
