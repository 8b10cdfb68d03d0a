//! Hundreds who follow the changes, and one that does not read what it asked for.

use std::time::Duration;

use http::Method;
use postern_api::LinkState;
use postern_control::routing::store::{Condition, Decision, Entry};
use serde_json::json;

use super::client::{Connector, Events, PATIENCE, request};
use super::scene::{CONNECTION, Scene, approve};

const FOLLOWERS: usize = 300;
const CHANGES: u64 = 1000;
// Long enough for 300 clients that share this machine with other tests.
const STALL: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_get_every_change_in_order_and_who_does_not_read_is_cut() {
    let scene = Scene::with(|config| config.changes.stall_timeout = STALL).await;
    let mut people = scene.filled().await;
    approve(&mut people).await;
    let connector = scene.connector("proxy.example");
    let mut followers = tokio::task::JoinSet::new();
    for _ in 0..FOLLOWERS {
        let mut client = connector.connect().await.unwrap();
        let mut events = Events::of(&mut client, "/v1/changes?after=3", &[]).await;
        assert_eq!(events.next().await.unwrap().data["sequence"], 3);
        followers.spawn(async move {
            for sequence in 4..4 + CHANGES {
                let event = events.next_change().await.unwrap();
                assert_eq!((event.name.as_str(), event.id), ("change", Some(sequence)));
            }
            drop(client);
        });
    }
    let lazy = Connector {
        window: 1,
        ..connector
    };
    let mut lazy = lazy.connect().await.unwrap();
    let _unread = Events::of(&mut lazy, "/v1/changes?after=3", &[]).await;
    // Some by themselves, most at once.
    let id = "clinic/images".parse().unwrap();
    let name = CONNECTION.rsplit('/').next().unwrap().parse().unwrap();
    let id = postern_control::routing::model::ConnectionId { account: id, name };
    for n in 0..100 {
        let states = [LinkState::Rejected, LinkState::Approved];
        let decision = Decision {
            state: states[n % 2],
            description: None,
        };
        scene
            .store
            .decide(&id, decision, Condition::Any)
            .await
            .unwrap();
    }
    let entries = (0..CHANGES - 100).map(|n| {
        let entry = json!({"account": format!("clinic/a{n:03}"),
            "properties": {"kind": "fhir", "hosts": [format!("a{n}.example")], "cluster": "fhir"}});
        serde_json::from_value::<Entry>(entry).unwrap()
    });
    scene.store.import(entries.collect()).await.unwrap();
    while let Some(follower) = followers.join_next().await {
        follower.unwrap();
    }
    let cut = async {
        while lazy
            .open(request(Method::GET, "/v1/lookup?host=a.example", &[], ""))
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.unwrap();
    let (_, metrics) = scene.admin("/metrics").await;
    for line in [
        "postern_routing_subscribers_cut_total 1\n",
        "postern_routing_connections_ended_total{reason=\"stalled\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
