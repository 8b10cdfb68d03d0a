//! Where credentials lie, in which of the layouts we know, and reading them as a whole.
//!
//! Promises: what [`Location::read`] returns was read from one resolved directory that was still the current
//! one, with the same files, after the last byte was read. Reads are bounded in bytes, files and attempts.
//! Never follows one symlink twice within a read, never opens what is not a regular file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::fingerprint::Fingerprint;
use crate::manifest::{
    ANCHORS_FILE, CHAIN_FILE, KEY_FILE, MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest, TICKETS_FILE,
};
use crate::parts::Parts;
use crate::pem;
use crate::tickets::{TICKETS_BYTES_MAX, holds_ticket_keys};

/// A path where credentials are, or will be. Nothing has to exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    path: PathBuf,
}

/// How credentials are laid out on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A [`Store`](crate::Store): a directory with a symlink `current` to a generation.
    Store,
    /// A directory with `tls.crt` and `tls.key`, and perhaps `ca.crt`: a Kubernetes secret volume or the Secrets
    /// Store CSI driver (both swap a symlink `..data`), or plain files.
    Directory,
    /// One PEM file with key and chain, or with certificates only; often a symlink to a versioned file, as the
    /// Key Vault VM extension keeps it. Or the text of ticket keys.
    File,
    /// A directory with certificates only (`*.pem`, `*.crt`, `*.cer`): trust anchors.
    Certificates,
}

/// What was looked at, without its content: equal identities mean that nothing was written in between (but see
/// [`Identity::is_settled`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    layout: Layout,
    root: PathBuf,
    files: Vec<(Role, PathBuf, Stamp)>,
}

/// Why credentials could not be read. No reason is about their content; that is [`Unproven`](crate::Unproven).
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nothing at the path, or nothing has been published there.
    #[error("there are no credentials at {path} yet", path = path.display())]
    Absent {
        /// Where.
        path: PathBuf,
    },
    /// A directory that is none of the layouts.
    #[error(
        "{path} is no layout we know: expected a store (current), tls.crt and tls.key, or *.pem, *.crt or *.cer certificates",
        path = path.display()
    )]
    UnknownLayout {
        /// Where.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("could not read {path}", path = path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("{path} is not a regular file", path = path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// A file is larger than is read.
    #[error("{path} is larger than the {max} bytes that are read", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most that is read, in bytes.
        max: usize,
    },
    /// A directory has more files than are read.
    #[error("{path} has more than the {max} files that are read", path = path.display())]
    TooManyFiles {
        /// Which directory.
        path: PathBuf,
        /// The most that are read.
        max: usize,
    },
    /// A generation's manifest cannot be read.
    #[error("the manifest {path} does not parse", path = path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// The parser's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of a generation is not what its manifest says.
    #[error("{path} is not what the manifest beside it says: was it edited? publish it again", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The files changed during each attempt.
    #[error("{path} kept changing while it was read", path = path.display())]
    Unsettled {
        /// Where.
        path: PathBuf,
    },
}

impl ReadError {
    /// The one word: metric label and log word.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "absent",
            Self::UnknownLayout { .. } => "unknown_layout",
            Self::Io { .. } => "unreadable",
            Self::NotAFile { .. } => "not_a_file",
            Self::TooLarge { .. } => "file_too_large",
            Self::TooManyFiles { .. } => "too_many_files",
            Self::Manifest { .. } => "malformed_manifest",
            Self::Damaged { .. } => "damaged",
            Self::Unsettled { .. } => "unsettled",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Chain,
    Key,
    Anchors,
    Tickets,
    /// Key and chain, or certificates only, or ticket keys.
    Any,
    Manifest,
}

impl Role {
    const fn bytes_max(self) -> usize {
        match self {
            Self::Chain | Self::Key => pem::IDENTITY_PEM_BYTES_MAX,
            Self::Anchors | Self::Any => pem::ANCHORS_PEM_BYTES_MAX,
            Self::Tickets => TICKETS_BYTES_MAX,
            Self::Manifest => MANIFEST_BYTES_MAX,
        }
    }
}

