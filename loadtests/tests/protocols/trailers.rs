//! Trailers, both ways, over each pair of protocols.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::channel::Channel;
use postern_loadtests::stack::accounts::HOST_A;
use postern_loadtests::stack::client::{Connection, Protocol, RequestBody, empty, streaming};
use serde_json::json;

use crate::common::Direct;

fn with_trailers(fields: &[(&'static str, &'static str)]) -> RequestBody {
    let trailers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect();
    // Of unknown length: a request with a length has no room for trailers in HTTP/1.1.
    let (mut sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move {
        sender.send_data(Bytes::from("content")).await.unwrap();
        sender.send_trailers(trailers).await.unwrap();
    });
    streaming(body)
}

fn post(connection: &Connection, path: &str) -> http::request::Builder {
    connection.request(Method::POST, path).unwrap().header(
        "trailer",
        "x-checksum, x-ms-private-link-id, x-forwarded-for, forwarded",
    )
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_ingress() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/trailers-up/{}", protocol.label());
            let request = post(&connection, &path);
            let request = request.body(with_trailers(&[("x-checksum", "7")])).unwrap();
            let answer = connection.fetch(request).await.unwrap();
            assert_eq!(answer.status.as_u16(), 200);
            let seen = stack.saw(&path).await;
            assert_eq!((seen.body_bytes, seen.complete), (7, true));
            let expected = [("x-checksum".to_owned(), "7".to_owned())];
            assert_eq!(seen.trailers, expected, "{protocol:?} to {upstream:?}");
            stack
                .told(&path, &json!({ "request_bytes": 7, "status": 200 }))
                .await;
        }
    }
}

#[tokio::test]
async fn a_client_cannot_claim_in_trailers_what_it_cannot_claim_in_headers() {
    let claims = [
        ("x-checksum", "7"),
        ("x-ms-private-link-id", "1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
    ];
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let path = format!("/claims/{}", protocol.label());
            let request = post(&connection, &path)
                .body(with_trailers(&claims))
                .unwrap();
            connection.fetch(request).await.unwrap();
            let seen = stack.saw(&path).await;
            let expected = [("x-checksum".to_owned(), "7".to_owned())];
            assert_eq!(seen.trailers, expected, "{protocol:?} to {upstream:?}");
        }
    }
}

#[tokio::test]
async fn trailers_of_an_answer_reach_a_client_that_asked_for_them() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for protocol in Protocol::ALL {
            let mut connection = stack.connect(protocol).await;
            let request = connection.request(Method::GET, "/trailers").unwrap();
            let request = request.header("te", "trailers").body(empty()).unwrap();
            let answer = connection.fetch(request).await.unwrap();
            assert_eq!(answer.text(), "hello");
            let trailer = answer.trailers.get("x-trailer").map(HeaderValue::as_bytes);
            assert_eq!(trailer, Some(&b"yes"[..]), "{upstream:?} to {protocol:?}");
            let announced = answer.header("trailer");
            assert_eq!(announced, "x-trailer", "{upstream:?} to {protocol:?}");
        }
        // Who did not ask gets the content whole, and no trailer.
        let answer = stack
            .exchange(&format!("GET /trailers HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"))
            .await;
        assert_eq!(answer.body, b"hello");
        assert!(answer.trailers.is_empty());
    }
}
