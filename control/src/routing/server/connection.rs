//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use postern_certs::UnixTime;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Peer, Shared};
use crate::routing::metrics::ConnectionEnd;

/// Serves it until it ends.
pub(super) async fn attend(stream: TcpStream, shared: &Shared, mut stop: watch::Receiver<bool>) {
    // Answers are small and each is waited for.
    let _ = stream.set_nodelay(true);
    let Some(tls) = shared.tls.borrow().clone() else {
        shared
            .metrics
            .connection_ended(ConnectionEnd::NoCredentials);
        return;
    };
    let handshake = TlsAcceptor::from(tls.config).accept(stream);
    let stream = tokio::select! {
        handshake = tokio::time::timeout(shared.handshake_timeout, handshake) => handshake,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // Anybody can do this as often as they like, so it is no line at the usual level.
            tracing::debug!(%error, "a TLS handshake failed");
            shared.metrics.connection_ended(ConnectionEnd::Handshake);
            return;
        }
        Err(_) => {
            shared
                .metrics
                .connection_ended(ConnectionEnd::HandshakeLate);
            return;
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let leaf = certificates.and_then(<[_]>::first);
    let peer = shared.clients.identify(leaf.map_or(&[], |leaf| leaf));
    let open = shared.metrics.connection_open();
    let end = requests(stream, shared, &peer, stop).await;
    // What goes on without the connection learns that it is over.
    peer.closing.send_replace(true);
    shared.metrics.connection_ended(end);
    drop(open);
}

async fn requests(
    stream: TlsStream<TcpStream>,
    shared: &Shared,
    peer: &Arc<Peer>,
    mut stop: watch::Receiver<bool>,
) -> ConnectionEnd {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let builder = builder(is_h2, shared);
    let router = TowerToHyperService::new(shared.router.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(peer));
        let answer = router.call(request.map(Body::new));
        async move { answer.await.map_err(|never: Infallible| match never {}) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut deadline = Instant::now() + lifetime(peer, shared.limits.connection_age_max);
    let mut ending = None;
    loop {
        tokio::select! {
            // How a client leaves is its own affair.
            _ = connection.as_mut() => return ending.unwrap_or(ConnectionEnd::Closed),
            () = peer.cut.notified() => return ConnectionEnd::Stalled,
            () = sleep_until(deadline), if ending.is_some() => return ConnectionEnd::Cut,
            () = sleep_until(deadline), if ending.is_none() => ending = Some(ConnectionEnd::Aged),
            _ = stop.wait_for(|stop| *stop), if ending.is_none() => ending = Some(ConnectionEnd::Drained),
        }
        peer.closing.send_replace(true);
        connection.as_mut().graceful_shutdown();
        deadline = Instant::now() + shared.limits.drain_timeout;
    }
}

fn builder(is_h2: bool, shared: &Shared) -> Builder<TokioExecutor> {
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if is_h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.limits.streams_max)
        .max_header_list_size(HEAD_LIST_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Some(PING_INTERVAL))
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// How long a connection may last: not longer than its client's certificate.
fn lifetime(peer: &Peer, age_max: Duration) -> Duration {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let left = u64::try_from(peer.not_after.saturating_sub(now)).unwrap_or_default();
    age_max.min(Duration::from_secs(left))
}

// Limit: of an HTTP/1.1 connection, from when it is opened or idle to the end of a request's head. nginx keeps idle
// connections to an upstream for a minute.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
// Limit: heads here have some hundred bytes; an ingress adds what it forwards of a client's.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_LIST_BYTES_MAX: u32 = 64 * 1024;
// Limit: bodies have at most 64 KiB, and four of them may be on their way on one connection.
const WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
// Limit: what is buffered for one stream beyond what its reader has asked for.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
// Limit: a peer that is gone without a word is noticed within both.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
