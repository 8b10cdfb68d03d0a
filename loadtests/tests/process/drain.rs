//! The drain: what has begun ends well, nothing new begins, and the process ends by itself.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{
    Answer, ClientError, Connection, Protocol, empty, open, streaming,
};
use postern_loadtests::stack::wire::Wire;
use postern_loadtests::stack::{accepts, echo};
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::scene::{SOON, Scene, says_back, until};

fn drain(scene: &Scene, signal: Signal) {
    scene.stack.postern.signal(signal).unwrap();
}

async fn ends_well(scene: &mut Scene) {
    let status = scene
        .stack
        .postern
        .ended(SOON)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(0), "{status:?}");
    let stopped = scene.said("stopped").await;
    assert_eq!(stopped["access_log_flushed"], true);
}

#[tokio::test]
async fn what_has_begun_ends_well_and_nothing_new_begins() {
    let mut scene = Scene::start(&[
        ("POSTERN_DRAIN__NOTICE", "1s"),
        ("POSTERN_DRAIN__TIMEOUT", "30s"),
        ("POSTERN_DRAIN__IDLE_GRACE", "1s"),
    ])
    .await;
    let mut idle = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    assert_eq!(idle.get("/nonce/first").await.unwrap().status, 200);
    let (mut socket, _carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    let mut h2 = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    let (mut upload, uploaded) = upload(h2.share().unwrap(), "/sink").await;
    let downloaded = spawn_get(
        scene.connect(LINK_A, HOST_A, Protocol::Http1).await,
        "/drip/30/100",
    );
    let answered = spawn_get(
        scene.connect(LINK_A, HOST_A, Protocol::Http1).await,
        "/slow/3000",
    );
    until("the requests at the ingress", async || {
        let seen = echo::seen(scene.stack.echo.address()).await.unwrap();
        ["/sink", "/drip/30/100", "/slow/3000"]
            .iter()
            .all(|path| seen.iter().any(|seen| seen.uri == *path))
    })
    .await;

    drain(&scene, Signal::TERM);
    scene.said("drain: not ready").await;
    probes_are_told(&scene).await;
    // Until the probes have noticed, new connections are served as ever.
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/noticing").await, 200);
    scene.said("drain: not accepting").await;
    let data = scene.stack.postern.data();
    until("refused connections", async || !accepts(data).await).await;
    until("the end of the idle connection", async || idle.is_closed()).await;
    until("GOAWAY", async || h2.get("/nonce/late").await.is_err()).await;
    assert!(says_back(&mut socket, "during the drain").await);

    upload
        .send_data(Bytes::from_static(b"the rest"))
        .await
        .unwrap();
    drop(upload);
    assert_eq!(uploaded.await.unwrap().unwrap().json()["bytes"], 9 + 8);
    let answer = downloaded.await.unwrap();
    assert!(answer.text().ends_with("drip 29\n"), "{}", answer.text());
    let answer = answered.await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.header("connection")),
        (200, "close")
    );
    socket.close(None).await.unwrap();
    drop(socket);
    ends_well(&mut scene).await;
    scene.said("drain: done").await;
    for path in ["/sink", "/drip/30/100", "/slow/3000"] {
        let line = scene.logged(path).await;
        assert_eq!(
            (&line["status"], &line["ending"]),
            (&200.into(), &"complete".into()),
            "{line}"
        );
    }
    assert_eq!(scene.logged("/websocket").await["ending"], "upgraded");
}

async fn probes_are_told(scene: &Scene) {
    let postern = &scene.stack.postern;
    assert_eq!(postern.probe_answer("/healthz").await.unwrap().status, 503);
    let answer = postern.probe_answer("/readyz").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["draining"]),
        (503, &Value::Bool(true))
    );
    let answer = postern.probe_answer("/health/vmss").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, r#"{"ApplicationHealthState":"Unhealthy"}"#)
    );
    assert_eq!(postern.probe_answer("/livez").await.unwrap().status, 200);
    scene.counted("postern_draining", &[], 1.0).await;
    assert!(scene.metric_is("postern_ready", &[], 0.0).await);
}

