//! The tables, and how a file of an older version gets them.

use rusqlite::{Connection, TransactionBehavior};

use super::OpenError;

/// What makes each version out of the one before. What has been released is never edited.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// Marks a database as ours in its header: "Pstn".
const APPLICATION_ID: u32 = 0x5073_746e;

/// Brings the database to the newest version, one transaction a step. Refuses one that is not ours or is newer.
pub(super) fn migrate(database: &mut Connection) -> Result<(), OpenError> {
    while next(database)?.is_some() {
        // Chosen again within the transaction: another process may be at it as well.
        let step = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some((version, migration)) = next(&step)? {
            step.execute_batch(migration)?;
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
            step.pragma_update(None, "user_version", version)?;
            step.commit()?;
        }
    }
    Ok(())
}

/// The next version, and what makes it; none if the database is of the newest.
fn next(database: &Connection) -> Result<Option<(usize, &'static str)>, OpenError> {
    // One statement, so that another process is not between the answers.
    let (version, id, tables): (usize, u32, usize) = database.query_row(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_user_version, pragma_application_id",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let is_new = (version, id, tables) == (0, 0, 0);
    if !is_new && id != APPLICATION_ID {
        return Err(OpenError::Foreign);
    }
    let newest = MIGRATIONS.len();
    if version > newest {
        return Err(OpenError::Newer { version, newest });
    }
    Ok(MIGRATIONS
        .get(version)
        .map(|migration| (version + 1, *migration)))
}
