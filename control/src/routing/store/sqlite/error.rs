//! What a database's errors mean.

use rusqlite::{Error, ErrorCode};

use super::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            // Another process has been writing for too long.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Unavailable(error.into()),
        }
    }
}

/// Whether a row would have taken what is another row's.
pub(super) fn is_taken(error: &Error) -> bool {
    let taken = [
        rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
    ];
    error
        .sqlite_extended_error_code()
        .is_some_and(|code| taken.contains(&code))
}
