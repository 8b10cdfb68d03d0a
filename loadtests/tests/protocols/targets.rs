//! Request targets: what passes byte for byte, and what never passes.

use http::Method;
use postern_loadtests::stack::accounts::{HOST_A, HOST_B};
use postern_loadtests::stack::client::{Protocol, empty};
use serde_json::json;

use crate::common::{Direct, Stack, Way};

/// Targets that any server takes.
const PLAIN: [&str; 10] = [
    "/a%2Fb/%2e%2e/c%20d",
    "/a//b///c",
    "//a/b",
    "/~u;p=1/@:!$&'()*+,=",
    "/a?",
    "/a?b=c&&d=%26%3D&e",
    "/a?x=/?/?",
    "/%E2%82%AC?%e2%82%ac",
    "/studies/1.2.840.113619.2.55/series/1.2/instances/3.4/frames/1,2,3",
    "/Patient?name:contains=a%2Bb&_sort=-date,name",
];

/// Targets that nginx or Envoy would not forward as they are.
const ODD: [&str; 13] = [
    "/a/./b/../c",
    "/../../etc/passwd",
    "/%2e%2e%2f%00",
    "/%zz%",
    "/|",
    "/^",
    "/{}",
    "/a\\b",
    "/a?identifier=http://acme.org|12345",
    "/a?{x:`y`}^\\",
    "/[a]",
    "/?",
    "/a?%",
];

#[tokio::test]
async fn targets_reach_the_ingress_byte_for_byte() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        let mut wire = stack.wire().await;
        for target in PLAIN.iter().chain(&ODD) {
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
                .await
                .unwrap();
            let answer = wire.answer().await.unwrap();
            assert_eq!(answer.head.status(), 200, "{upstream:?} {target}");
            saw_last(&stack, target);
        }
        let mut connection = stack.connect(Protocol::Http2).await;
        for target in PLAIN.iter().chain(&ODD) {
            let answer = connection.get(target).await.unwrap();
            assert_eq!(answer.status.as_u16(), 200, "{upstream:?} {target}");
            saw_last(&stack, target);
        }
    }
}

fn saw_last(stack: &Direct, target: &str) {
    assert_eq!(stack.echo.seen().pop().unwrap().uri, target);
}

#[tokio::test]
async fn targets_reach_the_real_ingresses_byte_for_byte() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            for target in PLAIN {
                let answer = connection.get(target).await.unwrap();
                assert_eq!(answer.status.as_u16(), 200, "{way:?} {target}");
                let line = stack
                    .ingress
                    .saw(target, |line| line["uri"] == target)
                    .await
                    .unwrap();
                assert_eq!(line["host"], HOST_A);
            }
        }
    }
}

#[tokio::test]
async fn a_target_with_bytes_that_no_target_may_have_is_refused() {
    let stack = Direct::start(Protocol::Http1).await;
    for target in [
        "/<a>", "/a b", "/a?\"x\"", "/a?<b>", "/a\u{7f}", "/a\tb", "a", "*", "\\\\a",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n");
        let answer = stack.exchange(&request).await;
        assert_eq!(answer.head.status(), 400, "{target:?}");
    }
    assert!(stack.echo.seen().is_empty(), "{:?}", stack.echo.seen());
}

#[tokio::test]
async fn options_for_the_server_itself_pass() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        let answer = stack
            .exchange(&format!("OPTIONS * HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
            .await;
        assert_eq!(answer.head.status(), 200, "{upstream:?}");
        let seen = stack.echo.seen().pop().unwrap();
        assert_eq!(seen.method, "OPTIONS");
        assert_eq!(seen.uri, "*", "{upstream:?}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_names_the_host_as_the_host_field_does() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for (target, path) in [
            (format!("https://{HOST_A}/absolute?a=b"), "/absolute?a=b"),
            (format!("https://{HOST_A}"), "/"),
            (format!("https://{HOST_A}?a=b"), "/?a=b"),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n");
            let answer = stack.exchange(&request).await;
            assert_eq!(answer.head.status(), 200, "{target}");
            saw_last(&stack, path);
        }
        let count = stack.echo.seen().len();
        for (target, host) in [
            (format!("https://{HOST_B}/other"), HOST_A),
            (format!("https://{HOST_A}/other"), HOST_B),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = stack.exchange(&request).await;
            assert_eq!(answer.head.status(), 400, "{target}");
        }
        let expected = json!({ "status": 400, "refusal": "bad_request", "blame": "client" });
        stack.told("/other", &expected).await;
        assert_eq!(stack.echo.seen().len(), count);
    }
}

#[tokio::test]
async fn a_fragment_or_a_connect_never_reaches_the_ingress() {
    let stack = Direct::start(Protocol::Http1).await;
    let answer = stack
        .exchange(&format!("GET /a#secret HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
        .await;
    // A fragment is not part of a target; it is cut or refused, never passed on.
    assert!([200, 400].contains(&answer.head.status()));
    assert!(stack.echo.seen().iter().all(|seen| !seen.uri.contains('#')));
    let count = stack.echo.seen().len();
    for target in [&format!("{HOST_A}:443"), "127.0.0.1:22"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let answer = stack.exchange(&request).await;
        assert_eq!(answer.head.status(), 400, "{target}");
    }
    assert_eq!(stack.echo.seen().len(), count);
}

#[tokio::test]
async fn an_extended_connect_to_anything_but_a_websocket_is_refused() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        let mut connection = stack.connect(Protocol::Http2).await;
        // The server's SETTINGS, which allow this, come with its first bytes.
        connection.get("/").await.unwrap();
        let count = stack.echo.seen().len();
        let request = connection
            .request(Method::CONNECT, "/tunnel")
            .unwrap()
            .extension(hyper::ext::Protocol::from_static("connect-udp"))
            .body(empty())
            .unwrap();
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), 400);
        let expected = json!({ "method": "CONNECT", "status": 400, "refusal": "bad_request" });
        stack.told("/tunnel", &expected).await;
        assert_eq!(stack.echo.seen().len(), count, "{:?}", stack.echo.seen());
    }
}
