//! An event comes, and everything goes as it should: what is asked of whom, in which order, and when.

use std::time::Duration;

use super::super::{EventKind, Outcome};
use super::scene::{NOTICE, Play, Scene, US};
use crate::testing::scheduled_events::Plan;

/// What Postern is given when the notice is so many seconds old: without the margin, and the moment that it needs to cut.
fn given(age: u64) -> Duration {
    Duration::from_secs(NOTICE.as_secs() - 5 - 1 - age)
}

#[tokio::test]
async fn it_is_acknowledged_when_postern_has_drained_and_no_sooner() {
    let mut scene = Scene::start().await;
    assert_eq!(scene.at(0).await, Duration::from_secs(1));
    assert_eq!(scene.postern.asked(), [Duration::ZERO; 0]);
    let event = scene.plan("Terminate");
    scene.at(1).await;
    assert_eq!(scene.postern.asked(), [given(1)]);
    scene.until(10).await;
    scene.postern.plays(Play::Says("ending", 0));
    scene.until(60).await;
    // It was asked once, and looked at since.
    assert_eq!(scene.postern.asked().len(), 1);
    assert_eq!(scene.acknowledged(), [""; 0]);

    scene.postern.plays(Play::Says("drained", 0));
    scene.at(61).await;
    assert_eq!(scene.acknowledged(), [event.as_str()]);
    let said = scene.said();
    let messages: Vec<_> = said
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages
            .iter()
            .filter(|it| it.contains("is asked to drain"))
            .count(),
        1,
        "{messages:?}"
    );
    let last = said.last().unwrap();
    assert_eq!(
        (&last["outcome"], &last["drain_seconds"]),
        (&"acknowledged".into(), &60.0.into())
    );
    assert_eq!(last["event_id"], event.as_str());

    // It begins, and is done with.
    scene.until(70).await;
    assert_eq!(scene.acknowledged().len(), 1);
    assert!((scene.counted(EventKind::Terminate, Outcome::Acknowledged) - 1.0).abs() < 0.1);
    assert!((scene.metric("postern_control_drain_seconds_sum") - 60.0).abs() < 0.1);
    assert_eq!(scene.said_that(""), 0);
}

#[tokio::test]
async fn at_the_deadline_it_is_acknowledged_with_what_is_left() {
    for answers in [Play::Says("ending", 0), Play::Says("drained", 2)] {
        let mut scene = Scene::start().await;
        let event = scene.plan("Reboot");
        scene.at(0).await;
        scene.postern.plays(Play::Says("ending", 0));
        scene.until(294).await;
        assert_eq!(scene.acknowledged(), [""; 0]);
        scene.postern.plays(answers);
        scene.at(295).await;
        assert_eq!(scene.acknowledged(), [event]);
        assert!((scene.counted(EventKind::Reboot, Outcome::Deadline) - 1.0).abs() < 0.1);
    }
}

#[tokio::test]
async fn an_event_for_another_machine_or_of_another_kind_does_nothing() {
    let mut scene = Scene::start().await;
    scene
        .imds
        .plan(Plan::new("Terminate", "postern-weu_4", NOTICE));
    scene.imds.plan(Plan::new("Freeze", US, NOTICE));
    scene.imds.plan(Plan::new("Levitate", US, NOTICE));
    scene.until(350).await;
    assert_eq!(scene.postern.asked(), [Duration::ZERO; 0]);
    assert_eq!(scene.acknowledged(), [""; 0]);
    for kind in [EventKind::Terminate, EventKind::Freeze, EventKind::Other] {
        assert!((scene.counted(kind, Outcome::Ignored) - 1.0).abs() < 0.1);
    }
    assert_eq!(scene.said_that("scheduled event:"), 0);
}

#[tokio::test]
async fn an_event_that_names_others_too_drains_and_is_never_acknowledged() {
    let mut scene = Scene::start().await;
    let mut plan = Plan::new("Redeploy", &US.to_uppercase(), NOTICE);
    plan.machines.push("postern-weu_4".into());
    let event = scene.imds.plan(plan);
    scene.at(0).await;
    assert_eq!(scene.postern.asked(), [given(0)]);
    scene.postern.plays(Play::Says("drained", 0));
    scene.until(310).await;
    assert_eq!(scene.acknowledged(), [""; 0]);
    assert!((scene.counted(EventKind::Redeploy, Outcome::Shared) - 1.0).abs() < 0.1);
    // It has begun by itself; when it is over and we are still there, that is worth a line.
    scene.said();
    scene.imds.remove(&event);
    scene.at(320).await;
    let said = scene.said();
    assert_eq!(said[0]["cancelled"], false, "{said:?}");
    assert!(scene.counted(EventKind::Redeploy, Outcome::Cancelled) < 0.1);
}

