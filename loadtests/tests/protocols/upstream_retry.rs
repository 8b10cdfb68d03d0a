//! Which requests are sent once more when the ingress breaks before it answers, and how often.

use http::Method;
use postern_loadtests::stack::client::{Protocol, full};
use postern_loadtests::stack::postern::PosternOptions;
use serde_json::json;

use crate::common::{Played, grown};

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_get_whose_connection_ends_before_the_answer_is_sent_once_more() {
    let mut stack = Played::start().await;
    let before = stack.metrics().await;
    let mut connection = stack.connect(Protocol::Http1).await;
    let client = tokio::spawn(async move {
        let first = connection.get("/first").await.unwrap();
        let second = connection.get("/again").await.unwrap();
        (first.text(), second.status.as_u16(), second.text())
    });
    let mut ingress = stack.ingress.next().await.unwrap();
    assert_eq!(ingress.head().await.unwrap().target(), "/first");
    ingress.send(OK).await.unwrap();
    assert_eq!(ingress.head().await.unwrap().target(), "/again");
    drop(ingress);
    let mut ingress = stack.ingress.next().await.unwrap();
    assert_eq!(ingress.head().await.unwrap().target(), "/again");
    ingress.send(OK).await.unwrap();
    assert_eq!(client.await.unwrap(), ("ok".into(), 200, "ok".into()));
    stack
        .told("/again", &json!({ "status": 200, "ending": "complete" }))
        .await;
    let after = stack.metrics().await;
    assert_eq!(
        grown(&before, &after, "postern_upstream_retries_total", &[]),
        1
    );
}

#[tokio::test]
async fn a_get_that_meets_an_ingress_as_it_reloads_is_sent_a_third_time_and_no_more() {
    for answered in [true, false] {
        let mut stack = Played::start().await;
        let before = stack.metrics().await;
        let mut connection = stack.connect(Protocol::Http1).await;
        let client = tokio::spawn(async move { connection.get("/first").await.unwrap() });
        // New connections, too, are closed before an answer.
        for _ in 0..2 {
            let mut ingress = stack.ingress.next().await.unwrap();
            assert_eq!(ingress.head().await.unwrap().target(), "/first");
        }
        let mut ingress = stack.ingress.next().await.unwrap();
        assert_eq!(ingress.head().await.unwrap().target(), "/first");
        if answered {
            ingress.send(OK).await.unwrap();
        }
        drop(ingress);
        let status = if answered { 200 } else { 502 };
        assert_eq!(client.await.unwrap().status.as_u16(), status);
        stack.told("/first", &json!({ "status": status })).await;
        let after = stack.metrics().await;
        let retries = grown(&before, &after, "postern_upstream_retries_total", &[]);
        assert_eq!(retries, 2);
    }
}

#[tokio::test]
async fn a_post_that_the_ingress_may_have_processed_is_not_sent_again() {
    for body in ["", "body"] {
        let mut stack = Played::start().await;
        let before = stack.metrics().await;
        let mut connection = stack.connect(Protocol::Http1).await;
        let client = tokio::spawn(async move {
            connection.get("/first").await.unwrap();
            let request = connection.request(Method::POST, "/once").unwrap();
            connection
                .fetch(request.body(full(body)).unwrap())
                .await
                .unwrap()
        });
        let mut ingress = stack.ingress.next().await.unwrap();
        ingress.head().await.unwrap();
        ingress.send(OK).await.unwrap();
        assert_eq!(ingress.head().await.unwrap().target(), "/once");
        assert_eq!(ingress.exactly(body.len()).await.unwrap(), body.as_bytes());
        drop(ingress);
        let answer = client.await.unwrap();
        assert_eq!(answer.status.as_u16(), 502, "{body:?}");
        assert_eq!(answer.json()["code"], "upstream_broke");
        let expected = json!({ "status": 502, "refusal": "upstream_broke", "blame": "upstream" });
        stack.told("/once", &expected).await;
        assert_eq!(stack.ingress.spoken_to(), 1, "{body:?}");
        let after = stack.metrics().await;
        assert_eq!(
            grown(&before, &after, "postern_upstream_retries_total", &[]),
            0
        );
        let labels = [("reason", "upstream_broke"), ("blame", "upstream")];
        assert_eq!(grown(&before, &after, "postern_refusals_total", &labels), 1);
    }
}

#[tokio::test]
async fn an_ingress_that_breaks_everything_gets_no_more_than_the_budget_on_top() {
    let budget = |options: PosternOptions| {
        options
            .with("POSTERN_UPSTREAM__RETRY_RESERVE", "3")
            .with("POSTERN_UPSTREAM__RETRY_PERCENT", "0")
    };
    let mut stack = Played::with(Protocol::Http1, budget).await;
    let before = stack.metrics().await;
    // One connection, since each worker thread has a budget of its own.
    let mut connection = stack.connect(Protocol::Http1).await;
    for (path, attempts) in [("/first", 3), ("/second", 2), ("/third", 1)] {
        let asked = async { connection.get(path).await.unwrap().status.as_u16() };
        let ingress = &mut stack.ingress;
        let broken = async {
            for _ in 0..attempts {
                let mut taken = ingress.next().await.unwrap();
                assert_eq!(taken.head().await.unwrap().target(), path);
            }
        };
        let (status, ()) = tokio::join!(asked, broken);
        assert_eq!(status, 502, "{path}");
        let expected = json!({ "status": 502, "refusal": "upstream_broke", "blame": "upstream" });
        stack.told(path, &expected).await;
    }
    let after = stack.metrics().await;
    let count = |name| grown(&before, &after, name, &[]);
    assert_eq!(count("postern_upstream_retries_total"), 3);
    assert_eq!(count("postern_upstream_retries_withheld_total"), 2);
}
