//! Revocation reaches connections that are open: new requests are refused at once, what goes on is cut after a
//! bound, and no other link notices.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt as _;
use postern_loadtests::stack::accounts::{HOST_A, HOST_B, LINK_A, LINK_B};
use postern_loadtests::stack::client::{Connection, Protocol, empty};

use crate::scene::{SOON, Scene, WebSocket, routes_with, says_back, until};

const BOUND: Duration = Duration::from_secs(2);

async fn revoke(state: Option<&str>) {
    let scene = Scene::start(&[("POSTERN_ROUTES__REVOKED_TIMEOUT", "2s")]).await;
    let mut idle = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    assert_eq!(idle.get("/nonce/idle").await.unwrap().status, 200);
    let (mut busy, download) = downloading(&scene, Protocol::Http2, "/drip/600/50").await;
    let (mut h1, _one) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    let (mut h2, _two) = scene.web_socket(LINK_A, HOST_A, Protocol::Http2).await;
    let (mut other, _three) = scene.web_socket(LINK_B, HOST_B, Protocol::Http1).await;

    scene
        .stack
        .postern
        .write_routes(&routes_with(LINK_A, state))
        .unwrap();
    scene.said("routes loaded").await;
    let began = Instant::now();
    until("the end of the idle connection", async || idle.is_closed()).await;
    assert!(began.elapsed() < BOUND + SOON);
    // HTTP/2 takes no new request: refused by us with 403, or not sent any more after GOAWAY.
    match busy.get("/nonce/late").await {
        Ok(answer) => assert_eq!(answer.status, 403),
        Err(_) => assert!(busy.is_closed()),
    }
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/new").await, 403);

    assert!(download.await.unwrap().is_err(), "the download was not cut");
    for socket in [&mut h1, &mut h2] {
        ends(socket).await;
    }
    assert!(began.elapsed() < BOUND + SOON, "{:?}", began.elapsed());
    assert!(says_back(&mut other, "still here").await);
    assert!(!scene.ingress_saw("/nonce/late") && !scene.ingress_saw("/nonce/new"));

    let cut = scene.logged("/drip/600/50").await;
    assert_eq!(cut["ending"], "cut", "{cut}");
    scene
        .counted("postern_connections_total", &[("ending", "revoked")], 4.0)
        .await;
    let tunnels = || {
        let lines = scene.stack.postern.access_log().all().into_iter();
        lines
            .filter(|line| line["path"] == "/websocket")
            .collect::<Vec<_>>()
    };
    until("the lines of both tunnels", async || tunnels().len() == 2).await;
    for line in tunnels() {
        assert_eq!(line["ending"], "cut", "{line}");
        // "hello" and its frame, there and back again.
        assert!(line["request_bytes"].as_u64() >= Some(7), "{line}");
        assert!(line["response_bytes"].as_u64() >= Some(7), "{line}");
    }
}

async fn downloading(
    scene: &Scene,
    protocol: Protocol,
    path: &str,
) -> (
    Connection,
    tokio::task::JoinHandle<Result<(), hyper::Error>>,
) {
    let mut connection = scene.connect(LINK_A, HOST_A, protocol).await;
    let request = connection
        .request(Method::GET, path)
        .unwrap()
        .body(empty())
        .unwrap();
    let mut body = connection.send(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let rest = tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    });
    (connection, rest)
}

async fn ends(socket: &mut WebSocket) {
    until("the end of a WebSocket", async || {
        !says_back(socket, "more").await
    })
    .await;
}

#[tokio::test]
async fn a_link_that_disappears_loses_its_open_connections_and_no_other_does() {
    revoke(None).await;
}

#[tokio::test]
async fn a_link_that_is_rejected_loses_its_open_connections_and_no_other_does() {
    revoke(Some("Rejected")).await;
}

#[tokio::test]
async fn a_request_in_flight_over_http1_may_end_within_the_bound() {
    let scene = Scene::start(&[("POSTERN_ROUTES__REVOKED_TIMEOUT", "30s")]).await;
    let (connection, download) = downloading(&scene, Protocol::Http1, "/drip/40/50").await;
    scene
        .stack
        .postern
        .write_routes(&routes_with(LINK_A, Some("Rejected")))
        .unwrap();
    scene.said("routes loaded").await;
    assert!(download.await.unwrap().is_ok());
    assert_eq!(scene.logged("/drip/40/50").await["ending"], "complete");
    until("the end of the connection", async || connection.is_closed()).await;
    scene
        .counted("postern_connections_total", &[("ending", "revoked")], 1.0)
        .await;
}

#[tokio::test]
async fn a_link_that_is_revoked_during_a_drain_is_cut_all_the_same() {
    let scene = Scene::start(&[("POSTERN_ROUTES__REVOKED_TIMEOUT", "500ms")]).await;
    let (mut socket, _connection) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    scene
        .stack
        .postern
        .signal(rustix::process::Signal::TERM)
        .unwrap();
    scene.said("drain: not accepting").await;
    assert!(says_back(&mut socket, "still here").await);
    scene
        .stack
        .postern
        .write_routes(&routes_with(LINK_A, None))
        .unwrap();
    ends(&mut socket).await;
    assert_eq!(scene.logged("/websocket").await["ending"], "cut");
}

#[tokio::test]
async fn a_revocation_is_counted_with_how_long_it_took() {
    let scene = Scene::start(&[("POSTERN_ROUTES__REVOKED_TIMEOUT", "500ms")]).await;
    let (_socket, _connection) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    let mut idle = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(idle.get("/nonce/idle").await.unwrap().status, 200);
    let routes = routes_with(LINK_A, Some("Rejected"));
    scene.stack.postern.write_routes(&routes).unwrap();
    scene.counted("postern_revocations_total", &[], 2.0).await;
    let took = "postern_revocation_duration_seconds_count";
    scene.counted(took, &[("stage", "refused")], 2.0).await;
    scene.counted(took, &[("stage", "closed")], 2.0).await;
}
