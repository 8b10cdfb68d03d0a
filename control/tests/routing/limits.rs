//! Bounds: connections, requests, streams, time; and the end.

use std::time::Duration;

use http::Method;
use postern_certs::dev_ca::LeafOptions;
use postern_certs::{Purpose, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Connector, Events, PATIENCE, request, tls};
use super::scene::Scene;

const LOOKUP: &str = "/v1/lookup?host=images.example";

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_and_gives_its_seat_back() {
    let scene = Scene::with(|config| {
        config.tls.handshake_timeout = Duration::from_millis(100);
        config.limits.connections_max = 1;
    })
    .await;
    let mut silent = TcpStream::connect(scene.address).await.unwrap();
    let mut proxy = scene.proxy().await;
    assert_eq!(proxy.get(LOOKUP).await.status, 200);
    let end = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 16]))
        .await
        .unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let (_, metrics) = scene.admin("/metrics").await;
    let line = "postern_routing_connections_ended_total{reason=\"handshake_late\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn one_stream_more_than_may_be_open_is_refused() {
    let scene = Scene::with(|config| config.changes.subscribers_max = 1).await;
    let mut proxy = scene.proxy().await;
    let events = Events::of(&mut proxy, "/v1/changes?after=0", &[]).await;
    let stream = [("accept", "text/event-stream")];
    let refused = proxy.get_with("/v1/changes?after=0", &stream).await;
    assert_eq!(refused.error(), (503, "ServerBusy".into(), String::new()));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(proxy.get(LOOKUP).await.status, 200);
    drop(events);
    let again = async {
        while proxy
            .open(request(Method::GET, "/v1/changes?after=0", &stream, ""))
            .await
            .unwrap()
            .status()
            != 200
        {}
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn a_connection_of_age_ends_in_order() {
    let scene = Scene::with(|config| {
        config.limits.connection_age_max = Duration::from_millis(200);
    })
    .await;
    let mut proxy = scene.proxy().await;
    let mut events = Events::of(&mut proxy, "/v1/changes?after=0", &[]).await;
    while events.next().await.is_some() {}
    let ended = async {
        while proxy
            .open(request(Method::GET, LOOKUP, &[], ""))
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(scene.proxy().await.get(LOOKUP).await.status, 200);
}

#[tokio::test]
async fn a_connection_ends_with_its_clients_certificate() {
    let scene = Scene::start().await;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    let options = LeafOptions {
        not_after: Some(now + 4),
        ..LeafOptions::new(Purpose::Client, ["proxy.example"])
    };
    let identity = scene.ca.leaf(&options).unwrap();
    let connector = Connector {
        tls: tls(scene.ca.ca_pem(), Some(&identity), b"h2"),
        ..scene.connector("proxy.example")
    };
    let mut proxy = connector.connect().await.unwrap();
    let mut events = Events::of(&mut proxy, "/v1/changes?after=0", &[]).await;
    while events.next().await.is_some() {}
    let (_, metrics) = scene.admin("/metrics").await;
    assert!(
        metrics.contains("postern_routing_subscribers 0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_request_that_takes_its_time_holds_a_seat_and_no_longer_than_it_may() {
    let scene = Scene::with(|config| {
        config.limits.requests_max = 1;
        config.limits.request_timeout = Duration::from_secs(3);
    })
    .await;
    let mut proxy = scene.proxy().await;
    let slow = scene.connector_with("people.example", b"http/1.1");
    let mut slow = slow.stream().await.unwrap();
    let half = "PUT /v1/workspaces/clinic HTTP/1.1\r\nhost: routing.example\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(half.as_bytes()).await.unwrap();
    let busy = async {
        loop {
            let answer = proxy.get(LOOKUP).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let busy = tokio::time::timeout(PATIENCE, busy).await.unwrap();
    assert_eq!(busy.error(), (503, "ServerBusy".into(), String::new()));
    let mut answer = [0; 12];
    let read = tokio::time::timeout(PATIENCE, slow.read_exact(&mut answer));
    read.await.unwrap().unwrap();
    assert_eq!(answer, *b"HTTP/1.1 503");
    assert_eq!(proxy.get(LOOKUP).await.status, 200);
}

#[tokio::test]
async fn what_is_too_large_for_a_head_is_refused() {
    let scene = Scene::start().await;
    let long = "a".repeat(70_000);
    let mut proxy = scene.proxy().await;
    let answer = proxy
        .open(request(Method::GET, LOOKUP, &[("x-long", &long)], ""))
        .await;
    assert!(answer.is_err() || answer.unwrap().status() == 431);
    assert_eq!(scene.proxy().await.get(LOOKUP).await.status, 200);
}

#[tokio::test]
async fn it_stops_within_its_bound_whatever_clients_do() {
    let scene = Scene::with(|config| {
        config.limits.drain_timeout = Duration::from_millis(100);
    })
    .await;
    // One that shakes no hands, one that is idle, one that does not read what it asked for.
    let _silent = TcpStream::connect(scene.address).await.unwrap();
    let _idle = scene.proxy().await;
    let mut proxy = Connector {
        window: 1,
        ..scene.connector("proxy.example")
    }
    .connect()
    .await
    .unwrap();
    let _unread = Events::of(&mut proxy, "/v1/changes?after=0", &[]).await;
    scene.stop().await;
}
