//! What rounds do when nothing is wrong.

use std::time::Duration;

use postern_certs::dev_ca::DevCa;

use super::scene::{Scene, client, server};
use crate::testing::key_vault::{Contents, Faults, NewVersion};

const DAY: i64 = 86_400;

#[tokio::test]
async fn everything_is_published_at_first() {
    let mut scene = Scene::start().await;
    assert!(!scene.is_ready());
    scene.step_all().await;
    for name in ["private", "client", "trust", "tickets"] {
        assert_eq!(scene.generation(name), 1, "{name}");
        assert_eq!(scene.rounds(name, "published"), 1, "{name}");
        let labels = format!("{{certificate=\"{name}\"}}");
        assert_eq!(
            scene.metric(&format!("postern_control_generation{labels}")),
            1
        );
        let success = scene.metric(&format!("postern_control_last_success_seconds{labels}"));
        assert_eq!(success, scene.now);
        let until = scene.metric(&format!("postern_control_not_after_seconds{labels}"));
        assert!(until > scene.now, "{name}: {until}");
        let next = scene.metric(&format!("postern_control_next_look_seconds{labels}"));
        assert_eq!(next, scene.now + 600);
    }
    let said = scene.said("private");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["message"], "published");
    assert_eq!(said[0]["generation"], 1);
    assert!(scene.is_ready());
}

#[tokio::test]
async fn what_is_published_is_not_fetched_again() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    let first = scene.published("private");
    scene.vault.log().clear();
    scene.now += 600;
    let rest = scene.step("private").await;
    assert_eq!(rest, Duration::from_mins(10));
    assert_eq!(scene.vault.log().requests().len(), 1);
    scene.vault.log().clear();
    scene.step_all().await;
    assert_eq!(scene.vault.log().count("GET", "/secrets/private"), 0);
    assert_eq!(scene.vault.log().requests().len(), 4, "one each");
    assert_eq!(scene.rounds("private", "unchanged"), 2);
    assert_eq!(
        (scene.generation("private"), scene.published("private")),
        (1, first)
    );
}

#[tokio::test]
async fn a_new_version_is_published() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    let version = scene.vault.add("private", &server()).unwrap();
    let identity = scene.vault.add("client", &client()).unwrap();
    scene.step_all().await;
    assert_eq!(
        (scene.generation("private"), scene.published("private")),
        (2, version)
    );
    assert_eq!(
        (scene.generation("client"), scene.published("client")),
        (2, identity)
    );
    assert_eq!(scene.rounds("private", "published"), 2);
    assert_eq!(
        (scene.generation("trust"), scene.generation("tickets")),
        (1, 1)
    );
}

#[tokio::test]
async fn an_older_version_that_is_the_newest_enabled_one_is_not_taken() {
    let mut scene = Scene::start().await;
    let now = scene.now;
    let aged = |begun: i64, ends: i64| NewVersion {
        not_before: Some(now - begun * DAY),
        not_after: Some(now + ends * DAY),
        ..server()
    };
    // Made within the same second, so that only one of them may be enabled.
    scene.vault.set_enabled("private", None, false).unwrap();
    let older = scene.vault.add("private", &aged(30, 60)).unwrap();
    scene.step_all().await;
    assert_eq!(scene.published("private"), older);
    let newer = scene.vault.add("private", &aged(1, 90)).unwrap();
    scene.step("private").await;
    assert_eq!(scene.published("private"), newer);
    scene
        .vault
        .set_enabled("private", Some(&newer), false)
        .unwrap();
    scene.said("private");
    for _ in 0..3 {
        assert_eq!(scene.step("private").await, Duration::from_mins(10));
    }
    assert_eq!(
        (scene.generation("private"), scene.published("private")),
        (2, newer.clone())
    );
    assert_eq!(scene.rounds("private", "older"), 3);
    let said = scene.said("private");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["version"], older);
    scene
        .vault
        .set_enabled("private", Some(&newer), true)
        .unwrap();
    scene.step("private").await;
    assert_eq!(scene.rounds("private", "unchanged"), 1);
}

