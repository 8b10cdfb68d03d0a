//! What a watch yields, and when.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::dev_ca::{DevCa, Issued, LeafOptions};
use crate::expectations::Purpose;
use crate::store::Store;

fn now() -> UnixTime {
    UnixTime::now()
}

fn later(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() + seconds))
}

fn ca() -> DevCa {
    DevCa::new("Test CA").unwrap()
}

fn server(path: &Path) -> Watch {
    Watch::new(Location::new(path), Expectations::server())
}

fn proven(change: &Change) -> &Bundle {
    match change {
        Change::Proven(bundle) => bundle,
        other => panic!("{other:?}"),
    }
}

fn refused(change: &Change) -> &'static str {
    match change {
        Change::Refused(why) => why.label(),
        other => panic!("{other:?}"),
    }
}

fn unchanged(change: &Change) {
    assert!(matches!(change, Change::Unchanged), "{change:?}");
}

fn write(issued: &Issued, dir: &TempDir) {
    issued.write_to(dir.path()).unwrap();
}

#[test]
fn each_generation_is_yielded_once() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let mut watch = Watch::new(store.location(), Expectations::server());
    assert_eq!(refused(&watch.check(now())), "absent");
    unchanged(&watch.check(now()));
    assert!(watch.current().is_none());
    for _ in 0..3 {
        let issued = ca().server(&["a.example"]).unwrap();
        issued.publish(&store, "").unwrap();
        let fingerprint = issued.bundle().unwrap().fingerprint();
        assert_eq!(proven(&watch.check(now())).fingerprint(), fingerprint);
        unchanged(&watch.check(now()));
        assert_eq!(watch.current().unwrap().fingerprint(), fingerprint);
        assert!(watch.refusal().is_none());
    }
}

#[test]
fn nothing_is_read_when_nothing_was_written() {
    let dir = TempDir::new().unwrap();
    write(&ca().server(&["a.example"]).unwrap(), &dir);
    let mut watch = server(dir.path());
    proven(&watch.check(later(10)));
    for _ in 0..5 {
        unchanged(&watch.check(later(10)));
    }
    assert_eq!(watch.reads(), 1);
}

#[test]
fn a_file_too_young_for_its_time_to_tell_is_read_again() {
    let dir = TempDir::new().unwrap();
    write(&ca().server(&["a.example"]).unwrap(), &dir);
    let mut watch = server(dir.path());
    proven(&watch.check(now()));
    unchanged(&watch.check(now()));
    assert_eq!(watch.reads(), 2);
    unchanged(&watch.check(later(10)));
    unchanged(&watch.check(later(10)));
    assert_eq!(
        watch.reads(),
        3,
        "once more when it is old enough, and then no more"
    );
}

#[test]
fn a_torn_pair_is_refused_once_and_the_last_good_bundle_stays() {
    let dir = TempDir::new().unwrap();
    let ca = ca();
    let (old, new) = (
        ca.server(&["a.example"]).unwrap(),
        ca.server(&["a.example"]).unwrap(),
    );
    write(&old, &dir);
    let mut watch = server(dir.path());
    proven(&watch.check(now()));
    fs::write(dir.path().join("tls.crt"), &new.chain_pem).unwrap();
    assert_eq!(refused(&watch.check(now())), "key_mismatch");
    unchanged(&watch.check(now()));
    unchanged(&watch.check(later(10)));
    assert_eq!(watch.refusal().unwrap().label(), "key_mismatch");
    let good = old.bundle().unwrap().fingerprint();
    assert_eq!(watch.current().unwrap().fingerprint(), good);
    fs::write(dir.path().join("tls.key"), new.key_pem.as_bytes()).unwrap();
    assert_eq!(
        proven(&watch.check(now())).fingerprint(),
        new.bundle().unwrap().fingerprint()
    );
}