/// What `stat` says about a file. Times are (seconds, nanoseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Location {
    /// A location at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which layout is there now.
    pub fn detect(&self) -> Result<Layout, ReadError> {
        Ok(self.identify()?.layout)
    }

    /// Looks without reading: a few calls of `stat`.
    pub fn identify(&self) -> Result<Identity, ReadError> {
        if metadata(&self.path)?.is_dir() {
            self.identify_directory()
        } else {
            let root = resolve(&self.path)?;
            let file = (Role::Any, root.clone(), stamp(&root)?);
            Ok(Identity {
                layout: Layout::File,
                root,
                files: vec![file],
            })
        }
    }

    fn identify_directory(&self) -> Result<Identity, ReadError> {
        let current = self.path.join(CURRENT_LINK);
        let swapped = self.path.join("..data");
        let (is_store, root) = if current.is_symlink() {
            (true, resolve(&current)?)
        } else if swapped.is_symlink() {
            (false, resolve(&swapped)?)
        } else {
            (false, resolve(&self.path)?)
        };
        let known: &[_] = if is_store {
            &STORE_FILES
        } else {
            &DIRECTORY_FILES
        };
        let mut files = Vec::with_capacity(known.len());
        for (role, name) in known {
            let path = root.join(name);
            match stamp(&path) {
                Ok(stamp) => files.push((*role, path, stamp)),
                Err(ReadError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let layout = if is_store {
            Layout::Store
        } else {
            Layout::Directory
        };
        if is_store
            || files
                .iter()
                .any(|file| matches!(file.0, Role::Chain | Role::Key))
        {
            return Ok(Identity {
                layout,
                root,
                files,
            });
        }
        let files = certificate_files(&root)?;
        if files.is_empty() {
            // A store that is open but empty has its lock only.
            let path = self.path.clone();
            let is_awaited = self.path.join(LOCK_FILE).is_file() || is_empty(&root);
            return Err(if is_awaited {
                ReadError::Absent { path }
            } else {
                ReadError::UnknownLayout { path }
            });
        }
        Ok(Identity {
            layout: Layout::Certificates,
            root,
            files,
        })
    }

    /// Reads everything that is there, as a whole, and says what was read.
    ///
    /// The symlink that the layout swaps is resolved once; all files are read below that one directory; then it
    /// must still resolve to it and no file may have changed, or it starts over.
    pub fn read(&self) -> Result<(Parts, Identity), ReadError> {
        let mut failed = ReadError::Unsettled {
            path: self.path.clone(),
        };
        for _ in 0..READ_ATTEMPTS_MAX {
            // A directory that is swapped out may vanish between any two calls: that is no verdict yet.
            let before = match self.identify() {
                Ok(before) => before,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            let parts = before.read();
            if self.identify().is_ok_and(|after| after == before) {
                return Ok((parts?, before));
            }
            failed = ReadError::Unsettled {
                path: self.path.clone(),
            };
        }
        Err(failed)
    }
}

impl Identity {
    /// The layout that was found.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The directory or file that all symlinks led to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a later write is sure to change the identity. File times advance in ticks of some milliseconds
    /// (seconds on some file systems), so that a file written twice within one may look the same: until it is a
    /// few seconds old at `now` (Unix seconds), only its content tells.
    pub fn is_settled(&self, now: i64) -> bool {
        let newest = self
            .files
            .iter()
            .map(|(_, _, stamp)| stamp.modified.0.max(stamp.changed.0))
            .max();
        newest.is_none_or(|newest| newest.saturating_add(TICK_SECONDS_MAX) < now)
    }

    fn read(&self) -> Result<Parts, ReadError> {
        let mut parts = Parts::default();
        let mut manifest = None;
        for (role, path, _) in &self.files {
            let content = read_bounded(path, role.bytes_max())?;
            match role {
                Role::Chain => parts.chain = content,
                Role::Key => parts.key = content,
                Role::Anchors => append(&mut parts.anchors, &content),
                Role::Tickets => parts.tickets = content,
                Role::Any if holds_ticket_keys(&content) => parts.tickets = content,
                // Certificates without a key may serve as trust anchors; which they are is for the purpose to say.
                Role::Any if !pem::holds_key(&content) => {
                    parts.chain.clone_from(&content);
                    parts.anchors = content;
                }
                Role::Any => {
                    parts.chain.clone_from(&content);
                    parts.key = content;
                }
                Role::Manifest => manifest = Some(parse_manifest(path, &content)?),
            }
        }
        if self.layout == Layout::Store {
            self.check(&parts, manifest.as_ref())?;
        }
        parts.label = manifest.map(|manifest| manifest.label);
        Ok(parts)
    }

    fn check(&self, parts: &Parts, manifest: Option<&Manifest>) -> Result<(), ReadError> {
        let damaged = |name: &str| ReadError::Damaged {
            path: self.root.join(name),
        };
        let manifest = manifest.ok_or_else(|| damaged(MANIFEST_FILE))?;
        let read = [
            (CHAIN_FILE, &parts.chain),
            (KEY_FILE, &parts.key),
            (ANCHORS_FILE, &parts.anchors),
            (TICKETS_FILE, &parts.tickets),
        ];
        for (name, content) in read {
            let as_said = match manifest.sha256.get(name) {
                Some(digest) => *digest == Fingerprint::of(content).to_string(),
                None => content.is_empty(),
            };
            if !as_said {
                return Err(damaged(name));
            }
        }
        Ok(())
    }
}

/// Reads the manifest in a generation's directory.
pub(crate) fn read_manifest(generation: &Path) -> Result<Manifest, ReadError> {
    let path = generation.join(MANIFEST_FILE);
    parse_manifest(&path, &read_bounded(&path, MANIFEST_BYTES_MAX)?)
}

fn parse_manifest(path: &Path, content: &[u8]) -> Result<Manifest, ReadError> {
    let malformed = |source| ReadError::Manifest {
        path: path.to_owned(),
        source,
    };
    let text = std::str::from_utf8(content).map_err(|e| malformed(e.into()))?;
    toml::from_str(text).map_err(|e| malformed(e.into()))
}

fn certificate_files(root: &Path) -> Result<Vec<(Role, PathBuf, Stamp)>, ReadError> {
    let unreadable = |source| io_error(root, source);
    let mut paths = Vec::new();
    for (seen, entry) in fs::read_dir(root).map_err(unreadable)?.enumerate() {
        let name = entry.map_err(unreadable)?.file_name();
        if seen == DIRECTORY_ENTRIES_MAX {
            return Err(ReadError::TooManyFiles {
                path: root.to_owned(),
                max: DIRECTORY_ENTRIES_MAX,
            });
        }
        let extension = Path::new(&name).extension();
        let is_certificate = extension.is_some_and(|e| e == "pem" || e == "crt" || e == "cer");
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if is_certificate && !is_hidden {
            paths.push(root.join(name));
        }
    }
    paths.sort();
    let file = |path: PathBuf| stamp(&path).map(|stamp| (Role::Anchors, path, stamp));
    paths.into_iter().map(file).collect()
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Joins files, of which the one before may lack its last line ending.
fn append(to: &mut Zeroizing<Vec<u8>>, content: &[u8]) {
    if !to.is_empty() {
        to.push(b'\n');
    }
    to.extend_from_slice(content);
}

fn read_bounded(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let unreadable = |source| io_error(path, source);
    let file = File::open(path).map_err(unreadable)?;
    let bytes = usize::try_from(file.metadata().map_err(unreadable)?.len()).unwrap_or(usize::MAX);
    // Sized beforehand, with room to find the end, so that the buffer does not move and leave a copy behind.
    let mut content = Zeroizing::new(Vec::with_capacity(bytes.min(max) + 64));
    file.take(max as u64 + 1)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    if content.len() > max {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
            max,
        });
    }
    Ok(content)
}

fn metadata(path: &Path) -> Result<fs::Metadata, ReadError> {
    fs::metadata(path).map_err(|source| io_error(path, source))
}

fn resolve(path: &Path) -> Result<PathBuf, ReadError> {
    fs::canonicalize(path).map_err(|source| io_error(path, source))
}

fn stamp(path: &Path) -> Result<Stamp, ReadError> {
    let found = metadata(path)?;
    if !found.is_file() {
        return Err(ReadError::NotAFile {
            path: path.to_owned(),
        });
    }
    Ok(Stamp {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn io_error(path: &Path, source: io::Error) -> ReadError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ReadError::Absent { path },
        _ => ReadError::Io { path, source },
    }
}

/// The symlink of a store that leads to the current generation.
pub(crate) const CURRENT_LINK: &str = "current";
/// The file that publishers of a store lock.
pub(crate) const LOCK_FILE: &str = "lock";

const STORE_FILES: [(Role, &str); 5] = [
    (Role::Manifest, MANIFEST_FILE),
    (Role::Chain, CHAIN_FILE),
    (Role::Key, KEY_FILE),
    (Role::Anchors, ANCHORS_FILE),
    (Role::Tickets, TICKETS_FILE),
];
const DIRECTORY_FILES: [(Role, &str); 3] = [
    (Role::Chain, "tls.crt"),
    (Role::Key, "tls.key"),
    (Role::Anchors, "ca.crt"),
];

// Limit: a publisher needs milliseconds a generation, a reader microseconds; eight in a row means that somebody
// writes without pause.
const READ_ATTEMPTS_MAX: usize = 8;
// Limit: /etc/ssl/certs has about 450 entries.
const DIRECTORY_ENTRIES_MAX: usize = 1024;
// The coarsest file times in use are FAT's two seconds.
const TICK_SECONDS_MAX: i64 = 2;

#[cfg(test)]
mod tests;