fn spawn_get(mut connection: Connection, path: &'static str) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(async move { connection.get(path).await.unwrap() })
}

type Upload = (
    Sender<Bytes>,
    tokio::task::JoinHandle<Result<Answer, ClientError>>,
);

async fn upload(mut connection: Connection, path: &str) -> Upload {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let request = connection.request(Method::POST, path).unwrap();
    let request = request.body(streaming(body)).unwrap();
    let answer = tokio::spawn(async move { connection.fetch(request).await });
    sender
        .send_data(Bytes::from_static(b"the first"))
        .await
        .unwrap();
    (sender, answer)
}

#[tokio::test]
async fn what_does_not_end_by_the_deadline_is_cut_and_logged() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let mut scene = Scene::start(&[("POSTERN_DRAIN__TIMEOUT", "1s")]).await;
        let (mut socket, _carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http2).await;
        let body = endless(&scene).await;
        let mut uploads = Vec::new();
        for (protocol, path) in [(Protocol::Http1, "/sink?h1"), (Protocol::Http2, "/sink?h2")] {
            let connection = scene.connect(LINK_A, HOST_A, protocol).await;
            uploads.push(upload(connection, path).await);
        }
        until("the uploads at the ingress", async || {
            let seen = echo::seen(scene.stack.echo.address()).await.unwrap();
            seen.iter().filter(|seen| seen.body_bytes == 9).count() == 2
        })
        .await;
        drain(&scene, signal);
        ends_well(&mut scene).await;
        scene.said("drain: deadline").await;
        for (_sender, answer) in uploads {
            assert!(answer.await.unwrap().is_err());
        }
        assert!(body.await.unwrap().is_err());
        assert!(!says_back(&mut socket, "gone").await);
        let lines = scene.stack.postern.access_log().all().into_iter();
        let lines: Vec<_> = lines
            .filter(|line| line["path"] != "/nonce/before")
            .collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        for line in lines {
            assert_eq!(
                (&line["ending"], &line["refusal"]),
                (&"cut".into(), &Value::Null),
                "{line}"
            );
        }
        // The ingress is told that no more of them comes.
        for seen in echo::seen(scene.stack.echo.address()).await.unwrap() {
            assert!(seen.method != "POST" || !seen.complete, "{seen:?}");
        }
    }
}

async fn endless(scene: &Scene) -> tokio::task::JoinHandle<Result<(), hyper::Error>> {
    let mut connection = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let request = connection
        .request(Method::GET, "/drip/600/50")
        .unwrap()
        .body(empty())
        .unwrap();
    let mut body = connection.send(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    tokio::spawn(async move { body.collect().await.map(drop) })
}

#[tokio::test]
async fn an_interrupt_ends_it_at_once_even_during_a_drain() {
    for drains in [false, true] {
        let mut scene = Scene::start(&[("POSTERN_DRAIN__TIMEOUT", "1h")]).await;
        let body = endless(&scene).await;
        if drains {
            drain(&scene, Signal::TERM);
            scene.said("drain: not accepting").await;
        }
        let began = Instant::now();
        drain(&scene, Signal::INT);
        ends_well(&mut scene).await;
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert!(body.await.unwrap().is_err());
        assert_eq!(scene.logged("/drip/600/50").await["ending"], "cut");
    }
}

/// Two connections that wait for their handshakes, one for each protocol, while a process drains that has stopped
/// accepting; and one more, for whose sake it stays.
async fn opened_before_the_end(scene: &Scene) -> (Vec<TcpStream>, TcpStream) {
    let accepted = scene
        .metric("postern_connections_accepted_total", &[])
        .await;
    let data = scene.stack.postern.data();
    let mut waiting = Vec::new();
    for _ in Protocol::ALL {
        waiting.push(open(data, None, &Header::link(LINK_A)).await.unwrap());
    }
    let last = open(data, None, &Header::link(LINK_A)).await.unwrap();
    scene
        .counted("postern_connections_accepted_total", &[], accepted + 3.0)
        .await;
    drain(scene, Signal::TERM);
    scene.said("drain: not accepting").await;
    (waiting, last)
}

#[tokio::test]
async fn a_connection_that_gets_ready_late_in_the_drain_is_told_to_go_elsewhere() {
    let mut scene = Scene::start(&[
        ("POSTERN_DRAIN__NOTICE", "0s"),
        ("POSTERN_DRAIN__IDLE_GRACE", "0s"),
    ])
    .await;
    let (waiting, last) = opened_before_the_end(&scene).await;
    let tls = scene.stack.tls().unwrap();
    for (stream, protocol) in waiting.into_iter().zip(Protocol::ALL) {
        let stream = tls.handshake(stream, Some(HOST_A), protocol).await.unwrap();
        let mut connection = Connection::new(stream, protocol, HOST_A).await.unwrap();
        let path = format!("/nonce/{}", protocol.label());
        let answer = connection.get(&path).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (503, "1")
        );
        assert_eq!(answer.header("connection"), close(protocol));
        assert_eq!(answer.json()["code"], "draining");
        // Before the line, which may be written when the process has ended.
        scene
            .counted("postern_refusals_total", &[("reason", "draining")], 1.0)
            .await;
        assert_eq!(scene.logged(&path).await["refusal"], "draining");
        assert!(!scene.ingress_saw(&path));
        until("the end of the connection", async || connection.is_closed()).await;
    }
    drop(last);
    ends_well(&mut scene).await;
}

