//! HTTP/1.1 connections that pause: they let go of what only requests need, and nobody can tell.

use http::Method;
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, empty, open};
use postern_loadtests::stack::wire::Wire;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::scene::{SOON, Scene, routes_with, until};

/// Waits until so many of the open connections are parked.
async fn parked(scene: &Scene, number: usize) {
    until("parked connections", async || {
        let mut admin = Connection::plain(scene.stack.postern.admin())
            .await
            .unwrap();
        let request = admin.request(Method::GET, "/connections").unwrap();
        let answer = admin.fetch(request.body(empty()).unwrap()).await.unwrap();
        let listing = answer.json();
        let rows = listing["connections"].as_array().unwrap();
        rows.iter().filter(|row| row["parked"] == true).count() == number
    })
    .await;
}

/// A connection that has had an answer and is parked now.
async fn pausing(scene: &Scene) -> Connection {
    let mut connection = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    assert_eq!(connection.get("/nonce/before").await.unwrap().status, 200);
    parked(scene, 1).await;
    connection
}

async fn wire(scene: &Scene) -> Wire<TlsStream<TcpStream>> {
    let stream = open(scene.stack.postern.data(), None, &Header::link(LINK_A))
        .await
        .unwrap();
    let tls = scene.stack.tls().unwrap();
    let stream = tls.handshake(stream, Some(HOST_A), Protocol::Http1);
    Wire::new(stream.await.unwrap())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n")
}

async fn ended(scene: &Scene, ending: &str) {
    let labels = [("ending", ending)];
    scene
        .counted("postern_connections_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_parked_connection_is_open_and_answers() {
    // It is looked at every half of this time.
    let scene = Scene::start(&[("POSTERN_HTTP__HEADER_TIMEOUT", "2s")]).await;
    let mut connection = pausing(&scene).await;
    assert!(scene.metric_is("postern_connections_open", &[], 1.0).await);
    for _ in 0..2 {
        assert_eq!(connection.get("/nonce/after").await.unwrap().status, 200);
        parked(&scene, 1).await;
    }
    drop(connection);
    ended(&scene, "closed").await;
    assert!(scene.metric_is("postern_connections_open", &[], 0.0).await);
}

#[tokio::test]
async fn a_connection_that_has_asked_for_nothing_yet_is_parked_and_answers() {
    let scene = Scene::start(&[]).await;
    let mut connection = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    parked(&scene, 1).await;
    assert_eq!(connection.get("/nonce/first").await.unwrap().status, 200);
}

#[tokio::test]
async fn requests_that_arrive_together_after_a_pause_are_answered_in_order() {
    let scene = Scene::start(&[]).await;
    let mut wire = wire(&scene).await;
    parked(&scene, 1).await;
    let both = format!("{}{}", get("/nonce/one"), get("/nonce/two"));
    wire.send(both).await.unwrap();
    for nonce in ["one", "two"] {
        assert_eq!(wire.answer().await.unwrap().body, nonce.as_bytes());
    }
}

#[tokio::test]
async fn the_beginning_of_a_head_behind_a_body_outlives_a_pause() {
    let scene = Scene::start(&[]).await;
    let mut wire = wire(&scene).await;
    let next = get("/nonce/next");
    let (beginning, rest) = next.split_at(20);
    let upload = format!(
        "POST /sink HTTP/1.1\r\nHost: {HOST_A}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    );
    wire.send(format!("{upload}{beginning}")).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().head.status(), 200);
    parked(&scene, 1).await;
    wire.send(rest).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().body, b"next");
}

#[tokio::test]
async fn a_slow_head_after_a_pause_is_cut() {
    let scene = Scene::start(&[("POSTERN_HTTP__HEADER_TIMEOUT", "3s")]).await;
    let mut wire = wire(&scene).await;
    parked(&scene, 1).await;
    wire.send(&get("/nonce/slow")[..20]).await.unwrap();
    parked(&scene, 0).await;
    ended(&scene, "head_late").await;
    assert!(!scene.ingress_saw("/nonce/slow"));
}

#[tokio::test]
async fn a_parked_connection_ends_when_nothing_comes_for_too_long() {
    let scene = Scene::start(&[("POSTERN_HTTP__IDLE_TIMEOUT", "3s")]).await;
    let connection = pausing(&scene).await;
    until("the end", async || connection.is_closed()).await;
    ended(&scene, "idle").await;
}

#[tokio::test]
async fn a_parked_connection_is_revoked_with_its_link() {
    let scene = Scene::start(&[]).await;
    let connection = pausing(&scene).await;
    let routes = routes_with(LINK_A, Some("Rejected"));
    scene.stack.postern.write_routes(&routes).unwrap();
    until("the end", async || connection.is_closed()).await;
    ended(&scene, "revoked").await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_parked_connection() {
    let mut scene = Scene::start(&[("POSTERN_DRAIN__TIMEOUT", "1h")]).await;
    let mut wire = wire(&scene).await;
    parked(&scene, 1).await;
    scene.stack.postern.signal(Signal::TERM).unwrap();
    // Not cut: TLS is closed as it should be.
    assert!(wire.rest().await.unwrap().is_empty());
    let status = scene.stack.postern.ended(SOON).await;
    let status = status.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(0), "{status:?}");
    scene.said("drain: done").await;
}
