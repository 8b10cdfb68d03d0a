//! Private endpoint connections. A change of one tells the data plane of this link.

use postern_api::LinkState;
use postern_api::routing::Link;
use rusqlite::{Connection as Database, named_params};

use super::log::{Event, Writing, check};
use super::rows::{self, Keyed};
use super::workspaces::{page_max, part};
use super::{
    Condition, Decision, Field, List, Page, Put, Resource, StoreError, Versioned, accounts, error,
};
use crate::routing::model::{
    Account, AccountId, Connection, ConnectionId, ConnectionName, Transition, transition,
};

/// A connection that must be there.
pub(super) fn get(
    database: &Database,
    id: &ConnectionId,
) -> Result<Versioned<Connection>, StoreError> {
    let account = rows::account_there(database, &id.account)?;
    let found = rows::connection(database, account.key, id)?;
    found.ok_or_else(|| StoreError::NotFound(Resource::Connection(id.clone())))
}

/// The connections of an account by name.
pub(super) fn list(
    database: &Database,
    account: &AccountId,
    page: &Page<ConnectionName>,
) -> Result<List<ConnectionName, Connection>, StoreError> {
    let sql = "SELECT * FROM connections WHERE account = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
    let account = rows::account_there(database, account)?.key;
    let after = page.after.as_ref().map_or("", ConnectionName::as_str);
    let max = page_max(page.max);
    part(
        database,
        sql,
        (account, after, max + 1),
        max,
        rows::connection_of,
    )
}

/// Creates or replaces a connection.
pub(super) fn put(
    writing: &Writing<'_>,
    id: &ConnectionId,
    value: Connection,
    condition: Condition,
) -> Result<Put<Connection>, StoreError> {
    let account = rows::account_there(&writing.database, &id.account)?;
    let current = rows::connection(&writing.database, account.key, id)?;
    check(condition, current.as_ref())?;
    let first = matches!(value.state, LinkState::Pending | LinkState::Approved);
    if current.is_none() && !first {
        return Err(StoreError::Invalid {
            field: Field::State,
            message: format!(
                "a new connection is Pending or Approved, not {}",
                value.state
            ),
        });
    }
    write_and_tell(writing, id, &account, value, current)
}

/// Puts a connection that is there into another state.
pub(super) fn decide(
    writing: &Writing<'_>,
    id: &ConnectionId,
    decision: Decision,
    condition: Condition,
) -> Result<Put<Connection>, StoreError> {
    let account = rows::account_there(&writing.database, &id.account)?;
    let current = rows::connection(&writing.database, account.key, id)?;
    let current = current.ok_or_else(|| StoreError::NotFound(Resource::Connection(id.clone())))?;
    check(condition, Some(&current))?;
    let mut value = current.value.clone();
    value.state = decision.state;
    value.description = decision.description.unwrap_or(value.description);
    write_and_tell(writing, id, &account, value, Some(current))
}

/// Deletes a connection. To the data plane, its link is disconnected.
pub(super) fn delete(
    writing: &Writing<'_>,
    id: &ConnectionId,
    condition: Condition,
) -> Result<bool, StoreError> {
    let account = rows::account(&writing.database, &id.account)?;
    let current = match &account {
        Some(account) => rows::connection(&writing.database, account.key, id)?,
        None => None,
    };
    check(condition, current.as_ref())?;
    let (Some(account), Some(current)) = (account, current) else {
        return Ok(false);
    };
    writing
        .database
        .prepare_cached("DELETE FROM connections WHERE account = ?1 AND link_id = ?2")?
        .execute((account.key, current.value.link_id.get()))?;
    let link = Link {
        state: LinkState::Disconnected,
        ..current.value.link()
    };
    tell(writing, "connection.deleted", id, &account, link)?;
    Ok(true)
}

/// Writes the connection, but no entry.
pub(super) fn write(
    writing: &Writing<'_>,
    id: &ConnectionId,
    account: i64,
    max: u32,
    value: Connection,
    current: Option<&Versioned<Connection>>,
) -> Result<Put<Connection>, StoreError> {
    match current {
        Some(current) if current.value == value => return Ok(Put::same(current.clone())),
        Some(current) => may_follow(&current.value, &value)?,
        None if accounts::connections(writing, account)? >= max => {
            return Err(StoreError::Conflict {
                field: Field::ConnectionsMax,
                message: format!(
                    "account {} has {max} connections, as many as it may",
                    id.account
                ),
            });
        }
        None => {}
    }
    let next = writing.next(value, current)?;
    row(writing, id, account, &next, current.is_none())?;
    Ok(Put::new(next, current.is_none()))
}

