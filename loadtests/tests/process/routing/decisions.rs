//! Each state of a link, each state of an account.

use postern_loadtests::stack::accounts::{
    HOST_A, HOST_A_ARCHIVE, HOST_B, HOST_KEY, HOST_NOBODY, LINK_A, LINK_B, LINK_DISCONNECTED,
    LINK_KEY, LINK_PENDING, LINK_REJECTED, LINK_UNKNOWN,
};
use postern_loadtests::stack::client::Protocol;
use postern_loadtests::stack::operator::{account_path, connection_path};
use serde_json::json;

use super::{routed, settles};

#[tokio::test]
async fn every_state_is_decided_as_the_service_says() {
    let (scene, _) = routed(&[], "").await;
    for (link_id, host, status, refusal) in [
        (LINK_A, HOST_A, 200, None),
        (LINK_A, HOST_A_ARCHIVE, 200, None),
        (LINK_B, HOST_B, 200, None),
        (LINK_A, HOST_B, 403, Some("link_unknown")),
        (LINK_A, HOST_NOBODY, 403, Some("link_unknown")),
        (LINK_UNKNOWN, HOST_A, 403, Some("link_unknown")),
        (LINK_PENDING, HOST_A, 403, Some("link_not_approved")),
        (LINK_REJECTED, HOST_A, 403, Some("link_not_approved")),
        (LINK_DISCONNECTED, HOST_A, 403, Some("link_not_approved")),
        (LINK_KEY, HOST_KEY, 403, Some("customer_key")),
    ] {
        let path = format!("/nonce/{link_id}-{}", host.split('.').next().unwrap());
        assert_eq!(scene.status(link_id, host, &path).await, status, "{path}");
        let line = scene.logged(&path).await;
        assert_eq!(line["refusal"].as_str(), refusal, "{line}");
        if refusal.is_some() {
            assert!(!scene.ingress_saw(&path), "{path}");
        }
    }
    let line = scene.logged(&format!("/nonce/{LINK_A}-hospital-a")).await;
    assert_eq!(line["account"], "stack/hospital-a");
}

#[tokio::test]
async fn what_nobody_can_say_is_refused_until_somebody_can() {
    let (mut scene, _) = routed(&[], "").await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/before").await, 200);
    scene.stack.routing.as_mut().unwrap().kill();
    let path = "/nonce/unknown";
    assert_eq!(scene.status(LINK_UNKNOWN, HOST_A, path).await, 503);
    assert_eq!(scene.logged(path).await["refusal"], "lookup_failed");
    assert!(!scene.ingress_saw(path));
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/known").await, 200);
    scene
        .stack
        .routing
        .as_mut()
        .unwrap()
        .restart()
        .await
        .unwrap();
    settles(&scene, LINK_UNKNOWN, HOST_A, "/nonce/again", 403).await;
}

#[tokio::test]
async fn a_lost_key_of_a_fhir_account_is_told_as_an_operation_outcome() {
    let (scene, operator) = routed(&[], "").await;
    let host = "records.dicom.example";
    let account = json!({ "properties": {
        "kind": "fhir", "hosts": [host], "cluster": "dicom",
        "customerKey": { "state": "not_accessible" },
    }});
    operator
        .put(&account_path("records"), &account)
        .await
        .unwrap();
    let link = json!({ "properties": {
        "linkIdentifier": "8001",
        "privateLinkServiceConnectionState": { "status": "Approved" },
    }});
    let path = connection_path("records", "main");
    operator.put(&path, &link).await.unwrap();
    let mut connection = scene.connect(8001, host, Protocol::Http2).await;
    let answer = connection.get("/Patient").await.unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("content-type"), "application/fhir+json");
    let outcome = answer.json();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    assert_eq!(outcome["issue"][0]["severity"], "error");
    assert_eq!(outcome["issue"][0]["code"], "invalid");
    assert!(!scene.ingress_saw("/Patient"));
    scene
        .counted(
            "postern_refusals_total",
            &[("reason", "customer_key"), ("blame", "policy")],
            1.0,
        )
        .await;
}
