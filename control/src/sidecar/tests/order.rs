//! The order of a CA's rotation: trusted first, then leaves, then the old one dropped.

use futures_util::FutureExt as _;
use postern_certs::dev_ca::DevCa;

use super::scene::Scene;
use crate::testing::key_vault::{Contents, NewVersion};

fn sentence(scene: &Scene, name: &str) -> String {
    let said = scene.said(name);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["reason"], "wrong_order");
    said[0]["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_certificate_waits_for_the_trust() {
    let mut scene = Scene::start().await;
    scene.step("client").await;
    assert_eq!(scene.refusals("client", "no_trust"), 1);
    assert_eq!(scene.generation("client"), 0);
    scene.step_all().await;
    assert_eq!(scene.generation("client"), 1);
}

#[tokio::test]
async fn a_leaf_of_a_ca_that_is_not_trusted_yet_is_refused_with_a_sentence() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    let next = DevCa::new("Next CA").unwrap();
    let leaf = next.client("postern.example").unwrap();
    let version = scene
        .vault
        .add_issued("client", &leaf, Contents::default())
        .unwrap();
    scene.said("client");
    scene.step_all().await;
    let why = sentence(&scene, "client");
    assert!(why.contains("issued by CN=Next CA, which is not in the published trust (trust); publish the new CA first"), "{why}");
    assert_eq!(scene.generation("client"), 1);
    // The right order needs no hand: the CA is added, trusted in the next round, and the leaf taken after it.
    scene.vault.add_ca("internal-ca", next).unwrap();
    scene.step_all().await;
    assert_eq!(scene.generation("trust"), 2);
    assert_eq!(scene.published("client"), version);
}

#[tokio::test]
async fn a_ca_that_is_still_needed_is_not_dropped() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    let versions = scene.published("trust");
    let next = DevCa::new("Next CA").unwrap();
    let leaf = next.client("postern.example").unwrap();
    scene.vault.add_ca("internal-ca", next).unwrap();
    scene.step_all().await;
    assert_eq!(scene.generation("trust"), 2);
    scene
        .vault
        .set_enabled("internal-ca", Some(&versions), false)
        .unwrap();
    scene.said("trust");
    scene.step_all().await;
    scene.step_all().await;
    let why = sentence(&scene, "trust");
    assert!(why.contains("the published client certificate client (CN=postern.example) is issued by CN=Internal CA, which this trust no longer has"), "{why}");
    assert_eq!(scene.generation("trust"), 2);
    scene
        .vault
        .add_issued("client", &leaf, Contents::default())
        .unwrap();
    scene.step_all().await;
    scene.step_all().await;
    assert_eq!(
        (scene.generation("client"), scene.generation("trust")),
        (2, 3)
    );
}

#[tokio::test]
async fn no_enabled_version_of_a_ca_empties_no_trust() {
    let mut scene = Scene::start().await;
    scene.step_all().await;
    scene.vault.set_enabled("internal-ca", None, false).unwrap();
    scene.step_all().await;
    assert_eq!(scene.generation("trust"), 1);
    assert_eq!(scene.rounds("trust", "failed"), 1);
    scene.vault.set_enabled("internal-ca", None, true).unwrap();
    scene.step_all().await;
    assert_eq!(scene.rounds("trust", "unchanged"), 1);
}

#[tokio::test]
async fn several_authorities_are_trusted_together() {
    let mut scene = Scene::replacing(
        "name = \"internal-ca\"",
        "name = \"internal-ca\"\nalso = [\"other-ca\"]",
    )
    .await;
    scene.step("trust").await;
    assert_eq!(scene.refusals("trust", "disabled"), 1);
    scene
        .vault
        .add_ca("other-ca", DevCa::new("Other CA").unwrap())
        .unwrap();
    let leaf = NewVersion::client("other-ca", "postern.example");
    scene.vault.add("client", &leaf).unwrap();
    scene.step_all().await;
    assert_eq!(
        (scene.generation("trust"), scene.generation("client")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_client_that_waits_looks_again_as_soon_as_its_trust_is_published() {
    let mut scene = Scene::start().await;
    let index = |scene: &Scene, name: &str| {
        let mut cycles = scene.sidecar.cycles.iter();
        cycles
            .position(|(cycle, _)| cycle.subject().name() == name)
            .unwrap()
    };
    scene.step("client").await;
    let client = index(&scene, "client");
    assert!(scene.sidecar.cycles[client].0.waits_for_trust());
    let followed = scene.sidecar.cycles[client].1.followed.clone();
    scene.step("trust").await;
    // There at once, or never.
    assert!(followed.notified().now_or_never().is_some());
    scene.step("trust").await;
    assert!(followed.notified().now_or_never().is_none());
    scene.step("client").await;
    assert!(!scene.sidecar.cycles[client].0.waits_for_trust());
}
