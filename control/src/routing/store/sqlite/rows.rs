//! Rows as values.

use jiff::Timestamp;
use postern_api::CustomerKey;
use postern_api::routing::Link;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection as Database, OptionalExtension as _, Row};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as WordError, StrDeserializer};

use super::{ETag, Resource, StoreError, Versioned};
use crate::routing::model::{
    Account, AccountId, Connection, ConnectionId, CustomerManagedKey, Workspace, WorkspaceName,
};

/// A row with the key by which other tables refer to it.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    pub(super) key: i64,
    pub(super) versioned: Versioned<T>,
}

/// A workspace, if it is there.
pub(super) fn workspace(
    database: &Database,
    name: &WorkspaceName,
) -> Result<Option<Keyed<Workspace>>, StoreError> {
    let mut statement = database.prepare_cached("SELECT * FROM workspaces WHERE name = ?1")?;
    let row = statement.query_row([name.as_str()], |row| keyed(row, Workspace {}));
    Ok(row.optional()?)
}

/// An account, if it is there.
pub(super) fn account(
    database: &Database,
    id: &AccountId,
) -> Result<Option<Keyed<Account>>, StoreError> {
    let mut statement = database.prepare_cached(
        "SELECT a.* FROM workspaces w JOIN accounts a ON a.workspace = w.id
         WHERE w.name = ?1 AND a.name = ?2",
    )?;
    let names = [id.workspace.as_str(), id.name.as_str()];
    let row = statement.query_row(names, |row| keyed(row, account_of(row)?));
    Ok(row.optional()?)
}

/// An account that must be there.
pub(super) fn account_there(
    database: &Database,
    id: &AccountId,
) -> Result<Keyed<Account>, StoreError> {
    account(database, id)?.ok_or_else(|| StoreError::NotFound(Resource::Account(id.clone())))
}

/// A connection of the account with this key, if it is there.
pub(super) fn connection(
    database: &Database,
    account: i64,
    id: &ConnectionId,
) -> Result<Option<Versioned<Connection>>, StoreError> {
    let mut statement =
        database.prepare_cached("SELECT * FROM connections WHERE account = ?1 AND name = ?2")?;
    let row = statement.query_row((account, id.name.as_str()), |row| {
        versioned(row, connection_of(row)?)
    });
    Ok(row.optional()?)
}

/// The links of the account with this key, by link id.
pub(super) fn links(database: &Database, account: i64) -> Result<Vec<Link>, StoreError> {
    let mut statement = database.prepare_cached(
        "SELECT link_id, state, requests_per_second FROM connections WHERE account = ?1 ORDER BY link_id",
    )?;
    let rows = statement.query_map([account], link_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What the columns of an account say.
pub(super) fn account_of(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        kind: row.get::<_, Word<_>>("kind")?.0,
        hosts: row.get::<_, Json<_>>("hosts")?.0,
        cluster: row.get::<_, Word<_>>("cluster")?.0,
        public_network_access: row.get::<_, Word<_>>("public_network_access")?.0,
        customer_key: CustomerManagedKey {
            key_url: row.get::<_, Option<Word<_>>>("key_url")?.map(|url| url.0),
            state: row.get::<_, Word<_>>("key_state")?.0,
        },
        requests_per_second: row.get("requests_per_second")?,
        connections_max: row
            .get::<_, Option<Number<_>>>("connections_max")?
            .map(|max| max.0),
    })
}

/// What the columns of a connection say.
pub(super) fn connection_of(row: &Row<'_>) -> rusqlite::Result<Connection> {
    let link = link_of(row)?;
    Ok(Connection {
        link_id: link.link_id,
        state: link.state,
        description: row.get::<_, Word<_>>("description")?.0,
        request_message: row.get::<_, Word<_>>("request_message")?.0,
        requests_per_second: link.requests_per_second,
    })
}

/// What the columns of a connection say to the data plane.
pub(super) fn link_of(row: &Row<'_>) -> rusqlite::Result<Link> {
    Ok(Link {
        link_id: postern_api::LinkId::new(row.get("link_id")?),
        state: row.get::<_, Word<_>>("state")?.0,
        requests_per_second: row.get("requests_per_second")?,
    })
}

/// What the columns of every resource say.
pub(super) fn versioned<T>(row: &Row<'_>, value: T) -> rusqlite::Result<Versioned<T>> {
    Ok(Versioned {
        value,
        etag: ETag::new(row.get("version")?),
        created: row.get::<_, Seconds>("created")?.0,
        changed: row.get::<_, Seconds>("changed")?.0,
    })
}

fn keyed<T>(row: &Row<'_>, value: T) -> rusqlite::Result<Keyed<T>> {
    Ok(Keyed {
        key: row.get("id")?,
        versioned: versioned(row, value)?,
    })
}

/// The word of a customer key's state.
pub(super) const fn key_word(state: CustomerKey) -> &'static str {
    match state {
        CustomerKey::Accessible => "accessible",
        CustomerKey::NotAccessible => "not_accessible",
    }
}

/// A text that is what its type says.
pub(super) struct Word<T>(pub(super) T);

impl<T: DeserializeOwned> FromSql for Word<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = StrDeserializer::<WordError>::new(value.as_str()?);
        T::deserialize(text).map(Self).map_err(FromSqlError::other)
    }
}

/// JSON that is what its type says.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = serde_json::from_str(value.as_str()?);
        value.map(Self).map_err(FromSqlError::other)
    }
}

/// A number that is what its type says.
struct Number<T>(T);

impl<T: TryFrom<u32, Error: std::error::Error + Send + Sync + 'static>> FromSql for Number<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = u32::column_result(value)?;
        T::try_from(number).map(Self).map_err(FromSqlError::other)
    }
}

struct Seconds(Timestamp);

impl FromSql for Seconds {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let time = Timestamp::from_second(value.as_i64()?);
        time.map(Self).map_err(FromSqlError::other)
    }
}
