//! A real `DICOMweb` client against a real DICOM server, before Postern stands between them.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]

use std::path::Path;
use std::time::Duration;

use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::envoy::{Envoy, EnvoyOptions};
use postern_loadtests::stack::nginx::{Nginx, NginxOptions};
use postern_loadtests::stack::orthanc::{DICOM_WEB_ROOT, Orthanc};
use postern_loadtests::stack::python::{DICOM, Output, Python};

// Limit: a session with 64 MiB takes some 6 s on an idle machine.
const SESSION_TIMEOUT: Duration = Duration::from_mins(4);

async fn session(arguments: &[&str]) -> Output {
    let python = Python::install(DICOM).await.unwrap();
    python
        .run("session.py", arguments, SESSION_TIMEOUT)
        .await
        .unwrap()
}

#[track_caller]
fn assert_all_came_back(output: &Output, large_mib: u64) {
    assert!(output.status.success(), "{}", output.stderr);
    let report = output.json();
    assert_eq!(
        (&report["stored"], &report["found"]),
        (&4.into(), &4.into()),
        "{report}"
    );
    // Alone, with its series, and in the streamed study.
    assert_eq!(report["retrieved"], 12, "{report}");
    assert!(
        report["bytes"].as_u64() > Some(3 * (large_mib << 20)),
        "{report}"
    );
    // Of three instances the only frame twice; of the large one first, middle and last (which may be one), then all.
    assert_eq!(
        report["frames"],
        3 * 2 + large_mib.min(3) + large_mib,
        "{report}"
    );
}

#[tokio::test]
async fn a_study_with_64_mib_comes_back_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let orthanc = Orthanc::start(folder.path(), None).await.unwrap();
    assert_all_came_back(
        &session(&["--url", &orthanc.url(), "--large-mib", "64"]).await,
        64,
    );
}

#[tokio::test]
async fn a_study_comes_back_through_each_ingress_under_the_name_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let orthanc = Orthanc::start(folder.path(), None).await.unwrap();
    let name = NginxOptions::default().name;
    let credentials = Credentials::create(folder.path(), &["a.example"], &name).unwrap();
    let backend = Some(orthanc.address());

    let options = NginxOptions {
        backend,
        ..NginxOptions::default()
    };
    let nginx = Nginx::start(folder.path(), &credentials, &options)
        .await
        .unwrap();
    let options = EnvoyOptions {
        backend,
        ..EnvoyOptions::default()
    };
    let place = folder.path().join("envoy");
    let envoy = Envoy::start(&place, &credentials, &options).await.unwrap();

    for address in [nginx.address(), envoy.address()] {
        let file = |path: &Path| path.to_str().unwrap().to_owned();
        let output = session(&[
            "--url",
            &format!("https://{name}{DICOM_WEB_ROOT}"),
            "--connect",
            &address.to_string(),
            "--ca",
            &file(&credentials.trust.join("ca.crt")),
            "--cert",
            &file(&credentials.client.join("tls.crt")),
            "--key",
            &file(&credentials.client.join("tls.key")),
            "--large-mib",
            "8",
        ])
        .await;
        assert_all_came_back(&output, 8);
    }
}

#[tokio::test]
async fn a_session_that_is_not_as_expected_fails_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let orthanc = Orthanc::start(folder.path(), None).await.unwrap();
    let output = session(&["--url", &orthanc.url(), "--expect", "403"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output
            .stderr
            .contains("search was answered instead of refused with 403"),
        "{output:?}"
    );
    assert_eq!(output.json(), serde_json::Value::Null);
}

#[tokio::test]
async fn each_run_of_a_seed_makes_the_same_study() {
    let folder = tempfile::tempdir().unwrap();
    let orthanc = Orthanc::start(folder.path(), None).await.unwrap();
    let mut sums = Vec::new();
    for seed in ["one", "one", "two"] {
        let url = orthanc.url();
        let output = session(&["--url", &url, "--large-mib", "1", "--seed", seed]).await;
        assert_all_came_back(&output, 1);
        sums.push(output.json()["sha256"].to_string());
    }
    assert_eq!(sums[0], sums[1]);
    assert_ne!(sums[0], sums[2]);
}
