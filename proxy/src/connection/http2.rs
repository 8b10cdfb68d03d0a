//! HTTP/2 towards the client, on `h2` itself: the requests of a connection are answered in the connection's own
//! task.
//!
//! hyper's server spawns a task for every request and wakes the connection for each answer. Without that, a small
//! request takes 4 % fewer instructions in user space (HTTP/2 on both sides, counted by callgrind), and what many
//! answers have to write leaves in one piece. Framing, HPACK and flow control are h2's, as they are hyper's; so
//! are the bounds on streams that are reset and on heads that never end.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use ::http::header::DATE;
use ::http::{HeaderValue, Method, Request, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::gate::Bell;
use crate::connection::http::{Connection, Options};
use crate::http2::{self, Received, Tunnel};
use crate::request::body::{AnswerBody, Incoming};
use crate::request::{self, Requests};

/// A connection and the requests on it.
pub struct Http2<'a, T> {
    state: State<T>,
    /// Whether it was asked to end.
    ending: bool,
    streams_max: u32,
    requests: &'a Arc<Requests>,
    connection: &'a Arc<Connection>,
    streams: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    /// Rung when h2 has something to read or to write: an answer that is awaited is nothing to h2.
    bell: Arc<Bell>,
    waker: Waker,
}

enum State<T> {
    Handshaking(Handshake<T, Bytes>),
    Serving(h2::server::Connection<T, Bytes>),
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin> Http2<'a, T> {
    /// HTTP/2 on a stream that agreed to it.
    pub fn new(
        io: T,
        options: Options,
        requests: &'a Arc<Requests>,
        connection: &'a Arc<Connection>,
    ) -> Self {
        let handshake = Builder::new()
            .max_concurrent_streams(options.streams_max)
            .max_header_list_size(u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .enable_connect_protocol()
            .handshake(io);
        let bell = Arc::<Bell>::default();
        bell.ring();
        Self {
            state: State::Handshaking(handshake),
            ending: false,
            streams_max: options.streams_max,
            requests,
            connection,
            streams: FuturesUnordered::new(),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }

    /// Lets the client begin no more requests; the connection ends when those in progress are answered.
    pub fn end_gently(&mut self) {
        self.ending = true;
        if let State::Serving(serving) = &mut self.state {
            serving.graceful_shutdown();
        }
        self.bell.ring();
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
    }

    /// Reads what the client sent, writes what it gets, begins to answer its requests.
    fn poll_connection(&mut self) -> Poll<Result<(), h2::Error>> {
        let cx = &mut Context::from_waker(&self.waker);
        if let State::Handshaking(handshake) = &mut self.state {
            let mut serving = ready!(Pin::new(handshake).poll(cx))?;
            if self.ending {
                serving.graceful_shutdown();
            }
            self.state = State::Serving(serving);
        }
        let State::Serving(serving) = &mut self.state else {
            return Poll::Pending;
        };
        for _ in 0..self.streams_max {
            let Some(accepted) = ready!(serving.poll_accept(cx)) else {
                return Poll::Ready(Ok(()));
            };
            let (request, respond) = accepted?;
            let (request, tunnel) = incoming(request);
            let stream = answer(self.requests, self.connection, request, tunnel, respond);
            self.streams.push(Box::pin(stream));
        }
        // So many at once have been reset in between; what is left of them goes before there are more.
        self.bell.ring();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Http2<'_, T> {
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let this = &mut *self;
        // What answers write would otherwise wake the task that is about to send it.
        this.bell.wake_nobody();
        for _ in 0..TURNS_MAX {
            // Answers first: what all of them write leaves at once.
            this.poll_streams(cx);
            if !this.bell.was_rung() {
                this.bell.wake_task(cx.waker());
                // From another thread, between the two lines above.
                if !this.bell.was_rung() {
                    return Poll::Pending;
                }
            }
            if let Poll::Ready(ended) = this.poll_connection() {
                return Poll::Ready(ended);
            }
        }
        this.bell.ring();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Answers one request.
async fn answer(
    requests: &Arc<Requests>,
    connection: &Arc<Connection>,
    request: Request<Incoming>,
    tunnel: Option<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = {
        let mut response = pin!(request::handle(requests, connection, request));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            // A client that resets its request does not want an answer.
            respond.poll_reset(cx).map(|_| None)
        })
        .await
    };
    let Some(response) = response else { return };
    let Some((body, mut stream)) = begin(response, &mut respond, tunnel) else {
        return;
    };
    let sent = http2::send(pin!(body), &mut stream, Reason::INTERNAL_ERROR).await;
    if let Err(reason) = sent {
        stream.send_reset(reason);
    }
}

/// A request as others know it; and, if it may become a tunnel, the stream itself.
fn incoming(request: Request<RecvStream>) -> (Request<Incoming>, Option<RecvStream>) {
    let (head, stream) = request.into_parts();
    if head.method == Method::CONNECT {
        return (Request::from_parts(head, Incoming::None), Some(stream));
    }
    let body = if stream.is_end_stream() {
        Incoming::None
    } else {
        Incoming::Http2(Received::new(stream, &head.headers))
    };
    (Request::from_parts(head, body), None)
}

/// Sends the head; gives the body and where it goes, if there is one.
fn begin(
    response: Response<AnswerBody>,
    respond: &mut SendResponse<Bytes>,
    tunnel: Option<RecvStream>,
) -> Option<(AnswerBody, SendStream<Bytes>)> {
    let (mut head, mut body) = response.into_parts();
    // "An origin server with a clock MUST generate a Date header field" (RFC 9110 section 6.6.1); so for our own
    // answers, and for an ingress that has none.
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, now());
    }
    let waiting = body.take_tunnel();
    let ends = body.is_end_stream() && waiting.is_none();
    let stream = match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "the answer could not be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            return None;
        }
    };
    match waiting.zip(tunnel) {
        None if ends => None,
        None => Some((body, stream)),
        Some((waiting, receive)) => {
            // Whoever waited may be gone; then the stream ends.
            let _ = waiting.send(Tunnel::new(receive, stream));
            None
        }
    }
}

fn now() -> HeaderValue {
    let now = jiff::Timestamp::now();
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    let value = text.ok().and_then(|text| text.try_into().ok());
    // Every date of this age has four digits for its year.
    value.unwrap_or_else(|| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

// Limit: what one client connection may make us hold of uploads: 1 MiB, a quarter of it per stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
// Limit: what one stream may hold of an answer that its client reads slowly.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
// Limit: how often in a row the connection and its requests take turns before other connections have theirs.
const TURNS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_one_of_http() {
        let value = now();
        let text = value.to_str().unwrap();
        // "IMF-fixdate", always of one length (RFC 9110 section 5.6.7).
        assert_eq!(text.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
        assert!(text.ends_with(" GMT") && !text.contains("1970"), "{text}");
    }
}
