//! The books in the service's file.
//!
//! Promises the same answers as the service, whose process may have the file open: `SQLite` keeps the two apart, and the
//! service notices what was changed here.

use std::num::NonZeroU64;

use async_trait::async_trait;
use postern_api::routing::Answer;
use postern_api::{HostName, LinkId};

use super::{Books, Expected, Kept, Version};
use crate::routes::error::{Failure, Refusal, RefusalKind, no_answer};
use crate::routes::options::FilePlace;
use crate::routing::model::{
    Account, AccountId, AccountName, Connection, ConnectionId, ConnectionName, Workspace,
    WorkspaceName,
};
use crate::routing::store::sqlite::{SqliteOptions, SqliteStore};
use crate::routing::store::{Condition, Decision, Entry, List, Page, Store, StoreError, Versioned};

// Limit: what is read in one transaction.
const PAGE_MAX: usize = 1000;

/// The books in a file.
pub(super) struct FileBooks(SqliteStore);

impl FileBooks {
    /// Opens the file; `create`: also if it is not there.
    pub(super) async fn open(place: FilePlace, create: bool) -> Result<Self, Failure> {
        let FilePlace {
            path,
            connections_max,
        } = place;
        if !create && !path.exists() {
            let path = path.display();
            return Err(Failure::Wrong(format!("--file: there is no {path}")));
        }
        let name = path.display().to_string();
        let options = SqliteOptions {
            create,
            connections_max,
            // How many are kept is for the service to say, and to do.
            changes_kept: NonZeroU64::MAX,
            ..SqliteOptions::new(path)
        };
        let opened = SqliteStore::open(&options).await;
        opened.map(Self).map_err(|error| no_answer(&name, &error))
    }
}

fn kept<T>(versioned: Versioned<T>) -> Kept<T> {
    Kept {
        value: versioned.value,
        version: Version(versioned.etag.to_string()),
        created: Some(versioned.created),
        changed: Some(versioned.changed),
    }
}

fn condition(version: &Version) -> Result<Condition, Failure> {
    // No resource is in a version that is none.
    let etag = version
        .0
        .parse()
        .map_err(|_| StoreError::PreconditionFailed)?;
    Ok(Condition::IfMatch(etag))
}

fn expected(expected: &Expected) -> Result<Condition, Failure> {
    match expected {
        Expected::Absent => Ok(Condition::IfNoneMatch),
        Expected::Version(version) => condition(version),
    }
}

/// What was to be deleted was not there.
fn deleted(was_there: bool, what: &str) -> Result<(), Failure> {
    if was_there {
        return Ok(());
    }
    Err(Failure::Refused(Refusal {
        kind: RefusalKind::NotFound,
        code: "ResourceNotFound".to_owned(),
        target: None,
        message: format!("{what} does not exist"),
    }))
}

/// All pages, one after the other.
async fn all<N: Clone, T, F>(
    mut list: impl FnMut(Page<N>) -> F,
) -> Result<Vec<(N, Kept<T>)>, Failure>
where
    F: Future<Output = Result<List<N, T>, StoreError>>,
{
    let mut all: Vec<(N, Kept<T>)> = Vec::new();
    loop {
        let after = all.last().map(|(name, _)| name.clone());
        let page = Page {
            after,
            max: PAGE_MAX,
        };
        let List { items, more } = list(page).await?;
        let more = more && !items.is_empty();
        all.extend(items.into_iter().map(|(name, it)| (name, kept(it))));
        if !more {
            return Ok(all);
        }
    }
}

#[async_trait]
impl Books for FileBooks {
    async fn workspaces(&self) -> Result<Vec<WorkspaceName>, Failure> {
        let all = all(|page| self.0.workspaces(page)).await?;
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }

    async fn put_workspace(&self, name: &WorkspaceName) -> Result<(), Failure> {
        let put = self.0.put_workspace(name, Workspace {}, Condition::Any);
        put.await?;
        Ok(())
    }

    async fn delete_workspace(
        &self,
        name: &WorkspaceName,
        version: &Version,
    ) -> Result<(), Failure> {
        let was_there = self.0.delete_workspace(name, condition(version)?).await?;
        deleted(was_there, &format!("workspace {name}"))
    }

    async fn workspace(&self, name: &WorkspaceName) -> Result<Kept<Workspace>, Failure> {
        Ok(kept(self.0.workspace(name).await?))
    }

    async fn accounts(
        &self,
        workspace: &WorkspaceName,
    ) -> Result<Vec<(AccountName, Kept<Account>)>, Failure> {
        all(|page| self.0.accounts(workspace, page)).await
    }

    async fn account(&self, id: &AccountId) -> Result<Kept<Account>, Failure> {
        Ok(kept(self.0.account(id).await?))
    }

    async fn put_account(
        &self,
        id: &AccountId,
        value: &Account,
        expected_version: &Expected,
    ) -> Result<(), Failure> {
        let condition = expected(expected_version)?;
        self.0.put_account(id, value.clone(), condition).await?;
        Ok(())
    }

    async fn delete_account(&self, id: &AccountId, version: &Version) -> Result<(), Failure> {
        let was_there = self.0.delete_account(id, condition(version)?).await?;
        deleted(was_there, &format!("account {id}"))
    }

    async fn connections(
        &self,
        account: &AccountId,
    ) -> Result<Vec<(ConnectionName, Kept<Connection>)>, Failure> {
        all(|page| self.0.connections(account, page)).await
    }

    async fn connection(&self, id: &ConnectionId) -> Result<Kept<Connection>, Failure> {
        Ok(kept(self.0.connection(id).await?))
    }

    async fn put_connection(
        &self,
        id: &ConnectionId,
        value: &Connection,
        expected_version: &Expected,
    ) -> Result<Version, Failure> {
        let condition = expected(expected_version)?;
        let put = self.0.put_connection(id, value.clone(), condition).await?;
        Ok(Version(put.versioned.etag.to_string()))
    }

    async fn decide(
        &self,
        id: &ConnectionId,
        decision: Decision,
        version: &Version,
    ) -> Result<Kept<Connection>, Failure> {
        let put = self.0.decide(id, decision, condition(version)?).await?;
        Ok(kept(put.versioned))
    }

    async fn delete_connection(&self, id: &ConnectionId, version: &Version) -> Result<(), Failure> {
        let was_there = self.0.delete_connection(id, condition(version)?).await?;
        deleted(was_there, &format!("connection {id}"))
    }

    async fn lookup(&self, link: LinkId, host: &HostName) -> Result<(u64, Answer), Failure> {
        Ok(self.0.lookup(Some(link), host).await?)
    }

    async fn import(&self, entries: Vec<Entry>) -> Option<Result<(), Failure>> {
        let imported = self.0.import(entries).await;
        Some(imported.map(|_| ()).map_err(Failure::from))
    }
}
