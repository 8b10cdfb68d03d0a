//! Envoy as the ingress does what its module says, before Postern stands in front of it.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]

use http::{Method, Request, Version};
use hyper::ext::Protocol as ConnectProtocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::client::{
    ClientError, Connection, Protocol, STEP_TIMEOUT, Tls, empty, full, open,
};
use postern_loadtests::stack::credentials::{CLIENT_NAME, Credentials};
use postern_loadtests::stack::echo::{self, Echo};
use postern_loadtests::stack::envoy::{Envoy, EnvoyOptions};
use postern_loadtests::stack::nginx::pattern;
use postern_loadtests::stack::{Child, Deadline};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Ingress {
    envoy: Envoy,
    echo: Echo,
    credentials: Credentials,
    name: String,
    folder: TempDir,
}

impl Ingress {
    async fn start(change: impl FnOnce(&mut EnvoyOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let echo = Echo::start(None).await.unwrap();
        let mut options = EnvoyOptions {
            backend: Some(echo.address()),
            ..EnvoyOptions::default()
        };
        change(&mut options);
        let name = options.name.clone();
        let credentials = Credentials::create(folder.path(), &["a.example"], &name).unwrap();
        let envoy = Envoy::start(folder.path(), &credentials, &options)
            .await
            .unwrap();
        Self {
            envoy,
            echo,
            credentials,
            name,
            folder,
        }
    }

    fn ours(&self) -> Tls {
        Tls::with_identity(
            &self.credentials.trust.join("ca.crt"),
            &self.credentials.client,
        )
        .unwrap()
    }

    async fn connect(&self, tls: &Tls, protocol: Protocol) -> Result<Connection, ClientError> {
        tls.connect(self.envoy.address(), &Header::Absent, &self.name, protocol)
            .await
    }
}

#[tokio::test]
async fn our_certificate_gets_answers_over_both_protocols() {
    let ingress = Ingress::start(|_| ()).await;
    for (protocol, version, logged) in [
        (Protocol::Http1, Version::HTTP_11, "HTTP/1.1"),
        (Protocol::Http2, Version::HTTP_2, "HTTP/2"),
    ] {
        let mut connection = ingress.connect(&ingress.ours(), protocol).await.unwrap();
        let path = format!("/anything/{}", protocol.label());
        let request = connection
            .request(Method::POST, &path)
            .unwrap()
            .header("x-forwarded-for", "10.0.0.4")
            .header("x-ms-private-link-id", "7")
            .body(full("hello"))
            .unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.version),
            (200, version),
            "{}",
            answer.text()
        );

        let seen = echo::seen(ingress.echo.address()).await.unwrap();
        let request = seen.iter().find(|request| request.uri == path).unwrap();
        assert_eq!(request.header("host"), [ingress.name.as_str()]);
        assert_eq!(request.header("x-forwarded-for"), ["10.0.0.4"]);
        assert_eq!(request.body_bytes, 5);

        let line = ingress
            .envoy
            .saw(&path, |line| line["uri"] == path.as_str())
            .await
            .unwrap();
        let expected = json!({
            "method": "POST", "protocol": logged, "status": "200", "x_ms_private_link_id": "7", "tls": "TLSv1.3",
            "client_dn": format!("CN={CLIENT_NAME}"), "server_name": ingress.name, "x_real_ip": "", "x_request_id": "",
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key} in {line}");
        }
    }
}

