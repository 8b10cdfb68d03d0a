//! Who may do what, by the name in a certificate; and who does not even get an answer.

use postern_certs::Purpose;
use postern_certs::dev_ca::{DevCa, LeafOptions};

use rustls::version::TLS12;

use super::client::{Connector, tls, tls_of};
use super::scene::{Scene, WORKSPACE};

const LOOKUP: &str = "/v1/lookup?host=images.example";

#[tokio::test]
async fn a_client_may_do_what_its_name_may_and_nothing_else() {
    let scene = Scene::start().await;
    scene.filled().await;
    for (name, path, role) in [
        ("proxy.example", WORKSPACE, "write"),
        ("proxy.example", "/v1/authorize", "authorize"),
        ("proxy.example", "/v1/openapi.json", "write"),
        ("people.example", LOOKUP, "read"),
        ("people.example", "/v1/snapshot", "read"),
        ("people.example", "/v1/changes?after=0", "read"),
        ("ingress.example", LOOKUP, "read"),
        ("stranger.example", LOOKUP, "read"),
        ("*.example", LOOKUP, "read"),
    ] {
        let mut client = scene.connector(name).connect().await.unwrap();
        let answer = client.get(path).await;
        let (status, code, _) = answer.error();
        assert_eq!(
            (status, code.as_str()),
            (403, "AuthorizationFailed"),
            "{name} {path}"
        );
        let message = answer.message();
        assert!(
            message.contains(name) && message.contains(&format!("\"{role}\"")),
            "{message}"
        );
    }
    assert_eq!(scene.proxy().await.get(LOOKUP).await.status, 200);
    let mut people = scene.people().await;
    assert_eq!(people.get(WORKSPACE).await.status, 200);
    let document = people.get("/v1/openapi.json").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    let (_, metrics) = scene.admin("/metrics").await;
    assert!(
        metrics.contains("postern_routing_refusals_total{role=\"read\"} 6\n"),
        "{metrics}"
    );
}

/// Whether a request is answered.
async fn is_answered(connector: &Connector) -> bool {
    let Ok(mut client) = connector.connect().await else {
        return false;
    };
    let request = super::client::request(http::Method::GET, LOOKUP, &[], "");
    client.open(request).await.is_ok()
}

#[tokio::test]
async fn without_a_certificate_that_is_trusted_there_is_no_answer() {
    let scene = Scene::start().await;
    let others = DevCa::new("Other CA").unwrap();
    let own = |options| scene.ca.leaf(&options).unwrap();
    let expired = LeafOptions {
        not_before: Some(1_000_000_000),
        not_after: Some(1_000_000_001),
        ..LeafOptions::new(Purpose::Client, ["proxy.example"])
    };
    let server = LeafOptions::new(Purpose::Server, ["proxy.example"]);
    let of_another = others.client("proxy.example").unwrap();
    for (identity, what) in [
        (None, "none"),
        (Some(of_another), "of another CA"),
        (Some(own(server)), "of a server"),
    ] {
        let tls = tls(scene.ca.ca_pem(), identity.as_ref(), b"h2");
        let connector = Connector {
            tls,
            ..scene.connector("proxy.example")
        };
        assert!(!is_answered(&connector).await, "a certificate {what}");
    }
    assert!(
        own(expired).bundle().is_err(),
        "an expired certificate does not prove"
    );
    assert!(is_answered(&scene.connector("proxy.example")).await);
    assert!(is_answered(&scene.connector_with("proxy.example", b"http/1.1")).await);
    let identity = scene.ca.client("proxy.example").unwrap();
    let older = Connector {
        tls: tls_of(&[&TLS12], scene.ca.ca_pem(), Some(&identity), b"h2"),
        ..scene.connector("proxy.example")
    };
    assert!(is_answered(&older).await);
}
