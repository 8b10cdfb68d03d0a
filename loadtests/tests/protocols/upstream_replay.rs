//! Requests with a body that the ingress says it did not process: sent once more, whole, and never twice.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::channel::Channel;
use postern_loadtests::stack::Deadline;
use postern_loadtests::stack::client::{
    Answer, BodyError, ClientError, Connection, Protocol, RequestBody, STEP_TIMEOUT, full,
    streaming,
};
use postern_loadtests::stack::nginx::pattern;
use postern_loadtests::stack::scripted::Taken;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::common::{Front, Played, Stack, grown};
use crate::upstream::{NGINX_2, nginx, restart};

/// How much the body of each request has; no two in a row are alike.
fn length(number: usize) -> usize {
    1 + number * 37 % 16 * 3000
}

async fn post(
    connection: &mut Connection,
    path: &str,
    body: RequestBody,
) -> Result<Answer, ClientError> {
    let request = connection.request(Method::POST, path)?.body(body)?;
    connection.fetch(request).await
}

/// `turns` POSTs after each other on each of 200 streams of ten connections; what failed. `done` counts them.
async fn posts(front: &Front, turns: usize, done: &Arc<AtomicUsize>) -> JoinSet<Vec<String>> {
    let mut tasks = JoinSet::new();
    for first in 0..10 {
        let connection = front.connect(Protocol::Http2).await;
        for second in 0..20 {
            let mut stream = connection.share().unwrap();
            let done = Arc::clone(done);
            tasks.spawn(async move {
                let mut failures = Vec::new();
                for turn in 0..turns {
                    let number = (first * 20 + second) * turns + turn;
                    let (path, length) = (format!("/sink/post-{number}"), length(number));
                    let answer = post(&mut stream, &path, full(pattern(length))).await;
                    let whole = json!({ "bytes": length, "complete": true, "pattern": true });
                    match answer {
                        Ok(answer) if answer.json() == whole => {}
                        Ok(answer) => failures.push(format!("{path}: {}", answer.summary())),
                        Err(error) => failures.push(format!("{path}: {error:?}")),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
    }
    tasks
}

/// Checks that each of `count` POSTs came to the back end once, and whole, and is told of once.
async fn arrived_once(stack: &Stack, count: usize) {
    let mut arrived: HashMap<String, usize> = HashMap::new();
    for seen in stack.echo.seen() {
        let Some(number) = seen.uri.strip_prefix("/sink/post-") else {
            continue;
        };
        let length = length(number.parse().unwrap()) as u64;
        assert!(seen.complete && seen.is_pattern, "{seen:?}");
        assert_eq!(seen.body_bytes, length, "{seen:?}");
        *arrived.entry(seen.uri).or_default() += 1;
    }
    assert_eq!(arrived.len(), count);
    let twice: Vec<_> = arrived.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for number in [0, count / 2, count - 1] {
        let expected =
            json!({ "status": 200, "request_bytes": length(number), "ending": "complete" });
        stack.told(&format!("/sink/post-{number}"), &expected).await;
    }
}

#[tokio::test]
async fn posts_with_bodies_survive_an_ingress_that_ends_its_connections_all_the_time() {
    let mut stack = Stack::start(NGINX_2).await;
    restart(&mut stack, NGINX_2, 20).await;
    let before = stack.metrics().await;
    let tasks = posts(&stack, 10, &Arc::default()).await;
    let failures = tasks.join_all().await.concat();
    let first = &failures[..failures.len().min(5)];
    assert!(failures.is_empty(), "{} failed: {first:#?}", failures.len());
    arrived_once(&stack, 2000).await;
    let after = stack.metrics().await;
    let retries = grown(&before, &after, "postern_upstream_retries_total", &[]);
    assert!(retries > 0, "no request met the end of its connection");
    let bytes: usize = (0..2000).map(length).sum();
    let counted = grown(&before, &after, "postern_request_body_bytes_total", &[]);
    assert_eq!(counted, bytes as u64, "each byte counts once");
}

#[tokio::test]
async fn posts_with_bodies_survive_reloads_of_the_ingress() {
    let mut stack = Stack::start(NGINX_2).await;
    let done = Arc::new(AtomicUsize::new(0));
    let tasks = posts(&stack, 20, &done).await;
    for reload in 1..=5 {
        let under_load = Deadline::after(STEP_TIMEOUT);
        let some = under_load
            .poll(async || (done.load(Ordering::Relaxed) >= reload * 500).then_some(()))
            .await;
        some.unwrap();
        nginx(&mut stack.ingress).reload().unwrap();
    }
    let failures = tasks.join_all().await.concat();
    let first = &failures[..failures.len().min(5)];
    assert!(failures.is_empty(), "{} failed: {first:#?}", failures.len());
    arrived_once(&stack, 4000).await;
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
/// SETTINGS and `WINDOW_UPDATE`: a window of 1 MiB for a stream and for the connection.
const GREETING: &[u8] = &[
    0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 16, 0, 0,
];
/// GOAWAY, `NO_ERROR`: no stream was processed.
const NONE_PROCESSED: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// GOAWAY, `NO_ERROR`: the first stream may have been processed.
const FIRST_PROCESSED: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
/// `RST_STREAM` of the first stream, `INTERNAL_ERROR`.
const FIRST_FAILED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];

/// A connection to the test's ingress that carries a request; `read` is what was read of it.
struct Asked {
    wire: Taken,
    read: Vec<u8>,
}

/// A frame's kind, flags, stream and payload.
type Piece = (u8, u8, u8, Vec<u8>);

impl Asked {
    /// The next connection that carries a request: health checks only greet.
    async fn next(stack: &mut Played) -> Self {
        let next = async {
            loop {
                let (wire, read) = (stack.ingress.next().await.unwrap(), Vec::new());
                let mut asked = Self { wire, read };
                if asked.begins().await.is_ok() {
                    return asked;
                }
            }
        };
        let next = tokio::time::timeout(STEP_TIMEOUT, next).await;
        next.unwrap_or_else(|_| panic!("no connection carries the request"))
    }

    async fn begins(&mut self) -> io::Result<()> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        self.read.extend(self.wire.exactly(PREFACE.len()).await?);
        while self.frame().await?.0 != HEADERS {}
        Ok(())
    }

    async fn frame(&mut self) -> io::Result<Piece> {
        let head = self.wire.exactly(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = self.wire.exactly(length as usize).await?;
        self.read.extend_from_slice(&head);
        self.read.extend_from_slice(&payload);
        Ok((head[3], head[4], head[8], payload))
    }

    /// Reads `most` bytes of the body of the first request, or all of it.
    async fn body(&mut self, most: usize) -> Vec<u8> {
        self.wire.send(GREETING).await.unwrap();
        let mut body = Vec::new();
        while body.len() < most {
            let (kind, flags, stream, payload) = self.frame().await.unwrap();
            if kind == DATA && stream == 1 {
                body.extend(payload);
                if flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        body
    }

    /// Serves HTTP/2 from the first byte on.
    fn serve(self, window: u32) -> Requests {
        let (sender, requests) = mpsc::channel(1);
        let read = [&self.read, self.wire.ahead()].concat();
        let (reader, writer) = tokio::io::split(self.wire.into_stream());
        let io = tokio::io::join(io::Cursor::new(read).chain(reader), writer);
        tokio::spawn(async move {
            let mut builder = Builder::new();
            builder.initial_window_size(window);
            let mut connection = builder.handshake(io).await.unwrap();
            while let Some(Ok(exchange)) = connection.accept().await {
                // The test may be over.
                let _ = sender.send(exchange).await;
            }
        });
        Requests(requests)
    }
}

type Exchange = (Request<RecvStream>, SendResponse<Bytes>);

/// The requests that come on a connection.
struct Requests(mpsc::Receiver<Exchange>);

impl Requests {
    async fn next(&mut self) -> Exchange {
        let next = tokio::time::timeout(STEP_TIMEOUT, self.0.recv());
        let next = next
            .await
            .unwrap_or_else(|_| panic!("no request on this connection"));
        next.unwrap_or_else(|| panic!("the connection has ended"))
    }
}

/// Reads a request's body to its end.
async fn read(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let whole = tokio::time::timeout(STEP_TIMEOUT, read_whole(body));
    whole
        .await
        .unwrap_or_else(|_| panic!("the body has no end"))
}

async fn read_whole(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend(data);
    }
    (bytes, body.trailers().await.unwrap())
}

fn ok(respond: &mut SendResponse<Bytes>, text: &'static str) {
    let mut body = respond.send_response(Response::new(()), false).unwrap();
    body.send_data(Bytes::from(text), true).unwrap();
}

/// A body of two pieces and a trailer; the second piece follows when it is told to.
fn in_two(piece: usize) -> (RequestBody, tokio::sync::oneshot::Sender<()>) {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
    let (go, gone) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let whole = Bytes::from(pattern(2 * piece));
        sender.send_data(whole.slice(..piece)).await.unwrap();
        gone.await.unwrap();
        sender.send_data(whole.slice(piece..)).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        sender.send_trailers(trailers).await.unwrap();
    });
    (streaming(body), go)
}

/// A client that posts `body` to `path`.
async fn client(
    stack: &Played,
    protocol: Protocol,
    path: &str,
    body: RequestBody,
) -> JoinHandle<Answer> {
    let mut connection = stack.connect(protocol).await;
    let path = path.to_owned();
    tokio::spawn(async move {
        let request = connection.request(Method::POST, &path).unwrap();
        let request = request.header("trailer", "x-checksum").body(body).unwrap();
        connection.fetch(request).await.unwrap()
    })
}

#[tokio::test]
async fn a_body_with_trailers_that_was_refused_is_sent_once_more_whole() {
    for protocol in Protocol::ALL {
        let mut stack = Played::with(Protocol::Http2, |options| options).await;
        let before = stack.metrics().await;
        let (body, go) = in_two(20_000);
        let client = client(&stack, protocol, "/refused", body).await;
        let mut requests = Asked::next(&mut stack).await.serve(65_535);
        go.send(()).unwrap();
        let mut sent = Vec::new();
        for turn in 0..2 {
            let (mut request, mut respond) = requests.next().await;
            assert_eq!(request.uri().path(), "/refused");
            sent.push(read(request.body_mut()).await);
            match turn {
                0 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                _ => ok(&mut respond, "done"),
            }
        }
        let answer = client.await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, "done".into())
        );
        assert_eq!(sent[0], sent[1], "{protocol:?}");
        let (bytes, trailers) = &sent[1];
        assert!(*bytes == pattern(40_000), "{} bytes", bytes.len());
        assert_eq!(trailers.as_ref().unwrap()["x-checksum"], "7");
        let expected = json!({ "status": 200, "request_bytes": 40_000, "ending": "complete" });
        stack.told("/refused", &expected).await;
        let after = stack.metrics().await;
        let grew = |name| grown(&before, &after, name, &[]);
        assert_eq!(grew("postern_upstream_retries_total"), 1);
        assert_eq!(grew("postern_request_body_bytes_total"), 40_000);
    }
}

#[tokio::test]
async fn a_body_that_is_still_arriving_when_it_is_refused_is_sent_once_more_whole() {
    for protocol in Protocol::ALL {
        let mut stack = Played::with(Protocol::Http2, |options| options).await;
        let (body, go) = in_two(10_000);
        let client = client(&stack, protocol, "/arriving", body).await;
        let mut ingress = Asked::next(&mut stack).await;
        assert!(ingress.body(10_000).await == pattern(10_000));
        ingress.wire.send(NONE_PROCESSED).await.unwrap();
        let mut requests = Asked::next(&mut stack).await.serve(65_535);
        let (mut request, mut respond) = requests.next().await;
        let data = request.body_mut().data().await.unwrap().unwrap();
        let first = data.len();
        go.send(()).unwrap();
        request
            .body_mut()
            .flow_control()
            .release_capacity(first)
            .unwrap();
        let (rest, trailers) = read(request.body_mut()).await;
        assert!([&data[..], &rest[..]].concat() == pattern(20_000));
        assert_eq!(trailers.unwrap()["x-checksum"], "7");
        ok(&mut respond, "done");
        assert_eq!(client.await.unwrap().text(), "done");
        let expected = json!({ "status": 200, "request_bytes": 20_000, "ending": "complete" });
        stack.told("/arriving", &expected).await;
    }
}

#[tokio::test]
async fn an_answer_that_begins_while_a_body_is_sent_once_more_costs_no_byte_of_it() {
    for protocol in Protocol::ALL {
        let mut stack = Played::with(Protocol::Http2, |options| options).await;
        let body = full(pattern(60_000));
        let client = client(&stack, protocol, "/early", body).await;
        let mut ingress = Asked::next(&mut stack).await;
        assert!(ingress.body(usize::MAX).await == pattern(60_000));
        ingress.wire.send(NONE_PROCESSED).await.unwrap();
        // Most of it waits for this window when the answer's head arrives.
        let mut requests = Asked::next(&mut stack).await.serve(1000);
        let (mut request, mut respond) = requests.next().await;
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data(Bytes::from("early"), false).unwrap();
        let (bytes, _) = read(request.body_mut()).await;
        assert!(bytes == pattern(60_000), "{} bytes", bytes.len());
        answer.send_data(Bytes::from(" and late"), true).unwrap();
        assert_eq!(client.await.unwrap().text(), "early and late");
        let expected = json!({ "status": 200, "request_bytes": 60_000, "ending": "complete" });
        stack.told("/early", &expected).await;
    }
}

/// What a POST gets if the ingress reads it to its end, says `last` and is gone.
async fn broken(protocol: Protocol, length: usize, last: &[u8]) {
    let what = format!("{protocol:?} {length} {last:?}");
    let mut stack = Played::with(Protocol::Http2, |options| options).await;
    let before = stack.metrics().await;
    let body = full(pattern(length));
    let client = client(&stack, protocol, "/once", body).await;
    let mut ingress = Asked::next(&mut stack).await;
    assert!(ingress.body(usize::MAX).await == pattern(length));
    ingress.wire.send(last).await.unwrap();
    ingress.wire.finish().await.unwrap();
    let answer = client.await.unwrap();
    assert_eq!(answer.status.as_u16(), 502, "{what}");
    assert_eq!(answer.json()["code"], "upstream_broke", "{what}");
    let expected = json!({ "status": 502, "refusal": "upstream_broke", "blame": "upstream" });
    stack.told("/once", &expected).await;
    let after = stack.metrics().await;
    let sent = grown(&before, &after, "postern_upstream_requests_total", &[]);
    assert_eq!(sent, 1, "{what}");
    let retries = grown(&before, &after, "postern_upstream_retries_total", &[]);
    assert_eq!(retries, 0, "{what}");
    let labels = [("reason", "upstream_broke"), ("blame", "upstream")];
    let refusals = grown(&before, &after, "postern_refusals_total", &labels);
    assert_eq!(refusals, 1, "{what}");
}

#[tokio::test]
async fn a_post_with_a_body_that_the_ingress_may_have_processed_is_not_sent_again_over_http2() {
    for protocol in Protocol::ALL {
        for last in [&[][..], FIRST_PROCESSED, FIRST_FAILED] {
            broken(protocol, 4, last).await;
        }
    }
}

#[tokio::test]
async fn a_body_beyond_what_is_kept_is_not_sent_again() {
    for protocol in Protocol::ALL {
        broken(protocol, 100_000, NONE_PROCESSED).await;
    }
}
