//! Requests and answers of each shape, over each pair of protocols.

use http::{Method, StatusCode, Version};
use postern_loadtests::stack::accounts::{HOST_A, HOST_B};
use postern_loadtests::stack::client::{Connection, Protocol, empty, full, streaming};
use postern_loadtests::stack::wire::Wire;
use serde_json::json;

use crate::common::{Direct, Front, Played, Stack, Way, grown, logged};

/// Content that is longer than what one frame or buffer takes.
fn content() -> Vec<u8> {
    postern_loadtests::stack::nginx::pattern(300_000)
}

#[tokio::test]
async fn every_way_carries_get_head_and_posts_with_and_without_a_length() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let before = stack.metrics().await;
            let mut connection = stack.connect(protocol).await;
            get(&stack, &mut connection, way, protocol).await;
            head(&stack, &mut connection, way, protocol).await;
            for chunked in [false, true] {
                post(&stack, &mut connection, protocol, chunked).await;
            }
            let after = stack.metrics().await;
            let labels = [("protocol", protocol.label()), ("status", "2xx")];
            let requests = grown(&before, &after, "postern_requests_total", &labels);
            assert_eq!(requests, 4, "{way:?} {protocol:?}");
            let bytes = grown(&before, &after, "postern_request_body_bytes_total", &[]);
            assert_eq!(bytes, 600_000, "{way:?} {protocol:?}");
        }
    }
}

async fn get(stack: &Stack, connection: &mut Connection, way: Way, protocol: Protocol) {
    let path = format!("/get-{}", protocol.label());
    let answer = connection.get(&format!("{path}?a=b")).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{way:?} {protocol:?}");
    let version = match protocol {
        Protocol::Http1 => Version::HTTP_11,
        Protocol::Http2 => Version::HTTP_2,
    };
    assert_eq!(answer.version, version);
    let seen = stack.saw(&format!("{path}?a=b")).await;
    assert_eq!((seen.method.as_str(), seen.body_bytes), ("GET", 0));
    assert_eq!(seen.header("host"), [HOST_A]);
    let line = stack
        .told(
            &path,
            &json!({
                "method": "GET", "status": 200, "ending": "complete", "protocol": logged(protocol),
                "upstream_protocol": way.logged(), "request_bytes": 0, "authority": HOST_A, "account": "hospital-a",
                "response_bytes": answer.body.len(), "request_id": answer.header("x-request-id"),
            }),
        )
        .await;
    assert!(!line.to_string().contains("a=b"), "{line}");
}

async fn head(stack: &Stack, connection: &mut Connection, way: Way, protocol: Protocol) {
    let path = "/generate/1000";
    let request = connection.request(Method::HEAD, path).unwrap();
    let answer = connection
        .fetch(request.body(empty()).unwrap())
        .await
        .unwrap();
    let shown = format!("{way:?} {protocol:?} {answer:?}");
    assert_eq!(answer.status, StatusCode::OK, "{shown}");
    assert_eq!(answer.header("content-length"), "1000", "{shown}");
    assert!(answer.body.is_empty(), "{shown}");
    let expected =
        json!({ "method": "HEAD", "status": 200, "response_bytes": 0, "ending": "complete" });
    stack.told(path, &expected).await;
}

async fn post(stack: &Stack, connection: &mut Connection, protocol: Protocol, chunked: bool) {
    let path = format!("/sink/{}-{chunked}", protocol.label());
    let request = connection.request(Method::POST, &path).unwrap();
    let body = if chunked {
        let pieces = content();
        let (mut sender, body) = http_body_util::channel::Channel::<bytes::Bytes>::new(2);
        tokio::spawn(async move {
            for piece in pieces.chunks(70_000) {
                sender.send_data(piece.to_vec().into()).await.unwrap();
            }
        });
        streaming(body)
    } else {
        full(content())
    };
    let answer = connection.fetch(request.body(body).unwrap()).await.unwrap();
    assert_eq!(
        answer.json(),
        json!({ "bytes": 300_000, "complete": true, "pattern": true }),
        "{path}"
    );
    let seen = stack.saw(&path).await;
    // With HTTP/2 in the path, Content-Length may come and go; where the client gave it, it is right.
    let lengths = seen.header("content-length");
    assert!(lengths.is_empty() || lengths == ["300000"], "{lengths:?}");
    assert!(chunked || lengths == ["300000"], "{lengths:?}");
    let expected = json!({ "method": "POST", "status": 200, "request_bytes": 300_000 });
    stack.told(&path, &expected).await;
}

