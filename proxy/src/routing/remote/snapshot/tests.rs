use std::num::NonZeroU32;
use std::sync::Arc;

use postern_api::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};

use super::*;
use crate::access_log::AccessLog;
use crate::config::Mode;
use crate::metrics::Metrics;
use crate::routing::ClusterName;
use crate::routing::{Account, Link};

const HOUR: Duration = Duration::from_hours(1);
const AT: i64 = 1_795_000_000;

fn answers() -> Answers {
    let metrics = Metrics::new(Mode::Enforce, AccessLog::off()).unwrap();
    Answers::new([ClusterName::new("dicom")], Arc::new(metrics))
}

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn held(name: &str, links: std::ops::Range<u32>) -> HeldAccount {
    let account = Account {
        name: name.into(),
        kind: ServiceKind::Dicom,
        cluster: ClusterName::new("dicom"),
        hosts: [host(&format!("{}.example", name.replace('/', ".")))].into(),
        customer_key: CustomerKey::Accessible,
        limit: NonZeroU32::new(7),
    };
    let link = |id| Link {
        id: LinkId::new(id),
        state: LinkState::Approved,
        limit: NonZeroU32::new(id),
    };
    HeldAccount {
        account: Arc::new(account),
        links: links.map(link).collect(),
        age: Duration::ZERO,
    }
}

struct Kept {
    folder: tempfile::TempDir,
    answers: Answers,
}

impl Kept {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            answers: answers(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("routes.snapshot")
    }

    fn write(&self, accounts: &[HeldAccount]) -> Vec<u8> {
        let bytes = write(&self.path(), 812, AT, accounts).unwrap();
        let text = fs::read(self.path()).unwrap();
        assert_eq!(text.len() as u64, bytes);
        text
    }

    fn read_at(&self, now: i64) -> Result<Option<(Snapshot, Duration)>, SnapshotError> {
        read(&self.path(), &self.answers, 1_000_000, HOUR, now)
    }

    fn read_as(&self, bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let mut reader = Reader::of_disk(&self.answers, 1_000_000);
        // In pieces, as a disk may give it.
        for piece in bytes.chunks(7) {
            reader.push(piece)?;
        }
        reader.finish()
    }
}

fn refused(result: Result<Snapshot, SnapshotError>) -> SnapshotError {
    result.err().expect("it was taken")
}

#[test]
fn what_is_written_is_read_again_and_nobody_else_may() {
    let kept = Kept::new();
    assert!(kept.read_at(AT).unwrap().is_none(), "there is none yet");
    let accounts = [held("one/images", 1..3), held("two/images", 3..4)];
    kept.write(&accounts);
    let mode = fs::metadata(kept.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (snapshot, age) = kept.read_at(AT + 600).unwrap().unwrap();
    assert_eq!((snapshot.head.sequence, age.as_secs()), (812, 600));
    let read = snapshot.accounts.iter();
    let read: Vec<_> = read
        .map(|(account, links)| (Account::clone(account), links.clone()))
        .collect();
    let written = accounts.map(|held| (Account::clone(&held.account), held.links));
    assert_eq!(read, written);
    let files = fs::read_dir(kept.folder.path()).unwrap().count();
    assert_eq!(files, 1, "nothing else is left behind");
}

#[test]
fn what_another_left_behind_is_never_written_through() {
    let kept = Kept::new();
    let elsewhere = kept.folder.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    let mut new = kept.path().into_os_string();
    new.push(".new");
    std::os::unix::fs::symlink(&elsewhere, &new).unwrap();
    kept.write(&[held("one/images", 1..2)]);
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
    assert!(kept.read_at(AT).unwrap().is_some());
}

#[test]
fn a_snapshot_that_was_cut_off_anywhere_is_refused() {
    let kept = Kept::new();
    let text = kept.write(&[held("one/images", 1..3), held("two/images", 3..4)]);
    for length in 0..text.len() {
        let error = refused(kept.read_as(&text[..length]));
        assert_eq!(
            error.reason(),
            SnapshotRefusal::Damaged,
            "{length}: {error}"
        );
    }
    assert!(kept.read_as(&text).is_ok());
}

#[test]
fn a_snapshot_with_any_byte_changed_is_refused() {
    let kept = Kept::new();
    let text = kept.write(&[held("one/images", 1..3)]);
    for place in 0..text.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut damaged = text.clone();
            damaged[place] ^= flip;
            let error = refused(kept.read_as(&damaged));
            let reason = error.reason();
            let is_told = matches!(reason, SnapshotRefusal::Damaged | SnapshotRefusal::Format);
            assert!(is_told, "{place} ^ {flip}: {error}");
        }
    }
}

