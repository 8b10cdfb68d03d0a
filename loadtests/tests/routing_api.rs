//! The API of account routing, as programs that are not ours understand its `OpenAPI` document.

#![allow(clippy::unwrap_used, reason = "the set-up is part of each test")]

use std::time::Duration;

use postern_loadtests::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::python::{Python, ROUTING_API};
use postern_loadtests::stack::routing::{Routing, RoutingOptions};

// Limit: some twenty seconds in a debug build; a busy machine needs more.
const SESSION_TIMEOUT: Duration = Duration::from_mins(4);

/// Requests that are made up, for each operation.
const EXAMPLES: &str = "8";

// Limit: after so many seconds, no more are made up.
const SECONDS: &str = "15";

/// The same requests each time.
const SEED: &str = "5";

#[tokio::test]
async fn it_is_valid_and_the_service_answers_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let credentials = Credentials::create(&certs, &[CERTIFICATE_NAME], INGRESS_NAME).unwrap();
    let options = RoutingOptions::default();
    let routing = Routing::start(&folder.path().join("routing"), &credentials, &options)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    routing.operator().unwrap().seed().await.unwrap();
    let python = Python::install(ROUTING_API)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let (url, ca, identity) = (
        format!("https://localhost:{}", routing.address().port()),
        routing.ca(),
        routing.operator_identity(),
    );
    let (cert, key) = (identity.join("tls.crt"), identity.join("tls.key"));
    let arguments = [
        ("--url", url.as_str()),
        ("--ca", ca.to_str().unwrap()),
        ("--cert", cert.to_str().unwrap()),
        ("--key", key.to_str().unwrap()),
        ("--examples", EXAMPLES),
        ("--seconds", SECONDS),
        ("--seed", SEED),
    ];
    let arguments = arguments.iter().flat_map(|(name, value)| [*name, *value]);
    let output = python
        .run("session.py", arguments, SESSION_TIMEOUT)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(output.status.success(), "{}", output.stderr);
    let outcome = output.json();
    assert_eq!(outcome["fuzzer"], 0, "{}", output.stdout);
    assert!(outcome["paths"].as_u64() > Some(8), "{outcome}");
}
