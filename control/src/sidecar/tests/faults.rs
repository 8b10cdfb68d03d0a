//! Whatever goes wrong: what is published stays, one line says why, one metric counts, and recovery needs no hand.

use std::time::Duration;

use super::scene::{Scene, server};
use crate::testing::key_vault::{Faults, NewVersion};

const DAY: i64 = 86_400;

/// Three rounds that do not end well, for this reason, and one that does after `mend`.
async fn fails(scene: &mut Scene, reason: &str, outcome: &str, mend: impl FnOnce(&mut Scene)) {
    let before = scene.generation("private");
    scene.said("private");
    for _ in 0..3 {
        scene.step("private").await;
    }
    assert_eq!(scene.generation("private"), before, "{reason}");
    let said = scene.said("private");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        (&said[0]["level"], &said[0]["reason"]),
        (&"WARN".into(), &reason.into()),
        "{said:?}"
    );
    assert_eq!(scene.refusals("private", reason), 3);
    assert_eq!(scene.rounds("private", outcome), 3);
    mend(scene);
    scene.step("private").await;
    let said = scene.said("private");
    assert_eq!(said[0]["message"], "recovered", "{said:?}");
    assert_eq!(
        (&said[0]["reason"], &said[0]["rounds"]),
        (&reason.into(), &3.into())
    );
    assert!(scene.is_ready());
}

fn mended(scene: &mut Scene) {
    scene.fault(Faults::default());
}

async fn published() -> Scene {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    scene
}

#[tokio::test]
async fn forbidden() {
    let mut scene = published().await;
    scene.fault(Faults {
        deny: true,
        ..Faults::default()
    });
    fails(&mut scene, "forbidden", "failed", mended).await;
    let forbidden = format!(
        "postern_control_vault_requests_total{{outcome=\"forbidden\",vault=\"{}\"}}",
        scene.vault.address().ip()
    );
    assert_eq!(scene.metric(&forbidden), 3);
}

#[tokio::test]
async fn throttled() {
    let mut scene = published().await;
    let throttled = Faults {
        throttle: Some(20),
        ..Faults::default()
    };
    scene.fault(throttled.clone());
    let rest = scene.step("client").await;
    assert_eq!(
        rest,
        Duration::from_secs(30),
        "no less than 20, and half of it by chance"
    );
    fails(&mut scene, "throttled", "failed", mended).await;
}

#[tokio::test]
async fn no_pkcs12() {
    let mut scene = published().await;
    scene.vault.add("private", &server()).unwrap();
    scene.fault(Faults {
        garbage: ["private".to_owned()].into(),
        ..Faults::default()
    });
    fails(&mut scene, "contents", "failed", mended).await;
    assert_eq!(scene.generation("private"), 2);
}

#[tokio::test]
async fn the_key_of_another_certificate() {
    let mut scene = published().await;
    scene.vault.add("private", &server()).unwrap();
    scene.fault(Faults {
        key_of: [("private".to_owned(), "client".to_owned())].into(),
        ..Faults::default()
    });
    fails(&mut scene, "key_mismatch", "refused", mended).await;
    assert_eq!(scene.generation("private"), 2);
}

/// A version like this is refused; the one before is taken back, by disabling it.
async fn refused(version: impl FnOnce(i64) -> NewVersion, reason: &str) {
    let mut scene = published().await;
    let version = version(scene.now);
    let version = scene.vault.add("private", &version).unwrap();
    fails(&mut scene, reason, "refused", |scene| {
        scene
            .vault
            .set_enabled("private", Some(&version), false)
            .unwrap();
    })
    .await;
    assert_eq!(scene.generation("private"), 1);
}

#[tokio::test]
async fn expired() {
    let expired = |now| NewVersion {
        not_before: Some(now - 2 * DAY),
        not_after: Some(now - DAY),
        ..server()
    };
    refused(expired, "expired").await;
}

#[tokio::test]
async fn names_missing() {
    let other = |_| NewVersion::server("public", &["*.fhir.example"]);
    refused(other, "names_missing").await;
}

#[tokio::test]
async fn for_clients_only() {
    let client = |_| NewVersion {
        client: true,
        ..server()
    };
    refused(client, "wrong_usage").await;
}

#[tokio::test]
async fn not_yet_valid_is_taken_when_it_is() {
    let mut scene = published().await;
    let version = NewVersion {
        not_before: Some(scene.now + 3600),
        not_after: Some(scene.now + 90 * DAY),
        ..server()
    };
    scene.vault.add("private", &version).unwrap();
    fails(&mut scene, "not_yet_valid", "refused", |scene| {
        scene.now += 3600;
    })
    .await;
    assert_eq!(scene.generation("private"), 2);
}

#[tokio::test]
async fn another_bad_version_is_another_line() {
    let mut scene = published().await;
    for _ in 0..2 {
        let other = NewVersion::server("public", &["*.fhir.example"]);
        scene.vault.add("private", &other).unwrap();
        scene.said("private");
        scene.step("private").await;
        scene.step("private").await;
        assert_eq!(scene.said("private").len(), 1);
    }
}

#[tokio::test]
async fn disabled_and_deleted() {
    let mut scene = published().await;
    scene.vault.set_enabled("private", None, false).unwrap();
    fails(&mut scene, "disabled", "failed", |scene| {
        scene.vault.set_enabled("private", None, true).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written() {
    let mut scene = Scene::start().await;
    // What stands in the way of a folder, as a full disk does: root may write everywhere else.
    std::fs::write(scene.store("private"), "").unwrap();
    for _ in 0..3 {
        scene.step("private").await;
    }
    let said = scene.said("private");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["message"], "not published yet");
    assert_eq!(scene.refusals("private", "store_io"), 3);
    assert_eq!(scene.rounds("private", "failed"), 3);
    std::fs::remove_file(scene.store("private")).unwrap();
    std::fs::create_dir(scene.store("private")).unwrap();
    std::fs::write(scene.store("private").join("other"), "").unwrap();
    scene.step("private").await;
    assert_eq!(scene.refusals("private", "not_a_store"), 1);
    std::fs::remove_file(scene.store("private").join("other")).unwrap();
    scene.step("private").await;
    assert_eq!(scene.generation("private"), 1);
}

#[tokio::test]
async fn a_vault_that_is_down_for_an_hour() {
    let mut scene = published().await;
    let (generation, begin) = (scene.generation("private"), scene.now);
    scene.fault(Faults {
        down: true,
        ..Faults::default()
    });
    scene.said("private");
    let mut rounds = 0;
    while scene.now < begin + 3600 {
        let rest = scene.step("private").await;
        scene.now += i64::try_from(rest.as_secs()).unwrap();
        rounds += 1;
        assert!(scene.is_ready());
        assert!(rest <= Duration::from_mins(5));
    }
    // Nine doublings to five minutes, then every five.
    assert_eq!(rounds, 9 + 11);
    assert_eq!(scene.generation("private"), generation);
    assert_eq!(scene.refusals("private", "unavailable"), rounds);
    let said = scene.said("private");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["reason"], "unavailable");
    let version = scene.vault.add("private", &server()).unwrap();
    scene.fault(Faults::default());
    scene.step("private").await;
    assert_eq!(scene.published("private"), version);
    let said = scene.said("private");
    assert_eq!(
        (&said[0]["message"], &said[0]["rounds"]),
        (&"recovered".into(), &rounds.into())
    );
    assert_eq!(said[1]["message"], "published");
}
