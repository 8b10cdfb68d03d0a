//! The ticket keys of a fleet.

use postern_certs::{Location, TicketKeys};

use super::super::certificate::at;
use super::super::inspect::read_tickets;
use super::scene::Scene;

const HOUR: i64 = 3600;

fn keys(scene: &Scene) -> TicketKeys {
    let location = Location::new(scene.store("tickets"));
    read_tickets(&location, at(scene.now)).unwrap()
}

fn made(scene: &Scene) -> usize {
    scene.vault.log().count("PUT", "/secrets/tickets")
}

#[tokio::test]
async fn keys_are_made_in_time_and_end_when_no_ticket_needs_them() {
    let mut scene = Scene::start().await;
    scene.step("tickets").await;
    assert_eq!(made(&scene), 1);
    let first = keys(&scene).all()[0].clone();
    assert_eq!(first.not_before(), scene.now);
    assert_eq!(first.not_after(), scene.now + 36 * HOUR - 1);
    scene.step("tickets").await;
    assert_eq!((made(&scene), scene.generation("tickets")), (1, 1));
    assert_eq!(scene.rounds("tickets", "unchanged"), 1);

    // The vault's clock tells how old a key is.
    scene.now += 12 * HOUR + 60;
    scene.step("tickets").await;
    assert_eq!(made(&scene), 2);
    let both = keys(&scene);
    assert_eq!(both.all().len(), 2);
    assert_eq!(both.all()[0].not_before(), scene.now + HOUR);
    assert_eq!(both.encrypting(scene.now).unwrap().name(), first.name());
    let next = both.encrypting(scene.now + HOUR).unwrap().name();
    assert_ne!(next, first.name());

    scene.now = first.not_after() + 1;
    scene.step("tickets").await;
    assert!(
        keys(&scene)
            .all()
            .iter()
            .all(|key| key.name() != first.name())
    );
}

#[tokio::test]
async fn an_instance_takes_what_another_has_made_and_fetches_each_key_once() {
    let mut scene = Scene::start().await;
    scene.step("tickets").await;
    let first = keys(&scene);
    std::fs::remove_dir_all(scene.store("tickets")).unwrap();
    scene.restart();
    scene.vault.log().clear();
    scene.step("tickets").await;
    assert_eq!(made(&scene), 0);
    assert_eq!(keys(&scene), first);
    scene.vault.log().clear();
    scene.step("tickets").await;
    assert_eq!(scene.vault.log().requests().len(), 1);
}

#[tokio::test]
async fn what_is_no_key_is_left_out_and_said_once() {
    let mut scene = Scene::start().await;
    scene.step("tickets").await;
    let end = Some(scene.now + HOUR);
    let kind = "application/vnd.postern.ticket-key";
    scene.vault.add_secret("tickets", "short", kind, None, end);
    scene
        .vault
        .add_secret("tickets", "other", "text/plain", None, end);
    scene.said("tickets");
    for _ in 0..3 {
        scene.step("tickets").await;
    }
    assert_eq!(scene.said("tickets").len(), 2);
    assert_eq!(
        (keys(&scene).all().len(), scene.generation("tickets")),
        (1, 1)
    );
}

#[tokio::test]
async fn keys_of_others_are_published_by_who_may_not_make_any() {
    let mut scene = Scene::start().await;
    scene.step("tickets").await;
    scene.now += 12 * HOUR + 60;
    scene.fault(crate::testing::key_vault::Faults {
        deny: true,
        path: "/secrets/tickets".to_owned(),
        ..Default::default()
    });
    scene.step("tickets").await;
    assert_eq!(scene.refusals("tickets", "forbidden"), 1);
    assert_eq!(keys(&scene).all().len(), 1);
    assert!(scene.is_ready() || scene.generation("private") == 0);
}
