//! Many accounts, all of them or none.

use postern_api::LinkState::{Approved, Disconnected, Pending, Rejected};

use super::scene::{Scene, connection_id, entry};
use crate::routing::store::{Entry, Imported, Store as _};

#[tokio::test]
async fn all_of_it_is_there_and_each_account_is_one_change() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["old.example"]).await;
    scene.connection("clinic/images/kept", 1, Approved).await;
    let entries = || {
        vec![
            // States in which nothing is created otherwise: they have been.
            entry(
                "clinic/images",
                &["a.example"],
                &[("pe-1", 7, Rejected), ("pe-2", 8, Disconnected)],
            ),
            entry("new/images", &["b.example"], &[("pe-1", 7, Approved)]),
        ]
    };
    let imported = scene.store.import(entries()).await.unwrap();
    assert_eq!(
        imported,
        Imported {
            created: 1,
            changed: 1,
            unchanged: 0
        }
    );
    assert_eq!(scene.sequence(), 4);
    let log = scene.log().await;
    let whats: Vec<_> = log.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "account.created",
            "connection.created",
            "account.imported",
            "account.imported"
        ]
    );
    assert_eq!(log[2].removed_hosts[0].as_str(), "old.example");
    let links: Vec<_> = log[2]
        .links
        .iter()
        .map(|link| (link.link_id.get(), link.state))
        .collect();
    assert_eq!(links, [(1, Approved), (7, Rejected), (8, Disconnected)]);

    let before = scene.dump();
    let imported = scene.store.import(entries()).await.unwrap();
    assert_eq!(
        imported,
        Imported {
            created: 0,
            changed: 0,
            unchanged: 2
        }
    );
    assert_eq!(scene.dump(), before);

    let mut other = entries();
    other[0].connections[0].properties.state = Approved;
    let imported = scene.store.import(other).await.unwrap();
    assert_eq!(
        imported,
        Imported {
            created: 0,
            changed: 1,
            unchanged: 1
        }
    );
    let pe = connection_id("clinic/images/pe-1");
    assert_eq!(
        scene.store.connection(&pe).await.unwrap().value.state,
        Approved
    );
}

#[tokio::test]
async fn what_cannot_be_is_named_and_nothing_of_it_remains() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    scene.connection("clinic/images/pe-1", 7, Pending).await;
    scene.decide("clinic/images/pe-1", Rejected).await.unwrap();
    let before = scene.dump();
    let good = || entry("fresh/images", &["fresh.example"], &[("pe-1", 1, Approved)]);
    let many: Vec<_> = (0..101).map(|n| format!("pe-{n}")).collect();
    let many: Vec<_> = many
        .iter()
        .zip(0..)
        .map(|(name, link)| (name.as_str(), link, Pending))
        .collect();
    for (bad, item, why) in [
        (
            entry("lab/images", &["a.example"], &[]),
            "accounts[1] lab/images",
            "host `a.example` is another account's",
        ),
        (
            good(),
            "accounts[1] fresh/images",
            "account fresh/images is named twice",
        ),
        (
            entry(
                "lab/images",
                &["b.example"],
                &[("pe-1", 7, Pending), ("pe-2", 7, Pending)],
            ),
            "accounts[1] lab/images: connections[1] pe-2",
            "another connection of the account has link id 7",
        ),
        (
            entry(
                "lab/images",
                &["b.example"],
                &[("pe-1", 7, Pending), ("pe-1", 7, Pending)],
            ),
            "accounts[1] lab/images: connections[1] pe-1",
            "connection lab/images/pe-1 is named twice",
        ),
        (
            entry("clinic/images", &["a.example"], &[("pe-1", 7, Pending)]),
            "accounts[1] clinic/images: connections[0] pe-1",
            "a connection that is Rejected cannot become Pending",
        ),
        (
            entry("lab/images", &["b.example"], &many),
            "accounts[1] lab/images: connections[100] pe-100",
            "account lab/images has 100 connections, as many as it may",
        ),
    ] {
        let error = scene.store.import(vec![good(), bad]).await.unwrap_err();
        assert_eq!(
            (
                error.to_string().as_str(),
                error.source.to_string().as_str()
            ),
            (item, why)
        );
        assert_eq!(scene.dump(), before, "{item}: {why}");
    }
}

#[test]
fn an_entry_is_read_as_it_is_written() {
    let written = entry("clinic/images", &["a.example"], &[("pe-1", 7, Approved)]);
    let text = serde_json::to_string(&written).unwrap();
    let expected = r#"{"account":"clinic/images","properties":{"kind":"dicom","hosts":["a.example"],"cluster":"dicom","publicNetworkAccess":"Disabled","customerKey":{"state":"accessible"}},"connections":[{"name":"pe-1","properties":{"linkId":"7","state":"Approved"}}]}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), written);
    let unknown = text.replacen("\"kind\"", "\"colour\":1,\"kind\"", 1);
    let error = serde_json::from_str::<Entry>(&unknown)
        .unwrap_err()
        .to_string();
    assert!(error.contains("colour"), "{error}");
}