#[tokio::test]
async fn what_has_begun_already_drains_at_once_and_is_not_acknowledged() {
    let mut scene = Scene::start().await;
    scene.imds.plan(Plan::new("Reboot", US, Duration::ZERO));
    scene.at(0).await;
    assert_eq!(scene.postern.asked(), [Duration::from_secs(4)]);
    scene.postern.plays(Play::Says("drained", 1));
    scene.until(20).await;
    assert_eq!(scene.acknowledged(), [""; 0]);
    assert!((scene.counted(EventKind::Reboot, Outcome::Started) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn an_event_that_begins_too_soon_is_drained_for_faster() {
    let mut scene = Scene::start().await;
    scene.options.vm_name = Some(US.into());
    scene.restart();
    let mut plan = Plan::new("Redeploy", US, NOTICE);
    plan.machines.push("postern-weu_4".into());
    let event = scene.imds.plan(plan);
    scene.until(3).await;
    // The other machine's sidecar speaks for us.
    let client = reqwest::Client::new();
    let url = format!(
        "{}/metadata/scheduledevents?api-version=2020-07-01",
        scene.imds.url()
    );
    let body = format!(r#"{{"StartRequests":[{{"EventId":"{event}"}}]}}"#);
    let request = client.post(url).header("Metadata", "true").body(body);
    assert_eq!(request.send().await.unwrap().status(), 200);
    scene.at(4).await;
    let asked = scene.postern.asked();
    assert_eq!(asked, [given(1), Duration::from_secs(4)]);
    scene.postern.plays(Play::Says("drained", 0));
    scene.at(5).await;
    assert!((scene.counted(EventKind::Redeploy, Outcome::Started) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_cancelled_event_is_told_and_what_has_drained_stays_so() {
    let mut scene = Scene::start().await;
    let event = scene.plan("Terminate");
    scene.until(5).await;
    scene.said();
    scene.imds.remove(&event);
    scene.until(300).await;
    let said = scene.said();
    assert_eq!(said.len(), 1, "{said:?}");
    let message = said[0]["message"].as_str().unwrap();
    assert!(message.contains(
        "the drained instance stays not ready until it is replaced or Postern is restarted"
    ));
    assert_eq!(
        (&said[0]["level"], &said[0]["cancelled"]),
        (&"WARN".into(), &true.into())
    );
    assert!((scene.counted(EventKind::Terminate, Outcome::Cancelled) - 1.0).abs() < 0.1);
    assert_eq!(scene.acknowledged(), [""; 0]);
    assert_eq!(scene.postern.asked().len(), 1);
}

#[tokio::test]
async fn another_process_goes_on_where_one_has_ended() {
    let mut scene = Scene::start().await;
    let event = scene.plan("Preempt");
    scene.until(20).await;
    scene.restart();
    scene.at(21).await;
    // The same deadline.
    assert_eq!(scene.postern.asked(), [given(1), given(21)]);
    scene.postern.plays(Play::Says("drained", 0));
    scene.at(22).await;
    assert_eq!(scene.acknowledged(), [event.as_str()]);
    // Killed before it could remember that: the event has begun, which a drained Postern does not mind.
    scene.restart();
    scene.until(24).await;
    assert_eq!(scene.acknowledged(), [event]);
}

#[tokio::test]
async fn a_new_postern_in_place_of_the_one_that_had_agreed_is_asked_again() {
    let mut scene = Scene::start().await;
    let event = scene.plan("Terminate");
    scene.until(5).await;
    scene.postern.plays(Play::Serving);
    scene.until(7).await;
    assert_eq!(scene.postern.asked().len(), 2);
    scene.postern.plays(Play::Says("drained", 0));
    scene.at(8).await;
    assert_eq!(scene.acknowledged(), [event]);
}
