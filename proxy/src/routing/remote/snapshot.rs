//! Snapshots: all routes at one moment, one JSON text a line, as the service sends them and as we keep them on disk.
//!
//! ```text
//! {"format":1,"sequence":812,"at":1795248000,"accounts":2}
//! {"account":{…},"links":[…]}
//! {"account":{…},"links":[…]}
//! {"sha256":"…"}                      on disk alone: of every byte before this line
//! ```
//!
//! Over TLS nothing can be changed on the way, and a stream that breaks off shows; a disk can lose and change bytes,
//! so what lies there is sealed.
//!
//! Invariant: a snapshot is taken whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use postern_api::routing::{self as wire, SNAPSHOT_FORMAT, SnapshotHead};
use serde::{Deserialize, Serialize};

use super::answer::{AccountLinks, Answers, Distrusted, link_to_wire, to_wire};
use crate::metrics::SnapshotRefusal;
use crate::routing::HeldAccount;

/// All routes at one moment.
pub(super) struct Snapshot {
    /// The newest change that it knows of, and when that was known to be the newest.
    pub(super) head: SnapshotHead,
    /// The accounts that can be used here.
    pub(super) accounts: Vec<AccountLinks>,
    /// Whether there were more than we remember.
    pub(super) is_cut: bool,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or written.
    #[error("cannot be read or written")]
    Io(#[source] io::Error),
    /// A line is longer than any account can be.
    #[error("line {0} has more than {LINE_BYTES_MAX} bytes")]
    LineTooLong(u64),
    /// A line is not what stands at its place.
    #[error("line {line}: {what}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// It was written by a version that knows another format.
    #[error("format {0} is not known; {SNAPSHOT_FORMAT} is")]
    Format(u32),
    /// It ends too soon, or goes on after its end.
    #[error("it is not whole")]
    NotWhole,
    /// The checksum is another: bytes were changed.
    #[error("the checksum differs: it is damaged")]
    Damaged,
    /// It is older than routes may be given out.
    #[error("it is {} s old", .0.as_secs())]
    TooOld(Duration),
    /// It claims to be from the future.
    #[error("it is dated {} s in the future", .0.as_secs())]
    Future(Duration),
}

impl SnapshotError {
    /// The word in metrics.
    pub(super) const fn reason(&self) -> SnapshotRefusal {
        match self {
            Self::Io(_) => SnapshotRefusal::Unreadable,
            Self::Format(_) => SnapshotRefusal::Format,
            Self::TooOld(_) => SnapshotRefusal::TooOld,
            Self::Future(_) => SnapshotRefusal::Future,
            Self::LineTooLong(_) | Self::Malformed { .. } | Self::NotWhole | Self::Damaged => {
                SnapshotRefusal::Damaged
            }
        }
    }
}

/// Reads a snapshot piece by piece. Holds one line and what it has made of those before.
pub(super) struct Reader<'a> {
    answers: &'a Answers,
    entries_left: u64,
    line: Vec<u8>,
    lines: u64,
    found: Option<Snapshot>,
    accounts_left: u64,
    seal: Seal,
}

/// Whether there is a checksum at the end.
enum Seal {
    /// There is none.
    None,
    /// There will be: the hash of the lines so far.
    Open(digest::Context),
    /// It was right.
    Right,
}

/// The last line on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    sha256: String,
}

impl<'a> Reader<'a> {
    /// For what the service sends. What goes beyond `entries_max` pairs of link and host is left out.
    pub(super) fn of_service(answers: &'a Answers, entries_max: u64) -> Self {
        Self {
            answers,
            entries_left: entries_max,
            line: Vec::new(),
            lines: 0,
            found: None,
            accounts_left: 0,
            seal: Seal::None,
        }
    }

    /// For what was written to disk.
    pub(super) fn of_disk(answers: &'a Answers, entries_max: u64) -> Self {
        Self {
            seal: Seal::Open(digest::Context::new(&SHA256)),
            ..Self::of_service(answers, entries_max)
        }
    }

