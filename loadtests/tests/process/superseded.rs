//! Connections to the ingress whose credentials were replaced: idle ones close, busy ones finish, and what never
//! finishes is cut when its time is over.

use http::Method;
use http_body_util::BodyExt as _;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, empty};
use tokio::task::JoinHandle;

use crate::scene::{Scene, says_back, until};

const OPEN: &str = "postern_upstream_connections";
const PREVIOUS: [(&str, &str); 1] = [("generation", "previous")];

/// Replaces our client certificate, and waits until the new one is in use.
async fn replace(scene: &Scene) {
    let next = scene
        .stack
        .credentials
        .internal
        .client("next.internal.example");
    next.unwrap()
        .write_to(&scene.stack.credentials.client)
        .unwrap();
    scene
        .counted("postern_credential_generation", &[], 2.0)
        .await;
}

/// A slow answer that has begun; tells whether it came to its end.
async fn begin(scene: &Scene, protocol: Protocol, path: &str) -> JoinHandle<bool> {
    let mut connection: Connection = scene.connect(LINK_A, HOST_A, protocol).await;
    let request = connection.request(Method::GET, path).unwrap();
    let mut answer = connection
        .send(request.body(empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.frame().await.unwrap().is_ok());
    tokio::spawn(async move {
        let _open = connection;
        answer.into_body().collect().await.is_ok()
    })
}

async fn none_is_left(scene: &Scene) {
    until("the end of the previous generation", async || {
        scene.metric_is(OPEN, &PREVIOUS, 0.0).await
    })
    .await;
}

#[tokio::test]
async fn what_is_busy_finishes_and_then_nothing_of_the_previous_generation_is_left() {
    let scene = Scene::start(&[]).await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/idle").await, 200);
    let answers = [
        begin(&scene, Protocol::Http1, "/drip/40/100").await,
        begin(&scene, Protocol::Http2, "/drip/41/100").await,
    ];
    let (mut socket, connection) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    replace(&scene).await;
    scene.counted(OPEN, &PREVIOUS, 1.0).await;
    for answer in answers {
        assert!(answer.await.unwrap(), "an answer that had begun was cut");
    }
    // The WebSocket is the last, and nothing ends it but itself.
    until("the end of all but the WebSocket", async || {
        scene.metric_is(OPEN, &PREVIOUS, 1.0).await
    })
    .await;
    assert!(says_back(&mut socket, "still here").await);
    drop((socket, connection));
    none_is_left(&scene).await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/after").await, 200);
    let seen = scene
        .stack
        .ingress
        .saw("the new one", |line| line["uri"] == "/nonce/after");
    let seen = seen.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(seen["client_dn"], "CN=next.internal.example");
}

#[tokio::test]
async fn what_never_finishes_is_cut_when_its_time_is_over() {
    let scene = Scene::start(&[("POSTERN_UPSTREAM__SUPERSEDED_TIMEOUT", "2s")]).await;
    let answers = [
        begin(&scene, Protocol::Http1, "/drip/100000/50").await,
        begin(&scene, Protocol::Http2, "/drip/100001/50").await,
    ];
    let mut sockets = Vec::new();
    for protocol in Protocol::ALL {
        sockets.push(scene.web_socket(LINK_A, HOST_A, protocol).await);
    }
    // Nobody reads on here, so that nothing moves on the connection that it comes by.
    let mut stalled = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let request = stalled.request(Method::GET, "/pour/200000000").unwrap();
    let unread = stalled.send(request.body(empty()).unwrap()).await.unwrap();
    replace(&scene).await;
    let said = scene.said("connections to the ingress are cut").await;
    assert!(said["connections"].as_u64().unwrap() > 0, "{said}");
    none_is_left(&scene).await;
    assert!(unread.into_body().collect().await.is_err());
    for answer in answers {
        assert!(!answer.await.unwrap(), "an answer that was cut looks whole");
    }
    for (mut socket, _connection) in sockets {
        assert!(!says_back(&mut socket, "gone").await);
    }
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/after").await, 200);
}
