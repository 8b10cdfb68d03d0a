//! The embedded store: one `SQLite` file, of which other processes may be users as well.

use std::num::NonZeroU64;
use std::path::PathBuf;

use crate::routing::model::ConnectionsMax;

/// How a file is kept.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file. Beside it are `-wal` and `-shm` while it is open.
    pub path: PathBuf,
    /// Whether to create the file if there is none.
    pub create: bool,
    /// How many connections an account may have that does not say so itself.
    pub connections_max: ConnectionsMax,
    /// How many changes are kept. Who is further behind needs a snapshot.
    pub changes_kept: NonZeroU64,
}

impl SqliteOptions {
    /// The defaults: it is created, 100 connections an account, 1,000,000 changes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: true,
            connections_max: ConnectionsMax::default(),
            changes_kept: NonZeroU64::new(1_000_000).unwrap_or(NonZeroU64::MIN),
        }
    }
}