#[tokio::test]
async fn answers_without_a_body_and_redirects_pass_as_they_are() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            for (status, length) in [(204, ""), (304, ""), (404, "0"), (503, "0")] {
                let path = format!("/status/{status}/{}", protocol.label());
                let answer = connection.get(&path).await.unwrap();
                assert_eq!(answer.status.as_u16(), status, "{upstream:?} {protocol:?}");
                assert!(answer.body.is_empty());
                if length.is_empty() {
                    assert!(!answer.headers.contains_key("content-length"), "{answer:?}");
                }
                let expected = json!({ "status": status, "ending": "complete" });
                let line = stack.told(&path, &expected).await;
                // What the ingress answers is not our refusal, whatever its status.
                assert!(line.get("refusal").is_none(), "{line}");
            }
            let answer = connection.get("/redirect").await.unwrap();
            assert_eq!(answer.status, StatusCode::FOUND);
            let location = "http://elsewhere.example/a%20b?c=d#e";
            assert_eq!(answer.header("location"), location);
        }
    }
}

#[tokio::test]
async fn a_not_modified_answer_has_no_length_but_that_of_what_it_stands_for() {
    let mut stack = Played::start().await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let request = connection.request(Method::GET, "/cached").unwrap();
        let request = request
            .header("if-none-match", "\"v1\"")
            .body(empty())
            .unwrap();
        let answer = tokio::spawn(async move { connection.fetch(request).await });
        let mut ingress = stack.ingress.next().await.unwrap();
        assert_eq!(
            ingress.head().await.unwrap().field("if-none-match"),
            "\"v1\""
        );
        ingress
            .send("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nContent-Length: 1234\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
        assert_eq!(answer.header("etag"), "\"v1\"");
        // It may be left out (RFC 9110 section 8.6), but not be another one.
        assert!(
            ["", "1234"].contains(&answer.header("content-length")),
            "{protocol:?}"
        );
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn informational_answers_do_not_stand_for_the_answer() {
    let mut stack = Played::start().await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let answer = tokio::spawn(async move { connection.get("/hints").await });
        let mut ingress = stack.ingress.next().await.unwrap();
        ingress.head().await.unwrap();
        ingress
            .send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nreal",
            )
            .await
            .unwrap();
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "real")
        );
    }
}

#[tokio::test]
async fn a_large_head_passes_and_one_over_the_bound_gets_431() {
    let stack = Direct::start(Protocol::Http1).await;
    let before = stack.metrics().await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let path = format!("/large/{}", protocol.label());
        let value = "v".repeat(40_000);
        let request = connection.request(Method::GET, &path).unwrap();
        let request = request.header("x-large", &value).body(empty()).unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{protocol:?}");
        assert_eq!(stack.saw(&path).await.header("x-large"), [value.as_str()]);

        let request = connection.request(Method::GET, "/too-large").unwrap();
        let request = request
            .header("x-large", "v".repeat(70_000))
            .body(empty())
            .unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(answer.status.as_u16(), 431, "{protocol:?}");
    }
    let fields = "X-Many: v\r\n".repeat(200);
    let request = format!("GET /too-large HTTP/1.1\r\nHost: {HOST_A}\r\n{fields}\r\n");
    let mut wire = stack.wire().await;
    wire.send(request).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().head.status(), 431);
    assert!(wire.rest().await.unwrap().is_empty());
    assert!(
        !stack
            .echo
            .seen()
            .iter()
            .any(|seen| seen.uri == "/too-large")
    );
    // hyper answers such a head before there is a request: the connection tells.
    let expected = |line: &serde_json::Value| line["refusal"] == "head_too_large";
    let line = stack.postern.logged("431", expected).await.unwrap();
    assert_eq!(
        (&line["kind"], &line["blame"]),
        (&json!("connection"), &json!("client"))
    );
    let (name, labels) = (
        "postern_refusals_total",
        [("reason", "head_too_large"), ("blame", "client")],
    );
    // A connection is counted a moment after its client saw the end of it.
    let both = before.sum(name, &labels) + 2.0;
    stack.postern.counted(name, &labels, both).await.unwrap();
    let after = stack.metrics().await;
    assert_eq!(grown(&before, &after, name, &labels), 2);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        let mut wire = stack.wire().await;
        let request = |n| format!("GET /nonce/{n} HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n");
        let requests: Vec<_> = (0..20).map(request).collect();
        wire.send(requests.concat()).await.unwrap();
        for n in 0..20 {
            let answer = wire.answer().await.unwrap();
            assert_eq!(answer.body, n.to_string().into_bytes(), "{way:?}");
        }
        wire.send("POST /sink/1 HTTP/1.1\r\nHost: hospital-a.dicom.example\r\nContent-Length: 3\r\n\r\n012GET /nonce/after HTTP/1.1\r\nHost: hospital-a.dicom.example\r\n\r\n")
            .await
            .unwrap();
        let first = wire.answer().await.unwrap();
        assert!(
            String::from_utf8(first.body)
                .unwrap()
                .contains("\"bytes\":3")
        );
        assert_eq!(wire.answer().await.unwrap().body, b"after");
    }
}

