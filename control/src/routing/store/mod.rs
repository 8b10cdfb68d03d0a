//! Where account routing is kept.
//!
//! ```text
//!   book-keeping ──▶ put, delete, decide, import ──┐ one transaction:
//!                                                  ├─▶ tables + change log ──▶ changes, head ──▶ the data plane
//!   the data plane ──▶ lookup, snapshot ◀──────────┘
//! ```
//!
//! Promises of every [`Store`]: a change and its entry in the log are one transaction, and both outlast a loss of power
//! once it is acknowledged; the log is contiguous and never rewritten; a lookup, a page of changes and a snapshot each
//! see one moment; whatever is refused has changed nothing; what is put as it already is changes nothing, too.
//!
//! The log is about accounts and their connections: a workspace alone changes no answer, so it has no entries.
//!
//! * [`Store`], and what it takes and gives; [`StoreError`]; [`etag`](ETag).
//! * [`sqlite`]: the embedded default.

mod error;
mod etag;
pub mod sqlite;

pub use error::{Field, ImportError, Resource, StoreError};
pub use etag::{Condition, ETag};

use async_trait::async_trait;
use jiff::Timestamp;
use postern_api::routing::{AccountLinks, Answer, ChangePage, Head, SnapshotHead};
use postern_api::{HostName, LinkId, LinkState};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::model::{
    Account, AccountId, AccountName, Connection, ConnectionId, ConnectionName, Description,
    Workspace, WorkspaceName,
};

/// Keeps workspaces, accounts and private endpoint connections, and the log of their changes.
///
/// A call whose future is dropped may still take effect, whole.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A workspace.
    async fn workspace(&self, name: &WorkspaceName) -> Result<Versioned<Workspace>, StoreError>;

    /// Workspaces by name.
    async fn workspaces(
        &self,
        page: Page<WorkspaceName>,
    ) -> Result<List<WorkspaceName, Workspace>, StoreError>;

    /// Creates a workspace.
    async fn put_workspace(
        &self,
        name: &WorkspaceName,
        value: Workspace,
        condition: Condition,
    ) -> Result<Put<Workspace>, StoreError>;

    /// Deletes a workspace, which must have no accounts. Whether there was one.
    async fn delete_workspace(
        &self,
        name: &WorkspaceName,
        condition: Condition,
    ) -> Result<bool, StoreError>;

    /// An account.
    async fn account(&self, id: &AccountId) -> Result<Versioned<Account>, StoreError>;

    /// The accounts of a workspace by name.
    async fn accounts(
        &self,
        workspace: &WorkspaceName,
        page: Page<AccountName>,
    ) -> Result<List<AccountName, Account>, StoreError>;

    /// Creates or replaces an account. Its workspace must be there.
    async fn put_account(
        &self,
        id: &AccountId,
        value: Account,
        condition: Condition,
    ) -> Result<Put<Account>, StoreError>;

    /// Deletes an account and its connections. Whether there was one.
    async fn delete_account(
        &self,
        id: &AccountId,
        condition: Condition,
    ) -> Result<bool, StoreError>;

    /// A private endpoint connection.
    async fn connection(&self, id: &ConnectionId) -> Result<Versioned<Connection>, StoreError>;

    /// The connections of an account by name.
    async fn connections(
        &self,
        account: &AccountId,
        page: Page<ConnectionName>,
    ) -> Result<List<ConnectionName, Connection>, StoreError>;

    /// Creates or replaces a connection. Its account must be there. A new one is Pending or Approved; an existing one keeps
    /// its link id, and its state follows [`transition`](super::model::transition).
    async fn put_connection(
        &self,
        id: &ConnectionId,
        value: Connection,
        condition: Condition,
    ) -> Result<Put<Connection>, StoreError>;

    /// Approves, rejects or disconnects a connection that is there.
    async fn decide(
        &self,
        id: &ConnectionId,
        decision: Decision,
        condition: Condition,
    ) -> Result<Put<Connection>, StoreError>;

    /// Deletes a connection. Whether there was one.
    async fn delete_connection(
        &self,
        id: &ConnectionId,
        condition: Condition,
    ) -> Result<bool, StoreError>;

    /// What a link may reach as `host`, or what is there for whoever asks; and the newest change that the answer knows of.
    async fn lookup(
        &self,
        link: Option<LinkId>,
        host: &HostName,
    ) -> Result<(u64, Answer), StoreError>;

    /// At most `max` changes after `after`, oldest first. [`StoreError::Gone`] if some that followed are no longer kept, or
    /// if `after` has not been yet.
    async fn changes(&self, after: u64, max: usize) -> Result<ChangePage, StoreError>;

    /// Every account with all its links.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Where the change log stands, and each time that it has grown; also by the hand of another process, within a
    /// fraction of a second.
    fn head(&self) -> watch::Receiver<Head>;

    /// Creates or replaces accounts with connections, and the workspaces they are in, all of them or none. A connection
    /// that is not there may be in any state. Connections that an entry does not name stay.
    async fn import(&self, entries: Vec<Entry>) -> Result<Imported, ImportError>;
}

/// A resource as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Another one after each change, and never the same again.
    pub etag: ETag,
    /// When it was created, to the second.
    pub created: Timestamp,
    /// When it was last changed, to the second.
    pub changed: Timestamp,
}

/// What a put came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<T> {
    /// It was not there before.
    pub created: bool,
    /// It is not as it was before. False: nothing has been written.
    pub changed: bool,
    /// What it is now.
    pub versioned: Versioned<T>,
}

impl<T> Put<T> {
    /// It is as it was.
    fn same(versioned: Versioned<T>) -> Self {
        Self {
            created: false,
            changed: false,
            versioned,
        }
    }

    /// It has been written.
    fn new(versioned: Versioned<T>, created: bool) -> Self {
        Self {
            created,
            changed: true,
            versioned,
        }
    }
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<N> {
    /// What follows this name; everything if none.
    pub after: Option<N>,
    /// How many at most.
    pub max: usize,
}

/// Part of a list, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<N, T> {
    /// The resources.
    pub items: Vec<(N, Versioned<T>)>,
    /// Whether others follow.
    pub more: bool,
}

/// What the owner of an account says to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The state it is to be in.
    pub state: LinkState,
    /// Why. None keeps what was said before.
    pub description: Option<Description>,
}

/// Every account with all its links, as they were at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The moment, and how many accounts follow.
    pub head: SnapshotHead,
    /// The accounts, then nothing; or an error, then nothing. Who takes longer than minutes is cut off with
    /// [`StoreError::Busy`].
    pub accounts: mpsc::Receiver<Result<AccountLinks, StoreError>>,
}

/// An account with connections, to be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Which account.
    pub account: AccountId,
    /// The account.
    pub properties: Account,
    /// Its connections.
    #[serde(default)]
    pub connections: Vec<ConnectionEntry>,
}

/// A connection, to be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionEntry {
    /// Its name.
    pub name: ConnectionName,
    /// The connection.
    pub properties: Connection,
}

/// What an import came to, in accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Were not there before.
    pub created: u64,
    /// Were there, and are not as they were: themselves, or their connections.
    pub changed: u64,
    /// Were there already as they should be.
    pub unchanged: u64,
}
