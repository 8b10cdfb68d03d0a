//! The Key Vault stand-in, as Azure's own clients for Python know Key Vault; and as a process of its own.

#![allow(clippy::unwrap_used, reason = "the set-up is part of each test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postern_control::testing::key_vault::KeyVault;
use postern_loadtests::stack::child::READY_TIMEOUT;
use postern_loadtests::stack::python::{KEY_VAULT, Python};
use postern_loadtests::stack::{Child, binary, free_address};
use serde_json::Value;

// Limit: a session takes some 10 s in a debug build on a busy machine, most of it RSA keys.
const SESSION_TIMEOUT: Duration = Duration::from_mins(3);

async fn session(api_version: Option<&str>) {
    let vault = KeyVault::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, vault.ca_pem()).unwrap();
    let (url, switches) = (vault.url(), vault.switches_url());
    let environment: BTreeMap<_, _> = vault.identity().environment().into_iter().collect();
    let mut arguments = vec!["--vault", &url, "--switches", &switches];
    arguments.extend(["--ca", ca.to_str().unwrap()]);
    arguments.extend(["--identity-endpoint", &environment["IDENTITY_ENDPOINT"]]);
    arguments.extend(["--identity-header", &environment["IDENTITY_HEADER"]]);
    if let Some(version) = api_version {
        arguments.extend(["--api-version", version]);
    }
    let python = Python::install(KEY_VAULT)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let output = python
        .run("session.py", arguments, SESSION_TIMEOUT)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(output.status.success(), "{}", output.stderr);
    let steps = output.json();
    assert_eq!(steps.as_array().map(Vec::len), Some(12), "{steps}");
}

#[tokio::test]
async fn azures_clients_for_python_take_it_for_key_vault() {
    session(None).await;
}

#[tokio::test]
async fn so_they_do_with_the_api_version_of_the_rust_crates() {
    session(Some("2025-07-01")).await;
}

#[tokio::test]
async fn so_they_do_with_an_older_api_version() {
    session(Some("7.4")).await;
}

/// Asks as a person would, and takes JSON for an answer.
fn curl(arguments: &[&str]) -> Value {
    let limits = ["--silent", "--show-error", "--max-time", "20"];
    let output = Command::new("curl")
        .args(limits)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn variables(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test]
async fn as_a_process_it_has_what_its_folder_holds_and_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = folder.path().join("vault");
    let addresses = [(); 3].map(|()| free_address().unwrap().to_string());
    let [listen, identity, switches] = &addresses;
    let mut command = Command::new(binary("postern-load").unwrap());
    command.arg("key-vault").arg("--folder").arg(&seeds);
    command.args([
        "--listen",
        listen,
        "--identity",
        identity,
        "--switches",
        switches,
    ]);
    let mut child = Child::spawn("key-vault", command, folder.path()).unwrap();
    let environment = seeds.join("environment");
    let stands = async || {
        let stdout = std::fs::read_to_string(folder.path().join("key-vault.stdout"));
        stdout.is_ok_and(|text| text.contains("what was asked"))
    };
    child
        .wait_until("its instructions", READY_TIMEOUT, stands)
        .await
        .unwrap();

    let environment = variables(&environment);
    let header = format!("X-IDENTITY-HEADER: {}", environment["IDENTITY_HEADER"]);
    let query = "?api-version=2019-08-01&resource=https://vault.azure.net";
    let endpoint = format!("{}{query}", environment["IDENTITY_ENDPOINT"]);
    let token = curl(&["--header", &header, &endpoint]);
    let token = format!(
        "Authorization: Bearer {}",
        token["access_token"].as_str().unwrap()
    );
    let imds = format!("http://{identity}/metadata/identity/oauth2/token{query}");
    assert!(curl(&["--header", "Metadata: true", &imds])["access_token"].is_string());

    let ca = seeds.join("stand-in-ca.crt");
    let get = |path: &str| {
        let url = format!("https://{listen}/{path}?api-version=7.4");
        curl(&["--cacert", ca.to_str().unwrap(), "--header", &token, &url])
    };
    for name in ["private", "client", "internal-ca", "public-ca"] {
        assert!(
            get(&format!("secrets/{name}"))["value"].is_string(),
            "{name}"
        );
    }
    let before = get("certificates/private");
    let made = curl(&[
        "--data",
        r#"{"ca":"public-ca","names":["*.dicom.example"],"contents":"pem"}"#,
        &format!("http://{switches}/stand-in/certificates/private"),
    ]);
    let after = get("certificates/private");
    assert_ne!(before["id"], after["id"]);
    assert!(
        after["id"]
            .as_str()
            .unwrap()
            .ends_with(made["version"].as_str().unwrap())
    );
    assert_eq!(
        get("secrets/private")["contentType"],
        "application/x-pem-file"
    );
}
