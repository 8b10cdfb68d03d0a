//! A customer's own key that is out of reach: refused in the customer's words, by nobody's fault, without the
//! ingress.

use http::Method;
use postern_loadtests::stack::accounts::{HOST_KEY, HOST_NOBODY, LINK_KEY, LINK_UNKNOWN};
use postern_loadtests::stack::client::{Protocol, empty};

use crate::scene::{Scene, routes_and, until};

fn with_fhir(customer_key: &str) -> String {
    routes_and(&format!(
        "[[accounts]]\nname = \"fhir\"\nkind = \"fhir\"\nhosts = [\"{HOST_NOBODY}\"]\ncluster = \"dicom\"\n\
         customer_key = \"{customer_key}\"\n\
         [[accounts.links]]\nlink_id = {LINK_UNKNOWN}\nstate = \"Approved\"\n"
    ))
}

#[tokio::test]
async fn both_kinds_of_account_get_403_with_an_operation_outcome_and_nobody_is_to_blame() {
    let scene = Scene::start(&[]).await;
    let routes = with_fhir("not_accessible");
    scene.stack.postern.write_routes(&routes).unwrap();
    scene.counted("postern_routes_generation", &[], 2.0).await;
    for (link, host) in [(LINK_KEY, HOST_KEY), (LINK_UNKNOWN, HOST_NOBODY)] {
        for protocol in Protocol::ALL {
            let mut connection = scene.connect(link, host, protocol).await;
            for method in [Method::GET, Method::POST, Method::HEAD] {
                let path = format!("/nonce/{link}/{}/{method}", protocol.label());
                let request = connection.request(method.clone(), &path).unwrap();
                let answer = connection
                    .fetch(request.body(empty()).unwrap())
                    .await
                    .unwrap();
                assert_eq!(answer.status, 403, "{path}");
                assert_eq!(answer.header("content-type"), "application/fhir+json");
                assert_eq!(answer.header("cache-control"), "no-store");
                let line = scene.logged(&path).await;
                assert_eq!(line["refusal"], "customer_key", "{line}");
                assert_eq!(line["blame"], "policy", "{line}");
                assert!(!scene.ingress_saw(&path));
                if method == Method::HEAD {
                    assert!(answer.body.is_empty());
                    continue;
                }
                let outcome = answer.json();
                assert_eq!(outcome["resourceType"], "OperationOutcome");
                assert_eq!(outcome["issue"][0]["severity"], "error");
                assert_eq!(outcome["issue"][0]["code"], "invalid");
                let diagnostics = outcome["issue"][0]["diagnostics"].to_string();
                assert!(diagnostics.contains(answer.header("x-request-id")));
            }
        }
    }
    let refused = "postern_refusals_total";
    scene
        .counted(
            refused,
            &[("reason", "customer_key"), ("blame", "policy")],
            12.0,
        )
        .await;
    for (name, labels) in [
        (refused, [("blame", "us")]),
        (refused, [("blame", "upstream")]),
        ("postern_connections_total", [("blame", "us")]),
        ("postern_requests_total", [("status", "5xx")]),
    ] {
        assert!(
            scene.metric_is(name, &labels, 0.0).await,
            "{name} {labels:?}"
        );
    }
}

#[tokio::test]
async fn a_key_that_is_lost_and_found_again_is_noticed_on_an_open_connection() {
    let scene = Scene::start(&[]).await;
    let generation = "postern_routes_generation";
    scene
        .stack
        .postern
        .write_routes(&with_fhir("accessible"))
        .unwrap();
    scene.counted(generation, &[], 2.0).await;
    let mut connection = scene
        .connect(LINK_UNKNOWN, HOST_NOBODY, Protocol::Http2)
        .await;
    assert_eq!(connection.get("/nonce/before").await.unwrap().status, 200);
    for (key, status) in [("not_accessible", 403), ("accessible", 200)] {
        scene.stack.postern.write_routes(&with_fhir(key)).unwrap();
        until(key, async || {
            connection.get("/nonce/after").await.unwrap().status == status
        })
        .await;
    }
    let endings = [("ending", "revoked")];
    assert!(
        scene
            .metric_is("postern_connections_total", &endings, 0.0)
            .await
    );
    assert!(scene.metric_is("postern_revocations_total", &[], 0.0).await);
}
