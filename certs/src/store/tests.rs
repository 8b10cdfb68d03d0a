//! The store at each point where a publisher may die.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;
use crate::bundle::Bundle;
use crate::dev_ca::{DevCa, LeafOptions};
use crate::expectations::{Expectations, Purpose};
use crate::location::{Layout, ReadError};
use crate::manifest::{CHAIN_FILE, KEY_FILE};

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path().join("server")).unwrap();
    (dir, store)
}

fn bundles<const N: usize>() -> [Bundle; N] {
    let ca = DevCa::new("Test CA").unwrap();
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    // One window for all: a second may pass between two of them, and the store refuses what is older.
    let options = LeafOptions {
        not_before: Some(now - 60),
        not_after: Some(now + 86_400),
        ..LeafOptions::new(Purpose::Server, ["a.example"])
    };
    std::array::from_fn(|_| ca.leaf(&options).unwrap().bundle().unwrap())
}

fn read(store: &Store) -> Bundle {
    let (parts, identity) = store.location().read().unwrap();
    assert_eq!(identity.layout(), Layout::Store);
    Bundle::prove(parts, &Expectations::server(), UnixTime::now()).unwrap()
}

fn entries(store: &Store) -> Vec<String> {
    let names = fs::read_dir(&store.dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_published_is_what_is_read() {
    let (_dir, store) = store();
    let [bundle] = bundles();
    assert!(matches!(
        store.location().read(),
        Err(ReadError::Absent { .. })
    ));
    let generation = store.publish(&bundle, "kv:server/1").unwrap();
    assert_eq!(generation.get(), 1);
    assert_eq!(read(&store).fingerprint(), bundle.fingerprint());
    let manifest = store.current().unwrap();
    assert_eq!(
        (manifest.generation, manifest.label.as_str()),
        (1, "kv:server/1")
    );
    assert_eq!(
        manifest.sha256.keys().collect::<Vec<_>>(),
        [CHAIN_FILE, KEY_FILE]
    );
}

#[test]
fn a_client_identity_and_trust_anchors_come_back_as_they_went_in() {
    let (_dir, store) = store();
    let ca = DevCa::new("Test CA").unwrap();
    let parts = ca
        .client("postern")
        .unwrap()
        .parts()
        .with_anchors(ca.ca_pem());
    let client = Bundle::prove(parts, &Expectations::client(), UnixTime::now()).unwrap();
    store.publish(&client, "").unwrap();
    let (parts, _) = store.location().read().unwrap();
    let again = Bundle::prove(parts, &Expectations::client(), UnixTime::now()).unwrap();
    assert_eq!(
        (again.fingerprint(), again.roots().len()),
        (client.fingerprint(), 1)
    );

    ca.publish_trust(&store, "ca").unwrap();
    let (parts, _) = store.location().read().unwrap();
    let trust = Bundle::prove(parts, &Expectations::trust(), UnixTime::now()).unwrap();
    assert_eq!(trust.roots().len(), 1);
}

#[test]
fn only_the_owner_can_read_what_is_published() {
    let (dir, store) = store();
    store.publish(&bundles::<1>()[0], "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let generation = store.dir.join("g-0000000001");
    assert_eq!([mode(&store.dir), mode(&generation)], [0o700; 2]);
    for file in fs::read_dir(&generation).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    let open = dir.path().join("open");
    DirBuilder::new().mode(0o755).create(&open).unwrap();
    Store::open(&open).unwrap();
    assert_eq!(mode(&open), 0o700);
}

#[test]
fn a_directory_with_other_things_in_it_is_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("other"), "").unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(PublishError::NotAStore { .. })
    ));
    assert_eq!(
        fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn the_current_and_the_previous_generation_are_kept() {
    let (_dir, store) = store();
    let all: [Bundle; 4] = bundles();
    for (at, bundle) in all.iter().enumerate() {
        assert_eq!(store.publish(bundle, "").unwrap().get(), at as u64 + 1);
    }
    assert_eq!(
        entries(&store),
        ["current", "g-0000000003", "g-0000000004", "lock"]
    );
}

#[test]
fn publishing_what_is_current_changes_nothing() {
    let (_dir, store) = store();
    let [bundle] = bundles();
    store.publish(&bundle, "first").unwrap();
    assert_eq!(store.publish(&bundle, "again").unwrap().get(), 1);
    assert_eq!(store.current().unwrap().label, "first");
}

#[test]
fn a_damaged_generation_is_refused_and_repaired_by_publishing_again() {
    let (_dir, store) = store();
    let [bundle] = bundles();
    for name in [CHAIN_FILE, KEY_FILE, MANIFEST_FILE] {
        let generation = store.publish(&bundle, "").unwrap();
        let path = store.dir.join(generation.directory()).join(name);
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..content.len() - 100]).unwrap();
        let error = store.location().read().unwrap_err();
        assert!(
            matches!(error.label(), "damaged" | "malformed_manifest"),
            "{error}"
        );
        assert!(store.publish(&bundle, "").unwrap() > generation);
        assert_eq!(read(&store).fingerprint(), bundle.fingerprint());
    }
}