#[tokio::test]
async fn a_connection_is_kept_unless_the_client_asks_for_its_end() {
    let stack = Direct::start(Protocol::Http2).await;
    let mut wire = stack.wire().await;
    for n in 0..3 {
        wire.send(format!("GET /kept/{n} HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
            .await
            .unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.head.status(), 200);
        assert_eq!(answer.head.field("connection"), "");
    }
    wire.send(format!(
        "GET /last HTTP/1.1\r\nHost: {HOST_A}\r\nConnection: close\r\n\r\n"
    ))
    .await
    .unwrap();
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.head.field("connection"), "close");
    assert!(wire.rest().await.unwrap().is_empty());
    stack
        .told("/last", &json!({ "status": 200, "ending": "complete" }))
        .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_a_whole_answer_without_chunks() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        let mut wire = stack.wire().await;
        wire.send(format!("GET /pour/5000 HTTP/1.0\r\nHost: {HOST_A}\r\n\r\n"))
            .await
            .unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.head.status(), 200);
        assert_eq!(answer.head.field("transfer-encoding"), "");
        assert_eq!(answer.body.len(), 5000);
        assert!(
            wire.rest().await.unwrap().is_empty(),
            "the end of the connection is the end of the answer"
        );
        let seen = stack.saw("/pour/5000").await;
        assert_ne!(
            seen.version, "HTTP/1.0",
            "what we speak to the ingress is ours"
        );
    }
}

#[tokio::test]
async fn a_client_hears_continue_only_when_its_request_is_admitted() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        let mut wire = stack.wire().await;
        expecting(&mut wire, HOST_A, "/sink/expected").await;
        let interim = wire.answer().await.unwrap();
        assert_eq!(interim.head.status(), 100, "{way:?} {interim:?}");
        wire.send("01234").await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.head.status(), 200, "{way:?}");
        let seen = stack.saw("/sink/expected").await;
        assert_eq!((seen.body_bytes, seen.complete), (5, true));
        stack
            .told(
                "/sink/expected",
                &json!({ "status": 200, "request_bytes": 5 }),
            )
            .await;

        let mut wire = stack.wire().await;
        expecting(&mut wire, HOST_B, "/sink/refused").await;
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.head.status(), 403, "{way:?} {answer:?}");
        let expected =
            json!({ "status": 403, "refusal": "host_not_permitted", "request_bytes": 0 });
        stack.told("/sink/refused", &expected).await;
        assert!(!stack.arrived("/sink/refused"));
        // What was to be the body must not become a request.
        let _ = wire
            .send(format!("GET /smuggled HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
            .await;
        let _ = wire.rest().await;
        assert!(!stack.arrived("/smuggled"), "{way:?}");
    }
}

async fn expecting<S>(wire: &mut Wire<S>, host: &str, path: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    );
    wire.send(request).await.unwrap();
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer_however_much_was_still_to_come() {
    let stack = Direct::start(Protocol::Http2).await;
    for protocol in Protocol::ALL {
        for attempt in 0..10 {
            refused_upload(&stack, protocol, attempt).await;
        }
    }
    assert!(stack.echo.seen().is_empty(), "{:?}", stack.echo.seen());
}

async fn refused_upload(stack: &Front, protocol: Protocol, attempt: u32) {
    let mut connection = stack.connect(protocol).await;
    let path = format!("/refused/{}/{attempt}", protocol.label());
    let request = connection.request_for(HOST_B, Method::POST, &path).unwrap();
    let body = full(vec![0; 8 * 1024 * 1024]);
    let answer = connection.fetch(request.body(body).unwrap()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{protocol:?} {attempt}: {error:?}"));
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    stack
        .told(
            &path,
            &json!({ "status": 403, "refusal": "host_not_permitted" }),
        )
        .await;
}
