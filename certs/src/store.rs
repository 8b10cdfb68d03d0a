//! The store: a directory of generations, of which a symlink makes one current.
//!
//! ```text
//! store/                       0700
//!   lock                       locked by whoever publishes
//!   current -> g-0000000007    replaced by one rename
//!   g-0000000006/              the previous generation
//!   g-0000000007/              chain.pem  key.pem  anchors.pem  ticket_keys  manifest.toml: what there is, each 0600
//! ```
//!
//! Promises: a reader that follows `current` finds a whole generation, or the one before it, whatever happens
//! to a publisher between any two steps: killed, disk full, power lost. Two publishers take turns.
//! Never changes a generation once it is published.
//!
//! Invariant: `current` only ever points to a directory whose files and names are on disk (fsync).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, thread};

use crate::content::Content;
use crate::location::{CURRENT_LINK, LOCK_FILE, Location, read_manifest};
use crate::manifest::{MANIFEST_FILE, Manifest};

/// The number of a publication in its store. Later ones are greater; numbers are never reused, but may be
/// skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// The number, from 1.
    pub const fn get(self) -> u64 {
        self.0
    }

    fn directory(self) -> String {
        format!("{GENERATION_PREFIX}{:010}", self.0)
    }

    fn of_directory(name: &str) -> Option<Self> {
        name.strip_prefix(GENERATION_PREFIX)?.parse().ok().map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a content was not published. Whatever the reason, what was current still is, unless the text says else.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The directory holds other things.
    #[error("{path} is not empty and no store: give the store a directory of its own", path = path.display())]
    NotAStore {
        /// Which directory.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("could not {step} {path}; the credentials that were current still are", path = path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The reason, such as a full disk.
        source: io::Error,
    },
    /// Everything is written and current, but may not survive a loss of power.
    #[error("{path} is current, but could not be made durable: publish it again", path = path.display())]
    NotDurable {
        /// Which generation.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another publisher holds the lock.
    #[error("another publisher has held {path} for {seconds} s: is one hanging?", path = path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// The bundle was issued, and ends, before the one that is current.
    #[error(
        "the bundle is older than what is current ({subject}, generation {generation}, \"{label}\")"
    )]
    Older {
        /// Subject of what is current.
        subject: String,
        /// Its generation.
        generation: u64,
        /// Its label.
        label: String,
    },
}

