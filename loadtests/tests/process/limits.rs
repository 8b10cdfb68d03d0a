//! Limits: what is over one is refused in words, costs nobody else anything, and passes.

use http::Method;
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{
    self, HOST_A, HOST_B, HOST_LIMITED, LINK_A, LINK_B, LINK_LIMITED,
};
use postern_loadtests::stack::client::{Answer, Connection, Protocol, empty, open};
use rustix::process::{Resource, Rlimit};
use tokio::io::AsyncReadExt as _;

use crate::scene::{SOON, Scene, until};

fn is_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["code"], code);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(!answer.header("x-request-id").is_empty());
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_a_place_that_is_free_is_taken() {
    let scene = Scene::start(&[("POSTERN_DATA__CONNECTIONS_MAX", "2")]).await;
    let mut first = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let mut second = scene.connect(LINK_B, HOST_B, Protocol::Http2).await;
    let mut third = open(scene.stack.postern.data(), None, &Header::link(LINK_A))
        .await
        .unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(SOON, third.read_to_end(&mut answer)).await;
    drop(end.expect("an end"));
    assert!(answer.is_empty());
    let line = scene
        .logged_as("the refusal", |line| line["refusal"] == "connection_limit")
        .await;
    assert_eq!(line["blame"], "us", "{line}");
    scene
        .counted(
            "postern_refusals_total",
            &[("reason", "connection_limit")],
            1.0,
        )
        .await;
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.get("/nonce/kept").await.unwrap().status, 200);
    }
    first.abort();
    until("a free place", async || {
        scene.metric("postern_connections_open", &[]).await < 2.0
    })
    .await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/next").await, 200);
}

#[tokio::test]
async fn a_request_over_the_limit_is_told_to_come_back_and_may() {
    let scene = Scene::start(&[("POSTERN_HTTP__REQUESTS_MAX", "1")]).await;
    let mut busy = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    let slow = tokio::spawn(async move { busy.get("/slow/2000").await.unwrap() });
    scene.counted("postern_requests_in_flight", &[], 1.0).await;
    let mut other = scene.connect(LINK_B, HOST_B, Protocol::Http1).await;
    is_refused(&other.get("/nonce/over").await.unwrap(), 503, "overloaded");
    assert_eq!(scene.logged("/nonce/over").await["refusal"], "overloaded");
    scene
        .counted("postern_refusals_total", &[("reason", "overloaded")], 1.0)
        .await;
    assert!(!scene.ingress_saw("/nonce/over"));
    assert_eq!(slow.await.unwrap().status, 200);
    // The same connection, a moment later.
    until("the next request", async || {
        other.get("/nonce/again").await.unwrap().status == 200
    })
    .await;
}

/// Requests until one is refused; how many were not.
async fn burst(connection: &mut Connection, path: &str) -> usize {
    for number in 0..100 {
        let answer = connection.get(path).await.unwrap();
        if answer.status != 200 {
            is_refused(&answer, 429, "rate_limited");
            return number;
        }
    }
    panic!("a hundred requests were not too many");
}

#[tokio::test]
async fn an_account_over_its_rate_is_told_so_and_no_other_account_is() {
    let scene = Scene::start(&[]).await;
    let mut limited = scene
        .connect(LINK_LIMITED, HOST_LIMITED, Protocol::Http2)
        .await;
    let passed = burst(&mut limited, "/nonce/rate").await;
    assert!(passed >= 1);
    // Another connection shares the account's rate; another account does not.
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/other").await, 200);
    let line = scene
        .logged_as("the refusal", |line| line["refusal"] == "rate_limited")
        .await;
    assert_eq!(
        (&line["account"], &line["blame"]),
        (&"hospital-l".into(), &"policy".into()),
        "{line}"
    );
    scene
        .counted("postern_refusals_total", &[("reason", "rate_limited")], 1.0)
        .await;
    until("the next second", async || {
        limited.get("/nonce/later").await.unwrap().status == 200
    })
    .await;
    let seen = scene.stack.ingress.seen().all();
    assert_eq!(
        seen.iter()
            .filter(|line| line["uri"] == "/nonce/rate")
            .count(),
        passed
    );
}