    /// Takes in the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), SnapshotError> {
        while !piece.is_empty() {
            let end = memchr::memchr(b'\n', piece);
            let (part, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
            if self.line.len() + part.len() > LINE_BYTES_MAX {
                return Err(SnapshotError::LineTooLong(self.lines + 1));
            }
            self.line.extend_from_slice(part);
            piece = rest;
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.lines += 1;
                self.take_line(&line)?;
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// It ended here.
    pub(super) fn finish(self) -> Result<Snapshot, SnapshotError> {
        let is_whole =
            self.line.is_empty() && self.accounts_left == 0 && !matches!(self.seal, Seal::Open(_));
        self.found
            .filter(|_| is_whole)
            .ok_or(SnapshotError::NotWhole)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), SnapshotError> {
        let malformed = |what: String| SnapshotError::Malformed {
            line: self.lines,
            what,
        };
        let Some(found) = &mut self.found else {
            let head: SnapshotHead = serde_json::from_slice(line).map_err(|_| {
                // Whatever a later format has for a head, it begins with the number.
                format_of(line).map_or_else(|| malformed("no head".into()), SnapshotError::Format)
            })?;
            if head.format != SNAPSHOT_FORMAT {
                return Err(SnapshotError::Format(head.format));
            }
            self.accounts_left = head.accounts;
            self.found = Some(Snapshot {
                head,
                accounts: Vec::new(),
                is_cut: false,
            });
            self.seal.update(line);
            return Ok(());
        };
        if self.accounts_left == 0 {
            return self.take_trailer(line);
        }
        self.seal.update(line);
        self.accounts_left -= 1;
        let taken = self.answers.account_links(line);
        let taken = taken.map_err(|why: Distrusted| malformed(why.to_string()))?;
        let Some((account, links)) = taken else {
            return Ok(());
        };
        // One without links takes room, too.
        let links_counted = links.len().max(1) as u64;
        let entries = links_counted.saturating_mul(account.hosts.len() as u64);
        match self.entries_left.checked_sub(entries) {
            Some(left) => {
                self.entries_left = left;
                found.accounts.push((account, links));
            }
            None => found.is_cut = true,
        }
        Ok(())
    }

    fn take_trailer(&mut self, line: &[u8]) -> Result<(), SnapshotError> {
        let Seal::Open(hash) = &self.seal else {
            return Err(SnapshotError::NotWhole);
        };
        let trailer: Trailer = serde_json::from_slice(line).map_err(|_| SnapshotError::NotWhole)?;
        if trailer.sha256 != hex(hash.clone().finish().as_ref()) {
            return Err(SnapshotError::Damaged);
        }
        self.seal = Seal::Right;
        Ok(())
    }
}

impl Seal {
    fn update(&mut self, line: &[u8]) {
        if let Self::Open(hash) = self {
            hash.update(line);
        }
    }
}

fn format_of(line: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(line).ok()?;
    (format != SNAPSHOT_FORMAT).then_some(format)
}

/// Reads what lies at `path`; none if nothing does. Blocks. What is older than `age_max` at `now`, in seconds since
/// 1970, is refused.
pub(super) fn read(
    path: &Path,
    answers: &Answers,
    entries_max: u64,
    age_max: Duration,
    now: i64,
) -> Result<Option<(Snapshot, Duration)>, SnapshotError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(SnapshotError::Io)?,
    };
    let mut reader = Reader::of_disk(answers, entries_max);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = file.read(&mut piece).map_err(SnapshotError::Io)?;
        if length == 0 {
            break;
        }
        reader.push(&piece[..length])?;
        if let Some(found) = &reader.found {
            // Before all of it is read: nothing of it would be used.
            age(found.head, age_max, now)?;
        }
    }
    let snapshot = reader.finish()?;
    let age = age(snapshot.head, age_max, now)?;
    Ok(Some((snapshot, age)))
}

fn age(head: SnapshotHead, age_max: Duration, now: i64) -> Result<Duration, SnapshotError> {
    let seconds = Duration::from_secs(now.abs_diff(head.at));
    if head.at > now {
        Err(SnapshotError::Future(seconds))
    } else if seconds >= age_max {
        Err(SnapshotError::TooOld(seconds))
    } else {
        Ok(seconds)
    }
}

/// Writes a snapshot to `path`: whole and on the disk before it takes the place of the one before. Blocks. Gives how
/// many bytes it has.
///
/// Nobody but the owner may read it: it tells which links reach which hosts.
pub(super) fn write(
    path: &Path,
    sequence: u64,
    at: i64,
    accounts: &[HeldAccount],
) -> Result<u64, SnapshotError> {
    write_file(path, sequence, at, accounts).map_err(SnapshotError::Io)
}

fn write_file<'a>(
    path: &Path,
    sequence: u64,
    at: i64,
    accounts: &'a [HeldAccount],
) -> io::Result<u64> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    // One that was left behind, if any; never written through, whatever it is.
    if let Err(error) = fs::remove_file(new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(MODE).open(new)?;
    // Whatever the umask took away or a default ACL gave.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let mut out = Sealed {
        out: BufWriter::with_capacity(PIECE_BYTES, file),
        hash: digest::Context::new(&SHA256),
        bytes: 0,
    };
    // An account with too many links for one line takes several.
    let lines = || {
        let lines = |held: &'a HeldAccount| {
            let links = held.links.chunks(LINKS_A_LINE_MAX);
            links.map(move |links| (&held.account, links))
        };
        accounts.iter().flat_map(lines)
    };
    let head = SnapshotHead {
        format: SNAPSHOT_FORMAT,
        sequence,
        at,
        accounts: lines().count() as u64,
    };
    out.line(&head)?;
    for (account, links) in lines() {
        out.line(&wire::AccountLinks {
            account: to_wire(account),
            links: links.iter().map(link_to_wire).collect(),
        })?;
    }
    let sha256 = hex(out.hash.clone().finish().as_ref());
    out.line(&Trailer { sha256 })?;
    out.out.flush()?;
    out.out.get_ref().sync_all()?;
    fs::rename(new, path)?;
    if let Some(folder) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(out.bytes)
}

struct Sealed<W> {
    out: W,
    hash: digest::Context,
    bytes: u64,
}

impl<W: Write> Sealed<W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.hash.update(&line);
        self.bytes += line.len() as u64;
        self.out.write_all(&line)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    let both = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(both).collect()
}

// Limit: an account with its links: 20,000 links of 50 bytes, which is 200 times what account routing allows.
const LINE_BYTES_MAX: usize = 1024 * 1024;
// Limit: what fits into such a line for sure: 80 bytes each and 64 hosts of 256.
const LINKS_A_LINE_MAX: usize = 10_000;
// Limit: what is read or written at a time.
const PIECE_BYTES: usize = 64 * 1024;
const MODE: u32 = 0o600;

#[cfg(test)]
mod tests;
