//! Accounts. A change of one tells the data plane of all its links.

use postern_api::routing::Link;
use postern_api::{HostName, LinkState};
use rusqlite::{Connection as Database, named_params};

use super::log::{Event, Writing, check};
use super::rows::{self, Keyed};
use super::workspaces::{page_max, part};
use super::{Condition, Field, List, Page, Put, Resource, StoreError, Versioned, error};
use crate::routing::model::{
    Account, AccountId, AccountName, ConnectionsMax, KeyUrl, WorkspaceName,
};

/// The accounts of a workspace by name.
pub(super) fn list(
    database: &Database,
    workspace: &WorkspaceName,
    page: &Page<AccountName>,
) -> Result<List<AccountName, Account>, StoreError> {
    let sql = "SELECT * FROM accounts WHERE workspace = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
    let workspace = workspace_key(database, workspace)?;
    let after = page.after.as_ref().map_or("", AccountName::as_str);
    let max = page_max(page.max);
    part(
        database,
        sql,
        (workspace, after, max + 1),
        max,
        rows::account_of,
    )
}

/// Creates or replaces an account.
pub(super) fn put(
    writing: &Writing<'_>,
    id: &AccountId,
    value: Account,
    condition: Condition,
) -> Result<Put<Account>, StoreError> {
    let workspace = workspace_key(&writing.database, &id.workspace)?;
    let current = rows::account(&writing.database, id)?;
    check(
        condition,
        current.as_ref().map(|current| &current.versioned),
    )?;
    let (put, key) = write(writing, id, workspace, value, current.as_ref())?;
    if put.changed {
        let what = if put.created {
            "account.created"
        } else {
            "account.updated"
        };
        let removed_hosts = removed(current.as_ref(), &put.versioned.value);
        tell(writing, what, id, key, &put.versioned.value, removed_hosts)?;
    }
    Ok(put)
}

/// Deletes an account with its hosts and connections.
pub(super) fn delete(
    writing: &Writing<'_>,
    id: &AccountId,
    condition: Condition,
) -> Result<bool, StoreError> {
    let current = rows::account(&writing.database, id)?;
    check(
        condition,
        current.as_ref().map(|current| &current.versioned),
    )?;
    let Some(current) = current else {
        return Ok(false);
    };
    let gone = |link| Link {
        state: LinkState::Disconnected,
        ..link
    };
    let links = rows::links(&writing.database, current.key)?;
    writing
        .database
        .prepare_cached("DELETE FROM accounts WHERE id = ?1")?
        .execute([current.key])?;
    writing.append(Event {
        what: "account.deleted",
        account: id,
        route: None,
        removed_hosts: current.versioned.value.hosts.as_slice().to_vec(),
        links: links.into_iter().map(gone).collect(),
    })?;
    Ok(true)
}

/// Writes the account and its hosts, but no entry. Gives its key as well.
pub(super) fn write(
    writing: &Writing<'_>,
    id: &AccountId,
    workspace: i64,
    value: Account,
    current: Option<&Keyed<Account>>,
) -> Result<(Put<Account>, i64), StoreError> {
    if let Some(current) = current {
        if current.versioned.value == value {
            return Ok((Put::same(current.versioned.clone()), current.key));
        }
        has_room(writing, current.key, &value)?;
    }
    let next = writing.next(value, current.map(|current| &current.versioned))?;
    let key = row(
        writing,
        id,
        workspace,
        &next,
        current.map(|current| current.key),
    )?;
    let before = current.map(|current| &current.versioned.value.hosts);
    if before != Some(&next.value.hosts) {
        hosts(writing, key, next.value.hosts.as_slice())?;
    }
    Ok((Put::new(next, current.is_none()), key))
}

/// Appends what the account is now, with all its links.
pub(super) fn tell(
    writing: &Writing<'_>,
    what: &'static str,
    id: &AccountId,
    key: i64,
    value: &Account,
    removed_hosts: Vec<HostName>,
) -> Result<(), StoreError> {
    writing.append(Event {
        what,
        account: id,
        route: Some(value.route(id)),
        removed_hosts,
        links: rows::links(&writing.database, key)?,
    })
}

