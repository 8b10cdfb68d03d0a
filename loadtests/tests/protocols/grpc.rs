//! gRPC: streams both ways at once, and a status that comes last.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use postern_loadtests::stack::client::{Answer, BodyError, Connection, Protocol, full, streaming};
use postern_loadtests::stack::ingress::IngressKind;
use serde_json::json;

use crate::common::{Stack, Way, grown};

const WAYS: [Way; 2] = [
    Way::new(IngressKind::Nginx, "auto"),
    Way::new(IngressKind::Envoy, "auto"),
];

fn call(connection: &Connection, path: &str) -> http::request::Builder {
    connection
        .request(Method::POST, path)
        .unwrap()
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

async fn next(body: &mut Incoming) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn a_call_ends_with_its_status_in_trailers() {
    for way in WAYS {
        let stack = Stack::start(way).await;
        let mut connection = stack.connect(Protocol::Http2).await;
        let request = call(&connection, "/grpc/unary")
            .body(full("message"))
            .unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "message")
        );
        assert_eq!(answer.header("content-type"), "application/grpc");
        assert_eq!(answer.trailers["grpc-status"], "0", "{way:?}");
        assert_eq!(answer.trailers["x-bytes"], "7");
        let seen = stack.saw("/grpc/unary").await;
        assert_eq!(seen.header("te"), ["trailers"], "{way:?}");
        let expected =
            json!({ "status": 200, "ending": "complete", "upstream_protocol": "HTTP/2.0" });
        stack.told("/grpc/unary", &expected).await;
    }
}

#[tokio::test]
async fn both_sides_of_a_call_speak_in_turn() {
    for way in WAYS {
        let stack = Stack::start(way).await;
        let mut connection = stack.connect(Protocol::Http2).await;
        let (mut sender, body) = Channel::<Bytes>::new(1);
        sender.send_data(Bytes::from("0")).await.unwrap();
        let request = call(&connection, "/grpc/both")
            .body(streaming(body))
            .unwrap();
        let mut response = connection.send(request).await.unwrap();
        for turn in 1..100 {
            assert_eq!(
                next(response.body_mut()).await,
                (turn - 1).to_string(),
                "{way:?}"
            );
            sender
                .send_data(Bytes::from(turn.to_string()))
                .await
                .unwrap();
        }
        drop(sender);
        let answer = Answer::read(response).await.unwrap();
        assert_eq!(answer.text(), "99");
        assert_eq!(answer.trailers["grpc-status"], "0");
    }
}

#[tokio::test]
async fn an_error_that_is_headers_only_passes() {
    for way in WAYS {
        let stack = Stack::start(way).await;
        let mut connection = stack.connect(Protocol::Http2).await;
        let request = call(&connection, "/grpc/error")
            .body(full("message"))
            .unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(answer.header("grpc-status"), "5", "{way:?} {answer:?}");
        assert_eq!(answer.header("grpc-message"), "no such study");
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn a_call_that_the_client_cancels_is_cancelled_at_the_back_end() {
    for way in WAYS {
        let stack = Stack::start(way).await;
        let before = stack.metrics().await;
        let mut connection = stack.connect(Protocol::Http2).await;
        let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
        sender.send_data(Bytes::from("first")).await.unwrap();
        let request = call(&connection, "/grpc/cancelled")
            .body(streaming(body))
            .unwrap();
        let mut response = connection.send(request).await.unwrap();
        assert_eq!(next(response.body_mut()).await, "first");
        // Dropping both halves resets the stream; the connection lives on.
        drop(response);
        sender.abort("cancelled on purpose".into());
        let seen = stack.echo.saw("the call broken off", |seen| {
            seen.uri == "/grpc/cancelled" && seen.broken
        });
        assert!(!seen.await.unwrap().complete);
        let expected = json!({ "status": 200, "ending": "client_broke" });
        stack.told("/grpc/cancelled", &expected).await;
        assert_eq!(
            connection.get("/nonce/alive").await.unwrap().text(),
            "alive"
        );
        let after = stack.metrics().await;
        let accepted = grown(&before, &after, "postern_connections_accepted_total", &[]);
        assert_eq!(accepted, 1, "cancelling a call costs no connection");
    }
}
