//! Changes of an account while its links are at work: they hold from the next request on.

use postern_loadtests::stack::accounts::{
    HOST_A, HOST_A_ARCHIVE, HOST_B, HOST_KEY, LINK_A, LINK_B, LINK_KEY,
};
use postern_loadtests::stack::client::Protocol;
use postern_loadtests::stack::operator::account_path;
use serde_json::{Value, json};

use super::{becomes, routed, settles};
use crate::scene::{says_back, until};

fn account(hosts: &[&str], cluster: &str, key: &str) -> Value {
    json!({ "properties": {
        "kind": "dicom", "hosts": hosts, "cluster": cluster, "customerKey": { "state": key },
    }})
}

#[tokio::test]
async fn a_host_that_moves_to_another_account_takes_its_new_links_only() {
    let (scene, operator) = routed(&[("POSTERN_ROUTES__REVOKED_TIMEOUT", "1s")], "").await;
    let mut archive = scene.connect(LINK_A, HOST_A_ARCHIVE, Protocol::Http2).await;
    assert_eq!(archive.get("/nonce/one").await.unwrap().status, 200);
    let mut main = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(main.get("/nonce/two").await.unwrap().status, 200);
    assert_eq!(scene.status(LINK_B, HOST_A_ARCHIVE, "/nonce/b").await, 403);
    let (mut socket, _kept) = scene
        .web_socket(LINK_A, HOST_A_ARCHIVE, Protocol::Http1)
        .await;

    // Nobody else may have it before the one who has it lets go.
    let taken = account(&[HOST_B, HOST_A_ARCHIVE], "dicom", "accessible");
    let path_b = account_path("hospital-b");
    let refused = operator
        .ask(http::Method::PUT, &path_b, Some(&taken))
        .await
        .unwrap();
    assert_eq!(refused.status, 409, "{}", refused.text());
    let without = account(&[HOST_A], "dicom", "accessible");
    operator
        .put(&account_path("hospital-a"), &without)
        .await
        .unwrap();
    operator.put(&path_b, &taken).await.unwrap();

    until("the end of the old connection", async || {
        archive.is_closed()
    })
    .await;
    until("the end of the WebSocket", async || {
        !says_back(&mut socket, "more").await
    })
    .await;
    assert_eq!(
        scene.status(LINK_A, HOST_A_ARCHIVE, "/nonce/gone").await,
        403
    );
    assert!(!scene.ingress_saw("/nonce/gone"));
    settles(&scene, LINK_B, HOST_A_ARCHIVE, "/nonce/new", 200).await;
    // What it still has, it keeps, on the connection that it has.
    assert_eq!(main.get("/nonce/kept").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_key_that_is_lost_and_found_shows_on_an_open_connection() {
    let (scene, operator) = routed(&[], "").await;
    let path = account_path("hospital-k");
    let key = async |state: &str| {
        let account = account(&[HOST_KEY], "dicom", state);
        operator.put(&path, &account).await.unwrap();
    };
    key("accessible").await;
    settles(&scene, LINK_KEY, HOST_KEY, "/nonce/found", 200).await;
    for protocol in Protocol::ALL {
        let mut open = scene.connect(LINK_KEY, HOST_KEY, protocol).await;
        assert_eq!(open.get("/nonce/before").await.unwrap().status, 200);
        key("not_accessible").await;
        let lost = format!("/nonce/lost-{}", protocol.label());
        becomes(&mut open, &lost, 403).await;
        let refused = format!("/nonce/refused-{}", protocol.label());
        let answer = open.get(&refused).await.unwrap();
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert_eq!(scene.logged(&refused).await["refusal"], "customer_key");
        assert!(!scene.ingress_saw(&refused));
        key("accessible").await;
        becomes(&mut open, "/nonce/found-again", 200).await;
    }
}

#[tokio::test]
async fn a_cluster_that_changes_is_where_the_next_request_goes() {
    // Nobody listens there.
    let other = "[upstream.clusters.other]\nname = \"other.internal.example\"\nendpoints = [\"127.0.0.1:9\"]\n";
    let (scene, operator) = routed(&[], other).await;
    let mut open = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(open.get("/nonce/here").await.unwrap().status, 200);
    let path = account_path("hospital-a");
    let hosts = [HOST_A, HOST_A_ARCHIVE];
    operator
        .put(&path, &account(&hosts, "other", "accessible"))
        .await
        .unwrap();
    becomes(&mut open, "/nonce/elsewhere", 502).await;
    operator
        .put(&path, &account(&hosts, "dicom", "accessible"))
        .await
        .unwrap();
    becomes(&mut open, "/nonce/back", 200).await;
}

#[tokio::test]
async fn a_cluster_that_this_postern_has_not_is_nowhere_to_go() {
    let (scene, operator) = routed(&[("POSTERN_ROUTE_CACHE__NOT_FOUND_TTL", "0s")], "").await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/here").await, 200);
    let path = account_path("hospital-a");
    let hosts = [HOST_A, HOST_A_ARCHIVE];
    operator
        .put(&path, &account(&hosts, "elsewhere", "accessible"))
        .await
        .unwrap();
    settles(&scene, LINK_A, HOST_A, "/nonce/nowhere", 503).await;
    let path_refused = "/nonce/nowhere-at-all";
    assert_eq!(scene.status(LINK_A, HOST_A, path_refused).await, 503);
    assert!(!scene.ingress_saw(path_refused));
    // Others do not suffer from it.
    assert_eq!(scene.status(LINK_B, HOST_B, "/nonce/other").await, 200);
    operator
        .put(&path, &account(&hosts, "dicom", "accessible"))
        .await
        .unwrap();
    settles(&scene, LINK_A, HOST_A, "/nonce/back", 200).await;
}