#[tokio::test]
async fn a_link_over_its_own_rate_is_told_so_on_all_its_connections_and_no_other_link_is() {
    let scene = Scene::start(&[]).await;
    let link = |rate: &str| format!("link_id = {LINK_A}\nstate = \"Approved\"\n{rate}");
    let routes = accounts::routes().replace(&link(""), &link("requests_per_second = 1\n"));
    let another = "[[accounts.links]]\nlink_id = 77\nstate = \"Approved\"\n";
    let routes = routes.replacen(
        "[[accounts.links]]",
        &format!("{another}[[accounts.links]]"),
        1,
    );
    scene.stack.postern.write_routes(&routes).unwrap();
    scene.said("routes loaded").await;
    let mut one = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let mut two = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    burst(&mut one, "/nonce/one").await;
    let answer = two.get("/nonce/two").await.unwrap();
    // A token may have dropped in between, but not two.
    if answer.status == 200 {
        is_refused(&two.get("/nonce/two").await.unwrap(), 429, "rate_limited");
    }
    let mut other = scene.connect(77, HOST_A, Protocol::Http1).await;
    for _ in 0..5 {
        assert_eq!(other.get("/nonce/free").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn running_out_of_file_descriptors_is_survived() {
    let mut scene = Scene::start(&[]).await;
    let pid = scene.stack.postern.child().pid();
    let open_now = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count() as u64;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
    let limit = Rlimit {
        current: Some(open_now + 8),
        maximum: Some(4096),
    };
    rustix::process::prlimit(pid, Resource::Nofile, limit).unwrap();
    let data = scene.stack.postern.data();
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(
            open(
                data,
                None,
                &Header::Raw(Header::link(LINK_A).bytes().slice(..20)),
            )
            .await
            .unwrap(),
        );
    }
    scene.said("Accept() failed").await;
    drop(held);
    until("a connection that is served again", async || {
        let connected = scene.stack.connect(LINK_A, HOST_A, Protocol::Http1).await;
        let Ok(mut connection) = connected else {
            return false;
        };
        connection
            .get("/nonce/again")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await;
    scene.counted("postern_accept_errors_total", &[], 1.0).await;
    assert_eq!(
        scene
            .stack
            .postern
            .probe_answer("/healthz")
            .await
            .unwrap()
            .status,
        200
    );
    assert!(scene.stack.postern.child().exited().is_none());
}

#[tokio::test]
async fn a_head_with_too_many_or_too_large_fields_is_refused() {
    let scene = Scene::start(&[
        ("POSTERN_HTTP__HEADERS_MAX", "32"),
        ("POSTERN_HTTP__HEAD_BYTES_MAX", "8192"),
    ])
    .await;
    for (protocol, path) in [
        (Protocol::Http1, "/nonce/h1"),
        (Protocol::Http2, "/nonce/h2"),
    ] {
        for (fields, bytes, fits) in [(20, 10, true), (20, 1000, false), (1, 9000, false)] {
            let mut connection = scene.connect(LINK_A, HOST_A, protocol).await;
            let mut request = connection.request(Method::GET, path).unwrap();
            for number in 0..fields {
                request = request.header(format!("x-field-{number}"), "v".repeat(bytes));
            }
            let answer = connection.fetch(request.body(empty()).unwrap()).await;
            match answer {
                Ok(answer) if fits => assert_eq!(answer.status, 200),
                Ok(answer) => assert_eq!(answer.status, 431, "{protocol:?} {fields} x {bytes}"),
                Err(error) => assert!(!fits, "{protocol:?} {fields} x {bytes}: {error}"),
            }
        }
        let seen = scene
            .stack
            .ingress
            .saw(path, |line| line["uri"] == path)
            .await;
        seen.unwrap_or_else(|error| panic!("{error}"));
        let seen = scene.stack.ingress.seen().all();
        assert_eq!(seen.iter().filter(|line| line["uri"] == path).count(), 1);
    }
    for (number, protocol) in (1_u32..).zip(Protocol::ALL) {
        let mut connection = scene.connect(LINK_A, HOST_A, protocol).await;
        let mut request = connection.request(Method::GET, "/nonce/many").unwrap();
        for number in 0..40 {
            request = request.header(format!("x-{number}"), "v");
        }
        let request = request.body(empty()).unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(answer.status, 431, "{protocol:?}");
        let labels = [("reason", "head_too_large")];
        // Over HTTP/2, a head with too many bytes never becomes a request that could be counted.
        let refused = f64::from(2 + number);
        scene
            .counted("postern_refusals_total", &labels, refused)
            .await;
    }
    let line = scene
        .logged_as("the refusal", |line| line["refusal"] == "head_too_large")
        .await;
    assert_eq!(
        (&line["link_id"], &line["blame"]),
        (&LINK_A.to_string().into(), &"client".into()),
        "{line}"
    );
    assert!(!scene.ingress_saw("/nonce/many"));
}
