//! The header table: what the ingress and the client get to see of a message's fields.

use http::Method;
use postern_loadtests::proxy_v2::CLIENT_IP;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{Protocol, empty};
use postern_loadtests::stack::echo::Seen;
use serde_json::json;

use crate::common::{Direct, Played, Stack, Way};

/// What a client could claim to be, or say about one hop only.
const NEVER_FORWARDED: [(&str, &str); 18] = [
    ("forwarded", "for=1.1.1.1"),
    ("x-forwarded-for", "1.1.1.1"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-host", "hospital-b.dicom.example"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-client-cert", "Hash=0"),
    ("x-real-ip", "1.1.1.1"),
    ("x-client-cert", "forged"),
    ("x-client-cert-chain", "forged"),
    ("x-ms-private-link-id", "1"),
    ("x-ms-private-link-account", "hospital-b"),
    ("x-postern-foo", "forged"),
    ("x_forwarded_for", "1.1.1.1"),
    ("x_ms_private_link_id", "1"),
    ("x-request-id", "forged"),
    ("proxy-authorization", "Basic forged"),
    ("x-forwarded-for", "2.2.2.2"),
    ("expect", "100-continue"),
];

/// Of a client that speaks HTTP/1.1 only; HTTP/2 forbids them.
const ONE_HOP: [(&str, &str); 5] = [
    ("connection", "keep-alive, X-Named"),
    ("connection", "x-also-named"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("te", "gzip, trailers"),
];

fn check_added(seen: &Seen, request_id: &str) {
    let link = LINK_A.to_string();
    let client = CLIENT_IP.to_string();
    for (name, value) in [
        ("host", HOST_A),
        ("x-forwarded-for", client.as_str()),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", HOST_A),
        ("x-ms-private-link-id", link.as_str()),
        ("x-request-id", request_id),
    ] {
        assert_eq!(seen.header(name), [value], "{name}");
    }
}

fn check_stripped(seen: &Seen) {
    let forged = [
        "1.1.1.1",
        "2.2.2.2",
        "forged",
        "hospital-b",
        "Hash=0",
        "100-continue",
    ];
    for (name, value) in &seen.headers {
        assert!(
            !forged.iter().any(|text| value.contains(text)),
            "{name}: {value}"
        );
    }
    for name in [
        "x-named",
        "x-also-named",
        "keep-alive",
        "proxy-connection",
        "forwarded",
    ] {
        assert!(seen.header(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn nothing_a_client_claims_reaches_the_ingress_and_what_we_say_does() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/headers/{}", protocol.label());
            let mut request = connection.request(Method::GET, &path).unwrap();
            for (name, value) in NEVER_FORWARDED {
                request = request.header(name, value);
            }
            if protocol == Protocol::Http1 {
                for (name, value) in ONE_HOP {
                    request = request.header(name, value);
                }
                request = request.header("x-named", "x").header("x-also-named", "x");
            }
            let request = request
                .header("x-custom", "one")
                .header("x-custom", "two")
                .header("authorization", "Bearer token")
                .header(
                    "x-bytes",
                    http::HeaderValue::from_bytes(b"caf\xe9").unwrap(),
                )
                .header("x-empty", "")
                .body(empty())
                .unwrap();
            let answer = connection.fetch(request).await.unwrap();
            assert_eq!(answer.status.as_u16(), 200, "{upstream:?} {protocol:?}");
            let seen = stack.saw(&path).await;
            check_added(&seen, answer.header("x-request-id"));
            check_stripped(&seen);
            assert_eq!(seen.header("x-custom"), ["one", "two"]);
            assert_eq!(seen.header("authorization"), ["Bearer token"]);
            assert_eq!(seen.header("x-bytes"), ["caf\u{fffd}"]);
            assert_eq!(seen.header("x-empty"), [""]);
            if protocol == Protocol::Http1 {
                assert_eq!(seen.header("te"), ["trailers"]);
            }
            let line = stack
                .told(
                    &path,
                    &json!({ "request_id": answer.header("x-request-id") }),
                )
                .await;
            assert!(!line.to_string().contains("token"), "{line}");
        }
    }
}

#[tokio::test]
async fn the_real_ingresses_see_who_calls_and_who_we_are() {
    for way in Way::ALL {
        let stack = Stack::start(way).await;
        for protocol in Protocol::ALL {
            let path = format!("/who/{}", protocol.label());
            let mut connection = stack.connect(protocol).await;
            let mut request = connection.request(Method::GET, &path).unwrap();
            for (name, value) in NEVER_FORWARDED {
                request = request.header(name, value);
            }
            let request = request.body(empty()).unwrap();
            let answer = connection.fetch(request).await.unwrap();
            let line = stack
                .ingress
                .saw(&path, |line| line["uri"] == path)
                .await
                .unwrap();
            let expected = json!({
                "host": HOST_A, "x_forwarded_for": CLIENT_IP.to_string(), "x_forwarded_proto": "https",
                "x_forwarded_host": HOST_A, "x_ms_private_link_id": LINK_A.to_string(),
                "x_request_id": answer.header("x-request-id"), "x_real_ip": "", "x_client_cert": "",
                "forwarded": "", "x_postern_foo": "", "client_dn": "CN=postern.internal.example",
            });
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&line[key], value, "{way:?} {key} in {line}");
            }
        }
    }
}