/// The hosts that it had and has no more.
pub(super) fn removed(current: Option<&Keyed<Account>>, value: &Account) -> Vec<HostName> {
    let before = current.map_or(&[][..], |current| current.versioned.value.hosts.as_slice());
    let gone = |host: &&HostName| !value.hosts.as_slice().contains(host);
    before.iter().filter(gone).cloned().collect()
}

/// How many connections the account with this key has.
pub(super) fn connections(writing: &Writing<'_>, key: i64) -> Result<u32, StoreError> {
    let mut statement = writing
        .database
        .prepare_cached("SELECT count(*) FROM connections WHERE account = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0))?)
}

/// The key of a workspace that must be there.
pub(super) fn workspace_key(database: &Database, name: &WorkspaceName) -> Result<i64, StoreError> {
    let found = rows::workspace(database, name)?;
    let found = found.ok_or_else(|| StoreError::NotFound(Resource::Workspace(name.clone())))?;
    Ok(found.key)
}

/// Refuses a limit below what is there already.
fn has_room(writing: &Writing<'_>, key: i64, value: &Account) -> Result<(), StoreError> {
    let Some(max) = value.connections_max else {
        return Ok(());
    };
    let count = connections(writing, key)?;
    if count > max.get() {
        return Err(StoreError::Conflict {
            field: Field::ConnectionsMax,
            message: format!("the account has {count} connections already"),
        });
    }
    Ok(())
}

/// Writes the row, and gives its key.
fn row(
    writing: &Writing<'_>,
    id: &AccountId,
    workspace: i64,
    next: &Versioned<Account>,
    key: Option<i64>,
) -> Result<i64, StoreError> {
    let value = &next.value;
    let list = serde_json::to_string(&value.hosts);
    let list = list.map_err(|error| StoreError::Unavailable(error.into()))?;
    let mut statement = writing.database.prepare_cached(
        "INSERT INTO accounts (
             id, workspace, name, kind, hosts, cluster, public_network_access, key_url, key_state,
             requests_per_second, connections_max, version, created, changed
         ) VALUES (
             :key, :workspace, :name, :kind, :hosts, :cluster, :access, :key_url, :key_state,
             :rate, :connections_max, :version, :created, :changed
         )
         ON CONFLICT (id) DO UPDATE SET
             kind = excluded.kind, hosts = excluded.hosts, cluster = excluded.cluster,
             public_network_access = excluded.public_network_access,
             key_url = excluded.key_url, key_state = excluded.key_state,
             requests_per_second = excluded.requests_per_second,
             connections_max = excluded.connections_max,
             version = excluded.version, changed = excluded.changed
         RETURNING id",
    )?;
    let parameters = named_params! {
        ":key": key,
        ":workspace": workspace,
        ":name": id.name.as_str(),
        ":kind": value.kind.label(),
        ":hosts": list,
        ":cluster": value.cluster.as_str(),
        ":access": value.public_network_access.label(),
        ":key_url": value.customer_key.key_url.as_ref().map(KeyUrl::as_str),
        ":key_state": rows::key_word(value.customer_key.state),
        ":rate": value.requests_per_second,
        ":connections_max": value.connections_max.map(ConnectionsMax::get),
        ":version": next.etag.version(),
        ":created": next.created.as_second(),
        ":changed": next.changed.as_second(),
    };
    Ok(statement.query_row(parameters, |row| row.get(0))?)
}

/// Makes these the account's hosts. The table's key sees to it that nobody else has them.
fn hosts(writing: &Writing<'_>, key: i64, hosts: &[HostName]) -> Result<(), StoreError> {
    let database = &writing.database;
    database
        .prepare_cached("DELETE FROM hosts WHERE account = ?1")?
        .execute([key])?;
    let mut statement =
        database.prepare_cached("INSERT INTO hosts (name, account) VALUES (?1, ?2)")?;
    for host in hosts {
        match statement.execute((host.as_str(), key)) {
            Err(error) if error::is_taken(&error) => {
                return Err(StoreError::Conflict {
                    field: Field::Hosts,
                    message: format!("host `{host}` is another account's"),
                });
            }
            written => written?,
        };
    }
    Ok(())
}
