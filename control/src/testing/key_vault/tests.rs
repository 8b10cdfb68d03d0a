use postern_certs::dev_ca::DevCa;
use serde_json::{Value, json};

use super::*;

/// A vault, a CA in it, and a client that knows its token.
struct Scene {
    vault: KeyVault,
    client: reqwest::Client,
    token: String,
}

impl Scene {
    async fn start() -> Self {
        let vault = KeyVault::start().await.unwrap();
        vault
            .add_ca("internal-ca", DevCa::new("Internal CA").unwrap())
            .unwrap();
        let ca = reqwest::Certificate::from_pem(vault.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .build()
            .unwrap();
        let (token, _) = vault.identity().token(RESOURCE);
        Self {
            vault,
            client,
            token,
        }
    }

    async fn send(&self, method: http::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}?api-version=2025-07-01", self.vault.url());
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(http::Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(http::Method::POST, path, Some(body)).await
    }
}

#[tokio::test]
async fn without_a_usable_token_there_is_a_challenge() {
    let scene = Scene::start().await;
    let url = format!("{}/certificates?api-version=7.4", scene.vault.url());
    let challenged = scene.client.get(&url).send().await.unwrap();
    assert_eq!(challenged.status(), 401);
    let challenge = challenged.headers()["www-authenticate"].to_str().unwrap();
    let authority = scene.vault.identity().authority();
    let expected = format!("Bearer authorization=\"{authority}\", resource=\"{RESOURCE}\"");
    assert_eq!(challenge, expected);

    assert_eq!(scene.get("/certificates").await.0, 200);
    scene.vault.identity().clock().set_ahead(25 * 3600);
    assert_eq!(scene.get("/certificates").await.0, 401);
}

#[tokio::test]
async fn an_unknown_api_version_is_a_bad_request() {
    let scene = Scene::start().await;
    for query in ["", "?api-version=1999-01-01"] {
        let url = format!("{}/certificates{query}", scene.vault.url());
        let answer = scene
            .client
            .get(&url)
            .bearer_auth(&scene.token)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn a_seeded_certificate_is_read_with_its_secret() {
    let scene = Scene::start().await;
    let server = NewVersion::server("internal-ca", &["a.example"]);
    let version = scene.vault.add("private", &server).unwrap();
    let (status, certificate) = scene.get("/certificates/private/").await;
    assert_eq!(status, 200, "{certificate}");
    let id = format!("{}/certificates/private/{version}", scene.vault.url());
    assert_eq!(certificate["id"], id.as_str());
    let (status, secret) = scene.get(&format!("/secrets/private/{version}")).await;
    assert_eq!(status, 200, "{secret}");
    assert_eq!(secret["contentType"], "application/x-pkcs12");
    let value = secret["value"].as_str().unwrap();
    let (_, chain) = contents::unpack(Contents::Pkcs12, value, "").unwrap();
    assert_eq!(chain.len(), 1);
    assert_eq!(scene.vault.log().count("GET", "/secrets/private"), 1);
}

#[tokio::test]
async fn the_key_of_a_ca_signs_but_stays() {
    let scene = Scene::start().await;
    let (_, secret) = scene.get("/secrets/internal-ca").await;
    let value = secret["value"].as_str().unwrap();
    assert!(
        value.contains("CERTIFICATE") && !value.contains("PRIVATE"),
        "{value}"
    );
    let digest = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    let body = json!({ "alg": "ES256", "value": digest });
    let (status, signed) = scene.post("/keys/internal-ca/sign", body.clone()).await;
    assert_eq!(status, 200, "{signed}");
    // 64 bytes as base64url.
    assert_eq!(signed["value"].as_str().unwrap().len(), 86);

    scene.vault.set_enabled("internal-ca", None, false).unwrap();
    let (status, refused) = scene.post("/keys/internal-ca/sign", body.clone()).await;
    assert_eq!(
        (status, &refused["error"]["innererror"]["code"]),
        (403, &json!("KeyDisabled"))
    );
    let ended = DevCa::valid("Ended CA", 0, 1).unwrap();
    scene.vault.add_ca("internal-ca", ended).unwrap();
    let (status, refused) = scene.post("/keys/internal-ca/sign", body).await;
    assert_eq!(
        (status, &refused["error"]["innererror"]["code"]),
        (403, &json!("KeyExpired"))
    );
}

#[tokio::test]
async fn pages_hold_what_was_asked_for_and_lead_to_the_next() {
    let scene = Scene::start().await;
    let version = NewVersion::server("internal-ca", &["a.example"]);
    for _ in 0..3 {
        scene.vault.add("private", &version).unwrap();
    }
    let first = format!(
        "{}/certificates/private/versions?api-version=7.4&maxresults=2",
        scene.vault.url()
    );
    let page = async |url: &str| -> Value {
        let request = scene.client.get(url).bearer_auth(&scene.token);
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let first = page(&first).await;
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    let second = page(first["nextLink"].as_str().unwrap()).await;
    assert_eq!(second["value"].as_array().unwrap().len(), 1);
    assert!(second["nextLink"].is_null());
}

#[tokio::test]
async fn one_creation_at_a_time_and_a_merge_must_have_its_key() {
    let scene = Scene::start().await;
    let policy = json!({ "policy": { "key_props": { "kty": "EC" }, "issuer": { "name": "Unknown" },
        "x509_props": { "subject": "CN=postern" } } });
    let (status, pending) = scene
        .post("/certificates/client/create", policy.clone())
        .await;
    assert_eq!(status, 202, "{pending}");
    assert_eq!(pending["status"], "inProgress");
    let (status, conflict) = scene.post("/certificates/client/create", policy).await;
    assert_eq!(status, 409, "{conflict}");

    let stranger = DevCa::new("Stranger").unwrap();
    let cer = contents::certificates(stranger.ca_pem()).unwrap().remove(0);
    let merge = json!({ "x5c": [base64::Engine::encode(&base64::prelude::BASE64_STANDARD, cer)] });
    let (status, refused) = scene
        .post("/certificates/client/pending/merge", merge)
        .await;
    assert_eq!(status, 400, "{refused}");

    let cancel = json!({ "cancellation_requested": true });
    let path = "/certificates/client/pending";
    let (status, _) = scene
        .send(http::Method::PATCH, path, Some(cancel.clone()))
        .await;
    assert_eq!(status, 200);
    assert_eq!(scene.get(path).await.1["status"], "cancelled");
    assert_eq!(
        scene.send(http::Method::PATCH, path, Some(cancel)).await.0,
        403
    );
    assert_eq!(scene.send(http::Method::DELETE, path, None).await.0, 200);
    assert_eq!(scene.get(path).await.0, 404);
    assert_eq!(scene.get("/certificates/client").await.0, 404);
}

#[tokio::test]
async fn faults_come_and_go() {
    let scene = Scene::start().await;
    let set = |faults| scene.vault.set_faults(faults);
    set(Faults {
        deny: true,
        path: "/secrets/".to_owned(),
        ..Faults::default()
    });
    assert_eq!(scene.get("/secrets/internal-ca").await.0, 403);
    assert_eq!(scene.get("/certificates/internal-ca").await.0, 200);
    set(Faults {
        throttle: Some(7),
        times: Some(1),
        ..Faults::default()
    });
    assert_eq!(scene.get("/certificates").await.0, 429);
    assert_eq!(scene.get("/certificates").await.0, 200);
    set(Faults {
        down: true,
        ..Faults::default()
    });
    assert!(scene.client.get(scene.vault.url()).send().await.is_err());
    set(Faults::default());
    assert_eq!(scene.get("/certificates").await.0, 200);
    scene.vault.identity().tokens().revoke();
    assert_eq!(scene.get("/certificates").await.0, 401);
}

#[tokio::test]
async fn a_secret_can_be_garbage_or_have_the_key_of_another_certificate() {
    let scene = Scene::start().await;
    let version = NewVersion::server("internal-ca", &["a.example"]);
    for name in ["private", "other"] {
        scene.vault.add(name, &version).unwrap();
    }
    let unpacked = async || {
        let (_, secret) = scene.get("/secrets/private").await;
        contents::unpack(Contents::Pkcs12, secret["value"].as_str().unwrap(), "")
    };
    let (own, chain) = unpacked().await.unwrap();
    assert!(own.is_of(&chain[0]));
    scene.vault.set_faults(Faults {
        key_of: [("private".to_owned(), "other".to_owned())].into(),
        ..Faults::default()
    });
    let refused = unpacked().await.unwrap_err();
    assert!(
        format!("{refused:?}").contains("No certificate"),
        "{refused:?}"
    );
    scene.vault.set_faults(Faults {
        garbage: ["private".to_owned()].into(),
        ..Faults::default()
    });
    let refused = unpacked().await.unwrap_err();
    assert!(
        format!("{refused:?}").contains("can not be read"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_first_version_that_is_being_made_has_no_certificate_yet() {
    let scene = Scene::start().await;
    let policy =
        json!({ "policy": { "key_props": { "kty": "EC" }, "x509_props": { "subject": "CN=a" } } });
    assert_eq!(scene.post("/certificates/new/create", policy).await.0, 202);
    let (status, certificate) = scene.get("/certificates/new").await;
    assert_eq!(status, 200);
    assert_eq!(certificate["attributes"]["enabled"], false);
    assert!(
        certificate["cer"].is_null() && certificate["sid"].is_null(),
        "{certificate}"
    );
    assert_eq!(scene.get("/secrets/new").await.0, 404);
    assert_eq!(scene.get("/keys/new").await.0, 404);
    let (_, versions) = scene.get("/certificates/new/versions").await;
    assert_eq!(versions["value"], json!([]));
}

#[tokio::test]
async fn a_changed_policy_is_that_of_the_next_version() {
    let scene = Scene::start().await;
    let policy = json!({ "policy": { "issuer": { "name": "Self" }, "key_props": { "kty": "EC", "reuse_key": true },
        "x509_props": { "subject": "CN=a" } } });
    assert_eq!(scene.post("/certificates/a/create", policy).await.0, 202);
    let (_, before) = scene.get("/keys/a").await;
    let change = json!({ "secret_props": { "contentType": "application/x-pem-file" } });
    let (status, changed) = scene
        .send(http::Method::PATCH, "/certificates/a/policy", Some(change))
        .await;
    assert_eq!(
        (status, &changed["key_props"]["reuse_key"]),
        (200, &json!(true))
    );
    assert_eq!(
        scene.get("/secrets/a").await.1["contentType"],
        "application/x-pkcs12"
    );
    assert_eq!(scene.post("/certificates/a/create", json!({})).await.0, 202);
    assert_eq!(
        scene.get("/secrets/a").await.1["contentType"],
        "application/x-pem-file"
    );
    let (_, after) = scene.get("/keys/a").await;
    assert_eq!(before["key"]["x"], after["key"]["x"]);
    assert_ne!(before["key"]["kid"], after["key"]["kid"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let scene = Scene::start().await;
    let issuer = json!({ "policy": { "issuer": { "name": "DigiCert" } } });
    assert_eq!(scene.post("/certificates/a/create", issuer).await.0, 400);
    assert_eq!(
        scene
            .post("/certificates/a/import", json!({ "value": "AAAA" }))
            .await
            .0,
        400
    );
    assert_eq!(scene.get("/certificates/a_b").await.0, 400);
    assert_eq!(scene.get("/nothing").await.0, 404);
    let managed = json!({ "value": "secret" });
    let path = "/secrets/internal-ca";
    assert_eq!(
        scene.send(http::Method::PUT, path, Some(managed)).await.0,
        403
    );
    assert_eq!(
        scene
            .send(http::Method::PUT, "/keys/internal-ca", None)
            .await
            .0,
        405
    );
}
