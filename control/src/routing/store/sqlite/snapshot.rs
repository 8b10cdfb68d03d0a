//! Everything at one moment, an account at a time.

use std::time::Duration;

use jiff::Timestamp;
use postern_api::routing::{AccountLinks, SNAPSHOT_FORMAT, SnapshotHead};
use rusqlite::{Connection as Database, Transaction};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::rows::{self, Word};
use super::{StoreError, log};
use crate::routing::model::AccountId;

/// To whom a snapshot goes.
pub(super) struct Receiver {
    pub(super) head: oneshot::Sender<Result<SnapshotHead, StoreError>>,
    pub(super) accounts: mpsc::Sender<Result<AccountLinks, StoreError>>,
}

/// Gives it, as fast as it is taken. Ends when nobody takes it any more.
pub(super) fn give(database: &mut Database, to: Receiver) {
    // Nobody waits for the head any more in each case where it is not taken.
    let begun = database.transaction().map_err(StoreError::from);
    let (database, head) = match begun.and_then(|read| Ok((begin(&read)?, read))) {
        Ok((head, read)) => (read, head),
        Err(error) => return drop(to.head.send(Err(error))),
    };
    if to.head.send(Ok(head)).is_err() {
        return;
    }
    // The place of an error is kept: it comes when there may be no other.
    let Ok(place) = to.accounts.clone().try_reserve_owned() else {
        return;
    };
    if let Err(error) = give_accounts(&database, &to.accounts) {
        place.send(Err(error));
    }
}

fn begin(database: &Transaction<'_>) -> Result<SnapshotHead, StoreError> {
    let count = "SELECT count(*) FROM accounts";
    Ok(SnapshotHead {
        format: SNAPSHOT_FORMAT,
        sequence: log::head(database)?.sequence,
        at: Timestamp::now().as_second(),
        accounts: database.query_row(count, [], |row| row.get(0))?,
    })
}

fn give_accounts(
    database: &Transaction<'_>,
    to: &mpsc::Sender<Result<AccountLinks, StoreError>>,
) -> Result<(), StoreError> {
    let runtime = Handle::current();
    let until = Instant::now() + TIME_MAX;
    let mut statement = database.prepare_cached(
        "SELECT w.name AS workspace_name, a.* FROM accounts a
         JOIN workspaces w ON w.id = a.workspace ORDER BY a.id",
    )?;
    let mut accounts = statement.query([])?;
    while let Some(row) = accounts.next()? {
        let id = AccountId {
            workspace: row.get::<_, Word<_>>("workspace_name")?.0,
            name: row.get::<_, Word<_>>("name")?.0,
        };
        let account = AccountLinks {
            account: rows::account_of(row)?.route(&id),
            links: rows::links(database, row.get("id")?)?,
        };
        match runtime.block_on(timeout_at(until, to.send(Ok(account)))) {
            Ok(Ok(())) => {}
            // Nobody reads any more.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(StoreError::Busy),
        }
    }
    Ok(())
}

// Limit: what waits for who reads; an account with all its links has at most 64 KiB.
pub(super) const ACCOUNTS_AHEAD: usize = 64;
// Limit: while a snapshot is read, the write-ahead log grows with each change; a million links take seconds.
const TIME_MAX: Duration = Duration::from_mins(5);
