//! TLS towards clients: what is spoken, what is refused and how.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Command, Output};
use std::sync::Arc;
use std::task::{Context, Poll};

use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{ClientError, Connection, Protocol, Tls, open};
use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, HandshakeKind, NamedGroup};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::scene::{Scene, until};

/// The first bytes of a handshake for [`HOST_A`].
pub fn client_hello(scene: &Scene) -> Vec<u8> {
    let config = Arc::new(scene.stack.tls().unwrap().config());
    let mut connection = ClientConnection::new(config, name()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

fn name() -> ServerName<'static> {
    ServerName::try_from(HOST_A).unwrap()
}

async fn dial(scene: &Scene) -> TcpStream {
    open(scene.stack.postern.data(), None, &Header::link(LINK_A))
        .await
        .unwrap()
}

async fn shake(scene: &Scene, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name(), dial(scene).await).await
}

/// `openssl s_client` through the Private Link Service stand-in.
async fn s_client(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &address.to_string(),
        "-servername",
        HOST_A,
    ]);
    command.args(arguments).stdin(std::process::Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_aead_suites_and_nothing_else() {
    let scene = Scene::start(&[]).await;
    let address = scene.link_lb(Some(LINK_A)).await;
    for (arguments, suite) in [
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (
            ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
            "TLS_AES_128_GCM_SHA256",
        ),
        (
            ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
    ] {
        let output = s_client(address, &arguments).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("Cipher is {suite}")), "{output:?}");
    }
    for arguments in [
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256@SECLEVEL=0"],
        [
            "-tls1_2",
            "-cipher",
            "AES128-GCM-SHA256:AES256-SHA@SECLEVEL=0",
        ],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM@SECLEVEL=0"],
        ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
        ["-tls1_1", "-cipher", "ALL@SECLEVEL=0"],
        ["-tls1", "-cipher", "ALL@SECLEVEL=0"],
    ] {
        let output = s_client(address, &arguments).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && text.contains("Cipher is (NONE)"),
            "{arguments:?}: {output:?}"
        );
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("alert"), "{arguments:?}: {error}");
    }
    scene
        .counted(
            "postern_connections_total",
            &[("ending", "handshake_failed")],
            5.0,
        )
        .await;
    let line = scene
        .logged_as("a failed handshake", |line| {
            line["ending"] == "handshake_failed"
        })
        .await;
    assert_eq!(
        (&line["link_id"], &line["sni"]),
        (&LINK_A.to_string().into(), &HOST_A.into()),
        "{line}"
    );
    for version in ["TLSv1.2", "TLSv1.3"] {
        scene
            .counted("postern_handshakes_total", &[("version", version)], 2.0)
            .await;
    }
}

#[tokio::test]
async fn the_hybrid_post_quantum_group_is_taken_when_offered() {
    let scene = Scene::start(&[]).await;
    let config = scene.stack.tls().unwrap().config();
    let group = |stream: &TlsStream<TcpStream>| {
        stream
            .get_ref()
            .1
            .negotiated_key_exchange_group()
            .unwrap()
            .name()
    };
    let stream = shake(&scene, config.clone()).await.unwrap();
    assert_eq!(group(&stream), NamedGroup::X25519MLKEM768);

    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    for wanted in [
        NamedGroup::X25519,
        NamedGroup::secp256r1,
        NamedGroup::secp384r1,
    ] {
        provider.kx_groups = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS
            .iter()
            .copied()
            .filter(|group| group.name() == wanted)
            .collect();
        let mut roots = rustls::RootCertStore::empty();
        let ca =
            rustls::pki_types::pem::PemObject::from_pem_file(&scene.stack.credentials.public_ca)
                .unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        assert_eq!(group(&shake(&scene, config).await.unwrap()), wanted);
    }
}

#[tokio::test]
async fn alpn_chooses_http2_first_and_its_absence_means_http1() {
    let scene = Scene::start(&[]).await;
    let offers = |names: &[&str]| {
        let mut config = scene.stack.tls().unwrap().config();
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    for (offered, chosen, protocol) in [
        (&["http/1.1", "h2"][..], Some("h2"), Protocol::Http2),
        (&["http/1.1"], Some("http/1.1"), Protocol::Http1),
        (&["foo", "http/1.1"], Some("http/1.1"), Protocol::Http1),
        (&[], None, Protocol::Http1),
    ] {
        let stream = shake(&scene, offers(offered)).await.unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            chosen.map(str::as_bytes),
            "{offered:?}"
        );
        let mut connection = Connection::new(stream, protocol, HOST_A).await.unwrap();
        assert_eq!(connection.get("/nonce/alpn").await.unwrap().text(), "alpn");
    }
    let refused = ClientError::Handshake(shake(&scene, offers(&["foo"])).await.unwrap_err());
    assert_eq!(
        refused.alert(),
        Some(AlertDescription::NoApplicationProtocol)
    );
}

