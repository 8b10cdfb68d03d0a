//! The books: workspaces, accounts and private endpoint connections, at the service or in its file.
//!
//! ```text
//!             ┌─▶ service ─▶ wire (JSON as Azure Resource Manager writes it) ─▶ client (HTTP/2, mutual TLS)
//!   Books ────┤
//!             └─▶ file ─▶ routing::store
//! ```
//!
//! Promises that both are alike to whoever asks: the same values, versions and refusals, in the same words.

mod client;
mod file;
mod service;
mod wire;

use async_trait::async_trait;
use jiff::Timestamp;
use postern_api::routing::Answer;
use postern_api::{HostName, LinkId};

use super::error::Failure;
use super::options::Place;
use crate::routing::model::{
    Account, AccountId, AccountName, Connection, ConnectionId, ConnectionName, Workspace,
    WorkspaceName,
};
use crate::routing::store::{Decision, Entry};

/// A resource as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept<T> {
    /// The value.
    pub(super) value: T,
    /// Its version.
    pub(super) version: Version,
    /// When it was created, if that is known.
    pub(super) created: Option<Timestamp>,
    /// When it was last changed, if that is known.
    pub(super) changed: Option<Timestamp>,
}

/// The version of a resource: an entity tag, quotes and all, that is compared and never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version(pub(super) String);

/// In which version a resource must be for a change to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is not there.
    Absent,
    /// It is as it was read.
    Version(Version),
}

/// Workspaces, accounts and private endpoint connections.
#[async_trait]
pub(super) trait Books: Send + Sync {
    /// All workspaces by name.
    async fn workspaces(&self) -> Result<Vec<WorkspaceName>, Failure>;

    /// Creates a workspace, unless it is there.
    async fn put_workspace(&self, name: &WorkspaceName) -> Result<(), Failure>;

    /// Deletes a workspace, which must have no accounts.
    async fn delete_workspace(
        &self,
        name: &WorkspaceName,
        version: &Version,
    ) -> Result<(), Failure>;

    /// A workspace.
    async fn workspace(&self, name: &WorkspaceName) -> Result<Kept<Workspace>, Failure>;

    /// All accounts of a workspace by name.
    async fn accounts(
        &self,
        workspace: &WorkspaceName,
    ) -> Result<Vec<(AccountName, Kept<Account>)>, Failure>;

    /// An account.
    async fn account(&self, id: &AccountId) -> Result<Kept<Account>, Failure>;

    /// Creates or replaces an account.
    async fn put_account(
        &self,
        id: &AccountId,
        value: &Account,
        expected: &Expected,
    ) -> Result<(), Failure>;

    /// Deletes an account and its connections.
    async fn delete_account(&self, id: &AccountId, version: &Version) -> Result<(), Failure>;

    /// All connections of an account by name.
    async fn connections(
        &self,
        account: &AccountId,
    ) -> Result<Vec<(ConnectionName, Kept<Connection>)>, Failure>;

    /// A connection.
    async fn connection(&self, id: &ConnectionId) -> Result<Kept<Connection>, Failure>;

    /// Creates or replaces a connection. A new one is Pending or Approved. Returns its version then.
    async fn put_connection(
        &self,
        id: &ConnectionId,
        value: &Connection,
        expected: &Expected,
    ) -> Result<Version, Failure>;

    /// Approves or rejects a connection that is in this version.
    async fn decide(
        &self,
        id: &ConnectionId,
        decision: Decision,
        version: &Version,
    ) -> Result<Kept<Connection>, Failure>;

    /// Deletes a connection.
    async fn delete_connection(&self, id: &ConnectionId, version: &Version) -> Result<(), Failure>;

    /// What a link may reach as `host`, and the newest change that the answer knows of.
    async fn lookup(&self, link: LinkId, host: &HostName) -> Result<(u64, Answer), Failure>;

    /// Creates or replaces all of `entries` or none; `None` if only one after the other is possible.
    async fn import(&self, entries: Vec<Entry>) -> Option<Result<(), Failure>>;
}

/// Opens the books. `create`: a file that is not there, too.
pub(super) async fn open(place: Place, create: bool) -> Result<Box<dyn Books>, Failure> {
    Ok(match place {
        Place::Service(_) if create => {
            return Err(Failure::Wrong("--create is for --file".to_owned()));
        }
        Place::Service(place) => Box::new(service::ServiceBooks::new(place)?),
        Place::File(place) => Box::new(file::FileBooks::open(place, create).await?),
    })
}
