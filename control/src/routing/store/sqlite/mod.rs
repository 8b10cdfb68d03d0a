//! The embedded store: one `SQLite` file, which other processes may use as well.
//!
//! ```text
//!   open ◀── schema          put, delete, decide, import ──▶ one writer ───┐
//!                            lookup, get, list, changes ──▶ some readers ──┼──▶ file (WAL)
//!                            snapshot ──▶ others, which may take long ─────┘       │
//!                            head ◀── own commits, and follow ◀────────────────────┘
//! ```
//!
//! In reading order: `open` and `schema`; `pool`, the connections; `log`, the transaction that writes; `workspaces`,
//! `accounts`, `connections` and `import`, what is written; `rows`, `lookup` and `snapshot`, what is read; `follow`.

mod accounts;
mod connections;
mod error;
mod follow;
mod import;
mod log;
mod lookup;
mod open;
mod pool;
mod rows;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod workspaces;

pub use open::OpenError;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use postern_api::routing::{Answer, ChangePage, Head};
use postern_api::{HostName, LinkId};
use rusqlite::Connection as Database;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Condition, ConnectionEntry, Decision, ETag, Entry, Field, ImportError, Imported, List, Page,
    Put, Resource, Snapshot, Store, StoreError, Versioned,
};
use crate::routing::model::{
    Account, AccountId, AccountName, Connection, ConnectionId, ConnectionName, ConnectionsMax,
    Workspace, WorkspaceName,
};
use follow::Follower;
use log::{Limits, Writing};
use open::Access;
use pool::Pool;

/// How a file is kept.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file. Beside it are `-wal` and `-shm` while it is open.
    pub path: PathBuf,
    /// Whether to create the file if there is none.
    pub create: bool,
    /// How many connections an account may have that does not say so itself.
    pub connections_max: ConnectionsMax,
    /// How many changes are kept. Who is further behind needs a snapshot.
    pub changes_kept: NonZeroU64,
}

impl SqliteOptions {
    /// The defaults: it is created, 100 connections an account, 1,000,000 changes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: true,
            connections_max: ConnectionsMax::default(),
            changes_kept: CHANGES_KEPT,
        }
    }
}

/// A store in one `SQLite` file.
#[derive(Debug)]
pub struct SqliteStore {
    limits: Limits,
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    /// For snapshots, which last as long as who takes them.
    long_readers: Arc<Pool>,
    head: watch::Sender<Head>,
    _follower: Follower,
}

impl SqliteStore {
    /// Opens the file, creates it if it may, and brings it to the newest version.
    pub async fn open(options: &SqliteOptions) -> Result<Self, OpenError> {
        let opened = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || Opened::new(&options)).await
        };
        let opened = opened.map_err(std::io::Error::other)??;
        let head = watch::Sender::new(opened.head);
        Ok(Self {
            limits: Limits {
                connections_max: options.connections_max,
                changes_kept: options.changes_kept,
            },
            writer: Pool::new(vec![opened.writer], WRITES_WAITING),
            readers: Pool::new(opened.readers, READS_WAITING),
            long_readers: Pool::new(opened.long_readers, SNAPSHOTS_WAITING),
            _follower: Follower::start(opened.follower, head.clone()),
            head,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(work).await
    }

    async fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Writing<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (limits, head) = (self.limits, self.head.clone());
        let write = move |database: &mut Database| {
            let writing = Writing::begin(database, limits)?;
            let done = work(&writing)?;
            follow::advance(&head, writing.commit()?);
            Ok(done)
        };
        self.writer.run(write).await
    }
}

/// All connections to the file.
struct Opened {
    writer: Database,
    readers: Vec<Database>,
    long_readers: Vec<Database>,
    follower: Database,
    head: Head,
}

