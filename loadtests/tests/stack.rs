//! The stack without Postern: that the ingress, the back end and the test client are what other tests take
//! them for.

#![allow(
    clippy::unwrap_used,
    reason = "the stack's set-up is part of each test"
)]

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::client::{Answer, Connection, Protocol, Tls, empty, full, streaming};
use postern_loadtests::stack::credentials::{CLIENT_NAME, Credentials};
use postern_loadtests::stack::echo::{self, Echo};
use postern_loadtests::stack::nginx::{Nginx, NginxOptions, pattern};
use tempfile::TempDir;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

const NAME: &str = "z1-weu-aks.internal.example";

struct Stack {
    nginx: Nginx,
    echo: Echo,
    credentials: Credentials,
    _folder: TempDir,
}

impl Stack {
    async fn start(http2: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let credentials =
            Credentials::create(&folder.path().join("certs"), &["*.dicom.example"], NAME).unwrap();
        let echo = Echo::start(None).await.unwrap();
        let options = NginxOptions {
            http2,
            backend: Some(echo.address()),
            ..NginxOptions::default()
        };
        let nginx = Nginx::start(&folder.path().join("nginx"), &credentials, &options)
            .await
            .unwrap();
        Self {
            nginx,
            echo,
            credentials,
            _folder: folder,
        }
    }

    fn address(&self) -> SocketAddr {
        self.nginx.address()
    }

    fn tls(&self) -> Tls {
        let ca = self.credentials.trust.join("ca.crt");
        Tls::with_identity(&ca, &self.credentials.client).unwrap()
    }

    async fn connect(&self, protocol: Protocol) -> Connection {
        self.tls()
            .connect(self.address(), &Header::Absent, NAME, protocol)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn the_ingress_answers_who_shows_our_certificate_over_both_protocols_and_logs_it() {
    let stack = Stack::start(true).await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let path = format!("/nonce/{}", protocol.label());
        let answer = connection.get(&path).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, protocol.label())
        );
        let line = stack
            .nginx
            .saw(&path, |line| line["uri"] == path)
            .await
            .unwrap();
        assert_eq!(line["client_dn"], format!("CN={CLIENT_NAME}"), "{line}");
        assert_eq!(line["client_verify"], "SUCCESS", "{line}");
        assert_eq!(line["host"], NAME, "{line}");
        assert_eq!(line["protocol"], format!("{:?}", answer.version), "{line}");
    }
}

#[tokio::test]
async fn the_ingress_refuses_who_shows_no_certificate_or_a_strangers() {
    let stack = Stack::start(true).await;
    let ca = stack.credentials.trust.join("ca.crt");
    let nobody = Tls::trusting(&ca).unwrap();
    let stranger = Tls::with_identity(&ca, &stack.credentials.stranger).unwrap();
    for tls in [nobody, stranger] {
        let mut connection = tls
            .connect(stack.address(), &Header::Absent, NAME, Protocol::Http1)
            .await
            .unwrap();
        assert_eq!(
            connection.get("/").await.unwrap().status,
            StatusCode::BAD_REQUEST
        );
    }
}

#[tokio::test]
async fn the_ingress_refuses_a_handshake_for_another_name() {
    let stack = Stack::start(true).await;
    let (address, other) = (stack.address(), "other.internal.example");
    let refused = stack
        .tls()
        .connect(address, &Header::Absent, other, Protocol::Http1)
        .await;
    let alert = refused.err().and_then(|error| error.alert());
    assert_eq!(alert, Some(rustls::AlertDescription::UnrecognisedName));
}

#[tokio::test]
async fn without_http2_the_ingress_speaks_http1_only() {
    let stack = Stack::start(false).await;
    let mut connection = stack.connect(Protocol::Http1).await;
    assert_eq!(
        connection.get("/").await.unwrap().json()["protocol"],
        "HTTP/1.1"
    );
    let (address, tls) = (stack.address(), stack.tls());
    let refused = tls
        .connect(address, &Header::Absent, NAME, Protocol::Http2)
        .await;
    let alert = refused.err().and_then(|error| error.alert());
    assert_eq!(alert, Some(rustls::AlertDescription::NoApplicationProtocol));
}

#[tokio::test]
async fn static_files_are_the_pattern() {
    let stack = Stack::start(true).await;
    for protocol in Protocol::ALL {
        let answer = stack
            .connect(protocol)
            .await
            .get("/bytes/1048576")
            .await
            .unwrap();
        assert!(answer.body == pattern(1_048_576));
    }
}

#[tokio::test]
async fn the_back_end_remembers_what_came_through_the_ingress() {
    let stack = Stack::start(true).await;
    let mut connection = stack.connect(Protocol::Http2).await;
    let request = connection.request(Method::POST, "/any?x=1").unwrap();
    let request = request.header("x-twice", "1").header("x-twice", "2");
    let answer = connection
        .fetch(request.body(full("content")).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.json()["body"], "content");
    let seen = echo::seen(stack.echo.address()).await.unwrap();
    assert_eq!(
        (seen[0].uri.as_str(), seen[0].body_bytes, seen[0].complete),
        ("/any?x=1", 7, true)
    );
    assert_eq!(seen[0].header("x-twice"), ["1", "2"]);
}

#[tokio::test]
async fn a_stream_goes_both_ways_at_once_and_ends_with_trailers() {
    let stack = Stack::start(true).await;
    let mut connection = stack.connect(Protocol::Http2).await;
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    let request = connection.request(Method::POST, "/grpc/stream").unwrap();
    let request = request
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    // nginx asks the back end only once it has the first of the body.
    sender.send_data(Bytes::from("one")).await.unwrap();
    let mut response = connection
        .send(request.body(streaming(body)).unwrap())
        .await
        .unwrap();
    for (piece, next) in [("one", "two"), ("two", "three")] {
        let frame = http_body_util::BodyExt::frame(response.body_mut())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
        sender.send_data(Bytes::from(next)).await.unwrap();
    }
    drop(sender);
    let answer = Answer::read(response).await.unwrap();
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.text(), "three");
    assert_eq!(answer.trailers["x-bytes"], "11");
}

#[tokio::test]
async fn an_upgraded_connection_carries_web_socket_messages() {
    let stack = Stack::start(true).await;
    let mut connection = stack.connect(Protocol::Http1).await;
    let request = connection.request(Method::GET, "/websocket").unwrap();
    let request = request
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = connection
        .send(request.body(empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    // The pair of key and accept value in RFC 6455 section 1.3.
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("hello")
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let stack = Stack::start(true).await;
    for protocol in Protocol::ALL {
        assert!(stack.connect(protocol).await.get("/break").await.is_err());
    }
}
