//! Opening the file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::SqliteOptions;

/// Why a file cannot be a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened, or created, or made the owner's alone.
    #[error("the file cannot be opened")]
    File(#[from] io::Error),
    /// It is something else.
    #[error("the file is not a database")]
    NotADatabase,
    /// It is a database, of something else.
    #[error("the database is not one of account routing")]
    Foreign,
    /// A newer program has made it.
    #[error(
        "the database is of version {version}, and this program knows none after {newest}: a newer one has used it"
    )]
    Newer {
        /// The version of the file.
        version: usize,
        /// The newest that is known.
        newest: usize,
    },
    /// The database does not work.
    #[error("the database does not work")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase,
            _ => Self::Sqlite(error),
        }
    }
}

/// Makes sure that there is a file, and that it is its owner's alone: who may write it decides who may pass. `SQLite`
/// gives the files beside it the same mode.
pub(super) fn file(options: &SqliteOptions) -> Result<(), OpenError> {
    let path = &options.path;
    match fs::metadata(path) {
        Ok(found) => {
            if found.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, Permissions::from_mode(MODE))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.create => create(path),
        Err(error) => Err(error.into()),
    }
}

fn create(path: &Path) -> Result<(), OpenError> {
    let mut options = OpenOptions::new();
    // Another process may have been faster.
    let file = options.write(true).create(true).truncate(false).mode(MODE);
    file.open(path)?.sync_all()?;
    // `SQLite` sees to the entries of the files that it creates itself.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// A connection to the file, which is there.
pub(super) fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // The schema of a file that somebody else has written calls nothing.
    connection.pragma_update(None, "trusted_schema", false)?;
    // Writers do not wait for readers, and readers see one moment.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
        let mode: String = row.get(0)?;
        let is_wal = mode == "wal";
        is_wal.then_some(()).ok_or(rusqlite::Error::InvalidQuery)
    })?;
    // A commit returns when it is on the disk: without this, WAL loses the newest ones with the power.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "query_only", access == Access::Read)?;
    Ok(connection)
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

const MODE: u32 = 0o600;
// Limit: how long a change waits for another process that writes; an import of a million links takes longer, and what
// meets it is answered "later".
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
// Limit: more than the statements there are, so that each is prepared once a connection.
const STATEMENTS_CACHED: usize = 64;
// Limit: what an import has made the write-ahead log grow to is given back.
const WAL_BYTES_KEPT: u64 = 64 << 20;
