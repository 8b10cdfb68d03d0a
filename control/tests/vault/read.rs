//! What is there is read: versions, identities, trust, secrets.

use postern_certs::{Bundle, Expectations, Parts, UnixTime};
use postern_control::testing::key_vault::{Contents, NewVersion};
use postern_control::vault::{NewSecret, VaultError};

use crate::scene::{Scene, now};

const DAY: i64 = 24 * 3600;

fn server() -> NewVersion {
    NewVersion::server("internal-ca", &["a.example"])
}

fn proven(parts: Parts) -> Bundle {
    Bundle::prove(parts, &Expectations::server(), UnixTime::now()).unwrap()
}

#[tokio::test]
async fn the_newest_version_takes_one_request() {
    let scene = Scene::start().await;
    scene.stand_in.add("private", &server()).unwrap();
    scene.stand_in.identity().clock().set_ahead(60);
    let second = scene.stand_in.add("private", &server()).unwrap();
    let newest = scene.vault.newest("private").await.unwrap();
    assert_eq!(newest.id, second);
    assert_eq!(scene.answered(), 1);
    assert!((now()..now() + 120).contains(&newest.created));
    assert!(newest.not_before.unwrap() < now() && now() + 80 * DAY < newest.not_after.unwrap());
    assert_eq!(newest.thumbprint.as_ref().unwrap().len(), 40);
    // The challenge is met once.
    scene.vault.newest("private").await.unwrap();
    assert_eq!(scene.stand_in.log().count_status(401), 1);
    assert_eq!(scene.answered(), 2);
}

#[tokio::test]
async fn a_disabled_newest_version_gives_way_to_the_newest_that_is_enabled() {
    let scene = Scene::start().await;
    let mut ids = Vec::new();
    for minutes in 0..3 {
        scene.stand_in.identity().clock().set_ahead(60 * minutes);
        ids.push(scene.stand_in.add("private", &server()).unwrap());
    }
    let disable = |id: &str| {
        scene
            .stand_in
            .set_enabled("private", Some(id), false)
            .unwrap();
    };
    disable(&ids[2]);
    assert_eq!(scene.vault.newest("private").await.unwrap().id, ids[1]);
    let (version, certificate) = scene.vault.newest_certificate("private").await.unwrap();
    assert_eq!(version.id, ids[1]);
    let again = scene.vault.certificate("private", &ids[1]).await.unwrap();
    assert_eq!(again, (version, certificate));
    let refused = scene.vault.identity("private", &ids[2]).await;
    assert!(matches!(refused, Err(VaultError::Disabled)), "{refused:?}");
    let refused = scene.vault.certificate("private", &ids[2]).await;
    assert!(matches!(refused, Err(VaultError::Disabled)), "{refused:?}");
    disable(&ids[1]);
    disable(&ids[0]);
    let refused = scene.vault.newest("private").await;
    assert!(matches!(refused, Err(VaultError::Disabled)), "{refused:?}");
}

#[tokio::test]
async fn the_trust_set_is_what_is_enabled_and_not_expired_newest_first() {
    let scene = Scene::start().await;
    let mut ids = Vec::new();
    for minutes in 0..5 {
        scene.stand_in.identity().clock().set_ahead(60 * minutes);
        let version = NewVersion {
            not_after: (minutes == 1).then(|| now() - DAY),
            not_before: (minutes == 1).then(|| now() - 2 * DAY),
            ..server()
        };
        ids.push(scene.stand_in.add("trust", &version).unwrap());
    }
    scene
        .stand_in
        .set_enabled("trust", Some(&ids[3]), false)
        .unwrap();
    let enabled = scene.vault.enabled("trust", now()).await.unwrap();
    let found: Vec<_> = enabled.iter().map(|(version, _)| &version.id).collect();
    assert_eq!(found, [&ids[4], &ids[2], &ids[0]]);
    let expiring = scene
        .vault
        .enabled("trust", now() + 1000 * DAY)
        .await
        .unwrap();
    assert!(expiring.is_empty());
}

