//! What is put is there, as it was put, until it is deleted.

use std::num::NonZeroU32;

use postern_api::{CustomerKey, LinkState, ServiceKind};

use super::scene::{Scene, account, account_id, connection, connection_id, workspace};
use crate::routing::model::{CustomerManagedKey, PublicNetworkAccess, Workspace};
use crate::routing::store::{Condition, Decision, Page, Resource, Store as _, StoreError};

#[tokio::test]
async fn each_field_comes_back() {
    let scene = Scene::new().await;
    let id = account_id("clinic/images");
    let mut value = account(&["b.example", "a.example"]);
    value.kind = ServiceKind::Fhir;
    value.cluster = "fhir_2".parse().unwrap();
    value.public_network_access = PublicNetworkAccess::Enabled;
    value.customer_key = CustomerManagedKey {
        key_url: Some("https://v.vault.azure.net/keys/k".parse().unwrap()),
        state: CustomerKey::NotAccessible,
    };
    value.requests_per_second = NonZeroU32::new(u32::MAX);
    value.connections_max = Some(7.try_into().unwrap());
    let put = scene
        .store
        .put_account(&id, value.clone(), Condition::Any)
        .await
        .unwrap();
    assert!(put.created && put.changed);
    assert_eq!(put.versioned.value, value);
    assert_eq!(scene.store.account(&id).await.unwrap(), put.versioned);

    let id = connection_id("clinic/images/pe-1");
    let mut value = connection(u32::MAX, LinkState::Pending);
    value.description = "waits".parse().unwrap();
    value.request_message = "let us in; it's \"urgent\"".parse().unwrap();
    value.requests_per_second = NonZeroU32::new(1);
    let put = scene
        .store
        .put_connection(&id, value.clone(), Condition::Any)
        .await
        .unwrap();
    assert!(put.created && put.changed);
    assert_eq!(scene.store.connection(&id).await.unwrap(), put.versioned);
    assert_eq!(put.versioned.value, value);
}

#[tokio::test]
async fn what_is_put_as_it_is_writes_nothing() {
    let scene = Scene::new().await;
    let etag = scene.account("clinic/images", &["a.example"]).await;
    let link = scene
        .connection("clinic/images/pe-1", 7, LinkState::Approved)
        .await;
    let before = scene.dump();
    let clinic = workspace("clinic");
    let put = scene
        .store
        .put_workspace(&clinic, Workspace {}, Condition::Any);
    assert!(!put.await.unwrap().changed);
    assert_eq!(scene.account("clinic/images", &["a.example"]).await, etag);
    assert_eq!(
        scene
            .connection("clinic/images/pe-1", 7, LinkState::Approved)
            .await,
        link
    );
    assert!(
        !scene
            .decide("clinic/images/pe-1", LinkState::Approved)
            .await
            .unwrap()
    );
    assert_eq!(scene.dump(), before);
}

#[tokio::test]
async fn lists_are_by_name_and_in_parts() {
    let scene = Scene::new().await;
    for (name, host) in [
        ("ccc", "c.example"),
        ("aaa", "a.example"),
        ("bbb", "b.example"),
    ] {
        scene.account(&format!("clinic/{name}"), &[host]).await;
    }
    scene.account("lab/other", &["other.example"]).await;
    for (name, link) in [("b", 2), ("a", 1)] {
        scene
            .connection(&format!("clinic/aaa/{name}"), link, LinkState::Pending)
            .await;
    }
    let clinic = workspace("clinic");
    let page = |after: Option<&str>, max| Page {
        after: after.map(|name| name.parse().unwrap()),
        max,
    };
    let first = scene.store.accounts(&clinic, page(None, 2)).await.unwrap();
    let names: Vec<_> = first.items.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, first.more), (vec!["aaa", "bbb"], true));
    let rest = scene
        .store
        .accounts(&clinic, page(Some("bbb"), 2))
        .await
        .unwrap();
    let names: Vec<_> = rest.items.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, rest.more), (vec!["ccc"], false));
    assert_eq!(
        rest.items[0].1,
        scene
            .store
            .account(&account_id("clinic/ccc"))
            .await
            .unwrap()
    );

    let page = Page {
        after: None,
        max: usize::MAX,
    };
    let links = scene
        .store
        .connections(&account_id("clinic/aaa"), page)
        .await
        .unwrap();
    let names: Vec<_> = links.items.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, links.more), (vec!["a", "b"], false));
    let page = Page {
        after: Some(clinic),
        max: 10,
    };
    let workspaces = scene.store.workspaces(page).await.unwrap();
    assert_eq!(workspaces.items.len(), 1);
    assert_eq!(workspaces.items[0].0.as_str(), "lab");
}

