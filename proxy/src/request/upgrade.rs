//! WebSocket: over HTTP/1.1 by `Upgrade` (RFC 6455), over HTTP/2 by extended CONNECT (RFC 8441).
//!
//! Towards the ingress it is always HTTP/1.1 on a connection of its own. Not a byte passes before the ingress
//! has answered 101. No other protocol may be upgraded to: `h2c` above all would smuggle requests past us.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, TryFutureExt as _};
use h2::ext::Protocol;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::connection::http::{Activity, Connection};
use crate::outcome::Refusal;
use crate::request::Requests;
use crate::request::admit::Admitted;
use crate::request::body::{AnswerBody, RequestBody};
use crate::request::exchange::Exchange;
use crate::request::forward::Refused;
use crate::request::headers;

/// A request for a WebSocket.
pub enum Upgrade {
    /// Of the whole connection.
    Http1(OnUpgrade),
    /// Of its own stream: extended CONNECT.
    Http2,
}

/// Whether the request asks for a WebSocket; takes what is needed to give it one.
pub fn requested(parts: &mut Parts, connection: &Connection) -> Option<Upgrade> {
    let extended_connect = connection.http2
        && parts.method == Method::CONNECT
        && parts
            .extensions
            .get::<Protocol>()
            .is_some_and(|p| p.as_str() == WEBSOCKET);
    let by_header = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && parts.headers.get(UPGRADE).is_some_and(is_websocket)
        && names_upgrade(&parts.headers);
    if extended_connect {
        return Some(Upgrade::Http2);
    }
    if !by_header {
        return None;
    }
    parts.extensions.remove().map(Upgrade::Http1)
}

