//! What goes wrong has its word, is tried once, and is over when it is over.

use std::time::Duration;

use postern_control::testing::key_vault::{Faults, NewVersion};
use postern_control::vault::{
    Identity, IdentityOptions, SetupError, Vault, VaultError, VaultOptions,
};

use crate::scene::Scene;

async fn scene() -> Scene {
    let scene = Scene::start().await;
    let version = NewVersion::server("internal-ca", &["a.example"]);
    scene.stand_in.add("private", &version).unwrap();
    scene.vault.newest("private").await.unwrap();
    scene.stand_in.log().clear();
    scene
}

#[tokio::test]
async fn forbidden_throttled_and_broken_are_told_apart_and_tried_once() {
    let scene = scene().await;
    let faults = [
        (
            Faults {
                deny: true,
                ..Faults::default()
            },
            "forbidden",
            None,
        ),
        (
            Faults {
                throttle: Some(7),
                ..Faults::default()
            },
            "throttled",
            Some(7),
        ),
        (
            Faults {
                error: Some(503),
                ..Faults::default()
            },
            "unavailable",
            None,
        ),
        (
            Faults {
                error: Some(400),
                ..Faults::default()
            },
            "rejected",
            None,
        ),
    ];
    for (tried, (faults, label, wait)) in faults.into_iter().enumerate() {
        scene.stand_in.set_faults(faults);
        let error = scene.vault.newest("private").await.unwrap_err();
        assert_eq!(error.label(), label);
        assert_eq!(error.retry_after(), wait.map(Duration::from_secs));
        assert_eq!(scene.stand_in.log().requests().len(), tried + 1);
    }
    let missing = scene.vault.newest("missing").await;
    scene.stand_in.set_faults(Faults::default());
    assert!(missing.is_err());
    let missing = scene.vault.newest("missing").await;
    assert!(matches!(missing, Err(VaultError::NotFound)), "{missing:?}");
    scene.vault.newest("private").await.unwrap();
}

#[tokio::test]
async fn a_vault_that_is_down_is_unavailable_and_comes_back() {
    let scene = scene().await;
    scene.stand_in.set_faults(Faults {
        down: true,
        ..Faults::default()
    });
    for _ in 0..2 {
        let error = scene.vault.newest("private").await.unwrap_err();
        assert_eq!(error.label(), "unavailable", "{error}");
    }
    scene.stand_in.set_faults(Faults::default());
    scene.vault.newest("private").await.unwrap();
}

#[tokio::test]
async fn a_vault_that_answers_too_late_is_given_up() {
    let scene = scene().await;
    let hasty = scene.with(|options| options.request_timeout = Duration::from_millis(100));
    scene.stand_in.set_faults(Faults {
        latency_ms: 60_000,
        ..Faults::default()
    });
    let error = hasty.newest("private").await.unwrap_err();
    assert!(matches!(error, VaultError::TimedOut), "{error:?}");
}

#[tokio::test]
async fn garbage_is_refused_with_a_sentence() {
    let scene = scene().await;
    let garbage = ["private".to_owned()].into();
    scene.stand_in.set_faults(Faults {
        garbage,
        ..Faults::default()
    });
    let version = scene.vault.newest("private").await.unwrap();
    let error = scene
        .vault
        .identity("private", &version.id)
        .await
        .unwrap_err();
    assert_eq!(error.label(), "contents");
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_dropped_and_the_call_is_made_once_more() {
    let scene = scene().await;
    let before = scene.stand_in.identity().tokens();
    before.revoke();
    scene.vault.newest("private").await.unwrap();
    let log = scene.stand_in.log();
    assert_eq!((log.count_status(401), log.count_status(200)), (1, 1));
    // The other clients of the vault show the old token, too, or have none; each gets the new one.
    let version = scene.vault.newest("private").await.unwrap();
    scene.vault.identity("private", &version.id).await.unwrap();
    assert_eq!(log.count_status(401), 2);
}

#[tokio::test]
async fn a_vault_that_refuses_every_token_is_asked_twice_and_no_more() {
    let scene = scene().await;
    scene.stand_in.identity().tokens().set_lifetime(-1);
    scene.stand_in.identity().tokens().revoke();
    let error = scene.vault.newest("private").await.unwrap_err();
    assert!(matches!(error, VaultError::Unauthorized), "{error:?}");
    assert_eq!(scene.stand_in.log().count_status(401), 2);
    scene.stand_in.identity().tokens().set_lifetime(3600);
    scene.vault.newest("private").await.unwrap();
}

#[tokio::test]
async fn a_challenge_that_leads_elsewhere_is_not_followed() {
    let scene = scene().await;
    let strict = scene.with(|options| options.verify_challenge = true);
    let error = strict.newest("private").await.unwrap_err();
    assert_eq!(error.label(), "malformed");
    assert!(
        error
            .to_string()
            .contains("doesn't match the requested domain"),
        "{error}"
    );
    assert_eq!(scene.stand_in.log().count_status(200), 0);
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_talked_to() {
    let scene = scene().await;
    let other = Scene::start().await;
    let misled = scene.with(|options| options.url = other.stand_in.url());
    let error = misled.newest("private").await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(other.stand_in.log().requests().is_empty());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let identity = Identity::new(IdentityOptions::Cli { tenant_id: None }).unwrap();
    let refused = |options: &VaultOptions| Vault::new(options, &identity).unwrap_err();
    for url in [
        "vault.azure.net",
        "http://a.vault.azure.net",
        "https://a.vault.azure.net/secrets",
        "https://a.vault.azure.net?x=y",
        "https://user@a.vault.azure.net",
    ] {
        let error = refused(&VaultOptions::new(url));
        assert!(matches!(error, SetupError::Url(_)), "{url}: {error:?}");
    }
    let unverified = VaultOptions {
        verify_challenge: false,
        ..VaultOptions::new("https://a.vault.azure.net")
    };
    assert!(matches!(
        refused(&unverified),
        SetupError::UnverifiedChallenge
    ));
    let folder = tempfile::TempDir::new().unwrap();
    let with_ca = |path| VaultOptions {
        ca: Some(path),
        ..VaultOptions::new("https://a.vault.azure.net")
    };
    let missing = folder.path().join("missing.pem");
    assert!(matches!(refused(&with_ca(missing)), SetupError::Ca { .. }));
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    assert!(matches!(refused(&with_ca(empty)), SetupError::NoCa(_)));
}