#[tokio::test]
async fn what_is_deleted_is_gone_with_what_it_had() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    scene
        .connection("clinic/images/pe-1", 7, LinkState::Approved)
        .await;
    let id = account_id("clinic/images");
    assert!(
        scene
            .store
            .delete_account(&id, Condition::Any)
            .await
            .unwrap()
    );
    assert!(matches!(
        scene.store.account(&id).await,
        Err(StoreError::NotFound(Resource::Account(gone))) if gone == id
    ));
    assert!(!scene.dump().contains("\nhosts|") && !scene.dump().contains("\nconnections|"));
    let before = scene.dump();
    let pe = connection_id("clinic/images/pe-1");
    assert!(
        !scene
            .store
            .delete_account(&id, Condition::Any)
            .await
            .unwrap()
    );
    assert!(
        !scene
            .store
            .delete_connection(&pe, Condition::Any)
            .await
            .unwrap()
    );
    let nobody = workspace("nobody");
    assert!(
        !scene
            .store
            .delete_workspace(&nobody, Condition::Any)
            .await
            .unwrap()
    );
    assert_eq!(scene.dump(), before);
    assert!(
        scene
            .store
            .delete_workspace(&workspace("clinic"), Condition::Any)
            .await
            .unwrap()
    );
    assert!(scene.store.workspace(&workspace("clinic")).await.is_err());
    // Its hosts and names are free again.
    scene.account("lab/images", &["a.example"]).await;
}

#[tokio::test]
async fn a_decision_changes_the_state_and_keeps_the_rest() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    let id = connection_id("clinic/images/pe-1");
    let mut value = connection(7, LinkState::Pending);
    value.description = "asked".parse().unwrap();
    scene
        .store
        .put_connection(&id, value.clone(), Condition::Any)
        .await
        .unwrap();
    let decide = |state, description: Option<&str>| {
        let description = description.map(|text| text.parse().unwrap());
        scene
            .store
            .decide(&id, Decision { state, description }, Condition::Any)
    };
    let put = decide(LinkState::Approved, None).await.unwrap();
    value.state = LinkState::Approved;
    assert_eq!(put.versioned.value, value);
    let put = decide(LinkState::Rejected, Some("no more")).await.unwrap();
    assert_eq!(put.versioned.value.description.as_str(), "no more");
    assert_eq!(scene.store.connection(&id).await.unwrap(), put.versioned);
}

#[tokio::test]
async fn what_follows_a_future_that_was_dropped_finds_the_store_at_work() {
    let scene = Scene::new().await;
    for round in 0..20 {
        let (id, host) = (
            account_id(&format!("clinic/acct-{round}")),
            format!("h{round}.example"),
        );
        // Polled once: begun, perhaps, and never waited for.
        let put = scene
            .store
            .put_account(&id, account(&[&host]), Condition::Any);
        let _ = futures_util::FutureExt::now_or_never(put);
    }
    scene.account("clinic/last", &["last.example"]).await;
    assert!(
        scene
            .store
            .account(&account_id("clinic/last"))
            .await
            .is_ok()
    );
}
