//! A WebSocket through Postern, over either protocol.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::client::{ClientError, Connection, Protocol, RequestBody, empty, limited};

/// A WebSocket of this client.
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Asks for a WebSocket at `path` of the connection's host. Over HTTP/2 by extended CONNECT (RFC 8441), for which
/// the server's SETTINGS have to have arrived: after an answer they have.
///
/// The connection has to be kept as long as the WebSocket.
pub async fn open(
    connection: &mut Connection,
    protocol: Protocol,
    path: &str,
) -> Result<WebSocket, ClientError> {
    let (request, expected) = (request(connection, protocol, path)?, expected(protocol));
    let answer = connection.send(request).await?;
    if answer.status().as_u16() != expected {
        return Err(ClientError::NoWebSocket(answer.status()));
    }
    let stream = limited("the upgrade", hyper::upgrade::on(answer)).await??;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await)
}

fn request(
    connection: &Connection,
    protocol: Protocol,
    path: &str,
) -> Result<Request<RequestBody>, ClientError> {
    let request = match protocol {
        // The key is the one of RFC 6455 section 1.3; nobody depends on its being random.
        Protocol::Http1 => connection
            .request(Method::GET, path)?
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        Protocol::Http2 => connection
            .request(Method::CONNECT, path)?
            .extension(hyper::ext::Protocol::from_static("websocket")),
    };
    Ok(request
        .header("sec-websocket-version", "13")
        .body(empty())?)
}

const fn expected(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Http1 => 101,
        Protocol::Http2 => 200,
    }
}

/// Whether a message comes back as it was sent; `false` once the tunnel has ended.
pub async fn says_back(socket: &mut WebSocket, text: &str) -> Result<bool, ClientError> {
    let echo = async {
        socket.send(Message::text(text)).await.ok()?;
        socket.next().await?.ok()
    };
    let message = limited("an echo", echo).await?;
    Ok(message.is_some_and(|message| message == Message::text(text)))
}
