//! Conditions, and two writers who have seen the same version.

use postern_api::LinkState;

use super::scene::{Scene, account, account_id, connection, connection_id, workspace};
use crate::routing::model::Workspace;
use crate::routing::store::{Condition, Decision, Store as _, StoreError};

fn failed<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::PreconditionFailed))
}

#[tokio::test]
async fn a_change_whose_condition_does_not_hold_changes_nothing() {
    let scene = Scene::new().await;
    let old = scene.account("clinic/images", &["old.example"]).await;
    scene.account("clinic/images", &["a.example"]).await;
    scene
        .connection("clinic/images/pe-1", 7, LinkState::Approved)
        .await;
    let store = &scene.store;
    let before = scene.dump();

    let (clinic, nobody) = (workspace("clinic"), workspace("nobody"));
    let (id, none) = (account_id("clinic/images"), account_id("clinic/none"));
    let (pe, no_pe) = (
        connection_id("clinic/images/pe-1"),
        connection_id("clinic/images/pe-2"),
    );
    let (stale, absent) = (Condition::IfMatch(old), Condition::IfNoneMatch);
    for condition in [stale, absent] {
        assert!(failed(
            &store.put_workspace(&clinic, Workspace {}, condition).await
        ));
        assert!(failed(&store.delete_workspace(&clinic, condition).await));
        assert!(failed(
            &store
                .put_account(&id, account(&["b.example"]), condition)
                .await
        ));
        assert!(failed(
            &store
                .put_account(&id, account(&["a.example"]), condition)
                .await
        ));
        assert!(failed(&store.delete_account(&id, condition).await));
        let value = connection(7, LinkState::Rejected);
        assert!(failed(&store.put_connection(&pe, value, condition).await));
        let decision = Decision {
            state: LinkState::Rejected,
            description: None,
        };
        assert!(failed(&store.decide(&pe, decision, condition).await));
        assert!(failed(&store.delete_connection(&pe, condition).await));
    }
    for condition in [stale, Condition::IfExists] {
        assert!(failed(
            &store.put_workspace(&nobody, Workspace {}, condition).await
        ));
        assert!(failed(&store.delete_workspace(&nobody, condition).await));
        assert!(failed(
            &store
                .put_account(&none, account(&["b.example"]), condition)
                .await
        ));
        assert!(failed(&store.delete_account(&none, condition).await));
        let value = connection(8, LinkState::Pending);
        assert!(failed(
            &store.put_connection(&no_pe, value, condition).await
        ));
        assert!(failed(&store.delete_connection(&no_pe, condition).await));
    }
    assert_eq!(scene.dump(), before);
}

#[tokio::test]
async fn a_change_whose_condition_holds_takes_place() {
    let scene = Scene::new().await;
    let store = &scene.store;
    let (id, pe) = (
        account_id("clinic/images"),
        connection_id("clinic/images/pe-1"),
    );
    let put = store
        .put_account(&id, account(&["a.example"]), Condition::IfNoneMatch)
        .await
        .unwrap();
    let condition = Condition::IfMatch(put.versioned.etag);
    let put = store
        .put_account(&id, account(&["b.example"]), condition)
        .await
        .unwrap();
    assert!(put.changed && !put.created);
    assert_ne!(Condition::IfMatch(put.versioned.etag), condition);
    let value = connection(7, LinkState::Pending);
    let put = store
        .put_connection(&pe, value, Condition::IfNoneMatch)
        .await
        .unwrap();
    let decision = Decision {
        state: LinkState::Approved,
        description: None,
    };
    let condition = Condition::IfMatch(put.versioned.etag);
    let put = store.decide(&pe, decision, condition).await.unwrap();
    let condition = Condition::IfMatch(put.versioned.etag);
    assert!(store.delete_connection(&pe, condition).await.unwrap());
    assert!(
        store
            .delete_account(&id, Condition::IfExists)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn what_is_created_anew_has_another_tag() {
    let scene = Scene::new().await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let name = workspace("short");
        let put = scene
            .store
            .put_workspace(&name, Workspace {}, Condition::Any);
        seen.push(put.await.unwrap().versioned.etag);
        scene
            .store
            .delete_workspace(&name, Condition::Any)
            .await
            .unwrap();
        seen.push(scene.account("clinic/images", &["a.example"]).await);
        seen.push(
            scene
                .connection("clinic/images/pe-1", 7, LinkState::Pending)
                .await,
        );
        let id = account_id("clinic/images");
        scene
            .store
            .delete_account(&id, Condition::Any)
            .await
            .unwrap();
    }
    for (at, tag) in seen.iter().enumerate() {
        assert!(!seen[..at].contains(tag), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_who_have_seen_the_same_version_one_wins() {
    let scene = Scene::new().await;
    let other = scene.another().await;
    let id = account_id("clinic/images");
    let mut etag = scene.account("clinic/images", &["a.example"]).await;
    let mut wins = [0, 0];
    for round in 0..100 {
        let condition = Condition::IfMatch(etag);
        let hosts = [format!("x{round}.example"), format!("y{round}.example")];
        let (x, y) = tokio::join!(
            scene
                .store
                .put_account(&id, account(&[&hosts[0]]), condition),
            other.put_account(&id, account(&[&hosts[1]]), condition),
        );
        let winner = match (x, y) {
            (Ok(won), Err(StoreError::PreconditionFailed)) => (0, won),
            (Err(StoreError::PreconditionFailed), Ok(won)) => (1, won),
            both => panic!("round {round}: {both:?}"),
        };
        wins[winner.0] += 1;
        let now = scene.store.account(&id).await.unwrap();
        assert_eq!(now, winner.1.versioned);
        assert_eq!(now, other.account(&id).await.unwrap());
        etag = now.etag;
    }
    assert_eq!(
        scene.sequence().max(other.head().borrow().sequence),
        101,
        "{wins:?}"
    );
}
