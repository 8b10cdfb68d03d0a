//! WebSocket over HTTP/1.1 and HTTP/2, and every other upgrade, which is none.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use postern_loadtests::stack::accounts::HOST_A;
use postern_loadtests::stack::client::{Connection, Protocol, RequestBody, STEP_TIMEOUT, empty};
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use crate::common::{Direct, Front, Played, Stack, Way, grown};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The pair of key and accept value in RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request for a WebSocket as HTTP/1.1 text, without the empty line.
fn asking(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST_A}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    )
}

fn request(connection: &Connection, protocol: Protocol, path: &str) -> Request<RequestBody> {
    let request = match protocol {
        Protocol::Http1 => connection
            .request(Method::GET, path)
            .unwrap()
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", KEY),
        Protocol::Http2 => connection
            .request(Method::CONNECT, path)
            .unwrap()
            .extension(hyper::ext::Protocol::from_static("websocket")),
    };
    let request = request
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "dicom");
    request.body(empty()).unwrap()
}

async fn connect(stack: &Front, protocol: Protocol) -> Connection {
    let mut connection = stack.connect(protocol).await;
    // The server's SETTINGS, which allow an extended CONNECT, come with its first bytes.
    connection.get("/nonce/first").await.unwrap();
    connection
}

async fn open(connection: &mut Connection, protocol: Protocol, path: &str) -> Socket {
    let request = request(connection, protocol, path);
    let response = connection.send(request).await.unwrap();
    match protocol {
        Protocol::Http1 => {
            assert_eq!(response.status().as_u16(), 101);
            assert_eq!(response.headers()["sec-websocket-accept"], ACCEPT);
            assert_eq!(response.headers()["upgrade"], "websocket");
        }
        Protocol::Http2 => {
            assert_eq!(response.status().as_u16(), 200);
            for name in ["sec-websocket-accept", "upgrade", "connection"] {
                assert!(!response.headers().contains_key(name), "{name}");
            }
        }
    }
    assert!(response.headers().contains_key("x-request-id"));
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

async fn next(socket: &mut Socket) -> Option<Message> {
    let next = tokio::time::timeout(STEP_TIMEOUT, socket.next());
    next.await.unwrap().map(Result::unwrap)
}

#[tokio::test]
async fn messages_of_any_size_go_both_ways() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let before = stack.metrics().await;
            let mut connection = connect(&stack, protocol).await;
            let path = format!("/websocket/{}", protocol.label());
            let mut socket = open(&mut connection, protocol, &path).await;
            for length in [0, 1, 125, 126, 65_536, 4_000_000] {
                let message = Message::text("m".repeat(length));
                socket.send(message.clone()).await.unwrap();
                let echoed = next(&mut socket).await.unwrap();
                assert!(echoed == message, "{way:?} {protocol:?} {length}");
            }
            socket.close(None).await.unwrap();
            while next(&mut socket).await.is_some() {}
            drop(socket);
            let seen = stack.saw(&path).await;
            assert_eq!(
                (seen.method.as_str(), seen.version.as_str()),
                ("GET", "HTTP/1.1")
            );
            assert_eq!(seen.header("sec-websocket-protocol"), ["dicom"]);
            assert_eq!(seen.header("host"), [HOST_A]);
            let expected = json!({ "ending": "upgraded", "upstream_protocol": "HTTP/1.1" });
            let line = stack.told(&path, &expected).await;
            assert!(line["request_bytes"].as_u64() > Some(4_000_000), "{line}");
            assert!(line["response_bytes"].as_u64() > Some(4_000_000), "{line}");
            let after = stack.metrics().await;
            assert_eq!(grown(&before, &after, "postern_upgrades_total", &[]), 1);
        }
    }
}

#[tokio::test]
async fn either_side_can_close() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let mut connection = connect(&stack, protocol).await;
            let path = format!("/websocket/closed-there/{}", protocol.label());
            let mut socket = open(&mut connection, protocol, &path).await;
            socket.send(Message::text("close")).await.unwrap();
            assert!(matches!(next(&mut socket).await, Some(Message::Close(_))));
            while next(&mut socket).await.is_some() {}
            drop(socket);
            stack.told(&path, &json!({ "ending": "upgraded" })).await;

            // A client that goes away without a word.
            let mut connection = connect(&stack, protocol).await;
            let path = format!("/websocket/gone/{}", protocol.label());
            let mut socket = open(&mut connection, protocol, &path).await;
            socket.send(Message::text("hello")).await.unwrap();
            next(&mut socket).await.unwrap();
            drop(socket);
            connection.abort();
            stack.told(&path, &json!({ "ending": "upgraded" })).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_never_closes_holds_no_tunnel_that_the_ingress_has_closed() {
    let stack = Stack::start(Way::ALL[0]).await;
    for protocol in Protocol::ALL {
        let mut connection = connect(&stack, protocol).await;
        let path = format!("/websocket/held/{}", protocol.label());
        let mut socket = open(&mut connection, protocol, &path).await;
        socket.send(Message::text("close")).await.unwrap();
        while next(&mut socket).await.is_some() {}
        stack.told(&path, &json!({ "ending": "upgraded" })).await;
        drop(socket);
    }
}