/// How many connections an account may have.
pub(super) fn connections_max(writing: &Writing<'_>, account: &Account) -> u32 {
    let own = account.connections_max;
    own.unwrap_or(writing.limits.connections_max).get()
}

fn write_and_tell(
    writing: &Writing<'_>,
    id: &ConnectionId,
    account: &Keyed<Account>,
    value: Connection,
    current: Option<Versioned<Connection>>,
) -> Result<Put<Connection>, StoreError> {
    let max = connections_max(writing, &account.versioned.value);
    let put = write(writing, id, account.key, max, value, current.as_ref())?;
    if put.changed {
        let now = &put.versioned.value;
        let before = current.map(|current| current.value.state);
        tell(writing, what(before, now.state), id, account, now.link())?;
    }
    Ok(put)
}

fn tell(
    writing: &Writing<'_>,
    what: &'static str,
    id: &ConnectionId,
    account: &Keyed<Account>,
    link: Link,
) -> Result<(), StoreError> {
    writing.append(Event {
        what,
        account: &id.account,
        route: Some(account.versioned.value.route(&id.account)),
        removed_hosts: Vec::new(),
        links: vec![link],
    })
}

/// What happened, for people.
fn what(before: Option<LinkState>, now: LinkState) -> &'static str {
    match (before, now) {
        (None, _) => "connection.created",
        (Some(before), now) if before == now => "connection.updated",
        // Nothing becomes Pending.
        (Some(_), LinkState::Pending) => "connection.updated",
        (Some(_), LinkState::Approved) => "connection.approved",
        (Some(_), LinkState::Rejected) => "connection.rejected",
        (Some(_), LinkState::Disconnected) => "connection.disconnected",
    }
}

/// Refuses what cannot come after what is there.
fn may_follow(current: &Connection, next: &Connection) -> Result<(), StoreError> {
    if current.link_id != next.link_id {
        return Err(StoreError::Conflict {
            field: Field::LinkId,
            message: format!(
                "the connection's link id is {}; another private endpoint is another connection",
                current.link_id
            ),
        });
    }
    match transition(current.state, next.state) {
        Transition::Same | Transition::Allowed => Ok(()),
        Transition::Refused => Err(StoreError::Conflict {
            field: Field::State,
            message: format!(
                "a connection that is {} cannot become {}",
                current.state, next.state
            ),
        }),
    }
}

fn row(
    writing: &Writing<'_>,
    id: &ConnectionId,
    account: i64,
    next: &Versioned<Connection>,
    created: bool,
) -> Result<(), StoreError> {
    let sql = if created {
        "INSERT INTO connections (
             account, link_id, name, state, description, request_message, requests_per_second,
             version, created, changed
         ) VALUES (
             :account, :link_id, :name, :state, :description, :request_message, :rate,
             :version, :created, :changed
         )"
    } else {
        "UPDATE connections SET
             state = :state, description = :description, request_message = :request_message,
             requests_per_second = :rate, version = :version, created = :created, changed = :changed
         WHERE account = :account AND link_id = :link_id AND name = :name"
    };
    let value = &next.value;
    let parameters = named_params! {
        ":account": account,
        ":link_id": value.link_id.get(),
        ":name": id.name.as_str(),
        ":state": value.state.label(),
        ":description": value.description.as_str(),
        ":request_message": value.request_message.as_str(),
        ":rate": value.requests_per_second,
        ":version": next.etag.version(),
        ":created": next.created.as_second(),
        ":changed": next.changed.as_second(),
    };
    match writing.database.prepare_cached(sql)?.execute(parameters) {
        Err(error) if error::is_taken(&error) => Err(StoreError::Conflict {
            field: Field::LinkId,
            message: format!(
                "another connection of the account has link id {}",
                value.link_id
            ),
        }),
        written => {
            written?;
            Ok(())
        }
    }
}
