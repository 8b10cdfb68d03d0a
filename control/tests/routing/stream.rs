//! The stream of changes: its beginning, signs of life, resuming, gaps.

use std::time::Duration;

use postern_api::LinkState;
use postern_control::routing::model::ConnectionId;
use postern_control::routing::store::sqlite::{SqliteOptions, SqliteStore};
use postern_control::routing::store::{Condition, Decision, Store as _};
use serde_json::json;

use super::client::{Client, Connector, Events};
use super::scene::{ACCOUNT, CONNECTION, Scene, account, approve};

fn lively(config: &mut postern_control::routing::Config) {
    config.changes.heartbeat = Duration::from_millis(50);
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_that_it_lives() {
    let scene = Scene::with(lively).await;
    let mut people = scene.filled().await;
    let mut proxy = scene.proxy().await;
    let mut events = Events::of(&mut proxy, "/v1/changes?after=0", &[]).await;
    for (id, what) in [(1, "account.created"), (2, "connection.created")] {
        let event = events.next().await.unwrap();
        assert_eq!((event.name.as_str(), event.id), ("change", Some(id)));
        assert_eq!(
            (&event.data["sequence"], &event.data["what"]),
            (&json!(id), &json!(what))
        );
    }
    for _ in 0..3 {
        let head = events.next().await.unwrap();
        assert_eq!((head.name.as_str(), head.id), ("head", None));
        assert_eq!(head.data, json!({"sequence": 2, "oldest": 1}));
    }
    approve(&mut people).await;
    let approved = events.next_change().await.unwrap();
    assert_eq!(
        (approved.id, &approved.data["what"]),
        (Some(3), &json!("connection.approved"))
    );
    assert_eq!(
        approved.data["links"],
        json!([{"linkId": "7", "state": "Approved"}])
    );
    let (_, metrics) = scene.admin("/metrics").await;
    assert!(
        metrics.contains("postern_routing_subscribers 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("postern_routing_changes_total{what=\"connection.approved\"} 1\n"));
}

#[tokio::test]
async fn a_stream_goes_on_after_what_is_known() {
    let scene = Scene::with(lively).await;
    let mut people = scene.filled().await;
    approve(&mut people).await;
    let mut proxy = scene.proxy().await;
    let resumed = [
        ("/v1/changes?after=2", &[][..]),
        ("/v1/changes?after=0", &[("last-event-id", "2")]),
        ("/v1/changes", &[("last-event-id", "2")]),
    ];
    for (path, headers) in resumed {
        let mut events = Events::of(&mut proxy, path, headers).await;
        assert_eq!(events.next().await.unwrap().id, Some(3), "{path}");
        assert_eq!(events.next().await.unwrap().data["sequence"], 3);
    }
    let mut current = Events::of(&mut proxy, "/v1/changes?after=3", &[]).await;
    assert_eq!(current.next().await.unwrap().name, "head");
    let bad = [("accept", "text/event-stream"), ("last-event-id", "x")];
    let answer = proxy.get_with("/v1/changes", &bad).await;
    assert_eq!(answer.error().2, "Last-Event-ID");
}

#[tokio::test]
async fn what_cannot_be_resumed_begins_with_a_gap_and_goes_on() {
    let scene = Scene::with(lively).await;
    let mut people = scene.filled().await;
    let mut proxy = scene.proxy().await;
    let mut events = Events::of(&mut proxy, "/v1/changes?after=99", &[]).await;
    let gap = events.next().await.unwrap();
    assert_eq!((gap.name.as_str(), gap.id), ("gap", Some(2)));
    assert_eq!(gap.data, json!({"sequence": 2, "oldest": 1}));
    assert_eq!(events.next().await.unwrap().name, "head");
    approve(&mut people).await;
    assert_eq!(events.next_change().await.unwrap().id, Some(3));
}

#[tokio::test]
async fn a_stream_ends_in_order_when_the_service_stops() {
    let scene = Scene::with(lively).await;
    scene.filled().await;
    let mut proxy = scene.proxy().await;
    let mut events = Events::of(&mut proxy, "/v1/changes?after=2", &[]).await;
    assert_eq!(events.next().await.unwrap().name, "head");
    scene.tell_to_stop();
    while let Some(event) = events.next().await {
        assert_eq!(event.name, "head");
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_change_by_another_process_is_told_as_well() {
    let scene = Scene::with(lively).await;
    scene.filled().await;
    let mut proxy = scene.proxy().await;
    let mut events = Events::of(&mut proxy, "/v1/changes?after=2", &[]).await;
    assert_eq!(events.next().await.unwrap().name, "head");
    let options = SqliteOptions::new(scene.folder.path().join("routing.sqlite"));
    let other = SqliteStore::open(&options).await.unwrap();
    assert!(
        other
            .delete_connection(&pe_1(), Condition::Any)
            .await
            .unwrap()
    );
    let event = events.next_change().await.unwrap();
    assert_eq!(
        (event.id, &event.data["what"]),
        (Some(3), &json!("connection.deleted"))
    );
}

/// A reader that has got only what fits into its small window, while the connection was decided `decisions` times.
async fn left_behind(scene: &Scene, decisions: usize) -> (Client, Events) {
    let mut people = scene.filled().await;
    // Large enough that a few fill everything between the two.
    let hosts: Vec<_> = (0..16)
        .map(|n| format!("h{n}.{}example", "a.".repeat(110)))
        .collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    assert_eq!(people.put(ACCOUNT, &account(&hosts)).await.status, 200);
    let slow = Connector {
        window: 256,
        ..scene.connector("proxy.example")
    };
    let mut slow = slow.connect().await.unwrap();
    let events = Events::of(&mut slow, "/v1/changes?after=3", &[]).await;
    let states = [LinkState::Approved, LinkState::Rejected];
    for n in 0..decisions {
        let state = states[n % 2];
        let decision = Decision {
            state,
            description: None,
        };
        let decided = scene.store.decide(&pe_1(), decision, Condition::Any).await;
        assert!(decided.unwrap().changed);
    }
    (slow, events)
}

#[tokio::test]
async fn who_falls_behind_reads_on_from_the_log() {
    let scene = Scene::with(lively).await;
    let (_slow, mut events) = left_behind(&scene, 300).await;
    for sequence in 4..304 {
        let event = events.next_change().await.unwrap();
        assert_eq!((event.name.as_str(), event.id), ("change", Some(sequence)));
    }
}

#[tokio::test]
async fn who_falls_behind_further_than_the_log_goes_gets_a_gap() {
    let scene = Scene::with(|config| {
        lively(config);
        config.changes.kept = 10;
    })
    .await;
    let (_slow, mut events) = left_behind(&scene, 300).await;
    let (mut at, mut gaps) = (3, 0);
    while at < 303 {
        let event = events.next_change().await.unwrap();
        let id = event.id.unwrap();
        if event.name == "gap" {
            gaps += 1;
            assert!(
                id > at && event.data["oldest"].as_u64().unwrap() > at + 1,
                "{event:?}"
            );
        } else {
            assert_eq!(id, at + 1);
        }
        at = id;
    }
    assert!(gaps > 0);
}

fn pe_1() -> ConnectionId {
    ConnectionId {
        account: "clinic/images".parse().unwrap(),
        name: CONNECTION.rsplit('/').next().unwrap().parse().unwrap(),
    }
}
