//! HTTP/2 clients that make work instead of requests: what they can make us do is bounded.

use std::time::{Duration, Instant};

use http::Request;
use postern_loadtests::stack::accounts::HOST_A;
use postern_loadtests::stack::client::{Protocol, STEP_TIMEOUT};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{Direct, grown};

// Limit: what one connection may make the process hold; a debug build on a warm heap.
const RESIDENT_GROWTH_MAX: u64 = 24 * 1024 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a GET for `/flood` in HPACK: indexed fields, and literals without Huffman coding.
fn head() -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    let literal = |block: &mut Vec<u8>, index: u8, value: &str| {
        block.push(index);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    };
    literal(&mut block, 0x04, "/flood");
    literal(&mut block, 0x01, HOST_A);
    block
}

/// Writes `bytes` again and again until the server ends the connection, at most `most` times. Gives how often.
async fn pour(stack: &Direct, start: &[u8], most: usize, next: impl Fn(usize) -> Vec<u8>) -> usize {
    let stream = stack.secure(Protocol::Http2).await;
    let (mut read, mut write) = tokio::io::split(stream);
    // The server's frames are read, so that it is not our silence that stops it.
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while matches!(read.read(&mut buffer).await, Ok(1..)) {}
    });
    write.write_all(PREFACE).await.unwrap();
    write.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    write.write_all(start).await.unwrap();
    let mut poured = 0;
    let end = Instant::now() + STEP_TIMEOUT;
    while poured < most && Instant::now() < end {
        let batch: Vec<u8> = (poured..poured + 100).flat_map(&next).collect();
        if write.write_all(&batch).await.is_err() || write.flush().await.is_err() {
            break;
        }
        poured += 100;
        if reader.is_finished() {
            break;
        }
    }
    let _ = tokio::time::timeout(STEP_TIMEOUT, write.shutdown()).await;
    reader.abort();
    poured
}

/// Checks that others are served, and that the process did not grow.
async fn sound(stack: &mut Direct, before: u64, flood: &str) {
    let mut connection = stack.connect(Protocol::Http2).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), connection.get("/others"));
    assert_eq!(
        answer.await.unwrap().unwrap().status.as_u16(),
        200,
        "{flood}"
    );
    let growth = stack.front().resident_peak().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_MAX, "{flood}: {growth} bytes");
}

async fn warm(upstream: Protocol) -> (Direct, u64) {
    let mut stack = Direct::start(upstream).await;
    for protocol in Protocol::ALL {
        stack
            .connect(protocol)
            .await
            .get("/generate/1000000")
            .await
            .unwrap();
    }
    let before = stack.front().resident();
    (stack, before)
}

#[tokio::test]
async fn streams_that_are_reset_as_soon_as_they_are_opened_are_bounded() {
    // CVE-2023-44487, rapid reset.
    const FLOOD: u32 = 20_000;
    for upstream in Protocol::ALL {
        let (mut stack, before) = warm(upstream).await;
        let (mut client, driver) = h2::client::handshake(stack.secure(Protocol::Http2).await)
            .await
            .unwrap();
        let driver = tokio::spawn(driver);
        let mut opened = 0;
        while opened < FLOOD {
            let Ok(ready) = client.ready().await else {
                break;
            };
            client = ready;
            let request = Request::get(format!("https://{HOST_A}/slow/60000"))
                .body(())
                .unwrap();
            let Ok((_, mut stream)) = client.send_request(request, false) else {
                break;
            };
            stream.send_reset(h2::Reason::CANCEL);
            opened += 1;
            if opened % 50 == 0 {
                // The frames go out while this task waits.
                tokio::task::yield_now().await;
            }
        }
        sound(&mut stack, before, "rapid reset").await;
        driver.abort();
        let reached = stack
            .echo
            .seen()
            .iter()
            .filter(|seen| seen.uri == "/slow/60000")
            .count();
        assert!(
            reached < 2000,
            "{upstream:?}: {reached} of {opened} reached the ingress"
        );
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_bounded() {
    // The CONTINUATION flood of 2024.
    let (mut stack, before) = warm(Protocol::Http2).await;
    let start = frame(HEADERS, END_STREAM, 1, &head());
    // A literal field without indexing: "a: " and 8 KiB.
    let mut field = vec![0x00, 0x01, b'a', 0x7f];
    field.extend([0x81, 0x3f]);
    field.extend(vec![b'x'; 127 + 1 + (0x3f << 7)]);
    let poured = pour(&stack, &start, 100_000, |_| {
        frame(CONTINUATION, 0, 1, &field)
    })
    .await;
    assert!(poured < 100_000, "{poured} frames were taken");
    assert!(!stack.echo.seen().iter().any(|seen| seen.uri == "/flood"));
    sound(&mut stack, before, "CONTINUATION").await;
}

#[tokio::test]
async fn frames_that_cost_the_sender_nothing_are_bounded() {
    // RUSTSEC-2026-0258 (empty DATA), and the PING and SETTINGS floods of 2019.
    let (mut stack, before) = warm(Protocol::Http2).await;
    let open = frame(HEADERS, END_HEADERS, 1, &head());
    let floods: [(&str, &[u8], Vec<u8>); 4] = [
        ("empty DATA", &open, frame(DATA, 0, 1, &[])),
        ("PING", &[], frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", &[], frame(SETTINGS, 0, 0, &[])),
        (
            "WINDOW_UPDATE",
            &open,
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ),
    ];
    for (flood, start, bytes) in floods {
        pour(&stack, start, 200_000, |_| bytes.clone()).await;
        sound(&mut stack, before, flood).await;
    }
}

#[tokio::test]
async fn streams_that_the_client_makes_us_reset_are_bounded() {
    // CVE-2025-8671, MadeYouReset: a zero WINDOW_UPDATE is an error of the stream, which the server resets.
    let (mut stack, before) = warm(Protocol::Http2).await;
    let counts = stack.metrics().await;
    let most = 50_000;
    let poured = pour(&stack, &[], most, |n| {
        let stream = u32::try_from(2 * n + 1).unwrap();
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head());
        bytes.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
        bytes
    })
    .await;
    sound(&mut stack, before, "MadeYouReset").await;
    let reached = stack
        .echo
        .seen()
        .iter()
        .filter(|seen| seen.uri == "/flood")
        .count();
    assert!(reached < 4000, "{reached} of {poured} reached the ingress");
    let after = stack.metrics().await;
    assert!(poured < most, "it is never cut off");
    let ended = grown(
        &counts,
        &after,
        "postern_connections_total",
        &[("blame", "client")],
    );
    assert_eq!(ended, 1, "{:?}", stack.postern.access_log().all().last());
    stack.told("/others", &json!({ "status": 200 })).await;
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused_and_the_others_served() {
    let (mut stack, before) = warm(Protocol::Http2).await;
    let open = |n: usize| {
        let stream = u32::try_from(2 * n + 1).unwrap();
        // Without END_STREAM: each waits for its body.
        frame(HEADERS, END_HEADERS, stream, &head())
    };
    pour(&stack, &[], 2000, open).await;
    let reached = stack
        .echo
        .seen()
        .iter()
        .filter(|seen| seen.uri == "/flood")
        .count();
    assert!(reached <= 300, "{reached} streams at once");
    sound(&mut stack, before, "streams").await;
}
