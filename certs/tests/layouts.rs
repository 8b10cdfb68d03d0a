//! The layouts that other software writes, read while it writes them: a key is never paired with another's
//! certificate, and what was written last is what is in use in the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use postern_certs::dev_ca::{DevCa, Issued};
use postern_certs::{Change, Expectations, Fingerprint, Layout, Location, UnixTime, Watch};
use tempfile::TempDir;

const CHECKS: usize = 10_000;
const CHECKS_MAX: usize = 100 * CHECKS;
const PAIRS: usize = 8;

/// Writes the pair with this number, in however many steps, and leaves what it finds.
type Write = fn(place: &Path, pair: &Issued, number: usize);

/// What a reader saw of a writer that begins again as soon as it was seen.
struct Seen {
    proven: usize,
    refused: Vec<&'static str>,
}

/// Looks 10,000 times and more while the pairs are written over and over, and then once more. A pair lies there whole for at
/// least one look; all the others fall where they may.
fn read_while_written(layout: Layout, place: &Path, write: Write) -> Seen {
    let ca = DevCa::new("Test CA").unwrap();
    let pairs: Vec<Issued> = (0..PAIRS)
        .map(|_| ca.server(&["a.example"]).unwrap())
        .collect();
    let all = pairs
        .iter()
        .map(|pair| pair.bundle().unwrap().fingerprint());
    let all: Vec<Fingerprint> = all.collect();
    write(place, &pairs[0], 0);
    let mut watch = Watch::new(Location::new(place), Expectations::server());
    let mut seen = Seen {
        proven: 0,
        refused: Vec::new(),
    };
    let (is_over, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                write(place, &pairs[number % PAIRS], number);
                // The look that is going on, and a whole one.
                let enough = looks.load(Ordering::SeqCst) + 2;
                while looks.load(Ordering::SeqCst) < enough && !is_over.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
            number % PAIRS
        });
        let mut count = 0;
        // However seldom a busy machine lets the writer write.
        while count < CHECKS || (seen.proven <= PAIRS && count < CHECKS_MAX) {
            count += 1;
            match watch.check(UnixTime::now()) {
                Change::Unchanged => {}
                Change::Proven(bundle) => {
                    assert!(all.contains(&bundle.fingerprint()), "a pair of nobody");
                    seen.proven += 1;
                }
                Change::Refused(why) => seen.refused.push(why.label()),
            }
            looks.fetch_add(1, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    watch.check(UnixTime::now());
    assert!(watch.refusal().is_none(), "{:?}", watch.refusal());
    assert_eq!(watch.current().unwrap().fingerprint(), all[last]);
    assert_eq!(watch.location().detect().unwrap(), layout);
    assert!(seen.proven > PAIRS, "{} new pairs", seen.proven);
    seen
}

/// What a reader may say of a state that is not whole.
fn torn_only(seen: &Seen, expected: &[&str]) {
    for label in &seen.refused {
        assert!(expected.contains(label), "{label} in {:?}", seen.refused);
    }
}

/// Over what is there, in two steps, so that half of it can be read.
fn rewrite(path: &Path, text: &str) {
    let mut file = File::create(path).unwrap();
    let (one, other) = text.as_bytes().split_at(text.len() / 2);
    file.write_all(one).unwrap();
    file.write_all(other).unwrap();
}

/// Makes `link` point to `target` by one rename.
fn swap(link: &Path, target: &Path) {
    let new = link.with_file_name("..data_tmp");
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

const HALF_WRITTEN: [&str; 8] = [
    "absent",
    "key_mismatch",
    "no_certificate",
    "no_key",
    "truncated_pem",
    "malformed_pem",
    "malformed_certificate",
    "unsettled",
];

/// What the Secrets Store CSI driver and the kubelet do: a folder a version, one link that all files go through, and
/// the folder before is removed at once.
#[test]
fn a_swapped_link_to_a_folder_is_read_whole() {
    let dir = TempDir::new().unwrap();
    let seen = read_while_written(Layout::Directory, dir.path(), |place, pair, number| {
        let version = place.join(format!("..version_{number}"));
        pair.write_to(&version).unwrap();
        swap(&place.join("..data"), &version);
        if number == 0 {
            for name in ["tls.crt", "tls.key"] {
                symlink(Path::new("..data").join(name), place.join(name)).unwrap();
            }
        } else {
            fs::remove_dir_all(place.join(format!("..version_{}", number - 1))).unwrap();
        }
    });
    torn_only(&seen, &[]);
}

/// What the Key Vault VM extension does: a file a version, and a link with the certificate's name.
#[test]
fn a_swapped_link_to_a_file_is_read_whole() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("vault.private");
    let seen = read_while_written(Layout::File, &place, |place, pair, number| {
        let version = place.with_file_name(format!("vault.private.{number}.PEM"));
        rewrite(&version, &format!("{}{}", &*pair.key_pem, pair.chain_pem));
        swap(place, &version);
        if number > 0 {
            let before = place.with_file_name(format!("vault.private.{}.PEM", number - 1));
            fs::remove_file(before).unwrap();
        }
    });
    torn_only(&seen, &[]);
}

#[test]
fn one_file_written_over_in_place_is_refused_until_it_is_whole() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("private.pem");
    let seen = read_while_written(Layout::File, &place, |place, pair, _| {
        rewrite(place, &format!("{}{}", &*pair.key_pem, pair.chain_pem));
    });
    torn_only(&seen, &HALF_WRITTEN);
}

#[test]
fn files_written_over_one_by_one_are_refused_until_they_belong_together() {
    let dir = TempDir::new().unwrap();
    let seen = read_while_written(Layout::Directory, dir.path(), |place, pair, number| {
        let mut files = [("tls.crt", &*pair.chain_pem), ("tls.key", &*pair.key_pem)];
        // Now the one first, now the other.
        files.rotate_left(number % 2);
        for (name, text) in files {
            rewrite(&place.join(name), text);
        }
    });
    torn_only(&seen, &HALF_WRITTEN);
}

#[test]
fn files_replaced_one_by_one_are_refused_until_they_belong_together() {
    let dir = TempDir::new().unwrap();
    let seen = read_while_written(Layout::Directory, dir.path(), |place, pair, number| {
        let mut files = [("tls.crt", &*pair.chain_pem), ("tls.key", &*pair.key_pem)];
        files.rotate_left(number % 2);
        for (name, text) in files {
            let new = place.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, place.join(name)).unwrap();
        }
    });
    torn_only(&seen, &["key_mismatch", "unsettled"]);
}