/// What the last answer of a connection says.
fn close(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Http1 {
        "close"
    } else {
        ""
    }
}

#[tokio::test]
async fn a_connection_that_gets_ready_early_in_the_drain_is_served_and_ends() {
    let mut scene = Scene::start(&[
        ("POSTERN_DRAIN__NOTICE", "0s"),
        ("POSTERN_DRAIN__IDLE_GRACE", "1h"),
        ("POSTERN_HTTP__HEADER_TIMEOUT", "2s"),
    ])
    .await;
    let (waiting, last) = opened_before_the_end(&scene).await;
    let tls = scene.stack.tls().unwrap();
    for (stream, protocol) in waiting.into_iter().zip(Protocol::ALL) {
        let stream = tls.handshake(stream, Some(HOST_A), protocol).await.unwrap();
        let mut connection = Connection::new(stream, protocol, HOST_A).await.unwrap();
        let answer = connection.get("/nonce/early").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("connection")),
            (200, close(protocol))
        );
        until("the end of the connection", async || connection.is_closed()).await;
    }
    // One that asks for nothing ends, too.
    let stream = tls
        .handshake(last, Some(HOST_A), Protocol::Http1)
        .await
        .unwrap();
    let mut silent = Wire::new(stream);
    assert!(silent.rest().await.unwrap().is_empty());
    ends_well(&mut scene).await;
    scene.said("drain: done").await;
}

#[tokio::test]
async fn a_client_that_is_about_to_ask_gets_its_answer_and_is_told_that_it_is_the_last() {
    let mut scene = Scene::start(&[
        ("POSTERN_DRAIN__IDLE_GRACE", "10m"),
        ("POSTERN_DRAIN__TIMEOUT", "1h"),
    ])
    .await;
    let mut idle = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    assert_eq!(idle.get("/nonce/first").await.unwrap().status, 200);
    let mut new = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    // Its head has been sent when the drain begins, so that its client does not know of the end.
    let mut busy = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let request = busy.request(Method::GET, "/drip/20/100").unwrap();
    let download = busy.send(request.body(empty()).unwrap()).await.unwrap();
    drain(&scene, Signal::TERM);
    scene.said("drain: not accepting").await;
    let body = download.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"drip 19\n"));
    for connection in [&mut idle, &mut new, &mut busy] {
        let answer = connection.get("/nonce/last").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("connection")),
            (200, "close")
        );
        until("the end of the connection", async || connection.is_closed()).await;
    }
    ends_well(&mut scene).await;
    scene.said("drain: done").await;
}

