//! What cannot be is refused, with what is to blame, and changes nothing.

use postern_api::LinkState::{Approved, Disconnected, Pending, Rejected};

use super::scene::{Scene, account, account_id, connection, connection_id, workspace};
use crate::routing::model::{Transition, transition};
use crate::routing::store::{Condition, Field, Page, Resource, Store as _, StoreError};

/// What it is about, in one word and a sentence.
fn refused<T: std::fmt::Debug>(
    result: Result<T, StoreError>,
) -> (&'static str, Option<Field>, String) {
    match result.unwrap_err() {
        StoreError::NotFound(resource) => ("not found", None, resource.to_string()),
        StoreError::Conflict { field, message } => ("conflict", Some(field), message),
        StoreError::Invalid { field, message } => ("invalid", Some(field), message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_taken_stays_whose_it_is() {
    let scene = Scene::new().await;
    scene
        .account("clinic/images", &["a.example", "b.example"])
        .await;
    scene.account("lab/images", &["c.example"]).await;
    scene.connection("clinic/images/pe-1", 7, Approved).await;
    let before = scene.dump();
    let put = |id: &'static str, hosts: &'static [&'static str]| {
        let (store, id, value) = (&scene.store, account_id(id), account(hosts));
        async move { store.put_account(&id, value, Condition::Any).await }
    };
    for (id, hosts) in [
        ("lab/new", &["new.example", "b.example"][..]),
        ("lab/images", &["c.example", "b.example"]),
        ("lab/images", &["b.example"]),
    ] {
        let expected = (
            "conflict",
            Some(Field::Hosts),
            "host `b.example` is another account's".to_owned(),
        );
        assert_eq!(refused(put(id, hosts).await), expected, "{id} {hosts:?}");
    }
    let pe = connection_id("clinic/images/pe-2");
    let put = scene
        .store
        .put_connection(&pe, connection(7, Pending), Condition::Any)
        .await;
    let (kind, field, message) = refused(put);
    assert_eq!((kind, field), ("conflict", Some(Field::LinkId)));
    assert_eq!(message, "another connection of the account has link id 7");
    assert_eq!(scene.dump(), before);
    // A private endpoint to a workspace is in each of its accounts.
    scene.connection("lab/images/pe-1", 7, Approved).await;
}

#[tokio::test]
async fn a_connection_keeps_its_link_id() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    scene.connection("clinic/images/pe-1", 7, Approved).await;
    let before = scene.dump();
    let pe = connection_id("clinic/images/pe-1");
    let put = scene
        .store
        .put_connection(&pe, connection(8, Approved), Condition::Any)
        .await;
    assert_eq!(refused(put).1, Some(Field::LinkId));
    assert_eq!(scene.dump(), before);
}

#[tokio::test]
async fn only_the_states_that_may_follow_do() {
    let states = [Pending, Approved, Rejected, Disconnected];
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    let id = connection_id("clinic/images/pe-1");
    for state in [Rejected, Disconnected] {
        let before = scene.dump();
        let put = scene
            .store
            .put_connection(&id, connection(7, state), Condition::Any)
            .await;
        let (kind, field, message) = refused(put);
        assert_eq!((kind, field), ("invalid", Some(Field::State)), "{message}");
        assert_eq!(scene.dump(), before);
    }
    for (from, to) in states
        .into_iter()
        .flat_map(|from| states.map(|to| (from, to)))
    {
        scene
            .store
            .delete_connection(&id, Condition::Any)
            .await
            .unwrap();
        scene.connection("clinic/images/pe-1", 7, Pending).await;
        scene.decide("clinic/images/pe-1", from).await.unwrap();
        let before = scene.dump();
        let by_put = || {
            scene
                .store
                .put_connection(&id, connection(7, to), Condition::Any)
        };
        match transition(from, to) {
            Transition::Allowed => assert!(by_put().await.unwrap().changed, "{from} to {to}"),
            Transition::Same => assert!(!by_put().await.unwrap().changed, "{from} to {to}"),
            Transition::Refused => {
                let decided = refused(scene.decide("clinic/images/pe-1", to).await);
                assert_eq!((decided.0, decided.1), ("conflict", Some(Field::State)));
                assert_eq!(
                    decided.2,
                    format!("a connection that is {from} cannot become {to}")
                );
                assert_eq!(refused(by_put().await), decided);
            }
        }
        let changed = scene.dump() != before;
        assert_eq!(
            changed,
            transition(from, to) == Transition::Allowed,
            "{from} to {to}"
        );
    }
}

#[tokio::test]
async fn an_account_has_as_many_connections_as_it_may() {
    let scene = Scene::with(|options| options.connections_max = 2.try_into().unwrap()).await;
    scene.account("clinic/images", &["a.example"]).await;
    scene.connection("clinic/images/pe-1", 1, Pending).await;
    scene.connection("clinic/images/pe-2", 2, Pending).await;
    let put = |name: &str, link| {
        let (store, id) = (
            &scene.store,
            connection_id(&format!("clinic/images/{name}")),
        );
        async move {
            store
                .put_connection(&id, connection(link, Pending), Condition::Any)
                .await
        }
    };
    let limit = |max: Option<u32>| {
        let (store, mut value) = (&scene.store, account(&["a.example"]));
        value.connections_max = max.map(|max| max.try_into().unwrap());
        async move {
            store
                .put_account(&account_id("clinic/images"), value, Condition::Any)
                .await
        }
    };
    let before = scene.dump();
    let (kind, field, message) = refused(put("pe-3", 3).await);
    assert_eq!((kind, field), ("conflict", Some(Field::ConnectionsMax)));
    assert_eq!(
        message,
        "account clinic/images has 2 connections, as many as it may"
    );
    assert_eq!(scene.dump(), before);
    limit(Some(3)).await.unwrap();
    put("pe-3", 3).await.unwrap();
    assert_eq!(refused(put("pe-4", 4).await).1, Some(Field::ConnectionsMax));
    let before = scene.dump();
    assert_eq!(refused(limit(Some(2)).await).1, Some(Field::ConnectionsMax));
    assert_eq!(scene.dump(), before);
    // Those that are there may change beyond the limit.
    limit(None).await.unwrap();
    assert!(scene.decide("clinic/images/pe-3", Approved).await.unwrap());
}

#[tokio::test]
async fn nothing_is_put_into_what_is_not_there() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    let before = scene.dump();
    let (id, pe) = (
        account_id("nobody/images"),
        connection_id("clinic/none/pe-1"),
    );
    let put = scene
        .store
        .put_account(&id, account(&["b.example"]), Condition::Any)
        .await;
    assert_eq!(refused(put), ("not found", None, "workspace nobody".into()));
    let put = scene
        .store
        .put_connection(&pe, connection(7, Pending), Condition::Any)
        .await;
    assert_eq!(
        refused(put),
        ("not found", None, "account clinic/none".into())
    );
    let decided = scene.decide("clinic/images/pe-1", Approved).await;
    assert_eq!(
        refused(decided),
        ("not found", None, "connection clinic/images/pe-1".into())
    );
    let page = || Page {
        after: None,
        max: 1,
    };
    assert!(matches!(
        scene.store.accounts(&workspace("nobody"), page()).await,
        Err(StoreError::NotFound(Resource::Workspace(_)))
    ));
    assert!(matches!(
        scene
            .store
            .connections(
                &pe.account,
                Page {
                    after: None,
                    max: 1
                }
            )
            .await,
        Err(StoreError::NotFound(Resource::Account(_)))
    ));
    assert_eq!(scene.dump(), before);
}

#[tokio::test]
async fn a_workspace_with_accounts_stays() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    let before = scene.dump();
    let deleted = scene
        .store
        .delete_workspace(&workspace("clinic"), Condition::Any)
        .await;
    let (kind, field, message) = refused(deleted);
    assert_eq!((kind, field), ("conflict", Some(Field::Name)));
    assert_eq!(message, "workspace clinic has accounts; delete them first");
    assert_eq!(scene.dump(), before);
}
