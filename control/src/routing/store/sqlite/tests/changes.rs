//! What the log says of each change, how long, and to whom.

use std::num::NonZeroU64;
use std::time::Duration;

use postern_api::LinkState::{self, Approved, Disconnected, Pending, Rejected};
use postern_api::routing::{Change, Head};
use rusqlite::Connection as Database;
use tokio::time::timeout;

use super::scene::{Scene, account, account_id, connection_id, host, workspace};
use crate::routing::store::{Condition, Store as _, StoreError};

fn links(change: &Change) -> Vec<(u32, LinkState)> {
    let links = change.links.iter();
    links.map(|link| (link.link_id.get(), link.state)).collect()
}

#[tokio::test]
async fn each_change_says_what_it_is_afterwards() {
    let scene = Scene::new().await;
    let id = account_id("clinic/images");
    scene
        .account("clinic/images", &["a.example", "b.example"])
        .await;
    let change = scene.last().await;
    assert_eq!(
        (change.sequence, change.what.as_str()),
        (1, "account.created")
    );
    assert_eq!(change.account, "clinic/images");
    let route = scene.store.account(&id).await.unwrap().value.route(&id);
    assert_eq!(change.route.as_ref(), Some(&route));
    assert!(change.removed_hosts.is_empty() && change.links.is_empty());

    // A connection tells of itself alone.
    for (name, link, what, expected) in [
        ("pe-1", 7, "connection.created", Pending),
        ("pe-2", 3, "connection.created", Pending),
    ] {
        scene
            .connection(&format!("clinic/images/{name}"), link, expected)
            .await;
        let change = scene.last().await;
        assert_eq!(change.what, what);
        assert_eq!(change.route.as_ref(), Some(&route));
        assert_eq!(links(&change), [(link, expected)]);
    }
    for (state, what) in [
        (Approved, "connection.approved"),
        (Rejected, "connection.rejected"),
        (Disconnected, "connection.disconnected"),
    ] {
        assert!(scene.decide("clinic/images/pe-2", state).await.unwrap());
        let change = scene.last().await;
        assert_eq!(
            (change.what.as_str(), links(&change)),
            (what, vec![(3, state)])
        );
        assert_eq!(change.route.as_ref(), Some(&route));
    }

    // An account tells of all its links.
    scene
        .account("clinic/images", &["c.example", "a.example"])
        .await;
    let change = scene.last().await;
    assert_eq!(change.what, "account.updated");
    assert_eq!(change.removed_hosts, [host("b.example")]);
    assert_eq!(
        change.route.as_ref().unwrap().hosts,
        [host("c.example"), host("a.example")]
    );
    assert_eq!(links(&change), [(3, Disconnected), (7, Pending)]);

    // What is gone is disconnected.
    let pe = connection_id("clinic/images/pe-1");
    scene
        .store
        .delete_connection(&pe, Condition::Any)
        .await
        .unwrap();
    let change = scene.last().await;
    assert_eq!(
        (change.what.as_str(), links(&change)),
        ("connection.deleted", vec![(7, Disconnected)])
    );
    assert!(change.route.is_some() && change.removed_hosts.is_empty());
    scene.connection("clinic/images/pe-1", 9, Approved).await;
    scene
        .store
        .delete_account(&id, Condition::Any)
        .await
        .unwrap();
    let change = scene.last().await;
    assert_eq!(
        (change.what.as_str(), change.route.as_ref()),
        ("account.deleted", None)
    );
    assert_eq!(change.removed_hosts, [host("c.example"), host("a.example")]);
    assert_eq!(links(&change), [(3, Disconnected), (9, Disconnected)]);

    let sequences: Vec<_> = scene
        .log()
        .await
        .iter()
        .map(|change| change.sequence)
        .collect();
    assert_eq!(sequences, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_log_is_empty_and_workspaces_leave_it_so() {
    let scene = Scene::new().await;
    let head = Head {
        sequence: 0,
        oldest: 1,
    };
    assert_eq!(*scene.store.head().borrow(), head);
    let page = scene.store.changes(0, 10).await.unwrap();
    assert_eq!((page.head, page.changes), (head, vec![]));
    scene
        .store
        .delete_workspace(&workspace("clinic"), Condition::Any)
        .await
        .unwrap();
    assert_eq!(*scene.store.head().borrow(), head);
}

#[tokio::test]
async fn changes_come_in_pages_and_what_is_no_longer_kept_is_gone() {
    let scene = Scene::with(|options| options.changes_kept = NonZeroU64::new(5).unwrap()).await;
    for n in 1..=8 {
        scene
            .account("clinic/images", &[&format!("h{n}.example")])
            .await;
    }
    let head = Head {
        sequence: 8,
        oldest: 4,
    };
    assert_eq!(*scene.store.head().borrow(), head);
    for (after, max, expected) in [
        (3, 10, Some(vec![4, 5, 6, 7, 8])),
        (3, 2, Some(vec![4, 5])),
        (7, 10, Some(vec![8])),
        (8, 10, Some(vec![])),
        (2, 10, None),
        (0, 10, None),
        (9, 10, None),
        (u64::MAX, 10, None),
    ] {
        let page = scene.store.changes(after, max).await;
        match (page, expected) {
            (Ok(page), Some(expected)) => {
                let found: Vec<_> = page.changes.iter().map(|change| change.sequence).collect();
                assert_eq!((page.head, found), (head, expected), "after {after}");
            }
            (Err(StoreError::Gone(found)), None) => assert_eq!(found, head, "after {after}"),
            (page, _) => panic!("after {after}: {page:?}"),
        }
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_never_empty() {
    let scene = Scene::new().await;
    let database = Database::open(scene.path()).unwrap();
    for sequence in 1..=10_u64 {
        let change = Change {
            sequence,
            at: 0,
            what: "x".repeat(if sequence == 9 { 5 << 20 } else { 1 << 20 }),
            account: "clinic/images".into(),
            route: None,
            removed_hosts: vec![],
            links: vec![],
        };
        database
            .execute_batch("UPDATE head SET sequence = sequence + 1")
            .unwrap();
        let text = serde_json::to_string(&change).unwrap();
        let sql = "INSERT INTO changes VALUES (?1, ?2)";
        database.execute(sql, (sequence, text)).unwrap();
    }
    let (mut after, mut pages) = (0, vec![]);
    while after < 10 {
        let page = scene.store.changes(after, 1000).await.unwrap();
        after = page.changes.last().unwrap().sequence;
        pages.push(after);
    }
    assert_eq!(pages, [3, 6, 8, 9, 10]);
}

#[tokio::test]
async fn the_log_cannot_be_rewritten() {
    let scene = Scene::new().await;
    for n in 1..=3 {
        scene
            .account("clinic/images", &[&format!("h{n}.example")])
            .await;
    }
    let before = scene.dump();
    let database = Database::open(scene.path()).unwrap();
    for (sql, why) in [
        (
            "UPDATE changes SET change = '{}' WHERE sequence = 2",
            "never rewritten",
        ),
        (
            "UPDATE changes SET sequence = 9 WHERE sequence = 3",
            "never rewritten",
        ),
        ("DELETE FROM changes WHERE sequence = 2", "only the oldest"),
        ("DELETE FROM changes", "only the oldest"),
        ("INSERT INTO changes VALUES (5, '{}')", "contiguous"),
        ("INSERT INTO changes VALUES (4, '{}')", "contiguous"),
        (
            "INSERT OR REPLACE INTO changes VALUES (3, '{}')",
            "contiguous",
        ),
    ] {
        let error = database.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains(why), "{sql}: {error}");
        assert_eq!(scene.dump(), before, "{sql}");
    }
}

#[tokio::test]
async fn the_head_moves_with_own_changes_at_once_and_with_others_soon() {
    let scene = Scene::new().await;
    let other = scene.another().await;
    let (mut own, mut theirs) = (scene.store.head(), other.head());
    scene.account("clinic/images", &["a.example"]).await;
    assert_eq!(own.borrow_and_update().sequence, 1);
    // Limit: far longer than the tenth of a second between two looks.
    let moved = timeout(
        Duration::from_mins(1),
        theirs.wait_for(|head| head.sequence == 1),
    );
    assert_eq!(moved.await.unwrap().unwrap().oldest, 1);
    let id = account_id("clinic/images");
    other
        .put_account(&id, account(&["b.example"]), Condition::Any)
        .await
        .unwrap();
    let moved = timeout(
        Duration::from_mins(1),
        own.wait_for(|head| head.sequence == 2),
    );
    moved.await.unwrap().unwrap();
    // A change that changes nothing moves nothing.
    own.mark_unchanged();
    other
        .put_account(&id, account(&["b.example"]), Condition::Any)
        .await
        .unwrap();
    assert!(!own.has_changed().unwrap());
}
