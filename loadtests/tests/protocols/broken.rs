//! Exchanges that break in the middle: whoever is left learns of it, and is never told that all is well.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use postern_loadtests::stack::client::{BodyError, Connection, Protocol, empty, streaming};
use postern_loadtests::stack::metrics::Metrics;
use serde_json::json;

use crate::common::{Played, Stack, Way, grown};

fn ended(before: &Metrics, after: &Metrics, protocol: Protocol, status: &str) -> u64 {
    let labels = [("protocol", protocol.label()), ("status", status)];
    grown(before, after, "postern_requests_total", &labels)
}

#[tokio::test]
async fn an_upload_that_the_client_breaks_off_breaks_off_at_the_ingress() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let before = stack.metrics().await;
            let mut connection = stack.connect(protocol).await;
            let path = format!("/sink/broken-{}", protocol.label());
            let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
            let request = connection.request(Method::POST, &path).unwrap();
            let request = request.body(streaming(body)).unwrap();
            let exchange = tokio::spawn(async move {
                let outcome = connection.send(request).await;
                (connection, outcome)
            });
            sender
                .send_data(Bytes::from(vec![0; 100_000]))
                .await
                .unwrap();
            let arrived = stack.echo.saw("the first of the upload", |seen| {
                seen.uri == path && seen.body_bytes > 0
            });
            arrived.await.unwrap();
            // The client's library breaks the connection, or resets the stream, when its body breaks.
            sender.abort("broken off on purpose".into());
            let seen = stack.echo.saw("the end of the upload", |seen| {
                seen.uri == path && seen.broken
            });
            let seen = seen
                .await
                .unwrap_or_else(|error| panic!("{way:?} {protocol:?}: {error}"));
            assert!(!seen.complete, "{way:?} {protocol:?}");
            let (_, outcome) = exchange.await.unwrap();
            assert!(outcome.is_err());
            let line = stack
                .told(&path, &json!({ "ending": "client_broke" }))
                .await;
            assert_ne!(line["blame"], "upstream", "{line}");
            let after = stack.metrics().await;
            assert_eq!(ended(&before, &after, protocol, "5xx"), 0, "{way:?} {line}");
            let labels = [("reason", "upstream_broke")];
            assert_eq!(grown(&before, &after, "postern_refusals_total", &labels), 0);
        }
    }
}

#[tokio::test]
async fn a_download_that_the_client_breaks_off_breaks_off_at_the_ingress() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/pour/10000000000/{}", protocol.label());
            let request = connection.request(Method::GET, &path).unwrap();
            let mut response = connection
                .send(request.body(empty()).unwrap())
                .await
                .unwrap();
            response.body_mut().frame().await.unwrap().unwrap();
            connection.abort();
            drop(response);
            let seen = stack.echo.saw("the answer abandoned", |seen| {
                seen.uri == path && seen.abandoned
            });
            seen.await
                .unwrap_or_else(|error| panic!("{way:?} {protocol:?}: {error}"));
            stack
                .told(&path, &json!({ "status": 200, "ending": "client_broke" }))
                .await;
        }
    }
}

/// Whether an answer that breaks off looked whole. Its head may not come at all, if it breaks right behind it.
async fn looks_whole(connection: &mut Connection, path: &str) -> bool {
    let request = connection.request(Method::GET, path).unwrap();
    match connection.send(request.body(empty()).unwrap()).await {
        Err(_) => false,
        Ok(response) => {
            assert_eq!(response.status().as_u16(), 200);
            response.into_body().collect().await.is_ok()
        }
    }
}

#[tokio::test]
async fn an_answer_that_the_ingress_breaks_off_never_looks_whole() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/break/{}", protocol.label());
            let whole = looks_whole(&mut connection, &path).await;
            assert!(!whole, "{way:?} {protocol:?}");
            let expected = json!({ "status": 200, "ending": "upstream_broke" });
            stack.told(&path, &expected).await;
        }
    }
}

#[tokio::test]
async fn an_answer_in_chunks_or_without_a_length_that_is_cut_never_looks_whole() {
    let mut stack = Played::start().await;
    for protocol in Protocol::ALL {
        for (name, head) in [
            (
                "chunked",
                "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
            ),
            (
                "in-a-chunk",
                "Transfer-Encoding: chunked\r\n\r\nff\r\n0123456789",
            ),
            ("sized", "Content-Length: 1000\r\n\r\n0123456789"),
            // Without a length, only the end of the TLS connection says that the answer is whole.
            ("endless", "\r\n0123456789"),
        ] {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/cut/{name}/{}", protocol.label());
            let asked = path.clone();
            let outcome = tokio::spawn(async move { looks_whole(&mut connection, &asked).await });
            let mut ingress = stack.ingress.next().await.unwrap();
            ingress.head().await.unwrap();
            ingress
                .send(format!("HTTP/1.1 200 OK\r\n{head}"))
                .await
                .unwrap();
            // No close_notify: the TCP connection just ends.
            drop(ingress);
            assert!(!outcome.await.unwrap(), "{name} {protocol:?}");
            let expected = json!({ "status": 200, "ending": "upstream_broke" });
            stack.told(&path, &expected).await;
        }
    }
}

#[tokio::test]
async fn an_answer_whose_end_is_the_end_of_the_connection_passes_whole() {
    let mut stack = Played::start().await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let answer = tokio::spawn(async move { connection.get("/until-close").await });
        let mut ingress = stack.ingress.next().await.unwrap();
        ingress.head().await.unwrap();
        ingress
            .send("HTTP/1.0 200 OK\r\n\r\n0123456789")
            .await
            .unwrap();
        ingress.finish().await.unwrap();
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "0123456789")
        );
    }
}
