//! Answers that no Key Vault gives, or that the stand-in does not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use postern_certs::dev_ca::DevCa;
use postern_certs::{Bundle, Expectations, UnixTime};
use postern_control::testing::http::{Answer, Call, Handler, Server};
use postern_control::testing::{credential, identity};
use postern_control::vault::{Vault, VaultOptions};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::scene::der;

type Respond = Box<dyn Fn(&Call) -> Answer + Send + Sync>;

/// Meets each connection's first request with a challenge, and the others with what the test says.
struct ByHand {
    respond: Respond,
    asked: Mutex<Vec<String>>,
}

impl Handler for ByHand {
    async fn answer(&self, call: Call) -> Answer {
        if call.header("authorization").is_none() {
            let challenge = "Bearer authorization=\"https://login.example/t\", resource=\"https://vault.azure.net\"";
            return Answer::new(StatusCode::UNAUTHORIZED, Value::Null)
                .with(WWW_AUTHENTICATE, challenge);
        }
        assert_eq!(call.method, Method::GET);
        let query: Vec<_> = call
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let asked = format!("{}?{}", call.path, query.join("&"));
        self.asked.lock().unwrap().push(asked);
        (self.respond)(&call)
    }
}

struct Scene {
    vault: Vault,
    server: Arc<ByHand>,
    _running: (Server, TempDir),
}

async fn scene(respond: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Scene {
    let ca = DevCa::new("By hand").unwrap();
    let issued = ca.server(&["127.0.0.1"]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der(&issued.chain_pem)], key)
        .unwrap();
    let server = Arc::new(ByHand {
        respond: Box::new(respond),
        asked: Mutex::default(),
    });
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let up = watch::Sender::new(false).subscribe();
    let handler = Arc::clone(&server);
    let running = Server::start(listen, Some(Arc::new(tls)), up, handler)
        .await
        .unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, ca.ca_pem()).unwrap();
    let options = VaultOptions {
        ca: Some(path),
        verify_challenge: false,
        ..VaultOptions::new(format!("https://{}", running.address()))
    };
    let source = Arc::new(identity::Identity::start().await.unwrap());
    Scene {
        vault: Vault::new(&options, &credential::identity(&source).unwrap()).unwrap(),
        server,
        _running: (running, folder),
    }
}

fn secret(content_type: &str, value: &str) -> Answer {
    Answer::ok(json!({
        "id": "https://127.0.0.1/secrets/private/0123456789abcdef0123456789abcdef",
        "contentType": content_type,
        "value": value,
        "attributes": { "enabled": true, "created": 1, "updated": 1 },
    }))
}

#[tokio::test]
async fn a_pkcs_12_that_cannot_be_opened_is_asked_for_as_pem() {
    let issued = DevCa::new("CA").unwrap().server(&["a.example"]).unwrap();
    let pem = format!("{}{}", issued.key_pem.as_str(), issued.chain_pem);
    let scene = scene(move |call| match call.query("outContentType") {
        Some("application/x-pem-file") => secret("application/x-pem-file", &pem),
        _ => secret(
            "application/x-pkcs12",
            &BASE64_STANDARD.encode("with no password"),
        ),
    })
    .await;
    let parts = scene.vault.identity("private", "v1").await.unwrap();
    Bundle::prove(parts, &Expectations::server(), UnixTime::now()).unwrap();
    let asked = scene.server.asked.lock().unwrap().clone();
    let expected = [
        "/secrets/private/v1?api-version=2025-07-01",
        "/secrets/private/v1?api-version=2025-07-01&outContentType=application/x-pem-file",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up() {
    let scene = scene(|_| secret("text/plain", &"x".repeat(300 * 1024))).await;
    let error = scene.vault.newest_secret("large").await.unwrap_err();
    assert_eq!(error.label(), "malformed");
    assert!(
        error.to_string().contains("more than 262144 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let scene =
        scene(|_| Answer::new(StatusCode::FOUND, Value::Null).with(LOCATION, "/secrets/elsewhere"))
            .await;
    let error = scene.vault.newest_secret("moved").await.unwrap_err();
    assert_eq!(error.label(), "rejected");
    assert_eq!(scene.server.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_of_another_shape_is_refused_and_not_shown() {
    let scene = scene(|_| Answer::ok(json!({ "value": "hunter2", "attributes": "hunter2" }))).await;
    let error = scene.vault.newest_secret("bent").await.unwrap_err();
    assert_eq!(error.label(), "malformed");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    let error = scene.vault.newest("bent").await.unwrap_err();
    assert_eq!(error.label(), "malformed");
}

#[tokio::test]
async fn a_vault_that_asks_for_time_gets_it_however_it_asks() {
    let ask = |status, name: HeaderName, value: &'static str| {
        move |_: &Call| Answer::new(status, Value::Null).with(name.clone(), value)
    };
    let in_ms = HeaderName::from_static("x-ms-retry-after-ms");
    let throttled = scene(ask(StatusCode::TOO_MANY_REQUESTS, in_ms, "1500")).await;
    let error = throttled.vault.newest("a").await.unwrap_err();
    assert_eq!(error.retry_after().unwrap().as_millis(), 1500);
    let busy = scene(ask(StatusCode::SERVICE_UNAVAILABLE, RETRY_AFTER, "12")).await;
    let error = busy.vault.newest("a").await.unwrap_err();
    assert_eq!(
        (error.label(), error.retry_after().unwrap().as_secs()),
        ("unavailable", 12)
    );
}

#[tokio::test]
async fn a_listing_that_does_not_end_is_given_up() {
    let scene = scene(|call| {
        let host = call.header("host").unwrap();
        let next = format!("https://{host}{}?more", call.path);
        Answer::ok(json!({ "value": [], "nextLink": next }))
    })
    .await;
    let error = scene.vault.enabled("endless", 0).await.unwrap_err();
    assert_eq!(error.label(), "malformed");
    assert!(error.to_string().contains("more than 400 pages"), "{error}");
    assert_eq!(scene.server.asked.lock().unwrap().len(), 401);
}

#[tokio::test]
async fn a_vault_that_converts_nothing_leaves_the_reason_as_it_is() {
    let scene = scene(|call| match call.query("outContentType") {
        Some(_) => Answer::new(StatusCode::BAD_REQUEST, Value::Null),
        None => secret(
            "application/x-pkcs12",
            &BASE64_STANDARD.encode("with no password"),
        ),
    })
    .await;
    let error = scene.vault.identity("private", "v1").await.unwrap_err();
    assert_eq!(error.label(), "contents");
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}