#[tokio::test]
async fn the_newest_enabled_version_is_found_behind_a_disabled_one_even_at_first() {
    let mut scene = Scene::start().await;
    scene.vault.set_enabled("private", None, false).unwrap();
    let first = scene.vault.add("private", &server()).unwrap();
    let second = scene.vault.add("private", &server()).unwrap();
    scene
        .vault
        .set_enabled("private", Some(&second), false)
        .unwrap();
    scene.step("private").await;
    assert_eq!(scene.published("private"), first);
}

#[tokio::test]
async fn a_sidecar_that_is_started_again_is_ready_with_what_is_on_the_disk() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    scene.restart();
    scene.fault(Faults {
        down: true,
        ..Faults::default()
    });
    assert!(!scene.is_ready());
    for (cycle, _) in &mut scene.sidecar.cycles {
        cycle.recall(scene.now).await;
    }
    assert!(scene.is_ready());
    assert_eq!(
        scene.metric("postern_control_generation{certificate=\"trust\"}"),
        1
    );
    scene.step_all().await;
    assert!(scene.is_ready());
    scene.now += 91 * DAY;
    assert!(!scene.is_ready());
}

#[tokio::test]
async fn a_damaged_store_is_published_anew() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    std::fs::write(scene.store("private").join("current/chain.pem"), "?").unwrap();
    scene.step("private").await;
    assert_eq!(scene.generation("private"), 2);
}

#[tokio::test]
async fn a_client_certificate_is_made_when_none_is_there() {
    let issue = r#"
        [certificates.made]
        kind = "client"
        vault = "main"
        name = "made"
        store = "stores/made"
        [certificates.made.issue]
        subject = "CN=postern, O=Example"
        [certificates.made.issue.ca]
        certificate = "internal-ca"
        trusted_for = "0s"
    "#;
    let mut scene = Scene::with(issue).await;
    scene.step("made").await;
    assert_eq!(scene.generation("made"), 0);
    let issues = "postern_control_issues_total{certificate=\"made\",outcome=";
    assert_eq!(scene.metric(&format!("{issues}\"not_yet_trusted\"}}")), 1);
    scene.step("trust").await;
    scene.step("made").await;
    assert_eq!(scene.generation("made"), 1);
    assert_eq!(scene.metric(&format!("{issues}\"issued\"}}")), 1);
    assert!(
        scene
            .manifest("made")
            .unwrap()
            .subject
            .contains("CN=postern")
    );
    scene.step("made").await;
    assert_eq!(scene.metric(&format!("{issues}\"not_due\"}}")), 1);
    assert_eq!(scene.rounds("made", "unchanged"), 1);
}

#[tokio::test]
async fn the_same_certificate_under_a_new_version_is_fetched_once() {
    let mut scene = Scene::start().await;
    let ca = DevCa::new("Public CA").unwrap();
    let issued = ca.server(&["*.dicom.example"]).unwrap();
    let add = |scene: &Scene| {
        let contents = Contents::default();
        scene
            .vault
            .add_issued("private", &issued, contents)
            .unwrap()
    };
    scene.vault.set_enabled("private", None, false).unwrap();
    let first = add(&scene);
    scene.step_all().await;
    scene
        .vault
        .set_enabled("private", Some(&first), false)
        .unwrap();
    add(&scene);
    scene.step("private").await;
    scene.vault.log().clear();
    scene.step("private").await;
    assert_eq!(scene.vault.log().requests().len(), 1);
    assert_eq!(
        (
            scene.generation("private"),
            scene.rounds("private", "unchanged")
        ),
        (1, 2)
    );
}

#[tokio::test]
async fn what_is_published_is_held_against_a_configuration_that_has_changed() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    let options = scene.config.certificates.get_mut("private").unwrap();
    options.names.push("*.fhir.example".to_owned());
    scene.restart();
    scene.step("private").await;
    assert_eq!(scene.refusals("private", "names_missing"), 1);
    assert_eq!(scene.generation("private"), 1);
    let both = NewVersion::server("public", &["*.dicom.example", "*.fhir.example"]);
    scene.vault.set_enabled("private", None, false).unwrap();
    scene.vault.add("private", &both).unwrap();
    scene.step("private").await;
    assert_eq!(scene.generation("private"), 2);
}