#[test]
fn an_older_certificate_is_published_only_as_a_roll_back() {
    let (_dir, store) = store();
    let ca = DevCa::new("Test CA").unwrap();
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    let leaf = |from: i64, to: i64| {
        let window = (Some(now + from), Some(now + to));
        let options = LeafOptions::new(Purpose::Server, ["a.example"]);
        let options = LeafOptions {
            not_before: window.0,
            not_after: window.1,
            ..options
        };
        ca.leaf(&options).unwrap().bundle().unwrap()
    };
    store.publish(&leaf(-1000, 1000), "new").unwrap();
    let old = leaf(-2000, 500);
    let refused = store.publish(&old, "old").unwrap_err();
    assert!(
        refused.to_string().contains("generation 1, \"new\""),
        "{refused}"
    );
    assert_eq!(store.roll_back(&old, "old").unwrap().get(), 2);
    // Backdated further, but it lasts longer: not older.
    assert_eq!(
        store
            .publish(&leaf(-3000, 2000), "backdated")
            .unwrap()
            .get(),
        3
    );
}

/// What a publisher has done when it dies.
type Crash = fn(&Store, Generation, &Bundle);

#[test]
fn a_publisher_that_dies_between_any_two_steps_leaves_the_old_state_whole() {
    let [old, new, next] = bundles();
    let crashes: [Crash; 6] = [
        |_, _, _| {},
        |store, number, _| fs::create_dir(store.dir.join(number.directory())).unwrap(),
        |store, number, bundle| {
            let dir = store.dir.join(number.directory());
            fs::create_dir(&dir).unwrap();
            write_file(&dir.join(CHAIN_FILE), &bundle.chain_pem()[..100]).unwrap();
        },
        |store, number, bundle| {
            store.write(number, bundle, "").unwrap();
            fs::remove_file(store.dir.join(number.directory()).join(MANIFEST_FILE)).unwrap();
        },
        |store, number, bundle| store.write(number, bundle, "").unwrap(),
        |store, number, bundle| {
            store.write(number, bundle, "").unwrap();
            store.link(number).unwrap();
        },
    ];
    for (at, crash) in crashes.into_iter().enumerate() {
        let (_dir, store) = store();
        let previous = store.publish(&old, "").unwrap();
        let number = store.sweep(Some(previous)).unwrap();
        crash(&store, number, &new);
        assert_eq!(read(&store).fingerprint(), old.fingerprint(), "crash {at}");

        let published = store.publish(&next, "").unwrap();
        assert_eq!(
            read(&store).fingerprint(),
            next.fingerprint(),
            "after crash {at}"
        );
        let kept = ["current", "g-0000000001", &published.directory(), "lock"];
        assert_eq!(entries(&store), kept, "after crash {at}");
    }
}