#[tokio::test]
async fn more_versions_than_a_page_holds_are_all_seen() {
    let scene = Scene::start().await;
    let issued = postern_certs::dev_ca::DevCa::new("CA")
        .unwrap()
        .server(&["a.example"])
        .unwrap();
    let mut newest = String::new();
    for minutes in 0..60 {
        scene.stand_in.identity().clock().set_ahead(60 * minutes);
        newest = scene
            .stand_in
            .add_issued("many", &issued, Contents::Pem)
            .unwrap();
    }
    let enabled = scene.vault.enabled("many", now()).await.unwrap();
    // As many as are fetched, and they are the newest.
    assert_eq!(enabled.len(), 16);
    assert_eq!(enabled[0].0.id, newest);
    assert!(
        enabled
            .windows(2)
            .all(|pair| pair[0].0.created > pair[1].0.created)
    );
}

#[tokio::test]
async fn every_form_of_a_secret_gives_the_identity() {
    let scene = Scene::start().await;
    for contents in [Contents::Pkcs12, Contents::Pkcs12TripleDes, Contents::Pem] {
        let version = NewVersion {
            contents,
            ..server()
        };
        let id = scene.stand_in.add("private", &version).unwrap();
        let bundle = proven(scene.vault.identity("private", &id).await.unwrap());
        assert!(bundle.covers("a.example"), "{contents:?}");
    }
    let version = NewVersion {
        rsa: true,
        ..server()
    };
    let id = scene.stand_in.add("private", &version).unwrap();
    proven(scene.vault.identity("private", &id).await.unwrap());
}

#[tokio::test]
async fn a_key_that_is_not_exportable_is_said_to_be_so() {
    let scene = Scene::start().await;
    let ca = scene.vault.newest("internal-ca").await.unwrap();
    let refused = scene
        .vault
        .identity("internal-ca", &ca.id)
        .await
        .unwrap_err();
    assert_eq!(refused.label(), "contents");
    assert!(
        refused.to_string().contains("must make the key exportable"),
        "{refused}"
    );
}

#[tokio::test]
async fn secrets_come_newest_first_without_those_that_ended_or_are_disabled() {
    let scene = Scene::start().await;
    let missing = scene.vault.secrets("tickets", now()).await;
    assert!(matches!(missing, Err(VaultError::NotFound)), "{missing:?}");
    for (minutes, value) in [(0, "ended"), (1, "old"), (2, "disabled"), (3, "new")] {
        scene.stand_in.identity().clock().set_ahead(60 * minutes);
        let new = NewSecret {
            value,
            content_type: "application/vnd.postern.ticket-key",
            not_before: now() - 10 * DAY,
            expires: if value == "ended" {
                now() - DAY
            } else {
                now() + DAY
            },
        };
        scene.vault.set_secret("tickets", &new).await.unwrap();
        if value == "disabled" {
            scene.stand_in.set_enabled("tickets", None, false).unwrap();
        }
    }
    let secrets = scene.vault.secrets("tickets", now()).await.unwrap();
    let values: Vec<_> = secrets.iter().map(|secret| secret.value.as_str()).collect();
    assert_eq!(values, ["new", "old"]);
    let newest = &secrets[0];
    assert_eq!(
        newest.content_type.as_deref(),
        Some("application/vnd.postern.ticket-key")
    );
    assert!(newest.not_before.is_some_and(|at| at < now()));
    assert!(newest.expires.is_some_and(|at| at > now()));
    assert!(!format!("{secrets:?}").contains("new"));
    let same = scene.vault.newest_secret("tickets").await.unwrap();
    assert_eq!(
        (same.id.as_str(), same.value.as_str()),
        (newest.id.as_str(), "new")
    );
}

#[tokio::test]
async fn a_name_that_no_vault_has_is_not_asked_for() {
    let scene = Scene::start().await;
    for name in ["", "a/b", "a?b", "..", &"a".repeat(128)] {
        let refused = scene.vault.newest(name).await;
        assert!(
            matches!(refused, Err(VaultError::NotFound)),
            "{name}: {refused:?}"
        );
    }
    assert!(scene.stand_in.log().requests().is_empty());
}