#[tokio::test]
async fn a_client_without_our_certificate_gets_no_answer() {
    let ingress = Ingress::start(|_| ()).await;
    let ca = ingress.credentials.trust.join("ca.crt");
    let nobody = Tls::trusting(&ca).unwrap();
    let stranger = Tls::with_identity(&ca, &ingress.credentials.stranger).unwrap();
    for (who, tls) in [("nobody", nobody), ("stranger", stranger)] {
        for protocol in Protocol::ALL {
            // With TLS 1.3 the client is done before the server has judged its certificate, so the refusal
            // may show with the first request only.
            let outcome = match ingress.connect(&tls, protocol).await {
                Ok(mut connection) => connection.get("/").await.map(|answer| answer.status),
                Err(error) => Err(error),
            };
            assert!(
                matches!(
                    outcome,
                    Err(ClientError::Handshake(_) | ClientError::Http(_))
                ),
                "{who} over {}: {outcome:?}",
                protocol.label()
            );
        }
    }
    assert_eq!(ingress.envoy.seen().all(), [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn another_name_is_not_answered() {
    let ingress = Ingress::start(|_| ()).await;
    let address = ingress.envoy.address();
    let stream = open(address, None, &Header::Absent).await.unwrap();
    let outcome = ingress
        .ours()
        .handshake(stream, Some("other.example"), Protocol::Http2)
        .await;
    assert!(
        matches!(outcome, Err(ClientError::Handshake(_))),
        "{:?}",
        outcome.err()
    );
}

#[tokio::test]
async fn it_answers_its_own_paths_without_a_back_end() {
    let ingress = Ingress::start(|options| options.backend = None).await;
    let mut connection = ingress
        .connect(&ingress.ours(), Protocol::Http2)
        .await
        .unwrap();
    assert_eq!(
        connection.get("/").await.unwrap().json(),
        json!({ "ingress": "envoy" })
    );
    assert_eq!(connection.get("/nonce/aB-1").await.unwrap().text(), "aB-1");
    for length in [0, 1, 251, 252, 1_048_576, 16_777_216] {
        let answer = connection.get(&format!("/bytes/{length}")).await.unwrap();
        assert!(
            answer.body == pattern(length),
            "{length}: {} bytes",
            answer.body.len()
        );
    }
    for path in ["/bytes/16777217", "/bytes/x", "/nonce/", "/other"] {
        assert_eq!(connection.get(path).await.unwrap().status, 404, "{path}");
    }
}

#[tokio::test]
async fn trailers_pass_on_the_grpc_path() {
    let ingress = Ingress::start(|_| ()).await;
    let mut connection = ingress
        .connect(&ingress.ours(), Protocol::Http2)
        .await
        .unwrap();
    let request = connection
        .request(Method::POST, "/grpc/stream")
        .unwrap()
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(full("twelve bytes"))
        .unwrap();
    let answer = connection.fetch(request).await.unwrap();
    assert_eq!(answer.text(), "twelve bytes");
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_websocket_passes_as_an_upgrade() {
    let ingress = Ingress::start(|_| ()).await;
    let mut connection = ingress
        .connect(&ingress.ours(), Protocol::Http1)
        .await
        .unwrap();
    let request = connection
        .request(Method::GET, "/websocket")
        .unwrap()
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(empty())
        .unwrap();
    let answer = connection.send(request).await.unwrap();
    assert_eq!(answer.status(), 101);
    exchange_a_message(hyper::upgrade::on(answer).await.unwrap()).await;
}

#[tokio::test]
async fn a_websocket_passes_as_an_extended_connect() {
    let ingress = Ingress::start(|_| ()).await;
    let stream = open(ingress.envoy.address(), None, &Header::Absent)
        .await
        .unwrap();
    let tls = ingress
        .ours()
        .handshake(stream, Some(&ingress.name), Protocol::Http2)
        .await
        .unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .unwrap();
    let driver = tokio::spawn(driver);
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("https://{}/websocket", ingress.name))
        .extension(ConnectProtocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        // RFC 8441 has no use for it, but Envoy makes an HTTP/1.1 upgrade of this and adds none itself.
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(empty())
        .unwrap();
    // The server's SETTINGS, which allow this, come with its first bytes.
    sender.ready().await.unwrap();
    let answer = tokio::time::timeout(STEP_TIMEOUT, sender.send_request(request))
        .await
        .unwrap();
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    exchange_a_message(hyper::upgrade::on(answer).await.unwrap()).await;
    driver.abort();
}

/// Sends one masked text message (RFC 6455 section 5.2) and reads it back unmasked.
async fn exchange_a_message(upgraded: hyper::upgrade::Upgraded) {
    let mut stream = TokioIo::new(upgraded);
    // A mask of zeros is a mask and leaves the text readable.
    stream.write_all(b"\x81\x85\0\0\0\0hello").await.unwrap();
    let mut answer = [0; 7];
    let read = stream.read_exact(&mut answer);
    tokio::time::timeout(STEP_TIMEOUT, read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"\x81\x05hello");
}

#[tokio::test]
async fn new_certificates_are_used_without_a_restart() {
    let mut ingress = Ingress::start(|_| ()).await;
    let mut before = ingress
        .connect(&ingress.ours(), Protocol::Http1)
        .await
        .unwrap();
    before.get("/").await.unwrap();
    let process = ingress.envoy.child().pid();

    let other = ingress.folder.path().join("other");
    ingress.credentials = Credentials::create(&other, &["a.example"], &ingress.name).unwrap();
    ingress.envoy.reload(&ingress.credentials).unwrap();
    let tls = ingress.ours();
    let answered = Deadline::after(STEP_TIMEOUT).poll(async || {
        let mut connection = ingress.connect(&tls, Protocol::Http2).await.ok()?;
        connection.get("/").await.ok()
    });
    assert_eq!(
        answered.await.map(|answer| answer.status.as_u16()),
        Some(200)
    );
    assert_eq!(
        before.get("/").await.unwrap().status,
        200,
        "the old connection still works"
    );
    assert_eq!(ingress.envoy.child().pid(), process);
    assert!(Child::exited(ingress.envoy.child()).is_none());
}