#[tokio::test]
async fn a_trace_goes_on_and_a_missing_one_begins_with_the_requests_id() {
    let stack = Direct::start(Protocol::Http2).await;
    let mut connection = stack.connect(Protocol::Http2).await;
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = connection.request(Method::GET, "/trace/on").unwrap();
    let request = request
        .header("traceparent", sent)
        .header("tracestate", "a=b");
    connection
        .fetch(request.body(empty()).unwrap())
        .await
        .unwrap();
    let seen = stack.saw("/trace/on").await;
    let got = seen.header("traceparent")[0];
    assert_eq!((&got[..36], &got[52..]), (&sent[..36], &sent[52..]));
    assert_ne!(got, sent, "the parent is our own span");
    assert_eq!(seen.header("tracestate"), ["a=b"]);

    let answer = connection.get("/trace/new").await.unwrap();
    let seen = stack.saw("/trace/new").await;
    let id = answer.header("x-request-id").replace('-', "");
    assert_eq!(&seen.header("traceparent")[0][3..35], id);
}

#[tokio::test]
async fn cookie_crumbs_of_http2_are_one_field_again() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        let mut connection = stack.connect(Protocol::Http2).await;
        let request = connection.request(Method::GET, "/cookies").unwrap();
        let request = request.header("cookie", "a=1").header("cookie", "b=2; c=3");
        connection
            .fetch(request.body(empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(
            stack.saw("/cookies").await.header("cookie"),
            ["a=1; b=2; c=3"]
        );
    }
}

#[tokio::test]
async fn fields_of_the_ingresss_hop_do_not_reach_the_client() {
    let mut stack = Played::start().await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let answer = tokio::spawn(async move { connection.get("/answer").await });
        let mut ingress = stack.ingress.next().await.unwrap();
        let head = ingress.head().await.unwrap();
        ingress
            .send(
                "HTTP/1.1 200 OK\r\nConnection: close, X-Internal\r\nKeep-Alive: timeout=5\r\nX-Internal: x\r\n\
                 Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Request-Id: other\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                 Server: them\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            )
            .await
            .unwrap();
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "ok")
        );
        for name in [
            "keep-alive",
            "x-internal",
            "upgrade",
            "proxy-authenticate",
            "connection",
        ] {
            assert!(!answer.headers.contains_key(name), "{protocol:?} {name}");
        }
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(answer.header("server"), "them");
        assert_eq!(answer.header("x-request-id"), head.field("x-request-id"));
    }
}

#[tokio::test]
async fn a_host_with_a_port_or_in_capitals_passes_as_it_was_sent() {
    let stack = Direct::start(Protocol::Http2).await;
    for host in ["hospital-a.dicom.example:443", "Hospital-A.DICOM.example"] {
        let answer = stack
            .exchange(&format!("GET /host HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(answer.head.status(), 200, "{host}");
        let seen = stack.echo.seen().pop().unwrap();
        assert_eq!(seen.header("host"), [host]);
        assert_eq!(seen.header("x-forwarded-host"), [host]);
    }
}
