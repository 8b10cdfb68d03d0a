//! A store in a new folder, and short ways to say what is put into it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use postern_api::routing::Change;
use postern_api::{HostName, LinkId, LinkState, ServiceKind};
use rusqlite::types::ValueRef;
use rusqlite::{Connection as Database, OpenFlags};
use tempfile::TempDir;

use crate::routing::model::{
    Account, AccountId, Connection, ConnectionId, CustomerManagedKey, Description,
    PublicNetworkAccess, RequestMessage, Workspace, WorkspaceName,
};
use crate::routing::store::sqlite::{SqliteOptions, SqliteStore};
use crate::routing::store::{Condition, ConnectionEntry, Decision, ETag, Entry, Store, StoreError};

pub(super) struct Scene {
    pub(super) folder: TempDir,
    pub(super) store: SqliteStore,
}

impl Scene {
    /// With workspaces `clinic` and `lab`.
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut SqliteOptions)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut options = SqliteOptions::new(folder.path().join("routing.db"));
        change(&mut options);
        let store = SqliteStore::open(&options).await.unwrap();
        let scene = Self { folder, store };
        for name in ["clinic", "lab"] {
            let name = workspace(name);
            let put = scene
                .store
                .put_workspace(&name, Workspace {}, Condition::Any);
            assert!(put.await.unwrap().created);
        }
        scene
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("routing.db")
    }

    /// Another user of the same file.
    pub(super) async fn another(&self) -> SqliteStore {
        let options = SqliteOptions::new(self.path());
        SqliteStore::open(&options).await.unwrap()
    }

    pub(super) async fn account(&self, id: &str, hosts: &[&str]) -> ETag {
        let id = account_id(id);
        let put = self.store.put_account(&id, account(hosts), Condition::Any);
        put.await.unwrap().versioned.etag
    }

    pub(super) async fn connection(&self, id: &str, link: u32, state: LinkState) -> ETag {
        let (id, value) = (connection_id(id), connection(link, state));
        let put = self.store.put_connection(&id, value, Condition::Any);
        put.await.unwrap().versioned.etag
    }

    pub(super) async fn decide(&self, id: &str, state: LinkState) -> Result<bool, StoreError> {
        let decision = Decision {
            state,
            description: None,
        };
        let id = connection_id(id);
        let put = self.store.decide(&id, decision, Condition::Any);
        Ok(put.await?.changed)
    }

    /// All entries of the log.
    pub(super) async fn log(&self) -> Vec<Change> {
        let oldest = self.store.head().borrow().oldest;
        self.store.changes(oldest - 1, 1000).await.unwrap().changes
    }

    pub(super) async fn last(&self) -> Change {
        self.log().await.pop().unwrap()
    }

    pub(super) fn sequence(&self) -> u64 {
        self.store.head().borrow().sequence
    }

    pub(super) fn dump(&self) -> String {
        dump(&self.path())
    }
}

/// Every row of every table, as text.
pub(super) fn dump(path: &Path) -> String {
    let database = Database::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut text = String::new();
    for table in [
        "head",
        "workspaces",
        "accounts",
        "hosts",
        "connections",
        "changes",
    ] {
        let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            write!(text, "{table}").unwrap();
            for column in 0..columns {
                match row.get_ref(column).unwrap() {
                    ValueRef::Null => text.push_str("|null"),
                    ValueRef::Integer(number) => write!(text, "|{number}").unwrap(),
                    other => write!(text, "|{}", other.as_str().unwrap()).unwrap(),
                }
            }
            text.push('\n');
        }
    }
    text
}

pub(super) fn workspace(name: &str) -> WorkspaceName {
    name.parse().unwrap()
}

pub(super) fn account_id(text: &str) -> AccountId {
    text.parse().unwrap()
}

/// `workspace/account/connection`.
pub(super) fn connection_id(text: &str) -> ConnectionId {
    let (account, name) = text.rsplit_once('/').unwrap();
    ConnectionId {
        account: account_id(account),
        name: name.parse().unwrap(),
    }
}

pub(super) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

pub(super) fn account(hosts: &[&str]) -> Account {
    let hosts: Vec<_> = hosts.iter().map(|name| host(name)).collect();
    Account {
        kind: ServiceKind::Dicom,
        hosts: hosts.try_into().unwrap(),
        cluster: "dicom".parse().unwrap(),
        public_network_access: PublicNetworkAccess::default(),
        customer_key: CustomerManagedKey::default(),
        requests_per_second: None,
        connections_max: None,
    }
}

pub(super) fn connection(link: u32, state: LinkState) -> Connection {
    Connection {
        link_id: LinkId::new(link),
        state,
        description: Description::default(),
        request_message: RequestMessage::default(),
        requests_per_second: None,
    }
}

pub(super) fn entry(id: &str, hosts: &[&str], links: &[(&str, u32, LinkState)]) -> Entry {
    let connections = links.iter().map(|(name, link, state)| ConnectionEntry {
        name: name.parse().unwrap(),
        properties: connection(*link, *state),
    });
    Entry {
        account: account_id(id),
        properties: account(hosts),
        connections: connections.collect(),
    }
}
