//! What probers are told from the start of a process to its end.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, empty, open};
use postern_loadtests::stack::postern::{PROBE_SOURCE, Postern, PosternOptions};
use postern_loadtests::stack::{accepts, free_address};
use rustix::process::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ask;
use crate::scene::{SOON, Scene, until, with};

const HEALTHY: &str = r#"{"ApplicationHealthState":"Healthy"}"#;
const UNHEALTHY: &str = r#"{"ApplicationHealthState":"Unhealthy"}"#;

/// The status that the load balancer gets, by each way that it may ask.
async fn statuses(postern: &Postern) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (address, header) in [
        (postern.probe(), Header::Absent),
        (postern.probe(), Header::Local),
        (postern.data(), Header::Local),
        (postern.data(), Header::without_link()),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let status = status(address, &header, method).await;
            statuses.push(status);
        }
    }
    statuses
}

async fn status(address: SocketAddr, header: &Header, method: Method) -> u16 {
    let stream = open(address, Some(PROBE_SOURCE), header).await.unwrap();
    let connection = Connection::new(stream, Protocol::Http1, "10.1.0.5:8080").await;
    let mut connection = connection.unwrap();
    let request = connection.request(method, "/healthz").unwrap();
    let answer = connection.fetch(request.body(empty()).unwrap()).await;
    answer.unwrap().status.as_u16()
}

/// Status and body that the extension gets: it asks locally, without a PROXY header.
async fn health(postern: &Postern) -> (u16, String) {
    let probe = postern.probe();
    let answer = ask(probe, probe.ip(), &Header::Absent, "/health/vmss").await;
    (answer.status.as_u16(), answer.text())
}

fn rich(body: &str) -> (u16, String) {
    (200, body.to_owned())
}

#[tokio::test]
async fn only_a_ready_process_is_200_and_healthy() {
    let mut scene = Scene::start(&[("POSTERN_DRAIN__NOTICE", "1h")]).await;
    let options = PosternOptions {
        environment: with(&[]).environment,
        // Nobody is there.
        ..PosternOptions::new(free_address().unwrap())
    };
    let folder = scene.folder.path().join("starting");
    let mut starting = Postern::launch(&folder, &scene.stack.credentials, &options).unwrap();
    let (data, probe) = (starting.data(), starting.probe());
    starting
        .child()
        .wait_until("its listeners", SOON, async || {
            accepts(data).await && accepts(probe).await
        })
        .await
        .unwrap();
    assert_eq!(statuses(&starting).await, [503; 8]);
    assert_eq!(health(&starting).await, rich(UNHEALTHY));

    let ready = &scene.stack.postern;
    assert_eq!(statuses(ready).await, [200; 8]);
    assert_eq!(health(ready).await, rich(HEALTHY));

    ready.signal(Signal::TERM).unwrap();
    scene.said("drain: not ready").await;
    let draining = &scene.stack.postern;
    assert_eq!(statuses(draining).await, [503; 8]);
    assert_eq!(health(draining).await, rich(UNHEALTHY));
    scene.stack.postern.signal(Signal::INT).unwrap();
    scene.stack.postern.ended(SOON).await.unwrap();
}

/// What a prober sees, in the only order that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ready,
    /// Not ready, and still accepting.
    Noticing,
    /// Not accepting.
    Ending,
}

async fn state(postern: &Postern) -> Option<State> {
    // Who is told 503 here may have been told so a moment before the listener closed, and never the other way round.
    let accepting = accepts(postern.data()).await;
    let status = postern.probe_answer("/healthz").await.ok()?.status;
    Some(match (status.as_u16(), accepting) {
        (200, true) => State::Ready,
        (503, true) => State::Noticing,
        (503, false) => State::Ending,
        unexpected => panic!("a prober sees {unexpected:?}"),
    })
}

#[tokio::test]
async fn a_drain_is_not_ready_then_not_accepting_and_never_back() {
    let mut scene = Scene::start(&[("POSTERN_DRAIN__NOTICE", "1s")]).await;
    let postern = &scene.stack.postern;
    // As long as it is open, the process is there.
    let (mut socket, carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    let mut seen = vec![state(postern).await.unwrap()];
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    postern.signal(Signal::TERM).unwrap();
    let end = Instant::now() + SOON;
    // Some time after it has stopped accepting, too.
    while seen.iter().filter(|state| **state == State::Ending).count() < 20 {
        ticks.tick().await;
        seen.push(state(postern).await.expect("an answer until the end"));
        assert!(Instant::now() < end, "{seen:?}");
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.contains(&State::Noticing), "{seen:?}");
    assert_eq!(health(postern).await, rich(UNHEALTHY));
    socket.close(None).await.unwrap();
    drop((socket, carrier));
    until("the end of the probe listener", async || {
        !accepts(scene.stack.postern.probe()).await
    })
    .await;
    scene.stack.postern.ended(SOON).await.unwrap();
}