/// A store of the generations of one content: a [`Bundle`](crate::Bundle), or
/// [`TicketKeys`](crate::TicketKeys).
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, and creates it with mode 0700 if there is none. An empty directory, or a store,
    /// that others may read is closed to them.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PublishError> {
        let dir = dir.into();
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&dir)
            .map_err(failed("create", &dir))?;
        let lock = dir.join(LOCK_FILE);
        let mut entries = fs::read_dir(&dir).map_err(failed("list", &dir))?;
        if !lock.is_file() && entries.next().is_some() {
            return Err(PublishError::NotAStore { path: dir });
        }
        let mode = fs::metadata(&dir)
            .map_err(failed("look at", &dir))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&dir, fs::Permissions::from_mode(DIRECTORY_MODE))
                .map_err(failed("close to others", &dir))?;
        }
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE);
        options.open(&lock).map_err(failed("create", &lock))?;
        Ok(Self { dir })
    }

    /// Where readers look: give this to [`Watch::new`](crate::Watch::new).
    pub fn location(&self) -> Location {
        Location::new(&self.dir)
    }

    /// What is current, if anything is and can be read.
    pub fn current(&self) -> Option<Manifest> {
        read_manifest(&self.dir.join(self.current_generation()?.directory())).ok()
    }

    /// Makes `content` current, unless it is already or is older than what is. `label` says where it came from (a
    /// Key Vault version, say); it is cut at 256 characters. Blocks on the disk, and for at most ten seconds on
    /// another publisher.
    pub fn publish(&self, content: &impl Content, label: &str) -> Result<Generation, PublishError> {
        let _lock = self.lock()?;
        if let Some(current) = self.current()
            && current.is_newer_than(content)
        {
            let Manifest {
                subject,
                generation,
                label,
                ..
            } = current;
            return Err(PublishError::Older {
                subject,
                generation,
                label,
            });
        }
        self.publish_locked(content, label)
    }

    /// Like [`publish`](Self::publish), for a content that may be older: somebody wants the old one back.
    pub fn roll_back(
        &self,
        content: &impl Content,
        label: &str,
    ) -> Result<Generation, PublishError> {
        let _lock = self.lock()?;
        self.publish_locked(content, label)
    }

    fn publish_locked(
        &self,
        content: &impl Content,
        label: &str,
    ) -> Result<Generation, PublishError> {
        let previous = self.current_generation();
        if let Some(previous) = previous
            && self.current().is_some_and(|it| it.fingerprint == content.fingerprint().to_string())
            // Reading compares each file with the manifest: damage is repaired by a new generation.
            && self.location().read().is_ok()
        {
            return Ok(previous);
        }
        let next = self.sweep(previous)?;
        let written = self
            .write(next, content, label)
            .and_then(|()| self.link(next));
        if let Err(error) = written {
            // On a full disk this gives the space back. If it fails, the next publication sweeps.
            let _ = fs::remove_dir_all(self.dir.join(next.directory()));
            return Err(error);
        }
        self.switch(next)?;
        self.prune(next, previous);
        Ok(next)
    }

    fn lock(&self) -> Result<File, PublishError> {
        let path = self.dir.join(LOCK_FILE);
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        for _ in 0..LOCK_ATTEMPTS_MAX {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(fs::TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
            }
        }
        let seconds = (LOCK_PAUSE * LOCK_ATTEMPTS_MAX).as_secs();
        Err(PublishError::Busy { path, seconds })
    }

    /// Step 1: removes what a publisher that died left behind, which is whatever is newer than the current
    /// generation. Returns the next number.
    fn sweep(&self, current: Option<Generation>) -> Result<Generation, PublishError> {
        let all = self.generations()?;
        let newest = all.iter().copied().max();
        if let Some(current) = current {
            for left_over in all.into_iter().filter(|generation| *generation > current) {
                let path = self.dir.join(left_over.directory());
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(Generation(newest.map_or(1, |newest| newest.0 + 1)))
    }

    /// Step 2: writes the generation's directory. Nothing points to it yet.
    fn write(
        &self,
        generation: Generation,
        content: &impl Content,
        label: &str,
    ) -> Result<(), PublishError> {
        let dir = self.dir.join(generation.directory());
        DirBuilder::new()
            .mode(DIRECTORY_MODE)
            .create(&dir)
            .map_err(failed("create", &dir))?;
        let files = content.files();
        let contents = files.iter().map(|(name, text)| (*name, text.as_slice()));
        let manifest = Manifest::new(generation.0, label, content, contents);
        for (name, text) in &files {
            write_file(&dir.join(name), text)?;
        }
        let path = dir.join(MANIFEST_FILE);
        let manifest =
            toml::to_string(&manifest).map_err(|e| failed("write", &path)(io::Error::other(e)))?;
        write_file(&path, manifest.as_bytes())?;
        sync_directory(&dir).map_err(failed("sync", &dir))?;
        sync_directory(&self.dir).map_err(failed("sync", &self.dir))
    }

    /// Step 3: makes the symlink that will be `current`, under another name.
    fn link(&self, generation: Generation) -> Result<(), PublishError> {
        let path = self.dir.join(NEXT_LINK);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(e));
            }
            _ => {}
        }
        symlink(generation.directory(), &path).map_err(failed("create", &path))
    }

    /// Step 4: the one rename.
    fn switch(&self, generation: Generation) -> Result<(), PublishError> {
        let path = self.dir.join(CURRENT_LINK);
        fs::rename(self.dir.join(NEXT_LINK), &path).map_err(failed("replace", &path))?;
        sync_directory(&self.dir).map_err(|source| PublishError::NotDurable {
            path: self.dir.join(generation.directory()),
            source,
        })
    }

    /// Step 5: removes all but the current and the previous generation. The new one is current whether this
    /// succeeds or not, and the next publication tries again.
    fn prune(&self, current: Generation, previous: Option<Generation>) {
        let kept =
            |generation: &Generation| *generation == current || Some(*generation) == previous;
        let all = self.generations().unwrap_or_default();
        for old in all.into_iter().filter(|generation| !kept(generation)) {
            let _ = fs::remove_dir_all(self.dir.join(old.directory()));
        }
    }

    /// The generation that `current` points to.
    fn current_generation(&self) -> Option<Generation> {
        let target = fs::read_link(self.dir.join(CURRENT_LINK)).ok()?;
        Generation::of_directory(target.to_str()?)
    }

    fn generations(&self) -> Result<Vec<Generation>, PublishError> {
        let mut generations = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let name = entry.map_err(failed("list", &self.dir))?.file_name();
            generations.extend(name.to_str().and_then(Generation::of_directory));
        }
        Ok(generations)
    }
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), PublishError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    let mut file = options.open(path).map_err(failed("create", path))?;
    file.write_all(content).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

/// Names are durable only when their directory is.
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io { step, path, source }
}

const GENERATION_PREFIX: &str = "g-";
const NEXT_LINK: &str = "current.next";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

// Limit: 200 × 50 ms. A publication takes milliseconds, or a second on a slow disk; ten seconds means a hang.
const LOCK_ATTEMPTS_MAX: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
