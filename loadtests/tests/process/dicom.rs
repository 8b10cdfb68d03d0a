//! The main job: a DICOM study stored, found and retrieved by a real `DICOMweb` client through Private Link
//! Service stand-in, Postern and either ingress, from a real DICOM server.

use std::time::Duration;

use postern_loadtests::stack::accounts::{
    CERTIFICATE_NAME, HOST_A, INGRESS_NAME, LINK_A, LINK_PENDING,
};
use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::echo::Echo;
use postern_loadtests::stack::ingress::{Ingress, IngressKind};
use postern_loadtests::stack::local::LocalStack;
use postern_loadtests::stack::orthanc::{DICOM_WEB_ROOT, Orthanc};
use postern_loadtests::stack::postern::{Postern, PosternOptions};
use postern_loadtests::stack::python::{DICOM, Output, Python};

use crate::scene::{Scene, with};

// Limit: a session with 64 MiB takes some 15 s through debug builds on an idle machine.
const SESSION_TIMEOUT: Duration = Duration::from_mins(6);

// Limit: what a session may add to the peak of Postern's memory, whatever the size of its instances: a connection
// holds at most about 1 MiB of an upload and 1 MiB of an answer, and the allocator some multiple of it.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

async fn with_orthanc(kind: IngressKind) -> (Scene, Orthanc) {
    let folder = tempfile::tempdir().unwrap();
    let orthanc = Orthanc::start(&folder.path().join("orthanc"), None)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let credentials = Credentials::create(
        &folder.path().join("certs"),
        &[CERTIFICATE_NAME],
        INGRESS_NAME,
    )
    .unwrap();
    let ingress = Ingress::start(kind, folder.path(), &credentials, true, orthanc.address())
        .await
        .unwrap();
    let options = PosternOptions {
        environment: with(&[]).environment,
        ..PosternOptions::new(ingress.address())
    };
    let postern = Postern::start(&folder.path().join("postern"), &credentials, &options)
        .await
        .unwrap();
    let echo = Echo::start(None).await.unwrap();
    let stack = LocalStack {
        postern,
        routing: None,
        ingress,
        echo,
        credentials,
    };
    (Scene { stack, folder }, orthanc)
}

async fn session(scene: &Scene, link_id: u32, arguments: &[&str]) -> Output {
    let address = scene.link_lb(Some(link_id)).await;
    let ca = scene.stack.credentials.public_ca.to_str().unwrap();
    let url = format!("https://{HOST_A}{DICOM_WEB_ROOT}");
    let usual = ["--url", &url, "--connect", &address.to_string(), "--ca", ca];
    let python = Python::install(DICOM)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let arguments = usual.iter().chain(arguments);
    python
        .run("session.py", arguments, SESSION_TIMEOUT)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn stores_and_retrieves(kind: IngressKind, large_mib: u32) {
    let (scene, _orthanc) = with_orthanc(kind).await;
    // A small session first, so that what is measured is the size and not the first of everything.
    let small = session(&scene, LINK_A, &["--large-mib", "1", "--seed", "small"]).await;
    assert!(small.status.success(), "{}", small.stderr);
    let before = scene.stack.postern.resident_peak().unwrap();
    let output = session(&scene, LINK_A, &["--large-mib", &large_mib.to_string()]).await;
    assert!(output.status.success(), "{}", output.stderr);
    let after = scene.stack.postern.resident_peak().unwrap();
    let grown = after.saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "{large_mib} MiB made memory grow by {grown} bytes"
    );

    let report = output.json();
    assert_eq!(
        (&report["stored"], &report["found"]),
        (&4.into(), &4.into()),
        "{report}"
    );
    assert!(
        report["bytes"].as_u64() > Some(u64::from((3 * large_mib) << 20)),
        "{report}"
    );
    let path = format!(
        "{DICOM_WEB_ROOT}/studies/{}",
        report["study"].as_str().unwrap()
    );
    let stored = |line: &serde_json::Value| {
        line["path"] == path
            && line["method"] == "POST"
            && line["request_bytes"].as_u64() > Some(u64::from(large_mib << 20))
    };
    let line = scene.logged_as("the large store", stored).await;
    assert_eq!(
        (&line["status"], &line["account"], &line["ending"]),
        (&200.into(), &"hospital-a".into(), &"complete".into())
    );
    let seen = scene
        .stack
        .ingress
        .saw("the store", |line| {
            line["uri"] == path && line["method"] == "POST"
        })
        .await
        .unwrap();
    assert_eq!(
        (&seen["x_ms_private_link_id"], &seen["host"]),
        (&LINK_A.to_string().into(), &HOST_A.into())
    );
    assert!(
        scene.metric("postern_request_body_bytes_total", &[]).await > f64::from(large_mib << 20)
    );
    assert!(
        scene.metric("postern_response_body_bytes_total", &[]).await
            > f64::from((3 * large_mib) << 20)
    );
    assert!(scene.metric_is("postern_refusals_total", &[], 0.0).await);
}

#[tokio::test]
async fn a_study_with_64_mib_comes_back_byte_by_byte_through_nginx_and_memory_does_not_grow() {
    stores_and_retrieves(IngressKind::Nginx, 64).await;
}

#[tokio::test]
async fn a_study_with_64_mib_comes_back_byte_by_byte_through_envoy_and_memory_does_not_grow() {
    stores_and_retrieves(IngressKind::Envoy, 64).await;
}

#[tokio::test]
async fn over_a_link_that_is_not_approved_the_session_gets_403_and_the_server_sees_nothing() {
    let (scene, orthanc) = with_orthanc(IngressKind::Nginx).await;
    let output = session(&scene, LINK_PENDING, &["--expect", "403"]).await;
    assert!(output.status.success(), "{}", output.stderr);
    let report = output.json();
    assert_eq!(report["refused"], 3, "{report}");
    for attempt in ["search", "retrieve", "store"] {
        let answer = &report["answers"][attempt];
        assert_eq!(answer["type"], "application/problem+json", "{answer}");
        let body: serde_json::Value =
            serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["code"], "link_not_approved");
        assert!(!answer.to_string().contains("hospital-a"), "{answer}");
    }
    assert!(scene.stack.ingress.seen().all().is_empty());
    let mut direct = postern_loadtests::stack::client::Connection::plain(orthanc.address())
        .await
        .unwrap();
    assert_eq!(
        direct.get("/dicom-web/studies").await.unwrap().json(),
        serde_json::json!([])
    );
    scene
        .counted(
            "postern_refusals_total",
            &[("reason", "link_not_approved")],
            3.0,
        )
        .await;
    let line = scene
        .logged_as("a refusal", |line| line["refusal"] == "link_not_approved")
        .await;
    assert_eq!(
        (&line["link_id"], &line["status"]),
        (&LINK_PENDING.to_string().into(), &403.into()),
        "{line}"
    );
}
