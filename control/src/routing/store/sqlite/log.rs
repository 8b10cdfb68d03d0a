//! The change log, and the transaction that writes it along with what it tells of.

use std::num::NonZeroU64;

use jiff::Timestamp;
use postern_api::HostName;
use postern_api::routing::{AccountRoute, Change, ChangePage, Head, Link};
use rusqlite::{Connection as Database, Transaction, TransactionBehavior};

use super::{Condition, ETag, StoreError, Versioned};
use crate::routing::model::{AccountId, ConnectionsMax};

/// A transaction that writes. Dropped without a commit, it has changed nothing.
pub(super) struct Writing<'c> {
    pub(super) database: Transaction<'c>,
    pub(super) limits: Limits,
    now: Timestamp,
}

/// What a change may not go beyond.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: ConnectionsMax,
    pub(super) changes_kept: NonZeroU64,
}

/// What happened to an account.
pub(super) struct Event<'a> {
    /// For people.
    pub(super) what: &'static str,
    pub(super) account: &'a AccountId,
    /// The account as it is now.
    pub(super) route: Option<AccountRoute>,
    pub(super) removed_hosts: Vec<HostName>,
    pub(super) links: Vec<Link>,
}

impl<'c> Writing<'c> {
    /// Begins. From here on nobody else writes.
    pub(super) fn begin(database: &'c mut Database, limits: Limits) -> Result<Self, StoreError> {
        let immediate = TransactionBehavior::Immediate;
        Ok(Self {
            database: database.transaction_with_behavior(immediate)?,
            limits,
            now: now(),
        })
    }

    /// Makes it last, if it has written anything. Where the log stands then.
    pub(super) fn commit(self) -> Result<Head, StoreError> {
        let head = head(&self.database)?;
        self.database.commit()?;
        Ok(head)
    }

    /// The next version of `value`, which has been there as `current` says.
    pub(super) fn next<T>(
        &self,
        value: T,
        current: Option<&Versioned<T>>,
    ) -> Result<Versioned<T>, StoreError> {
        let mut statement = self.database.prepare_cached(
            "UPDATE head SET version = version + 1 WHERE id = 1 RETURNING version",
        )?;
        let version = statement.query_row([], |row| row.get(0))?;
        Ok(Versioned {
            value,
            etag: ETag::new(version),
            created: current.map_or(self.now, |current| current.created),
            changed: self.now,
        })
    }

    /// Writes an entry, and lets the oldest go.
    pub(super) fn append(&self, event: Event<'_>) -> Result<(), StoreError> {
        let database = &self.database;
        let sequence: u64 = database
            .prepare_cached(
                "UPDATE head SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence",
            )?
            .query_row([], |row| row.get(0))?;
        let change = Change {
            sequence,
            at: self.now.as_second(),
            what: event.what.to_owned(),
            account: event.account.to_string(),
            route: event.route,
            removed_hosts: event.removed_hosts,
            links: event.links,
        };
        let text = serde_json::to_string(&change);
        let text = text.map_err(|error| StoreError::Unavailable(error.into()))?;
        database
            .prepare_cached("INSERT INTO changes (sequence, change) VALUES (?1, ?2)")?
            .execute((sequence, text))?;
        database
            .prepare_cached("DELETE FROM changes WHERE sequence <= ?1")?
            .execute([sequence.saturating_sub(self.limits.changes_kept.get())])?;
        Ok(())
    }
}

/// The time as it is kept: to the second.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Refuses a change whose condition does not hold for what is there.
pub(super) fn check<T>(
    condition: Condition,
    current: Option<&Versioned<T>>,
) -> Result<(), StoreError> {
    let holds = condition.holds(current.map(|current| current.etag));
    holds.then_some(()).ok_or(StoreError::PreconditionFailed)
}

/// Where the log stands.
pub(super) fn head(database: &Database) -> rusqlite::Result<Head> {
    let mut statement = database.prepare_cached(
        "SELECT sequence, coalesce((SELECT min(sequence) FROM changes), sequence + 1) FROM head WHERE id = 1",
    )?;
    statement.query_row([], |row| {
        Ok(Head {
            sequence: row.get(0)?,
            oldest: row.get(1)?,
        })
    })
}

/// Some changes, in one read transaction.
pub(super) fn changes(
    database: &mut Database,
    after: u64,
    max: usize,
) -> Result<ChangePage, StoreError> {
    let database = database.transaction()?;
    let head = head(&database)?;
    if after > head.sequence || after.saturating_add(1) < head.oldest {
        return Err(StoreError::Gone(head));
    }
    let mut statement = database.prepare_cached(
        "SELECT change FROM changes WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let mut rows = statement.query((after, max.min(PAGE_CHANGES_MAX)))?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        bytes += text.len();
        if bytes > PAGE_BYTES_MAX && !changes.is_empty() {
            break;
        }
        let change = serde_json::from_str(text);
        changes.push(change.map_err(|error| StoreError::Unavailable(error.into()))?);
    }
    Ok(ChangePage { head, changes })
}

// Limit: a page is held in memory, once for each that asks. A change has from 300 bytes to 64 KiB.
const PAGE_CHANGES_MAX: usize = 1000;
const PAGE_BYTES_MAX: usize = 4 << 20;