impl Opened {
    fn new(options: &SqliteOptions) -> Result<Self, OpenError> {
        open::file(options)?;
        let path = &options.path;
        let mut writer = open::connect(path, Access::Write)?;
        schema::migrate(&mut writer)?;
        let readers = |count: usize| -> rusqlite::Result<Vec<_>> {
            let each = std::iter::repeat_with(|| open::connect(path, Access::Read));
            each.take(count).collect()
        };
        Ok(Self {
            head: log::head(&writer)?,
            readers: readers(READERS)?,
            long_readers: readers(LONG_READERS)?,
            follower: open::connect(path, Access::Read)?,
            writer,
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn workspace(&self, name: &WorkspaceName) -> Result<Versioned<Workspace>, StoreError> {
        let name = name.clone();
        self.read(move |database| workspaces::get(database, &name))
            .await
    }

    async fn workspaces(
        &self,
        page: Page<WorkspaceName>,
    ) -> Result<List<WorkspaceName, Workspace>, StoreError> {
        self.read(move |database| workspaces::list(database, &page))
            .await
    }

    async fn put_workspace(
        &self,
        name: &WorkspaceName,
        value: Workspace,
        condition: Condition,
    ) -> Result<Put<Workspace>, StoreError> {
        let name = name.clone();
        self.write(move |writing| workspaces::put(writing, &name, value, condition))
            .await
    }

    async fn delete_workspace(
        &self,
        name: &WorkspaceName,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let name = name.clone();
        self.write(move |writing| workspaces::delete(writing, &name, condition))
            .await
    }

    async fn account(&self, id: &AccountId) -> Result<Versioned<Account>, StoreError> {
        let id = id.clone();
        self.read(move |database| Ok(rows::account_there(database, &id)?.versioned))
            .await
    }

    async fn accounts(
        &self,
        workspace: &WorkspaceName,
        page: Page<AccountName>,
    ) -> Result<List<AccountName, Account>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |database| accounts::list(database, &workspace, &page))
            .await
    }

    async fn put_account(
        &self,
        id: &AccountId,
        value: Account,
        condition: Condition,
    ) -> Result<Put<Account>, StoreError> {
        let id = id.clone();
        self.write(move |writing| accounts::put(writing, &id, value, condition))
            .await
    }

    async fn delete_account(
        &self,
        id: &AccountId,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |writing| accounts::delete(writing, &id, condition))
            .await
    }

    async fn connection(&self, id: &ConnectionId) -> Result<Versioned<Connection>, StoreError> {
        let id = id.clone();
        self.read(move |database| connections::get(database, &id))
            .await
    }

    async fn connections(
        &self,
        account: &AccountId,
        page: Page<ConnectionName>,
    ) -> Result<List<ConnectionName, Connection>, StoreError> {
        let account = account.clone();
        self.read(move |database| connections::list(database, &account, &page))
            .await
    }

    async fn put_connection(
        &self,
        id: &ConnectionId,
        value: Connection,
        condition: Condition,
    ) -> Result<Put<Connection>, StoreError> {
        let id = id.clone();
        self.write(move |writing| connections::put(writing, &id, value, condition))
            .await
    }

    async fn decide(
        &self,
        id: &ConnectionId,
        decision: Decision,
        condition: Condition,
    ) -> Result<Put<Connection>, StoreError> {
        let id = id.clone();
        self.write(move |writing| connections::decide(writing, &id, decision, condition))
            .await
    }

    async fn delete_connection(
        &self,
        id: &ConnectionId,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |writing| connections::delete(writing, &id, condition))
            .await
    }

    async fn lookup(
        &self,
        link: Option<LinkId>,
        host: &HostName,
    ) -> Result<(u64, Answer), StoreError> {
        let host = host.clone();
        self.read(move |database| lookup::lookup(database, link, &host))
            .await
    }

    async fn changes(&self, after: u64, max: usize) -> Result<ChangePage, StoreError> {
        self.read(move |database| log::changes(database, after, max))
            .await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (head, begun) = oneshot::channel();
        let (to, accounts) = mpsc::channel(snapshot::ACCOUNTS_AHEAD);
        let to = snapshot::Receiver { head, accounts: to };
        self.long_readers
            .start(|database| snapshot::give(database, to))
            .await?;
        let head = begun
            .await
            .map_err(|error| StoreError::Unavailable(error.into()))??;
        Ok(Snapshot { head, accounts })
    }

    fn head(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    async fn import(&self, entries: Vec<Entry>) -> Result<Imported, ImportError> {
        self.write(move |writing| import::import(writing, entries))
            .await
    }
}

/// 1,000,000.
const CHANGES_KEPT: NonZeroU64 = NonZeroU64::MIN.saturating_add(999_999);

// Limit: a lookup takes microseconds of a processor; what is slower is a disk, and four wait for it.
const READERS: usize = 4;
// Limit: a second of lookups; who comes later is better off with an answer at once.
const READS_WAITING: usize = 4096;
// Limit: each takes one wait for the disk.
const WRITES_WAITING: usize = 256;
// Limit: each keeps a transaction open; a fleet that starts cold takes turns.
const LONG_READERS: usize = 4;
const SNAPSHOTS_WAITING: usize = 256;
