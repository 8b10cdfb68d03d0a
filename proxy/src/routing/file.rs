//! Routes from a TOML file.
//!
//! Promises: a file is taken whole or not at all; while the newest one is refused, the last good one goes on
//! holding; the generation changes only when the contents did. Never watches the clock or spawns: somebody
//! calls [`RouteFile::reload`] at an interval.
//!
//! Write a new file beside it and rename: a file changed in place may be read in the middle of the change. One
//! that changes *while* it is read is not taken, and an empty one is refused, but that is all that can be seen.
//!
//! Invariant: (link id, host) leads to at most one account.

mod parse;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;

use super::{Answer, ClusterName, LookupError, RouteSource};
use table::Table;

/// The routes of a file.
#[derive(Debug)]
pub struct RouteFile {
    path: PathBuf,
    clusters: ArcSwap<BTreeSet<ClusterName>>,
    table: ArcSwap<Table>,
    generation: watch::Sender<u64>,
    seen: Mutex<Seen>,
}

/// What one look at the file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// The file says what it said at the last look, be that good or bad.
    Unchanged,
    /// The contents are good and hold from now on: new ones, or the old ones after a refusal.
    Loaded {
        /// How many accounts it has.
        accounts: usize,
        /// How many links its accounts have together.
        links: usize,
    },
    /// The file cannot be used; the last good one goes on holding. Said once for each state of the file.
    Refused(RouteFileError),
}

/// Why a route file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteFileError {
    /// It cannot be read. Has the path and the system's reason.
    #[error("{path}: cannot read the route file: {reason}")]
    Unreadable {
        /// The path of the file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// It is larger than we read.
    #[error("{path}: the route file has more than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// The path of the file.
        path: String,
    },
    /// It was written to while it was read.
    #[error("{path}: the route file changed while it was read; replace it by renaming a new one")]
    Unsettled {
        /// The path of the file.
        path: String,
    },
    /// It has a mistake: `FILE:LINE:COLUMN: message`.
    #[error("{0}")]
    Mistake(String),
}

// Limit: a link takes about 55 bytes of text, so that this is four million links.
// Measured: a million links in 2000 accounts are 55 MB, read in a second with 200 MB.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

// Limit: the coarsest time stamps in use (FAT: 2 s). A file that was modified less than this before it was read
// may be modified again without a new time stamp, so it is read once more.
const STAMP_SETTLES: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Seen {
    /// The file's state when it was last read to the end, unless it may change without showing it.
    stamp: Option<Stamp>,
    /// Hash of the contents that were judged last.
    judged: Option<u64>,
    /// Hash of the contents that are in use.
    used: Option<u64>,
    refusal: Option<RouteFileError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl RouteFile {
    /// Reads the file at `path` for the first time. Its accounts may live on these `clusters` and no other.
    ///
    /// Blocks while it reads.
    pub fn open(
        path: impl Into<PathBuf>,
        clusters: impl IntoIterator<Item = ClusterName>,
    ) -> Result<Self, RouteFileError> {
        let file = Self {
            path: path.into(),
            clusters: ArcSwap::from_pointee(clusters.into_iter().collect()),
            table: ArcSwap::from_pointee(Table::default()),
            generation: watch::Sender::new(0),
            seen: Mutex::default(),
        };
        match file.reload() {
            Reload::Refused(error) => Err(error),
            Reload::Loaded { .. } | Reload::Unchanged => Ok(file),
        }
    }

    /// Looks at the file, and takes its contents if they are new and good.
    ///
    /// Blocks while it reads; one `stat` if nothing happened.
    pub fn reload(&self) -> Reload {
        let mut seen = self.seen();
        match self.read_if_new(&mut seen) {
            Ok(None) => Reload::Unchanged,
            Ok(Some(text)) => match parse::parse(&self.path, &text, &self.clusters.load()) {
                Ok(table) => {
                    seen.refusal = None;
                    let (accounts, links) = table.counts();
                    if seen.used != seen.judged {
                        seen.used = seen.judged;
                        self.table.store(Arc::new(table));
                        // After the table: whoever sees the new generation gets the new table.
                        self.generation.send_modify(|generation| *generation += 1);
                    }
                    Reload::Loaded { accounts, links }
                }
                Err(mistake) => refuse(&mut seen, RouteFileError::Mistake(mistake)),
            },
            Err(error) => {
                seen.stamp = None;
                refuse(&mut seen, error)
            }
        }
    }

    /// Its accounts may live on these clusters from now on. The file is judged anew by the next
    /// [`RouteFile::reload`]; what was taken before goes on holding.
    pub fn know(&self, clusters: impl IntoIterator<Item = ClusterName>) {
        self.clusters
            .store(Arc::new(clusters.into_iter().collect()));
        let mut seen = self.seen();
        (seen.stamp, seen.judged) = (None, None);
    }

    /// Why the file as it is now is not in use, if it is not.
    pub fn refusal(&self) -> Option<RouteFileError> {
        self.seen().refusal.clone()
    }

    /// How many accounts and links are in use.
    pub fn counts(&self) -> (usize, usize) {
        self.table.load().counts()
    }

    /// The text of the file, unless it is what was judged last.
    fn read_if_new(&self, seen: &mut Seen) -> Result<Option<String>, RouteFileError> {
        let path = || self.path.display().to_string();
        let unreadable = |error: io::Error| RouteFileError::Unreadable {
            path: path(),
            reason: error.to_string(),
        };
        if seen.stamp.is_some() {
            let now = std::fs::metadata(&self.path).map_err(unreadable)?;
            if seen.stamp == Some(Stamp::of(&now)) {
                return Ok(None);
            }
        }
        let mut file = File::open(&self.path).map_err(unreadable)?;
        let before = file.metadata().map_err(unreadable)?;
        let mut text = String::new();
        file.by_ref()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(RouteFileError::TooLarge { path: path() });
        }
        let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
        if stamp != Stamp::of(&before) {
            return Err(RouteFileError::Unsettled { path: path() });
        }
        let settled = before.modified().is_ok_and(is_settled);
        seen.stamp = settled.then_some(stamp);
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        let contents = Some(hasher.finish());
        // After it could not be read it is judged again even if it is the same, so that this gets known.
        let was_read = matches!(seen.refusal, None | Some(RouteFileError::Mistake(_)));
        if was_read && seen.judged == contents {
            return Ok(None);
        }
        seen.judged = contents;
        Ok(Some(text))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whatever a panic left behind is at worst judged again.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(seen: &mut Seen, error: RouteFileError) -> Reload {
    if seen.refusal.as_ref() == Some(&error) {
        return Reload::Unchanged;
    }
    seen.refusal = Some(error.clone());
    Reload::Refused(error)
}

fn is_settled(modified: SystemTime) -> bool {
    SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|age| age > STAMP_SETTLES)
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[async_trait]
impl RouteSource for RouteFile {
    async fn lookup(&self, link: LinkId, host: &HostName) -> Result<Answer, LookupError> {
        Ok(self.table.load().lookup(link, host).into())
    }

    async fn lookup_host(&self, host: &HostName) -> Result<Answer, LookupError> {
        Ok(self.table.load().lookup_host(host).into())
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
