//! Bodies of any size, both ways, however slow either side is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use postern_loadtests::stack::client::{Connection, Protocol, RequestBody, streaming};
use postern_loadtests::stack::echo::continues_pattern;
use postern_loadtests::stack::nginx::pattern;
use serde_json::json;

use crate::common::{Direct, Stack, Way, stalled};

/// Twice what a DICOM multi-frame instance usually has.
const LARGE: u64 = 128 * 1024 * 1024;
// Limit: sockets on the loopback interface take up to some megabytes each, and there are three in the path.
const IN_FLIGHT_MAX: u64 = LARGE / 2;
// Limit: what Postern may hold of one transfer: windows and buffers of both sides, far from its size.
const RESIDENT_GROWTH_MAX: u64 = 32 * 1024 * 1024;

/// A body of `length` bytes of the pattern, and how much of it was taken so far.
fn upload(length: u64) -> (RequestBody, Arc<AtomicU64>) {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let sent = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&sent);
    tokio::spawn(async move {
        // A whole number of the pattern's periods, so that each piece continues the one before.
        let piece = Bytes::from(pattern(251 * 64));
        let mut left = length;
        while left > 0 {
            let next = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            if sender.send_data(piece.slice(..next)).await.is_err() {
                return;
            }
            left -= next as u64;
            told.fetch_add(next as u64, Ordering::Relaxed);
        }
    });
    (streaming(body), sent)
}

/// Reads the pattern to its end and gives its length.
async fn download(mut body: Incoming) -> u64 {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(
            continues_pattern(length, &data),
            "another byte after {length}"
        );
        length += data.len() as u64;
    }
    length
}

async fn post(connection: &mut Connection, path: &str, body: RequestBody) -> serde_json::Value {
    let request = connection.request(Method::POST, path).unwrap();
    connection
        .fetch(request.body(body).unwrap())
        .await
        .unwrap()
        .json()
}

#[tokio::test]
async fn a_large_upload_waits_for_a_slow_ingress_and_costs_no_memory() {
    for way in Way::ALL {
        for protocol in Protocol::ALL {
            let mut stack = Stack::start(way).await;
            let mut connection = stack.connect(protocol).await;
            post(&mut connection, "/sink/warm", upload(1_000_000).0).await;
            let before = stack.front().resident();

            let (body, sent) = upload(LARGE);
            let answer = tokio::spawn(async move { post(&mut connection, "/gate", body).await });
            let held = stalled(|| sent.load(Ordering::Relaxed)).await;
            assert!(
                held < IN_FLIGHT_MAX,
                "{way:?} {protocol:?}: {held} bytes are on their way"
            );
            stack.echo.open_gate();
            let expected = json!({ "bytes": LARGE, "complete": true, "pattern": true });
            assert_eq!(answer.await.unwrap(), expected, "{way:?} {protocol:?}");

            let growth = stack.front().resident_peak().saturating_sub(before);
            assert!(
                growth < RESIDENT_GROWTH_MAX,
                "{way:?} {protocol:?}: {growth} bytes"
            );
            let expected = json!({ "status": 200, "request_bytes": LARGE, "ending": "complete" });
            stack.told("/gate", &expected).await;
        }
    }
}

#[tokio::test]
async fn a_large_download_waits_for_a_slow_client_and_costs_no_memory() {
    for way in Way::ALL {
        for protocol in Protocol::ALL {
            let mut stack = Stack::start(way).await;
            let mut connection = stack.connect(protocol).await;
            connection.get("/generate/1000000").await.unwrap();
            let before = stack.front().resident();

            let path = format!("/pour/{LARGE}");
            let request = connection.request(Method::GET, &path).unwrap();
            let request = request
                .body(postern_loadtests::stack::client::empty())
                .unwrap();
            let response = connection.send(request).await.unwrap();
            let poured = || stack.echo.seen().last().map_or(0, |seen| seen.poured_bytes);
            let held = stalled(poured).await;
            assert!(
                held < IN_FLIGHT_MAX,
                "{way:?} {protocol:?}: {held} bytes are on their way"
            );
            assert_eq!(
                download(response.into_body()).await,
                LARGE,
                "{way:?} {protocol:?}"
            );

            let growth = stack.front().resident_peak().saturating_sub(before);
            assert!(
                growth < RESIDENT_GROWTH_MAX,
                "{way:?} {protocol:?}: {growth} bytes"
            );
            let expected = json!({ "status": 200, "response_bytes": LARGE, "ending": "complete" });
            stack.told(&path, &expected).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_early_reaches_the_client_while_it_still_sends() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/status/413/{}", protocol.label());
            let (mut sender, body) = Channel::<Bytes>::new(1);
            sender.send_data(Bytes::from("first")).await.unwrap();
            let request = connection.request(Method::POST, &path).unwrap();
            // The body has no end as long as `sender` lives.
            let answer = connection
                .fetch(request.body(streaming(body)).unwrap())
                .await;
            let answer =
                answer.unwrap_or_else(|error| panic!("{upstream:?} {protocol:?}: {error:?}"));
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
            drop(sender);
            let expected = json!({ "status": 413, "ending": "complete" });
            let line = stack.told(&path, &expected).await;
            assert!(line.get("refusal").is_none(), "{line}");
            // Whatever became of the connection to the ingress, the next request is served.
            let mut other = stack.connect(protocol).await;
            assert_eq!(other.get("/next").await.unwrap().status, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn clients_that_do_not_read_hold_back_nobody_else() {
    // Limit: more than the streams of one connection to the ingress, on each of the worker threads.
    const STUCK: usize = 60;
    let stack = Direct::start(Protocol::Http2).await;
    let mut stuck = Vec::new();
    for n in 0..STUCK {
        let mut connection = stack.connect(Protocol::ALL[n % 2]).await;
        let request = connection.request(Method::GET, "/pour/100000000").unwrap();
        let request = request
            .body(postern_loadtests::stack::client::empty())
            .unwrap();
        let response = connection.send(request).await.unwrap();
        stuck.push((connection, response));
    }
    stalled(|| stack.echo.seen().iter().map(|seen| seen.poured_bytes).sum()).await;
    for n in 0..8 {
        let mut connection = stack.connect(Protocol::ALL[n % 2]).await;
        let answer =
            tokio::time::timeout(Duration::from_secs(5), connection.get("/generate/5000000"));
        let answer = answer.await.expect("held back by others").unwrap();
        assert_eq!(answer.body.len(), 5_000_000);
    }
}

#[tokio::test]
async fn an_upload_that_goes_on_may_take_longer_than_an_answer_may() {
    for upstream in Protocol::ALL {
        let options = |options: postern_loadtests::stack::postern::PosternOptions| {
            options.with("POSTERN_UPSTREAM__RESPONSE_TIMEOUT", "1s")
        };
        let stack = Direct::with(upstream, options).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let (mut sender, body) = Channel::<Bytes>::new(1);
            tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(100));
                for _ in 0..25 {
                    pace.tick().await;
                    if sender.send_data(Bytes::from("piece")).await.is_err() {
                        return;
                    }
                }
            });
            let path = format!("/sink/paced-{}", protocol.label());
            let answer = post(&mut connection, &path, streaming(body)).await;
            assert_eq!(answer["bytes"], 125, "{upstream:?} {protocol:?} {answer}");
            stack
                .told(&path, &json!({ "status": 200, "request_bytes": 125 }))
                .await;
        }
    }
}
