//! Enforcement modes: what passes, what is told of it, and that nobody runs another one by accident.

use postern_loadtests::stack::accounts::{
    HOST_A, HOST_A_ARCHIVE, HOST_NOBODY, HOST_UNCOVERED, LINK_A, LINK_PENDING, LINK_UNKNOWN,
};
use postern_loadtests::stack::client::{Protocol, empty};
use postern_loadtests::stack::local::LocalOptions;
use serde_json::Value;

use crate::scene::{Scene, with};

async fn in_mode(top_level: &str) -> Scene {
    Scene::with(&LocalOptions {
        top_level: top_level.to_owned(),
        ..with(&[])
    })
    .await
}

async fn is_shown(scene: &Scene, mode: &str) {
    let ready = scene.stack.postern.probe_answer("/readyz").await.unwrap();
    assert_eq!(ready.json()["mode"], mode);
    for other in ["enforce", "audit", "forward"] {
        let value = scene.metric("postern_mode", &[("mode", other)]).await;
        assert_eq!(value > 0.0, other == mode, "{other}: {value}");
    }
    assert_eq!(scene.said("listening").await["mode"], mode);
}

async fn seen(scene: &Scene, path: &str) -> Value {
    let seen = scene
        .stack
        .ingress
        .saw(path, |line| line["uri"] == path)
        .await;
    seen.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn enforce_is_the_default() {
    let scene = in_mode("").await;
    is_shown(&scene, "enforce").await;
    assert_eq!(scene.status(LINK_UNKNOWN, HOST_A, "/nonce/x").await, 403);
}

#[tokio::test]
async fn audit_lets_through_what_it_would_refuse_and_says_so() {
    let scene = in_mode("mode = \"audit\"").await;
    is_shown(&scene, "audit").await;
    for (link_id, word) in [
        (LINK_UNKNOWN, "link_unknown"),
        (LINK_PENDING, "link_not_approved"),
    ] {
        let path = format!("/nonce/{}", word.replace('_', "-"));
        assert_eq!(scene.status(link_id, HOST_A, &path).await, 200);
        let line = scene.logged(&path).await;
        assert_eq!(line["would_refuse"], word, "{line}");
        assert_eq!(
            (&line["account"], &line["refusal"]),
            (&"hospital-a".into(), &Value::Null),
            "{line}"
        );
        assert_eq!(
            seen(&scene, &path).await["x_ms_private_link_id"],
            link_id.to_string()
        );
        scene
            .counted("postern_would_refuse_total", &[("reason", word)], 1.0)
            .await;
    }
    // An approved link is no news; a host that no account has leads nowhere.
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/approved").await, 200);
    assert_eq!(
        scene.logged("/nonce/approved").await["would_refuse"],
        Value::Null
    );
    assert_eq!(
        scene.status(LINK_A, HOST_NOBODY, "/nonce/nobody").await,
        403
    );
    assert!(!scene.ingress_saw("/nonce/nobody"));
}

#[tokio::test]
async fn forward_sends_everything_to_its_cluster_with_link_id_and_client() {
    let scene = in_mode("mode = \"forward\"\nforward_cluster = \"dicom\"").await;
    is_shown(&scene, "forward").await;
    for (link_id, host, path) in [
        (LINK_UNKNOWN, HOST_A, "/nonce/one"),
        (LINK_A, HOST_NOBODY, "/nonce/two"),
    ] {
        assert_eq!(scene.status(link_id, host, path).await, 200);
        let seen = seen(&scene, path).await;
        assert_eq!(seen["x_ms_private_link_id"], link_id.to_string());
        assert_eq!(
            (&seen["x_forwarded_for"], &seen["host"]),
            (&"10.0.0.4".into(), &host.into())
        );
        let line = scene.logged(path).await;
        assert_eq!(
            (&line["account"], &line["would_refuse"]),
            (&Value::Null, &Value::Null),
            "{line}"
        );
    }
    // Certificates and the bond between host and connection hold in every mode.
    let mut connection = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let request = connection
        .request_for(HOST_A_ARCHIVE, http::Method::GET, "/nonce/other")
        .unwrap();
    let answer = connection
        .fetch(request.body(empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status, 403);
    assert!(!scene.ingress_saw("/nonce/other"));
    let refused = scene
        .stack
        .connect(LINK_A, HOST_UNCOVERED, Protocol::Http1)
        .await;
    let alert = refused.err().and_then(|error| error.alert());
    assert_eq!(alert, Some(rustls::AlertDescription::UnrecognisedName));
    assert!(
        scene
            .metric_is("postern_would_refuse_total", &[], 0.0)
            .await
    );
}