#[test]
fn a_publisher_that_dies_after_the_rename_has_published() {
    let (_dir, store) = store();
    let all: [Bundle; 4] = bundles();
    for bundle in &all[..2] {
        store.publish(bundle, "").unwrap();
    }
    let number = store.sweep(store.current_generation()).unwrap();
    store.write(number, &all[2], "").unwrap();
    store.link(number).unwrap();
    store.switch(number).unwrap();
    assert_eq!(read(&store).fingerprint(), all[2].fingerprint());
    store.publish(&all[3], "").unwrap();
    assert_eq!(
        entries(&store),
        ["current", "g-0000000003", "g-0000000004", "lock"]
    );
}

#[test]
fn what_a_dead_publisher_left_is_removed_before_anything_is_written() {
    let (_dir, store) = store();
    let [one, two] = bundles();
    let current = store.publish(&one, "").unwrap();
    let number = store.sweep(Some(current)).unwrap();
    store.write(number, &two, "").unwrap();
    // On a full disk the space is needed for what comes next.
    assert!(store.sweep(Some(current)).unwrap() > number);
    assert_eq!(entries(&store), ["current", "g-0000000001", "lock"]);
}

#[test]
fn numbers_go_on_after_the_current_link_is_lost() {
    let (_dir, store) = store();
    let [one, two] = bundles();
    store.publish(&one, "").unwrap();
    fs::remove_file(store.dir.join(CURRENT_LINK)).unwrap();
    assert!(matches!(
        store.location().read(),
        Err(ReadError::Absent { .. })
    ));
    assert_eq!(store.publish(&two, "").unwrap().get(), 2);
}

const FULL_DISK: &str = "POSTERN_CERTS_TEST_FULL_DISK";

/// Runs itself again in a process that may not write files beyond half a KiB, which is how a disk that fills up
/// looks like from inside: the first file is written in part, then `write` fails.
#[test]
fn a_failed_write_leaves_the_old_state_whole_and_no_litter() {
    let (_dir, store) = store();
    let [old, new] = bundles();
    store.publish(&old, "").unwrap();
    let ca = DevCa::new("Test CA").unwrap();
    ca.server(&["a.example"])
        .unwrap()
        .write_to(&store.dir.with_extension("input"))
        .unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::the_process_whose_disk_is_full",
            "--nocapture",
        ])
        .env(FULL_DISK, &store.dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(
        said.contains("could not write") && said.contains("chain.pem"),
        "{said}"
    );
    assert!(
        said.contains("credentials that were current still are"),
        "{said}"
    );

    assert_eq!(read(&store).fingerprint(), old.fingerprint());
    assert_eq!(entries(&store), ["current", "g-0000000001", "lock"]);
    store.publish(&new, "").unwrap();
}

#[test]
fn the_process_whose_disk_is_full() {
    let Some(dir) = std::env::var_os(FULL_DISK) else {
        return;
    };
    let store = Store::open(PathBuf::from(dir)).unwrap();
    let error = store.publish(&bundles::<1>()[0], "").unwrap_err();
    println!("{error}");
}

#[test]
fn a_place_that_cannot_be_written_is_named_in_the_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(file.join("store")).unwrap_err();
    assert!(error.to_string().contains("could not create"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn publishers_at_the_same_time_take_turns() {
    let (_dir, store) = store();
    let all: [Bundle; 8] = bundles();
    let mut numbers: Vec<u64> = thread::scope(|scope| {
        let publish = |bundle| {
            let store = store.clone();
            scope.spawn(move || store.publish(bundle, "").unwrap().get())
        };
        let threads: Vec<_> = all.iter().map(publish).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    read(&store);
    assert_eq!(
        entries(&store),
        ["current", "g-0000000007", "g-0000000008", "lock"]
    );
}

#[test]
fn a_reader_during_two_hundred_publications_never_sees_a_torn_pair() {
    let (_dir, store) = store();
    let bundles: [Bundle; 10] = bundles();
    store.publish(&bundles[9], "").unwrap();
    let is_done = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !is_done.load(Ordering::Relaxed) || reads == 0 {
                read(&store);
                reads += 1;
            }
            reads
        });
        for at in 0..200 {
            store.publish(&bundles[at % 10], "").unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 0);
    assert_eq!(store.current().unwrap().generation, 201);
}