#[tokio::test]
async fn a_refusal_of_the_ingress_passes_in_its_own_words() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let mut connection = connect(&stack, protocol).await;
            let path = format!("/status/403/{}", protocol.label());
            let request = request(&connection, protocol, &path);
            let answer = connection.fetch(request).await.unwrap();
            assert_eq!(answer.status.as_u16(), 403, "{way:?} {protocol:?}");
            let expected = json!({ "status": 403, "ending": "complete" });
            let line = stack.told(&path, &expected).await;
            assert!(line.get("refusal").is_none(), "{line}");
            let answer = connection.get("/nonce/alive").await.unwrap();
            assert_eq!(answer.text(), "alive", "the connection serves on");
        }
    }
}

#[tokio::test]
async fn other_upgrades_are_served_as_if_they_had_not_been_asked_for() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for (n, fields) in [
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
            // "A sender of Upgrade MUST also send an Upgrade connection option" (RFC 9110 section 7.8).
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/upgrade-not/{n}");
            let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST_A}\r\n{fields}\r\n");
            let answer = stack.exchange(&request).await;
            assert_eq!(answer.head.status(), 200, "{upstream:?} {fields}");
            let seen = stack.saw(&path).await;
            for name in ["upgrade", "http2-settings", "connection"] {
                assert!(seen.header(name).is_empty(), "{name} of {fields}");
            }
            stack.told(&path, &json!({ "status": 200, "ending": "complete" })).await;
        }
    }
}

#[tokio::test]
async fn bytes_sent_before_the_ingress_agreed_do_not_reach_it_as_a_request() {
    let mut stack = Played::start().await;
    let mut wire = stack.wire().await;
    let smuggled =
        format!("GET /smuggled HTTP/1.1\r\nHost: {HOST_A}\r\nX-MS-Private-Link-Id: 1\r\n\r\n");
    wire.send(format!("{}\r\n{smuggled}", asking("/refused")))
        .await
        .unwrap();
    let mut ingress = stack.ingress.next().await.unwrap();
    assert_eq!(ingress.head().await.unwrap().target(), "/refused");
    assert!(ingress.ahead().is_empty(), "{:?}", ingress.ahead());
    ingress
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        .await
        .unwrap();
    assert_eq!(wire.answer().await.unwrap().body, b"no");
    assert!(ingress.rest().await.unwrap().is_empty());
    // Now it is a request like any other, judged and with our word about who sends it.
    let mut ingress = stack.ingress.next().await.unwrap();
    let head = ingress.head().await.unwrap();
    assert_eq!(head.target(), "/smuggled");
    assert_ne!(head.field("x-ms-private-link-id"), "1");
    ingress
        .send("HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(wire.answer().await.unwrap().head.status(), 204);

    let mut wire = stack.wire().await;
    wire.send(format!("{}\r\nearly", asking("/agreed")))
        .await
        .unwrap();
    let mut ingress = stack.ingress.next().await.unwrap();
    assert_eq!(ingress.head().await.unwrap().target(), "/agreed");
    assert!(ingress.ahead().is_empty());
    let agreed = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\nhello"
    );
    ingress.send(agreed).await.unwrap();
    assert_eq!(ingress.exactly(5).await.unwrap(), b"early");
    assert_eq!(wire.head().await.unwrap().status(), 101);
    assert_eq!(wire.exactly(5).await.unwrap(), b"hello");
    ingress.finish().await.unwrap();
    assert!(wire.rest().await.unwrap().is_empty());
    let _ = wire.finish().await;
    let expected = json!({ "ending": "upgraded", "request_bytes": 5, "response_bytes": 5 });
    stack.told("/agreed", &expected).await;
}

#[tokio::test]
async fn a_request_for_a_websocket_that_has_a_body_is_refused() {
    let stack = Direct::start(Protocol::Http1).await;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n");
    let length = smuggled.len();
    for (n, body) in [
        format!("Content-Length: {length}\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/websocket/body-{n}");
        let answer = stack.exchange(&format!("{}{body}", asking(&path))).await;
        assert_eq!(answer.head.status(), 400, "{body}");
        let expected = json!({ "status": 400, "refusal": "bad_request" });
        stack.told(&path, &expected).await;
    }
    assert!(stack.echo.seen().is_empty(), "{:?}", stack.echo.seen());
    let answer = stack
        .exchange(&format!("GET /whole HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
        .await;
    assert_eq!(answer.head.status(), 200);
}
