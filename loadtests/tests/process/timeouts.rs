//! Slow peers: each thing that is waited for has a deadline of its own, and a word of its own when it passes.

use std::time::{Duration, Instant};

use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{Protocol, open};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::scene::{SOON, Scene, says_back, until};
use crate::tls::client_hello;

/// Waits for the other side's end, and tells after what time it came.
async fn ends(mut stream: impl AsyncRead + Unpin) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    drop(end.expect("an end"));
    (began.elapsed(), bytes)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_slow_proxy_header_is_cut() {
    let scene = Scene::start(&[("POSTERN_PROXY_HEADER__TIMEOUT", "1s")]).await;
    let bytes = Header::link(LINK_A).bytes();
    for (number, length) in (1_u32..).zip([0, 1, 15, 16, 35]) {
        let header = Header::Raw(bytes.slice(..length));
        let stream = open(scene.stack.postern.data(), None, &header)
            .await
            .unwrap();
        let (after, answer) = ends(stream).await;
        assert!(
            after > SECOND / 2 && answer.is_empty(),
            "{length}: {after:?} {answer:?}"
        );
        scene
            .counted(
                "postern_refusals_total",
                &[("reason", "proxy_header_late")],
                f64::from(number),
            )
            .await;
    }
    let line = scene
        .logged_as("the refusal", |line| line["refusal"] == "proxy_header_late")
        .await;
    assert_eq!(
        (&line["ending"], &line["blame"]),
        (&"refused".into(), &"client".into()),
        "{line}"
    );
    assert!(line["duration_us"].as_u64() >= Some(1_000_000), "{line}");
}

#[tokio::test]
async fn a_slow_client_hello_is_cut() {
    let scene = Scene::start(&[("POSTERN_TLS__TIMEOUT", "1s")]).await;
    let hello = client_hello(&scene);
    for (number, length) in (1_u32..).zip([0, 1, 5, 100]) {
        let mut stream = open(scene.stack.postern.data(), None, &Header::link(LINK_A))
            .await
            .unwrap();
        stream.write_all(&hello[..length]).await.unwrap();
        let (after, answer) = ends(stream).await;
        assert!(
            after > SECOND / 2 && answer.is_empty(),
            "{length}: {after:?} {answer:?}"
        );
        scene
            .counted(
                "postern_connections_total",
                &[("ending", "handshake_late")],
                f64::from(number),
            )
            .await;
    }
    let line = scene
        .logged_as("the late handshake", |line| {
            line["ending"] == "handshake_late"
        })
        .await;
    assert_eq!(
        (&line["link_id"], &line["blame"]),
        (&LINK_A.to_string().into(), &"client".into()),
        "{line}"
    );
    // The whole hello, and then nothing: the same deadline.
    let mut stream = open(scene.stack.postern.data(), None, &Header::link(LINK_A))
        .await
        .unwrap();
    stream.write_all(&hello).await.unwrap();
    let (after, answer) = ends(stream).await;
    assert!(after > SECOND / 2 && !answer.is_empty(), "{after:?}");
    scene
        .logged_as("its name", |line| {
            line["ending"] == "handshake_late" && line["sni"] == HOST_A
        })
        .await;
}

#[tokio::test]
async fn a_slow_request_head_is_cut() {
    let scene = Scene::start(&[("POSTERN_HTTP__HEADER_TIMEOUT", "1s")]).await;
    let tls = scene.stack.tls().unwrap();
    let first = format!("GET /nonce/first HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n");
    for (number, before) in (1_u32..).zip(["", &first]) {
        let stream = open(scene.stack.postern.data(), None, &Header::link(LINK_A))
            .await
            .unwrap();
        let mut stream = tls
            .handshake(stream, Some(HOST_A), Protocol::Http1)
            .await
            .unwrap();
        stream
            .write_all(format!("{before}GET /nonce/slow HTTP/1.1\r\nHost: ").as_bytes())
            .await
            .unwrap();
        let (after, answer) = ends(stream).await;
        assert!(after > SECOND / 2, "{after:?}");
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), !before.is_empty());
        scene
            .counted(
                "postern_connections_total",
                &[("ending", "head_late")],
                f64::from(number),
            )
            .await;
    }
    let line = scene
        .logged_as("the late head", |line| line["ending"] == "head_late")
        .await;
    assert_eq!(
        (&line["link_id"], &line["sni"], &line["blame"]),
        (&LINK_A.to_string().into(), &HOST_A.into(), &"client".into())
    );
    assert!(!scene.ingress_saw("/nonce/slow"));
}

#[tokio::test]
async fn many_quick_heads_on_one_connection_are_not_taken_for_a_slow_one() {
    let scene = Scene::start(&[("POSTERN_HTTP__HEADER_TIMEOUT", "200ms")]).await;
    let mut connection = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let began = Instant::now();
    while began.elapsed() < SECOND {
        assert_eq!(connection.get("/nonce/quick").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_its_idle_time() {
    let scene = Scene::start(&[("POSTERN_HTTP__IDLE_TIMEOUT", "1s")]).await;
    for protocol in Protocol::ALL {
        let mut used = scene.connect(LINK_A, HOST_A, protocol).await;
        assert_eq!(used.get("/nonce/used").await.unwrap().status, 200);
        let unused = scene.connect(LINK_A, HOST_A, protocol).await;
        until("the end of both", async || {
            used.is_closed() && unused.is_closed()
        })
        .await;
    }
    scene
        .counted("postern_connections_total", &[("ending", "idle")], 4.0)
        .await;
    assert!(scene.metric_is("postern_connections_open", &[], 0.0).await);
}

#[tokio::test]
async fn a_silent_web_socket_has_a_longer_idle_time_over_either_protocol() {
    let scene = Scene::start(&[
        ("POSTERN_HTTP__IDLE_TIMEOUT", "500ms"),
        ("POSTERN_HTTP__UPGRADED_IDLE_TIMEOUT", "3s"),
    ])
    .await;
    for protocol in Protocol::ALL {
        let (mut socket, _connection) = scene.web_socket(LINK_A, HOST_A, protocol).await;
        // Whoever has no tunnel is closed meanwhile.
        let other = scene.connect(LINK_A, HOST_A, protocol).await;
        until("the end of another", async || other.is_closed()).await;
        assert!(
            says_back(&mut socket, "after a while").await,
            "{protocol:?}"
        );
        let number = if protocol == Protocol::Http1 { 1 } else { 2 };
        until("the end of the tunnel", async || {
            let lines = scene.stack.postern.access_log().all();
            lines
                .iter()
                .filter(|line| line["path"] == "/websocket" && line["ending"] == "cut")
                .count()
                == number
        })
        .await;
        assert!(!says_back(&mut socket, "too late").await, "{protocol:?}");
    }
}
