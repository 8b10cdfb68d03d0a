//! Readiness and credentials: it waits for the first proven set, and an expired one takes it away.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_certs::Purpose;
use postern_certs::dev_ca::LeafOptions;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::credentials::CLIENT_NAME;
use postern_loadtests::stack::postern::{Postern, PosternOptions};

use crate::scene::{Scene, until, with};

async fn is_ready(postern: &Postern) -> bool {
    let answer = postern.probe_answer("/readyz").await.unwrap();
    answer.status == 200
}

#[tokio::test]
async fn readiness_waits_for_the_first_proven_set() {
    let scene = Scene::start(&[]).await;
    let credentials = &scene.stack.credentials;
    let key = credentials.client.join("tls.key");
    let good = fs::read(&key).unwrap();
    // Another certificate's key.
    fs::copy(credentials.stranger.join("tls.key"), &key).unwrap();
    let folder = scene.folder.path().join("waiting");
    let log = folder.join("postern.stderr");
    let options = PosternOptions {
        environment: with(&[]).environment,
        ..PosternOptions::new(scene.stack.ingress.address())
    };
    let put_right = async {
        let waits = |line: &str| line.contains("readiness") && line.contains("credentials");
        until("the reason why it is not ready", async || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.contains("key_mismatch") && log.lines().any(waits)
        })
        .await;
        fs::write(&key, good).unwrap();
    };
    let start = Postern::start(&folder, credentials, &options);
    let (started, ()) = tokio::join!(start, put_right);
    assert!(is_ready(&started.unwrap()).await);
    // Who had a good one before kept it.
    assert!(is_ready(&scene.stack.postern).await);
}

#[tokio::test]
async fn an_expired_set_is_not_ready_until_there_is_a_new_one() {
    let scene = Scene::start(&[]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let issue = |to: i64| {
        let options = LeafOptions {
            not_after: Some(now + to),
            ..LeafOptions::new(Purpose::Client, [CLIENT_NAME])
        };
        let issued = scene.stack.credentials.internal.leaf(&options).unwrap();
        issued.write_to(&scene.stack.credentials.client).unwrap();
    };
    issue(5);
    scene
        .counted("postern_credential_generation", &[], 2.0)
        .await;
    until("an end of readiness", async || {
        !is_ready(&scene.stack.postern).await
    })
    .await;
    let body = scene.stack.postern.probe_answer("/readyz").await.unwrap();
    assert!(body.text().contains("credentials"), "{}", body.text());
    issue(3600);
    until("readiness", async || is_ready(&scene.stack.postern).await).await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/renewed").await, 200);
}
