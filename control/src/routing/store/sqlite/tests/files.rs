//! The file: whose it is, and what is refused in its place.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use postern_api::LinkState;
use rusqlite::Connection as Database;
use tempfile::TempDir;

use super::scene::{Scene, account_id, dump, host};
use crate::routing::store::sqlite::{OpenError, SqliteOptions, SqliteStore, WRITES_WAITING};
use crate::routing::store::{Condition, Store as _, StoreError};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(&SqliteOptions::new(path)).await
}

#[tokio::test]
async fn what_was_put_is_there_after_all_have_gone() {
    let scene = Scene::new().await;
    let etag = scene.account("clinic/images", &["a.example"]).await;
    scene
        .connection("clinic/images/pe-1", 7, LinkState::Approved)
        .await;
    let before = scene.dump();
    let Scene { folder, store } = scene;
    drop(store);
    let store = open(&folder.path().join("routing.db")).await.unwrap();
    assert_eq!(store.head().borrow().sequence, 2);
    let account = store.account(&account_id("clinic/images")).await.unwrap();
    assert_eq!(account.etag, etag);
    assert_eq!(dump(&folder.path().join("routing.db")), before);
}

#[tokio::test]
async fn the_files_are_their_owners_alone() {
    let scene = Scene::new().await;
    for name in ["routing.db", "routing.db-wal", "routing.db-shm"] {
        assert_eq!(mode(&scene.folder.path().join(name)), 0o600, "{name}");
    }
    let path = scene.path();
    let Scene {
        folder: _folder,
        store,
    } = scene;
    drop(store);
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    open(&path).await.unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_and_keys_are_checked() {
    let scene = Scene::new().await;
    let pragma = |name: &'static str| {
        let value = scene.store.writer.run(move |database| {
            let value: Result<String, _> = database.query_row(
                &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
                [],
                |row| row.get(0),
            );
            Ok::<_, StoreError>(value?)
        });
        async { value.await.unwrap() }
    };
    assert_eq!(pragma("journal_mode").await, "wal");
    assert_eq!(pragma("synchronous").await, "2");
    assert_eq!(pragma("foreign_keys").await, "1");
    let strict = Database::open(scene.path()).unwrap();
    let loose = "SELECT count(*) FROM pragma_table_list
                 WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' AND strict = 0";
    assert_eq!(
        strict
            .query_row(loose, [], |row| row.get::<_, u32>(0))
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("text"),
        "a text is no database, however long it is. ".repeat(100),
    )
    .unwrap();
    let foreign = Database::open(path("foreign")).unwrap();
    foreign
        .execute_batch("CREATE TABLE workspaces (name TEXT)")
        .unwrap();
    drop(foreign);
    drop(open(&path("newer")).await.unwrap());
    let newer = Database::open(path("newer")).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    drop(newer);
    for (name, expected) in [
        ("text", "the file is not a database"),
        ("foreign", "the database is not one of account routing"),
        (
            "newer",
            "the database is of version 2, and this program knows none after 1: a newer one has used it",
        ),
        ("no/folder", "the file cannot be opened"),
        ("", "the database does not work"),
    ] {
        let before = fs::read(path(name)).ok();
        let error = open(&path(name)).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{name}");
        if name == "text" {
            assert_eq!(fs::read(path(name)).ok(), before);
        }
    }
    let mut options = SqliteOptions::new(path("none"));
    options.create = false;
    assert!(matches!(
        SqliteStore::open(&options).await,
        Err(OpenError::File(_))
    ));
    assert!(!path("none").exists());
}

#[tokio::test]
async fn an_empty_file_becomes_a_store_for_however_many_open_it_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("routing.db");
    fs::write(&path, "").unwrap();
    let all = futures_util::future::join_all((0..8).map(|_| open(&path))).await;
    for store in all {
        assert_eq!(store.unwrap().head().borrow().sequence, 0);
    }
}

#[tokio::test]
async fn a_damaged_row_is_an_error_and_no_answer() {
    let scene = Scene::new().await;
    scene.account("clinic/images", &["a.example"]).await;
    let database = Database::open(scene.path()).unwrap();
    database
        .execute_batch("UPDATE accounts SET hosts = '[\"*.example\"]'")
        .unwrap();
    let error = scene
        .store
        .lookup(None, &host("a.example"))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let error = scene
        .store
        .account(&account_id("clinic/images"))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn too_much_that_waits_is_refused_at_once() {
    let scene = Scene::new().await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let work = scene
        .store
        .writer
        .start(move |_| held.recv())
        .await
        .unwrap();
    let id = account_id("clinic/images");
    let mut waiting: Vec<_> = (0..=WRITES_WAITING)
        .map(|_| scene.store.delete_account(&id, Condition::Any))
        .collect();
    // Each is polled once, the last is one too many.
    let first = waiting
        .iter_mut()
        .map(futures_util::FutureExt::now_or_never)
        .collect::<Vec<_>>();
    let last = first.into_iter().last().flatten();
    assert!(matches!(last, Some(Err(StoreError::Busy))), "{last:?}");
    // Readers do not wait for writers.
    assert!(scene.store.lookup(None, &host("a.example")).await.is_ok());
    drop(release);
    assert!(work.await.unwrap().is_err());
    waiting.pop();
    for delete in waiting {
        assert!(!delete.await.unwrap());
    }
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind_and_the_connection_at_work() {
    let scene = Scene::new().await;
    let before = scene.dump();
    let work = scene.store.write(|writing| {
        let sql = "INSERT INTO workspaces VALUES (9, 'half', 9, 0, 0)";
        writing.database.execute(sql, [])?;
        assert!(writing.database.is_autocommit(), "a panic on purpose");
        Ok::<_, StoreError>(())
    });
    let error = work.await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(scene.dump(), before);
    scene.account("clinic/images", &["a.example"]).await;
}