/// "A sender of Upgrade MUST also send an "Upgrade" connection option in the Connection header field" (RFC 9110
/// section 7.8): without it, the field is one that somebody before us should have removed.
fn names_upgrade(headers: &HeaderMap) -> bool {
    let mut options = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

fn is_websocket(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

/// Asks the ingress for a WebSocket and, if it agrees, joins the two.
pub async fn forward(
    requests: &Arc<Requests>,
    connection: &Arc<Connection>,
    admitted: &Admitted,
    upgrade: Upgrade,
    mut parts: Parts,
    mut exchange: Exchange,
) -> Result<Response<AnswerBody>, Refused> {
    let authority = &admitted.authority.header;
    parts.headers =
        headers::to_ingress(&parts.headers, connection, authority, false, exchange.id());
    let request = ask(parts, &upgrade);
    let cluster = admitted.permit.cluster();
    let deadline = requests.options.response_timeout;
    let sent = timeout(deadline, async {
        let mut lease = requests
            .upstream
            .lease_http1(cluster)
            .await
            .map_err(|error| {
                if error.is_timeout() {
                    Refusal::UpstreamTimeout
                } else {
                    Refusal::UpstreamConnect
                }
            })?;
        exchange.served_by(lease.served());
        let (response, now) = lease
            .send(request)
            .await
            .map_err(|_| Refusal::UpstreamBroke)?;
        exchange.answered(response.status(), now);
        Ok((response, lease))
    })
    .await
    .unwrap_or(Err(Refusal::UpstreamTimeout));
    let (mut response, lease) = match sent {
        Ok(sent) => sent,
        Err(refusal) => return Err((refusal, exchange)),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The ingress said no, in its own words.
        let (mut parts, incoming) = response.into_parts();
        headers::to_client(&mut parts.headers, exchange.id());
        return Ok(Response::from_parts(
            parts,
            AnswerBody::upstream(incoming, exchange, lease),
        ));
    }
    let ingress = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    headers::to_client(&mut parts.headers, exchange.id());
    match upgrade {
        Upgrade::Http1(_) => {
            parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts
                .headers
                .insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
        Upgrade::Http2 => {
            parts.status = StatusCode::OK;
            parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
            // "A server MUST NOT send any Transfer-Encoding or Content-Length header fields in a 2xx response to
            // CONNECT" (RFC 9110 section 9.3.6).
            parts.headers.remove(CONTENT_LENGTH);
        }
    }
    let id = exchange.id();
    exchange.upgraded(parts.status);
    if let Some(framing) = &connection.framing {
        framing.upgraded();
    }
    requests.metrics.upgraded();
    let limit = requests.options.upgraded_idle_timeout;
    let joined = Joined::new(Arc::clone(connection), exchange);
    let cutting = lease.cutting();
    let body = match upgrade {
        Upgrade::Http1(client) => {
            let client = client.map_ok(TokioIo::new).err_into();
            connection.go_on_as(Box::pin(join(client, ingress, joined, (limit, cutting))));
            AnswerBody::none()
        }
        Upgrade::Http2 => {
            let (waiting, client) = oneshot::channel();
            // One of many streams; it ends with the connection, if not before.
            tokio::spawn(join(client.err_into(), ingress, joined, (limit, cutting)));
            AnswerBody::tunnel(waiting)
        }
    };
    parts.headers.insert(headers::X_REQUEST_ID, id.to_header());
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, body))
}

fn ask(mut parts: Parts, upgrade: &Upgrade) -> Request<RequestBody> {
    if matches!(upgrade, Upgrade::Http2) {
        parts.method = Method::GET;
        // "The Sec-WebSocket-Key and Sec-WebSocket-Accept header fields are not used in HTTP/2" (RFC 8441
        // section 5): the key is between us and the ingress.
        parts.headers.insert(SEC_WEBSOCKET_KEY, key());
        if !parts.headers.contains_key(SEC_WEBSOCKET_VERSION) {
            parts
                .headers
                .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
    }
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts
        .headers
        .insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    // It has no body; a length of 0 would be the only one left.
    parts.headers.remove(CONTENT_LENGTH);
    parts.version = Version::HTTP_11;
    parts.uri = parts
        .uri
        .path_and_query()
        .map(|path| http::Uri::from(path.clone()))
        .unwrap_or_default();
    parts.extensions.clear();
    Request::from_parts(parts, RequestBody::empty())
}

/// Sixteen random bytes in base64 (RFC 6455 section 4.1).
fn key() -> HeaderValue {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
    HeaderValue::from_str(&text)
        .unwrap_or_else(|_| HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// The record of a tunnel; told when dropped, whatever ended it.
struct Joined {
    connection: Arc<Connection>,
    exchange: Exchange,
    up: AtomicU64,
    down: AtomicU64,
}

impl Joined {
    fn new(connection: Arc<Connection>, exchange: Exchange) -> Self {
        connection.activity.tunnel_began();
        Self {
            connection,
            exchange,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        }
    }

    fn moved(&self) -> u64 {
        self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.connection.activity.tunnel_ended();
        self.exchange
            .pumped(*self.up.get_mut(), *self.down.get_mut());
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One side of a tunnel.
trait Io: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Io for T {}

async fn join(
    client: impl Future<Output = Result<impl Io, BoxError>>,
    ingress: OnUpgrade,
    mut joined: Joined,
    (limit, cutting): (Duration, impl Future<Output = ()>),
) {
    let ingress = ingress.map_ok(TokioIo::new).err_into();
    let (client, ingress) = match tokio::try_join!(client, ingress) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(request_id = %joined.exchange.id(), %error, "upgrade not completed");
            return;
        }
    };
    let whole = tokio::select! {
        whole = pump_both(client, ingress, limit, &joined) => whole,
        () = cutting => false,
    };
    if !whole {
        joined.exchange.cut();
    }
}

/// `false`: nothing moved for `limit`.
async fn pump_both(client: impl Io, ingress: impl Io, limit: Duration, joined: &Joined) -> bool {
    let (client_read, client_write) = tokio::io::split(client);
    let (ingress_read, ingress_write) = tokio::io::split(ingress);
    let activity = &joined.connection.activity;
    let up = pump(client_read, ingress_write, activity, &joined.up);
    let down = pump(ingress_read, client_write, activity, &joined.down);
    let mut half_closed = false;
    let (mut up, mut down) = (pin!(up.fuse()), pin!(down.fuse()));
    loop {
        let before = joined.moved();
        let patience = if half_closed {
            limit.min(HALF_CLOSED_TIMEOUT)
        } else {
            limit
        };
        let ended = timeout(patience, async {
            tokio::select! {
                () = &mut up => {}
                () = &mut down => {}
            }
        });
        match ended.await {
            Ok(()) if half_closed => return true,
            Ok(()) => half_closed = true,
            // One side is done, and the other has nothing more to say.
            Err(_) if half_closed && joined.moved() == before => return true,
            Err(_) if joined.moved() == before => return false,
            Err(_) => {}
        }
    }
}

/// Copies until the end of the stream, then closes the other side.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
    moved: &AtomicU64,
) {
    let mut buffer = bytes::BytesMut::with_capacity(PUMP_BYTES);
    loop {
        buffer.clear();
        match from.read_buf(&mut buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
        if to.write_all(&buffer).await.is_err() || to.flush().await.is_err() {
            break;
        }
        moved.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        activity.touch(std::time::Instant::now());
    }
    // The peer may be gone already; then there is nothing left to close.
    let _ = to.shutdown().await;
}

/// The one protocol that may be upgraded to.
pub const WEBSOCKET: &str = "websocket";
// Limit: after one side has ended the tunnel, the other may be silent for so long. A WebSocket is never half open
// for long: who has sent and got a Close has nothing more to send (RFC 6455 section 7.1.1).
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);
// Limit: what a WebSocket holds in each direction.
const PUMP_BYTES: usize = 16 * 1024;
