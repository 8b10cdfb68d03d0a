//! New certificates without a restart, and bad ones refused.

use std::time::Duration;

use postern_certs::dev_ca::DevCa;

use super::client::{Connector, PATIENCE, tls};
use super::scene::Scene;

const LOOKUP: &str = "/v1/lookup?host=images.example";

async fn is_answered(connector: &Connector) -> bool {
    let Ok(mut client) = connector.connect().await else {
        return false;
    };
    let request = super::client::request(http::Method::GET, LOOKUP, &[], "");
    client.open(request).await.is_ok()
}

/// Asks with new connections until it is so.
async fn becomes(connector: &Connector, answered: bool) {
    let becomes = async {
        while is_answered(connector).await != answered {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, becomes).await.unwrap();
}

#[tokio::test]
async fn the_next_handshake_uses_what_is_new_and_a_bad_one_changes_nothing() {
    let scene = Scene::with(|config| config.tls.reload_interval = Duration::from_millis(10)).await;
    let path = |name: &str| scene.folder.path().join(name);
    let old = scene.connector("proxy.example");
    let mut open = old.connect().await.unwrap();
    assert_eq!(open.get(LOOKUP).await.status, 200);
    let new_ca = DevCa::new("New CA").unwrap();
    let identity = new_ca.client("proxy.example").unwrap();
    let of_new_ca = |server_ca: &str| Connector {
        tls: tls(server_ca, Some(&identity), b"h2"),
        ..old.clone()
    };
    let mixed = of_new_ca(scene.ca.ca_pem());
    assert!(!is_answered(&mixed).await);
    // Overlap: both CAs are trusted.
    let both = format!("{}{}", scene.ca.ca_pem(), new_ca.ca_pem());
    std::fs::write(path("trust/ca.crt"), both).unwrap();
    becomes(&mixed, true).await;
    assert!(is_answered(&old).await);
    // Our own certificate from the new CA: the old trust no longer verifies it.
    let server = new_ca.server(&["routing.example"]).unwrap();
    server.write_to(&path("server")).unwrap();
    let new = of_new_ca(new_ca.ca_pem());
    becomes(&new, true).await;
    assert!(!is_answered(&mixed).await);
    // What does not prove is refused, and what is in use stays.
    std::fs::write(path("server/tls.crt"), "no certificate").unwrap();
    let refused = async {
        let line = "postern_routing_credential_refusals_total{key=\"tls.identity\"} 0\n";
        while scene.admin("/metrics").await.1.contains(line) {}
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(is_answered(&new).await);
    assert_eq!(
        scene.admin("/readyz").await,
        (200, "store: ok\ncertificates: ok\n".into())
    );
    // The old CA goes: whoever is connected stays, whoever comes anew does not get in.
    std::fs::write(path("trust/ca.crt"), new_ca.ca_pem()).unwrap();
    let left = Connector {
        tls: tls(
            new_ca.ca_pem(),
            Some(&scene.ca.client("proxy.example").unwrap()),
            b"h2",
        ),
        ..old.clone()
    };
    becomes(&left, false).await;
    assert!(is_answered(&new).await);
    assert_eq!(open.get(LOOKUP).await.status, 200);
}

#[tokio::test]
async fn certificates_that_are_not_there_yet_are_waited_for() {
    let scene = Scene::with(|config| {
        config.tls.reload_interval = Duration::from_millis(10);
        let server = &config.tls.identity;
        std::fs::rename(server, server.with_extension("away")).unwrap();
    })
    .await;
    let connector = scene.connector("proxy.example");
    assert!(!is_answered(&connector).await);
    let (status, text) = scene.admin("/readyz").await;
    assert_eq!(
        (status, text.as_str()),
        (503, "store: ok\ncertificates: not there yet\n")
    );
    assert_eq!(scene.admin("/livez").await.0, 200);
    let server = scene.folder.path().join("server");
    std::fs::rename(server.with_extension("away"), &server).unwrap();
    becomes(&connector, true).await;
    assert_eq!(scene.admin("/readyz").await.0, 200);
}