#[tokio::test]
async fn a_drain_within_a_time_tells_how_far_it_is_and_cuts_then() {
    let scene = Scene::start(&[
        ("POSTERN_DRAIN__NOTICE", "1h"),
        ("POSTERN_DRAIN__TIMEOUT", "1h"),
    ])
    .await;
    let (mut socket, _carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http2).await;
    let idle = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let mut operator = Connection::plain(scene.stack.postern.admin())
        .await
        .unwrap();
    let mut ask = async |method: Method, path: &str| {
        let request = operator.request(method, path).unwrap();
        operator
            .fetch(request.body(empty()).unwrap())
            .await
            .unwrap()
    };
    assert_eq!(
        ask(Method::GET, "/drain").await.json()["began"],
        Value::Null
    );
    for wrong in ["/drain?within=5", "/drain?in=5s"] {
        assert_eq!(ask(Method::POST, wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(ask(Method::GET, "/drain").await.json()["phase"], "serving");
    let begun = ask(Method::POST, "/drain").await;
    assert_eq!(begun.status, 202);
    assert!(begun.json()["deadline_seconds"].as_f64().unwrap() > 7000.0);
    // It may become shorter, never longer.
    let shorter = ask(Method::POST, "/drain?within=4s").await.json();
    assert!(
        shorter["deadline_seconds"].as_f64().unwrap() <= 4.0,
        "{shorter}"
    );
    let longer = ask(Method::POST, "/drain?within=1h").await.json();
    assert!(
        longer["deadline_seconds"].as_f64().unwrap() <= 4.0,
        "{longer}"
    );
    scene.said("drain: not accepting").await;
    assert!(
        scene
            .metric_is("postern_drain_phase", &[("phase", "ending")], 1.0)
            .await
    );
    assert!(
        scene
            .metric_is("postern_drain_phase", &[("phase", "serving")], 0.0)
            .await
    );
    until("the end of the idle connection", async || idle.is_closed()).await;
    scene.said("drain: deadline").await;
    until("the cut", async || !says_back(&mut socket, "gone").await).await;
    until("the end of the drain", async || {
        ask(Method::GET, "/drain").await.json()["phase"] == "drained"
    })
    .await;
    let after = ask(Method::GET, "/drain").await.json();
    assert_eq!(
        (
            &after["connections"],
            &after["connections_cut"],
            &after["deadline_seconds"]
        ),
        (&0.into(), &1.into(), &Value::Null),
        "{after}"
    );
    assert!(
        scene
            .metric_is("postern_drain_connections_cut_total", &[], 1.0)
            .await
    );
}

#[tokio::test]
async fn a_process_without_connections_drains_at_once() {
    let mut scene = Scene::start(&[("POSTERN_DRAIN__NOTICE", "0s")]).await;
    let began = Instant::now();
    drain(&scene, Signal::TERM);
    ends_well(&mut scene).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let status = scene.stack.postern.ended(SOON).await.unwrap();
    assert_eq!(status.signal(), None);
}

#[tokio::test]
async fn a_drain_by_the_admin_listener_cuts_what_is_left_and_leaves_the_process_up() {
    let mut scene = Scene::start(&[("POSTERN_DRAIN__TIMEOUT", "1s")]).await;
    let (mut socket, _carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    let admin = scene.stack.postern.admin();
    let mut operator = Connection::plain(admin).await.unwrap();
    let request = operator.request(Method::POST, "/drain").unwrap();
    let answer = operator
        .fetch(request.body(empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["phase"], "noticing");
    scene.said("drain: deadline").await;
    until("the cut", async || !says_back(&mut socket, "gone").await).await;
    assert_eq!(scene.logged("/websocket").await["ending"], "cut");
    until("the end of the drain", async || {
        let mut operator = Connection::plain(admin).await.unwrap();
        operator.get("/drain").await.unwrap().json()["phase"] == "drained"
    })
    .await;
    assert!(scene.metric_is("postern_connections_open", &[], 0.0).await);
    assert!(
        scene
            .metric_is("postern_connections_total", &[("ending", "drained")], 1.0)
            .await
    );
    let postern = &scene.stack.postern;
    assert_eq!(postern.probe_answer("/livez").await.unwrap().status, 200);
    assert_eq!(postern.probe_answer("/healthz").await.unwrap().status, 503);
    drain(&scene, Signal::TERM);
    ends_well(&mut scene).await;
}
