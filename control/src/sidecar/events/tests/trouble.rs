//! The metadata service or Postern does not do its part.

use std::time::Duration;

use super::super::{EventKind, Outcome};
use super::scene::{Play, Scene, US};
use crate::testing::scheduled_events::Fault;

const BEGINS: &str = "does not say what is planned";
const ENDS: &str = "answers again";

#[tokio::test]
async fn an_outage_is_told_when_it_begins_and_when_it_is_over() {
    for fault in [
        Fault::Status(410),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Garbage,
        Fault::Huge,
    ] {
        let mut scene = Scene::start().await;
        scene.at(0).await;
        let contact = "postern_control_scheduled_events_contact_seconds";
        let before = scene.metric(contact);
        assert!(before > 0.0);
        scene.imds.set_fault(Some(fault));
        let mut rest = Duration::ZERO;
        for second in 1..60 {
            rest = rest.max(scene.at(second).await);
        }
        assert!(rest <= Duration::from_secs(5), "{rest:?}");
        assert!(scene.imds.looks() < 40, "{} looks", scene.imds.looks());
        let said = scene.said();
        let (warnings, others): (Vec<_>, Vec<_>) =
            said.iter().partition(|line| line["level"] == "WARN");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0]["message"].as_str().unwrap().contains(BEGINS));
        assert!(
            !others
                .iter()
                .any(|line| line["message"].as_str().unwrap().contains(ENDS))
        );
        assert!((scene.metric(contact) - before).abs() < 0.1);

        scene.imds.set_fault(None);
        let event = scene.plan("Terminate");
        scene.until(75).await;
        assert_eq!(scene.said_that(ENDS), 1);
        assert!(scene.metric(contact) > before);
        scene.postern.plays(Play::Says("drained", 0));
        scene.at(76).await;
        assert_eq!(scene.acknowledged(), [event]);
    }
}

#[tokio::test]
async fn an_outage_during_a_drain_is_no_cancellation() {
    let mut scene = Scene::start().await;
    let event = scene.plan("Terminate");
    scene.until(3).await;
    scene.imds.set_fault(Some(Fault::Status(500)));
    scene.postern.plays(Play::Says("drained", 0));
    scene.until(30).await;
    assert_eq!(scene.acknowledged(), [""; 0]);
    assert!(scene.counted(EventKind::Terminate, Outcome::Cancelled) < 0.1);
    assert_eq!(scene.said_that("the acknowledgement was not taken"), 1);
    scene.imds.set_fault(None);
    scene.at(31).await;
    assert_eq!(scene.acknowledged(), [event]);
}

#[tokio::test]
async fn an_acknowledgement_that_is_never_taken_is_given_up_when_the_event_begins() {
    let mut scene = Scene::start().await;
    scene.plan("Terminate");
    scene.at(0).await;
    scene.imds.set_fault(Some(Fault::Status(503)));
    scene.postern.plays(Play::Says("drained", 0));
    scene.until(299).await;
    assert!(scene.counted(EventKind::Terminate, Outcome::Unacknowledged) < 0.1);
    scene.at(300).await;
    assert!((scene.counted(EventKind::Terminate, Outcome::Unacknowledged) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_metadata_service_that_hangs_does_not_hold_up_a_drain() {
    let mut scene = Scene::start().await;
    scene.plan("Terminate");
    scene.at(0).await;
    scene.imds.set_fault(Some(Fault::Hang));
    // The real time of the wait for an answer is nothing to wait for.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    scene.postern.plays(Play::Says("ending", 0));
    scene.at(1).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.said_that(BEGINS), 1);
}

#[tokio::test]
async fn the_first_answer_may_take_two_minutes() {
    let mut scene = Scene::start().await;
    scene.options.vm_name = Some(US.into());
    scene.restart();
    scene.imds.set_fault(Some(Fault::Status(500)));
    // Connects, so that nothing but the answer is waited for.
    scene.at(0).await;
    scene.imds.set_fault(Some(Fault::Hang));
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    scene.at(10).await;
    let waited = began.elapsed();
    assert!(waited > Duration::from_mins(2), "{waited:?}");
    assert!(waited < Duration::from_mins(3), "{waited:?}");
}

#[tokio::test]
async fn where_postern_has_ended_there_is_nothing_to_lose() {
    let mut scene = Scene::start().await;
    scene.at(0).await;
    scene.postern.ends().await;
    let event = scene.plan("Terminate");
    scene.until(9).await;
    assert_eq!(scene.acknowledged(), [""; 0]);
    scene.until(11).await;
    assert_eq!(scene.acknowledged(), [event]);
    assert!((scene.counted(EventKind::Terminate, Outcome::NotRunning) - 1.0).abs() < 0.1);
    assert_eq!(scene.said_that("Postern does not say how far it is"), 1);
}

#[tokio::test]
async fn where_no_postern_was_ever_seen_the_address_may_be_wrong() {
    let mut scene = Scene::start().await;
    scene.postern.ends().await;
    scene.plan("Terminate");
    scene.until(330).await;
    assert_eq!(scene.acknowledged(), [""; 0]);
    assert!((scene.counted(EventKind::Terminate, Outcome::NotDrained) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_postern_that_says_nothing_of_use_may_still_have_something_to_lose() {
    let mut scene = Scene::start().await;
    scene.at(0).await;
    scene.postern.plays(Play::Garbage);
    scene.plan("Terminate");
    scene.until(290).await;
    scene.postern.plays(Play::Hangs);
    tokio::time::pause();
    scene.until(310).await;
    assert_eq!(scene.acknowledged(), [""; 0]);
    assert!((scene.counted(EventKind::Terminate, Outcome::NotDrained) - 1.0).abs() < 0.1);
    assert_eq!(scene.said_that("Postern has not drained"), 1);
}
