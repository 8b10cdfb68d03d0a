//! Which HTTP the ingress is spoken to, where we may choose.

use http::Method;
use postern_loadtests::stack::client::{Protocol, empty};
use serde_json::json;

use crate::common::{Direct, Stack};
use crate::upstream::NGINX_2;

#[tokio::test]
async fn after_a_large_answer_the_next_safe_request_goes_by_http1() {
    let stack = Stack::start(NGINX_2).await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        for (method, size, by) in [
            (Method::GET, 65_536, "HTTP/2.0"),
            (Method::GET, 65_537, "HTTP/1.1"),
            (Method::POST, 65_538, "HTTP/2.0"),
            (Method::GET, 100, "HTTP/1.1"),
            (Method::GET, 65_539, "HTTP/2.0"),
        ] {
            let path = format!("/generate/{size}");
            let uri = format!("{path}?{protocol:?}-{method}");
            let request = connection.request(method.clone(), &uri).unwrap();
            let answer = connection.fetch(request.body(empty()).unwrap()).await;
            assert_eq!(answer.unwrap().body.len(), size, "{uri}");
            let seen = stack.ingress.saw(&uri, |line| line["uri"] == uri.as_str());
            assert_eq!(seen.await.unwrap()["protocol"], by, "{uri}");
        }
    }
}

#[tokio::test]
async fn an_ingress_without_http1_gets_large_answers_asked_for_by_http2() {
    let stack = Direct::start(Protocol::Http2).await;
    let mut connection = stack.connect(Protocol::Http1).await;
    for size in [65_536, 65_537, 65_538] {
        let path = format!("/generate/{size}");
        let answer = connection.get(&path).await.unwrap();
        assert_eq!(answer.body.len(), size);
        let expected = json!({ "status": 200, "upstream_protocol": "HTTP/2.0" });
        stack.told(&path, &expected).await;
    }
    let metrics = stack.metrics().await;
    let failed = metrics.sum("postern_upstream_connects_total", &[("outcome", "failed")]);
    assert!((failed - 1.0).abs() < f64::EPSILON, "asked {failed} times");
}
