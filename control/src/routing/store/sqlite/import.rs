//! Many accounts in one transaction.

use std::collections::HashSet;

use super::log::Writing;
use super::{
    Condition, ConnectionEntry, Entry, Field, ImportError, Imported, StoreError, accounts,
    connections, rows, workspaces,
};
use crate::routing::model::{AccountId, ConnectionId, Workspace};

impl From<StoreError> for ImportError {
    fn from(source: StoreError) -> Self {
        let item = "the import".to_owned();
        Self { item, source }
    }
}

/// All of them, or an error that names the first that cannot be.
pub(super) fn import(writing: &Writing<'_>, entries: Vec<Entry>) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut seen = HashSet::with_capacity(entries.len());
    for (at, entry) in entries.into_iter().enumerate() {
        let item = format!("accounts[{at}] {}", entry.account);
        let put = if seen.insert(entry.account.clone()) {
            account(writing, &item, entry)?
        } else {
            let source = twice(format!("account {} is named twice", entry.account));
            return Err(ImportError { item, source });
        };
        match put {
            Outcome::Created => imported.created += 1,
            Outcome::Changed => imported.changed += 1,
            Outcome::Unchanged => imported.unchanged += 1,
        }
    }
    Ok(imported)
}

enum Outcome {
    Created,
    Changed,
    Unchanged,
}

/// An account with its connections, and one entry in the log for all of it.
fn account(writing: &Writing<'_>, item: &str, entry: Entry) -> Result<Outcome, ImportError> {
    let blame = |source| ImportError {
        item: item.to_owned(),
        source,
    };
    let Entry {
        account: id,
        properties,
        connections,
    } = entry;
    let database = &writing.database;
    let any = Condition::Any;
    workspaces::put(writing, &id.workspace, Workspace {}, any).map_err(blame)?;
    let workspace = accounts::workspace_key(database, &id.workspace).map_err(blame)?;
    let current = rows::account(database, &id).map_err(blame)?;
    let (put, key) =
        accounts::write(writing, &id, workspace, properties, current.as_ref()).map_err(blame)?;
    let max = connections::connections_max(writing, &put.versioned.value);
    let changed = each_connection(writing, item, &id, (key, max), connections)?;
    if !put.changed && !changed {
        return Ok(Outcome::Unchanged);
    }
    let now = &put.versioned.value;
    let removed = accounts::removed(current.as_ref(), now);
    accounts::tell(writing, "account.imported", &id, key, now, removed).map_err(blame)?;
    Ok(if put.created {
        Outcome::Created
    } else {
        Outcome::Changed
    })
}

/// Whether any is not as it was.
fn each_connection(
    writing: &Writing<'_>,
    item: &str,
    account: &AccountId,
    (key, max): (i64, u32),
    entries: Vec<ConnectionEntry>,
) -> Result<bool, ImportError> {
    let mut seen = HashSet::with_capacity(entries.len());
    let mut changed = false;
    for (at, entry) in entries.into_iter().enumerate() {
        let id = ConnectionId {
            account: account.clone(),
            name: entry.name,
        };
        let put = if seen.insert(id.name.clone()) {
            rows::connection(&writing.database, key, &id).and_then(|current| {
                connections::write(writing, &id, key, max, entry.properties, current.as_ref())
            })
        } else {
            Err(twice(format!("connection {id} is named twice")))
        };
        let put = put.map_err(|source| ImportError {
            item: format!("{item}: connections[{at}] {}", id.name),
            source,
        })?;
        changed |= put.changed;
    }
    Ok(changed)
}

fn twice(message: String) -> StoreError {
    StoreError::Invalid {
        field: Field::Name,
        message,
    }
}