#[test]
fn another_bad_content_is_reported_again_and_going_back_is_not_a_change() {
    let dir = TempDir::new().unwrap();
    let issued = ca().server(&["a.example"]).unwrap();
    write(&issued, &dir);
    let mut watch = server(dir.path());
    proven(&watch.check(now()));
    for (content, label) in [
        ("", "no_certificate"),
        ("-----BEGIN CERTIFICATE-----\n", "truncated_pem"),
    ] {
        fs::write(dir.path().join("tls.crt"), content).unwrap();
        assert_eq!(refused(&watch.check(now())), label);
    }
    let before = Arc::clone(watch.current().unwrap());
    write(&issued, &dir);
    unchanged(&watch.check(now()));
    assert!(watch.refusal().is_none());
    assert!(Arc::ptr_eq(watch.current().unwrap(), &before));
}

#[test]
fn files_that_vanish_are_reported_once_and_are_read_afresh_when_they_return() {
    let dir = TempDir::new().unwrap();
    let issued = ca().server(&["a.example"]).unwrap();
    let path = dir.path().join("tls");
    issued.write_to(&path).unwrap();
    let mut watch = server(&path);
    proven(&watch.check(now()));
    fs::rename(&path, dir.path().join("away")).unwrap();
    assert_eq!(refused(&watch.check(now())), "absent");
    unchanged(&watch.check(now()));
    assert!(watch.current().is_some());
    fs::rename(dir.path().join("away"), &path).unwrap();
    unchanged(&watch.check(now()));
    assert!(watch.refusal().is_none());
}

#[test]
fn what_is_not_yet_valid_is_yielded_when_it_is() {
    let dir = TempDir::new().unwrap();
    let not_before = Some(seconds(later(100)));
    let options = LeafOptions {
        not_before,
        ..LeafOptions::new(Purpose::Server, ["a.example"])
    };
    write(&ca().leaf(&options).unwrap(), &dir);
    let mut watch = server(dir.path());
    assert_eq!(refused(&watch.check(now())), "not_yet_valid");
    unchanged(&watch.check(later(50)));
    proven(&watch.check(later(150)));
}

#[test]
fn trust_anchors_are_proven_again_when_one_begins_or_ends() {
    let dir = TempDir::new().unwrap();
    let now = seconds(now());
    let ending = DevCa::valid("Ending CA", now - 100, now + 100).unwrap();
    let coming = DevCa::valid("Coming CA", now + 50, now + 1000).unwrap();
    let path = dir.path().join("trust.pem");
    fs::write(&path, format!("{}{}", ending.ca_pem(), coming.ca_pem())).unwrap();
    let mut watch = Watch::new(Location::new(path), Expectations::trust());
    let subjects = |change: &Change| -> Vec<String> {
        proven(change)
            .all_facts()
            .iter()
            .map(|facts| facts.subject.clone())
            .collect()
    };
    assert_eq!(subjects(&watch.check(later(0))), ["CN=Ending CA"]);
    unchanged(&watch.check(later(40)));
    assert_eq!(
        subjects(&watch.check(later(60))),
        ["CN=Ending CA", "CN=Coming CA"]
    );
    unchanged(&watch.check(later(70)));
    assert_eq!(subjects(&watch.check(later(110))), ["CN=Coming CA"]);
    assert_eq!(refused(&watch.check(later(2000))), "expired");
    unchanged(&watch.check(later(2001)));
    assert_eq!(watch.current().unwrap().facts().subject, "CN=Coming CA");
}

#[test]
fn debug_shows_no_key_bytes() {
    let dir = TempDir::new().unwrap();
    let issued = ca().server(&["a.example"]).unwrap();
    write(&issued, &dir);
    let mut watch = server(dir.path());
    let change = watch.check(now());
    let shown = format!("{watch:?} {change:?}");
    assert!(shown.contains("redacted"));
    for line in issued.key_pem.lines() {
        assert!(!shown.contains(line));
    }
    let digest = issued
        .parts()
        .with_anchors(&issued.ca_pem)
        .content()
        .to_string();
    assert!(!shown.contains(&digest), "the digest covers the key");
}