#[test]
fn a_snapshot_that_goes_on_after_its_end_is_refused() {
    let kept = Kept::new();
    let mut text = kept.write(&[held("one/images", 1..3)]);
    text.extend_from_slice(b"{}\n");
    assert!(matches!(
        refused(kept.read_as(&text)),
        SnapshotError::NotWhole
    ));
}

#[test]
fn too_old_from_the_future_and_of_another_format_have_their_own_words() {
    let kept = Kept::new();
    let text = kept.write(&[held("one/images", 1..3)]);
    let reason = |now| kept.read_at(now).err().map(|error| error.reason());
    assert_eq!(reason(AT + 3599), None);
    assert_eq!(reason(AT + 3600), Some(SnapshotRefusal::TooOld));
    assert_eq!(reason(AT - 1), Some(SnapshotRefusal::Future));
    let newer = String::from_utf8(text)
        .unwrap()
        .replace("\"format\":1", "\"format\":2");
    let error = refused(kept.read_as(newer.as_bytes()));
    assert_eq!(
        error.to_string(),
        "format 2 is not known; 1 is",
        "said before the checksum, which is right for nobody"
    );
    let later = refused(kept.read_as(b"{\"format\":9,\"cells\":[]}\n"));
    assert_eq!(later.reason(), SnapshotRefusal::Format);
}

#[test]
fn what_cannot_be_read_is_told_from_what_is_not_there() {
    let kept = Kept::new();
    fs::create_dir(kept.path()).unwrap();
    let error = kept.read_at(AT).err().unwrap();
    assert_eq!(error.reason(), SnapshotRefusal::Unreadable);
    assert!(write(&kept.path(), 1, AT, &[]).is_err());
}

#[test]
fn a_line_without_an_end_is_not_collected() {
    let answers = answers();
    let mut reader = Reader::of_service(&answers, 10);
    let piece = vec![b' '; PIECE_BYTES];
    let pushed = (0..100).try_for_each(|_| reader.push(&piece));
    assert!(matches!(pushed, Err(SnapshotError::LineTooLong(1))));
    assert!(reader.line.len() <= LINE_BYTES_MAX);
}

#[test]
fn no_more_is_kept_than_can_be_remembered() {
    let kept = Kept::new();
    let accounts = [
        held("one/images", 1..5),
        held("two/images", 5..8),
        held("three/images", 8..9),
    ];
    let text = kept.write(&accounts);
    let mut reader = Reader::of_disk(&kept.answers, 5);
    reader.push(&text).unwrap();
    let snapshot = reader.finish().unwrap();
    assert!(snapshot.is_cut);
    let names = snapshot.accounts.iter().map(|(account, _)| &*account.name);
    assert_eq!(names.collect::<Vec<_>>(), ["one/images", "three/images"]);
}

#[test]
fn an_account_with_very_many_links_takes_several_lines() {
    let kept = Kept::new();
    let text = kept.write(&[held("one/images", 1..25_001)]);
    let lines = String::from_utf8(text.clone()).unwrap().lines().count();
    assert_eq!(lines, 5);
    let snapshot = kept.read_as(&text).unwrap();
    let links = snapshot.accounts.iter().map(|(_, links)| links.len());
    assert_eq!(links.sum::<usize>(), 25_000);
}

#[test]
fn an_account_on_a_cluster_that_is_gone_is_left_out() {
    let kept = Kept::new();
    let text = kept.write(&[held("one/images", 1..3), held("two/images", 3..4)]);
    let metrics = Metrics::new(Mode::Enforce, AccessLog::off()).unwrap();
    let others = Answers::new([ClusterName::new("fhir")], Arc::new(metrics));
    let mut reader = Reader::of_disk(&others, 10);
    reader.push(&text).unwrap();
    assert!(reader.finish().unwrap().accounts.is_empty());
}