#[tokio::test]
async fn a_session_is_resumed_by_its_ticket_over_both_versions() {
    let scene = Scene::start(&[]).await;
    for (version, word) in [
        (&rustls::version::TLS12, "TLSv1.2"),
        (&rustls::version::TLS13, "TLSv1.3"),
    ] {
        let tls = Tls::new(&scene.stack.credentials.public_ca, None, &[version]).unwrap();
        for (kind, path) in [
            (HandshakeKind::Full, "full"),
            (HandshakeKind::Resumed, "resumed"),
        ] {
            let stream = shake(&scene, tls.config()).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{word}");
            let path = format!("/nonce/{path}{}", &word[6..].replace('.', ""));
            let mut connection = Connection::new(stream, Protocol::Http1, HOST_A)
                .await
                .unwrap();
            // The ticket of TLS 1.3 comes with the first answer at the latest.
            assert_eq!(connection.get(&path).await.unwrap().status, 200);
            let line = scene.logged(&path).await;
            assert_eq!(
                (&line["tls"], &line["tls_resumed"]),
                (&word.into(), &(kind == HandshakeKind::Resumed).into())
            );
        }
        scene
            .counted(
                "postern_handshakes_total",
                &[("version", word), ("resumed", "true")],
                1.0,
            )
            .await;
    }
}

/// A stream whose every write is so small that it is a segment of its own.
struct Trickle(TcpStream);

const TRICKLE_BYTES: usize = 3;

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let few = bytes.len().min(TRICKLE_BYTES);
        Pin::new(&mut self.0).poll_write(cx, &bytes[..few])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_hello_in_many_segments_is_put_together() {
    let scene = Scene::start(&[]).await;
    // With the hybrid key share, it is larger than an Ethernet frame in any case.
    assert!(client_hello(&scene).len() > 1400);
    let connector = TlsConnector::from(Arc::new(scene.stack.tls().unwrap().config()));
    let stream = connector
        .connect(name(), Trickle(dial(&scene).await))
        .await
        .unwrap();
    let mut connection = Connection::new(stream, Protocol::Http1, HOST_A)
        .await
        .unwrap();
    assert_eq!(
        connection.get("/nonce/pieces").await.unwrap().text(),
        "pieces"
    );

    // Header and hello may as well come in one segment.
    let mut both = Header::link(LINK_A).bytes().to_vec();
    both.extend_from_slice(&client_hello(&scene));
    let mut stream = open(scene.stack.postern.data(), None, &Header::Raw(both.into()))
        .await
        .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 22, "a handshake record");
}

#[tokio::test]
async fn what_is_no_tls_gets_an_alert_and_the_end() {
    let scene = Scene::start(&[]).await;
    let mut oversized = vec![22, 3, 1, 0x40, 0];
    oversized.extend_from_slice(&[1, 0xff, 0xff, 0xff]);
    oversized.resize(5 + 0x4000, 0);
    let cases: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: hospital-a.dicom.example\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &oversized,
    ];
    for (number, bytes) in (1_u32..).zip(cases) {
        let mut stream = dial(&scene).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(crate::scene::SOON, stream.read_to_end(&mut answer))
            .await
            .expect("an end");
        assert!(
            matches!(answer.as_slice(), [] | [21, 3, _, 0, 2, 2, _]),
            "{answer:?}"
        );
        scene
            .counted(
                "postern_refusals_total",
                &[("reason", "client_hello_malformed")],
                f64::from(number),
            )
            .await;
    }
    let line = scene
        .logged_as("the refusal", |line| {
            line["refusal"] == "client_hello_malformed"
        })
        .await;
    assert_eq!(
        (&line["link_id"], &line["sni"]),
        (&LINK_A.to_string().into(), &serde_json::Value::Null),
        "{line}"
    );
    assert!(scene.stack.ingress.seen().all().is_empty());
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_gone() {
    let scene = Scene::start(&[]).await;
    let tls = scene.stack.tls().unwrap();
    // Without a request in progress that is an ordinary end.
    let mut stream = tls
        .handshake(dial(&scene).await, Some(HOST_A), Protocol::Http1)
        .await
        .unwrap();
    stream
        .write_all(format!("GET /nonce/half HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"half") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{answer:?}");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_to_end(&mut answer).await.unwrap(), 0);
    scene
        .counted("postern_connections_total", &[("ending", "closed")], 1.0)
        .await;
    assert_eq!(scene.logged("/nonce/half").await["ending"], "complete");

    // With one, nobody is there to read the answer, and the ingress is told.
    let mut stream = tls
        .handshake(dial(&scene).await, Some(HOST_A), Protocol::Http1)
        .await
        .unwrap();
    stream
        .write_all(format!("GET /drip/600/50 HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stream.read_exact(&mut [0; 15]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(scene.logged("/drip/600/50").await["ending"], "client_broke");
    until("the abort at the ingress", async || {
        scene.ingress_saw("/drip/600/50")
    })
    .await;
}
