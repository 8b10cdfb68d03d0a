//! Who may reach what, by searches of indexes alone.

use postern_api::LinkId;
use postern_api::LinkState::{Approved, Disconnected, Pending, Rejected};
use postern_api::routing::Answer;
use rusqlite::Connection as Database;

use super::scene::{Scene, account_id, connection_id, entry, host};
use crate::routing::store::sqlite::lookup::LOOKUP;
use crate::routing::store::{Condition, Store as _};

#[tokio::test]
async fn an_answer_is_a_route_or_a_definite_no() {
    let scene = Scene::new().await;
    scene
        .account("clinic/images", &["a.example", "b.example"])
        .await;
    scene.account("lab/images", &["c.example"]).await;
    scene.connection("clinic/images/pe-1", 7, Approved).await;
    scene.connection("clinic/images/pe-2", 8, Pending).await;
    scene.connection("lab/images/pe-1", 8, Approved).await;
    let look = async |link: Option<u32>, name: &str| {
        let answer = scene.store.lookup(link.map(LinkId::new), &host(name)).await;
        let (sequence, answer) = answer.unwrap();
        assert_eq!(sequence, scene.sequence());
        answer
    };
    let route = async |id: &str| {
        let id = account_id(id);
        scene.store.account(&id).await.unwrap().value.route(&id)
    };
    for name in ["a.example", "b.example"] {
        let Answer::Found { account, link } = look(Some(7), name).await else {
            panic!("{name}");
        };
        assert_eq!(account, route("clinic/images").await);
        let link = link.unwrap();
        assert_eq!((link.link_id, link.state), (LinkId::new(7), Approved));
    }
    assert!(matches!(
        look(Some(8), "c.example").await,
        Answer::Found { .. }
    ));
    let anybody = Answer::Found {
        account: route("lab/images").await,
        link: None,
    };
    assert_eq!(look(None, "c.example").await, anybody);
    for state in [Pending, Rejected, Disconnected] {
        scene.decide("clinic/images/pe-2", state).await.unwrap();
        assert_eq!(
            look(Some(8), "a.example").await,
            Answer::NotApproved { state }
        );
    }
    for (link, name) in [
        (Some(7), "c.example"),
        (Some(9), "a.example"),
        (Some(0), "a.example"),
        (Some(7), "none.example"),
        (None, "none.example"),
    ] {
        assert_eq!(look(link, name).await, Answer::Unknown, "{link:?} {name}");
    }
    let pe = connection_id("clinic/images/pe-1");
    scene
        .store
        .delete_connection(&pe, Condition::Any)
        .await
        .unwrap();
    assert_eq!(look(Some(7), "a.example").await, Answer::Unknown);
}

/// How the database goes about the lookup, a line a step.
fn plan(scene: &Scene) -> Vec<String> {
    let database = Database::open(scene.path()).unwrap();
    let mut statement = database
        .prepare(&format!("EXPLAIN QUERY PLAN {LOOKUP}"))
        .unwrap();
    let rows = statement
        .query_map(("a.example", 7), |row| row.get("detail"))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn searches_indexes_alone(plan: &[String]) {
    assert_eq!(plan.len(), 5, "{plan:#?}");
    for step in plan {
        let by_key = step.contains("PRIMARY KEY (");
        let by_index = step.contains("INDEX") && step.contains("=?");
        assert!(
            step.starts_with("SEARCH ") && (by_key || by_index),
            "{plan:#?}"
        );
        assert!(!step.contains("AUTOMATIC"), "{plan:#?}");
    }
    assert!(plan[4].contains("account=? AND link_id=?"), "{plan:#?}");
}

#[tokio::test]
async fn a_lookup_searches_indexes_alone_with_no_links_and_with_a_hundred_thousand() {
    let scene = Scene::new().await;
    searches_indexes_alone(&plan(&scene));
    let entries = (0..10_000_u32).map(|n| {
        let names: Vec<_> = (0..10).map(|m| format!("pe-{m}")).collect();
        let links = names
            .iter()
            .zip(n * 10..)
            .map(|(name, link)| (name.as_str(), link, Approved));
        let links: Vec<_> = links.collect();
        entry(
            &format!("ws-{}/acct-{n}", n / 100),
            &[&format!("h{n}.example")],
            &links,
        )
    });
    let imported = scene.store.import(entries.collect()).await.unwrap();
    assert_eq!(imported.created, 10_000);
    searches_indexes_alone(&plan(&scene));
    for (link, name, found) in [
        (54_321, "h5432.example", true),
        (99_999, "h9999.example", true),
        (54_321, "h5433.example", false),
    ] {
        let (_, answer) = scene
            .store
            .lookup(Some(LinkId::new(link)), &host(name))
            .await
            .unwrap();
        assert_eq!(
            matches!(answer, Answer::Found { .. }),
            found,
            "{link} {name}"
        );
    }
}
