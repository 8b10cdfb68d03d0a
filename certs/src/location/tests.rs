//! The layouts, and reading them while they change.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;
use crate::bundle::Bundle;
use crate::dev_ca::{DevCa, Issued};
use crate::expectations::Expectations;

fn issued() -> (DevCa, Issued) {
    let ca = DevCa::new("Test CA").unwrap();
    let issued = ca.server(&["a.example"]).unwrap();
    (ca, issued)
}

fn prove(location: &Location, expectations: &Expectations) -> Bundle {
    let (parts, _) = location.read().unwrap();
    Bundle::prove(parts, expectations, UnixTime::now()).unwrap()
}

#[test]
fn a_kubernetes_tls_secret_is_read_with_and_without_the_symlink_swap() {
    let (ca, issued) = issued();
    let dir = TempDir::new().unwrap();
    let plain = dir.path().join("plain");
    issued.write_to(&plain).unwrap();
    let mounted = dir.path().join("mounted");
    issued.write_to(&mounted.join("..2026_08_21")).unwrap();
    symlink("..2026_08_21", mounted.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        symlink(format!("..data/{name}"), mounted.join(name)).unwrap();
    }
    for path in [plain, mounted] {
        let location = Location::new(path);
        assert_eq!(location.detect().unwrap(), Layout::Directory);
        let bundle = prove(&location, &Expectations::server());
        assert_eq!(bundle.fingerprint(), issued.bundle().unwrap().fingerprint());
        assert_eq!(prove(&location, &Expectations::trust()).roots().len(), 1);
    }
    drop(ca);
}

#[test]
fn one_file_with_key_and_chain_is_read_through_a_versioned_symlink() {
    let (_, issued) = issued();
    let dir = TempDir::new().unwrap();
    let versioned = dir.path().join("vault.server.0123.pem");
    fs::write(
        &versioned,
        format!("{}{}", issued.key_pem.as_str(), issued.chain_pem),
    )
    .unwrap();
    symlink(&versioned, dir.path().join("vault.server")).unwrap();
    let location = Location::new(dir.path().join("vault.server"));
    assert_eq!(location.detect().unwrap(), Layout::File);
    assert!(
        location
            .identify()
            .unwrap()
            .root()
            .ends_with("vault.server.0123.pem")
    );
    assert!(prove(&location, &Expectations::server()).covers("a.example"));
}

#[test]
fn certificates_without_a_key_are_trust_anchors_in_a_file_or_a_directory() {
    let (one, two) = (DevCa::new("One").unwrap(), DevCa::new("Two").unwrap());
    let dir = TempDir::new().unwrap();
    let bundle = dir.path().join("bundle.txt");
    fs::write(&bundle, format!("{}{}", one.ca_pem(), two.ca_pem())).unwrap();
    let several = dir.path().join("several");
    fs::create_dir(&several).unwrap();
    // Without a line ending, as some tools write the last line.
    fs::write(several.join("one.crt"), one.ca_pem().trim_end()).unwrap();
    fs::write(several.join("two.pem"), two.ca_pem()).unwrap();
    fs::write(several.join(".hidden.pem"), "not read").unwrap();
    fs::write(several.join("README"), "not read").unwrap();
    for (path, layout) in [(bundle, Layout::File), (several, Layout::Certificates)] {
        let location = Location::new(path);
        assert_eq!(location.detect().unwrap(), layout);
        assert_eq!(prove(&location, &Expectations::trust()).roots().len(), 2);
        let (parts, _) = location.read().unwrap();
        let server = Bundle::prove(parts, &Expectations::server(), UnixTime::now());
        assert_eq!(server.unwrap_err().label(), "no_key");
    }
}

#[test]
fn what_is_not_there_yet_is_told_from_what_we_do_not_know() {
    let dir = TempDir::new().unwrap();
    let label = |path: &Path| Location::new(path).read().unwrap_err().label();
    assert_eq!(label(&dir.path().join("none")), "absent");
    assert_eq!(label(dir.path()), "absent");
    fs::write(dir.path().join("README"), "").unwrap();
    assert_eq!(label(dir.path()), "unknown_layout");
    symlink("nowhere", dir.path().join("link")).unwrap();
    assert_eq!(label(&dir.path().join("link")), "absent");
}

#[test]
fn a_file_beyond_its_bound_is_not_read() {
    let (_, issued) = issued();
    let dir = TempDir::new().unwrap();
    issued.write_to(dir.path()).unwrap();
    fs::write(
        dir.path().join("tls.crt"),
        vec![b'#'; pem::IDENTITY_PEM_BYTES_MAX + 1],
    )
    .unwrap();
    let location = Location::new(dir.path());
    assert_eq!(location.read().unwrap_err().label(), "file_too_large");
}

#[test]
fn what_is_not_a_regular_file_is_not_opened() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("tls.crt")).unwrap();
    assert_eq!(
        Location::new(dir.path()).read().unwrap_err().label(),
        "not_a_file"
    );
    // Opening a device or a pipe might block for ever.
    assert_eq!(
        Location::new("/dev/zero").read().unwrap_err().label(),
        "not_a_file"
    );
}

#[test]
fn a_directory_with_too_many_files_is_not_read() {
    let dir = TempDir::new().unwrap();
    for number in 0..=DIRECTORY_ENTRIES_MAX {
        fs::write(dir.path().join(format!("{number}.pem")), "").unwrap();
    }
    assert_eq!(
        Location::new(dir.path()).read().unwrap_err().label(),
        "too_many_files"
    );
}

#[test]
fn the_identity_changes_with_every_write_and_settles_with_age() {
    let (_, issued) = issued();
    let dir = TempDir::new().unwrap();
    issued.write_to(dir.path()).unwrap();
    let location = Location::new(dir.path());
    let before = location.identify().unwrap();
    assert_eq!(location.identify().unwrap(), before);
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    assert!(!before.is_settled(now) && before.is_settled(now + 10));
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    assert_ne!(location.identify().unwrap(), before);
}

#[test]
fn a_reader_during_symlink_swaps_never_sees_a_torn_pair() {
    let ca = DevCa::new("Test CA").unwrap();
    let dir = TempDir::new().unwrap();
    let mounted = dir.path().to_owned();
    let certificates: Vec<_> = (0..4).map(|_| ca.server(&["a.example"]).unwrap()).collect();
    let swap = |at: usize| {
        // As the kubelet does it: a new directory, one rename, the old directory goes.
        let (old, new) = (
            mounted.join(format!("..{}", at.wrapping_sub(1))),
            format!("..{at}"),
        );
        certificates[at % 4].write_to(&mounted.join(&new)).unwrap();
        symlink(&new, mounted.join("..data_tmp")).unwrap();
        fs::rename(mounted.join("..data_tmp"), mounted.join("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    };
    swap(0);
    let location = Location::new(&mounted);
    let is_done = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !is_done.load(Ordering::Relaxed) {
                match location.read() {
                    Ok((parts, _)) => {
                        Bundle::prove(parts, &Expectations::server(), UnixTime::now()).unwrap();
                        reads += 1;
                    }
                    // Swaps without pause may outrun a reader; it says so, and shows nothing.
                    Err(error) => assert!(
                        matches!(error.label(), "unsettled" | "unreadable" | "absent"),
                        "{error}"
                    ),
                }
            }
            reads
        });
        for at in 1..200 {
            swap(at);
        }
        is_done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 0);
    prove(&location, &Expectations::server());
}
