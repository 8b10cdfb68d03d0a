//! Everything at one moment.

use std::time::Duration;

use postern_api::LinkState::Approved;
use postern_api::routing::{AccountLinks, SNAPSHOT_FORMAT};
use tokio::task::yield_now;

use super::scene::{Scene, entry};
use crate::routing::store::sqlite::snapshot::ACCOUNTS_AHEAD;
use crate::routing::store::{Snapshot, Store as _, StoreError};

/// With so many accounts of ten links each.
async fn filled(accounts: u32) -> Scene {
    let scene = Scene::new().await;
    let names: Vec<_> = (0..10).map(|n| format!("pe-{n}")).collect();
    let entries = (0..accounts).map(|n| {
        let links = names
            .iter()
            .zip(n * 10..)
            .map(|(name, link)| (name.as_str(), link, Approved));
        let links: Vec<_> = links.collect();
        entry(
            &format!("clinic/acct-{n}"),
            &[&format!("h{n}.example")],
            &links,
        )
    });
    scene.store.import(entries.collect()).await.unwrap();
    scene
}

async fn rest(mut snapshot: Snapshot) -> Vec<AccountLinks> {
    let mut accounts = Vec::new();
    while let Some(account) = snapshot.accounts.recv().await {
        accounts.push(account.unwrap());
    }
    accounts
}

#[tokio::test]
async fn it_is_whole_and_of_one_moment() {
    let scene = filled(2000).await;
    let snapshot = scene.store.snapshot().await.unwrap();
    let head = snapshot.head;
    assert_eq!(
        (head.format, head.sequence, head.accounts),
        (SNAPSHOT_FORMAT, 2000, 2000)
    );
    // Not in it: the reader has been given a moment, and readers hold up no writer.
    scene.account("clinic/acct-1999", &["later.example"]).await;
    scene.account("clinic/later", &["latest.example"]).await;
    let accounts = rest(snapshot).await;
    assert_eq!(accounts.len(), 2000);
    for (n, account) in accounts.iter().enumerate() {
        assert_eq!(account.account.account, format!("clinic/acct-{n}"));
        assert_eq!(account.account.hosts[0].as_str(), format!("h{n}.example"));
        let links: Vec<_> = account
            .links
            .iter()
            .map(|link| link.link_id.get() as usize)
            .collect();
        assert_eq!(links, (n * 10..n * 10 + 10).collect::<Vec<_>>());
    }
    let snapshot = scene.store.snapshot().await.unwrap();
    assert_eq!(
        (snapshot.head.sequence, snapshot.head.accounts),
        (2002, 2001)
    );
    assert_eq!(rest(snapshot).await.len(), 2001);
}

#[tokio::test]
async fn an_empty_one_is_whole_too() {
    let scene = Scene::new().await;
    let snapshot = scene.store.snapshot().await.unwrap();
    assert_eq!((snapshot.head.sequence, snapshot.head.accounts), (0, 0));
    assert!(rest(snapshot).await.is_empty());
}

#[tokio::test]
async fn who_goes_away_makes_room() {
    let scene = filled(200).await;
    for _ in 0..20 {
        let snapshot = scene.store.snapshot().await.unwrap();
        assert_eq!(snapshot.head.accounts, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_too_long_is_cut_off_and_told_so() {
    let scene = filled(200).await;
    let mut snapshot = scene.store.snapshot().await.unwrap();
    // The place that is left is for the error.
    while snapshot.accounts.len() < ACCOUNTS_AHEAD - 1 {
        yield_now().await;
    }
    tokio::time::advance(Duration::from_mins(6)).await;
    while snapshot.accounts.len() < ACCOUNTS_AHEAD {
        yield_now().await;
    }
    let mut accounts = 0;
    let error = loop {
        match snapshot.accounts.recv().await.unwrap() {
            Ok(_) => accounts += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Busy), "{error:?}");
    assert_eq!(accounts, ACCOUNTS_AHEAD - 1);
    assert!(snapshot.accounts.recv().await.is_none());
}
