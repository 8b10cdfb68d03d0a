//! Ticket keys: their text, and their way through a store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::location::Location;
use crate::store::Store;
use crate::watch::{Change, Watch};

fn key(secret: u8, not_before: i64, not_after: i64) -> TicketKey {
    TicketKey::new(&[secret; 32], not_before, not_after).unwrap()
}

fn keys(keys: &[TicketKey]) -> TicketKeys {
    TicketKeys::new(keys.to_vec()).unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn parts(text: &[u8]) -> Parts {
    Parts {
        tickets: Zeroizing::new(text.to_vec()),
        ..Parts::default()
    }
}

fn refused(text: &str) -> Unproven {
    TicketKeys::prove(&parts(text.as_bytes()), at(10)).unwrap_err()
}

#[test]
fn the_text_form_is_this_one() {
    let text = keys(&[key(0x0a, -5, 20), key(0xff, 10, 30)]).text();
    let expected = format!(
        "postern-ticket-keys 1\n{} 10 30\n{} -5 20\n",
        "ff".repeat(32),
        "0a".repeat(32)
    );
    assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    let again = TicketKeys::prove(&parts(&text), at(0)).unwrap();
    assert_eq!(again, keys(&[key(0xff, 10, 30), key(0x0a, -5, 20)]));
}

#[test]
fn the_longest_text_fits_its_bound() {
    let all = (0..64).map(|n| key(n, i64::MIN, i64::MAX));
    let text = TicketKeys::new(all.collect()).unwrap().text();
    assert!(text.len() <= TICKETS_BYTES_MAX);
    assert!(TicketKeys::prove(&parts(&text), at(0)).is_ok());
}

#[test]
fn what_is_no_set_of_keys_is_refused_with_its_reason() {
    let good = format!("{} 1 20", "00".repeat(32));
    for (text, label, says) in [
        (String::new(), "no_ticket_keys", "no ticket key"),
        (
            "postern-ticket-keys 1\n".into(),
            "no_ticket_keys",
            "no ticket key",
        ),
        (
            format!("postern-ticket-keys 2\n{good}\n"),
            "malformed_ticket_keys",
            "newer version",
        ),
        (
            format!("{HEADING}\n{good}\n{good}\n"),
            "malformed_ticket_keys",
            "same secret",
        ),
        (
            format!("{HEADING}\n\n{good}\n"),
            "malformed_ticket_keys",
            "line 2",
        ),
        (
            format!("{HEADING}\n{good}\n{}", &good[..66]),
            "malformed_ticket_keys",
            "line 3",
        ),
        (
            format!("{HEADING}\n{}", good.replace("00 ", "0 ")),
            "malformed_ticket_keys",
            "line 2",
        ),
        (
            format!("{HEADING}\n{}", good.replace('0', "g")),
            "malformed_ticket_keys",
            "line 2",
        ),
        (
            format!("{HEADING}\n{} 20 1", "00".repeat(32)),
            "malformed_ticket_keys",
            "line 2",
        ),
        (
            format!("{HEADING}\n{} 1 9", "00".repeat(32)),
            "expired",
            "renew",
        ),
    ] {
        let why = refused(&text);
        assert_eq!(why.label(), label, "{text}");
        assert!(why.to_string().contains(says), "{why}");
    }
    let many = (0..=64).map(|n| key(n, 0, 1)).collect();
    assert_eq!(TicketKeys::new(many), Err(TicketKeyError::TooMany));
    assert_eq!(
        TicketKey::new(&[0; 31], 0, 1),
        Err(TicketKeyError::Length(31))
    );
    assert!(TicketKey::new(&[0; 32], 2, 1).is_err());
}

#[test]
fn the_latest_key_that_has_begun_encrypts_until_it_ends() {
    let keys = keys(&[key(1, 0, 30), key(2, 10, 20), key(3, 25, 40)]);
    let secret = |now| keys.encrypting(now).map(|key| key.secret[0]);
    let expected = [
        (-1, None),
        (0, Some(1)),
        (9, Some(1)),
        (10, Some(2)),
        (20, Some(2)),
    ];
    assert_eq!(expected.map(|(now, _)| (now, secret(now))), expected);
    let expected = [(21, Some(1)), (25, Some(3)), (40, Some(3)), (41, None)];
    assert_eq!(expected.map(|(now, _)| (now, secret(now))), expected);
}

#[test]
fn a_name_tells_keys_apart_and_betrays_no_secret() {
    let (one, other) = (key(1, 0, 1), key(2, 0, 1));
    assert_ne!(one.name(), other.name());
    assert_eq!(one.name(), key(1, 5, 6).name());
    let shown = format!("{:?} {:?}", keys(&[one]), parts(b"postern-ticket-keys 1"));
    assert!(
        !shown.contains("0101") && !shown.contains("[1, 1"),
        "{shown}"
    );
}

#[test]
fn keys_are_published_and_watched_like_bundles() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path().join("tickets")).unwrap();
    let mut watch = Watch::new(store.location(), TicketExpectations);
    assert!(matches!(watch.check(at(5)), Change::Refused(why) if why.label() == "absent"));
    let first = keys(&[key(1, 0, 20)]);
    assert_eq!(store.publish(&first, "tickets/1").unwrap().get(), 1);
    assert!(matches!(watch.check(at(5)), Change::Proven(it) if *it == first));
    assert_eq!(watch.label(), Some("tickets/1"));
    assert!(matches!(watch.check(at(6)), Change::Unchanged));

    let second = keys(&[key(1, 0, 20), key(2, 10, 40)]);
    store.publish(&second, "tickets/2").unwrap();
    assert_eq!(store.publish(&second, "tickets/2").unwrap().get(), 2);
    assert!(matches!(watch.check(at(6)), Change::Proven(it) if *it == second));
    assert_eq!(watch.label(), Some("tickets/2"));
    // The first key ends, and then the last.
    let rest = keys(&[key(2, 10, 40)]);
    assert!(matches!(watch.check(at(21)), Change::Proven(it) if *it == rest));
    assert!(matches!(watch.check(at(41)), Change::Refused(why) if why.label() == "expired"));
    assert!(matches!(watch.check(at(42)), Change::Unchanged));

    let manifest = store.current().unwrap();
    assert_eq!(
        (manifest.purpose.as_str(), manifest.not_after),
        ("tickets", 40)
    );
    let file = dir.path().join("tickets/current").join(TICKETS_FILE);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(" 40", " 99")).unwrap();
    assert!(matches!(watch.check(at(30)), Change::Refused(why) if why.label() == "damaged"));
    // A key that got known is taken out: the set is smaller, and no older.
    assert_eq!(store.publish(&first, "tickets/3").unwrap().get(), 3);
}

#[test]
fn keys_may_lie_in_a_plain_file_and_a_certificate_is_none() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let mut watch = Watch::new(Location::new(&path), TicketExpectations);
    fs::write(&path, &*keys(&[key(1, 0, 20)]).text()).unwrap();
    assert!(matches!(watch.check(at(5)), Change::Proven(_)));
    assert_eq!(watch.label(), None);
    fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert!(matches!(watch.check(at(6)), Change::Refused(why) if why.label() == "no_ticket_keys"));
}

#[test]
fn a_ticket_is_opened_by_its_own_key_until_that_ends() {
    let keys = keys(&[key(1, 0, 20), key(2, 10, 30)]);
    let ticket = keys.encrypt(b"session", 5).unwrap();
    assert_eq!(ticket.len(), NAME_BYTES + NONCE_LEN + 7 + 16);
    for now in [0, 15, 20] {
        assert_eq!(keys.decrypt(&ticket, now).unwrap(), b"session");
    }
    assert_eq!(keys.decrypt(&ticket, 21), None);
    let later = keys.encrypt(b"session", 10).unwrap();
    assert_eq!(keys.decrypt(&later, 30).unwrap(), b"session");
    assert_ne!(ticket[..NAME_BYTES], later[..NAME_BYTES]);
    assert_eq!(keys.encrypt(b"session", 31), None);
}

#[test]
fn a_ticket_that_was_changed_or_cut_off_is_none() {
    let keys = keys(&[key(1, 0, 20), key(2, 10, 30)]);
    let ticket = keys.encrypt(b"session", 5).unwrap();
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert_eq!(keys.decrypt(&changed, 5), None, "{at}");
        assert_eq!(keys.decrypt(&ticket[..at], 5), None, "{at}");
    }
    // Another key's name does not make it that key's.
    let other = keys.encrypt(b"session", 10).unwrap();
    let mixed = [&other[..NAME_BYTES], &ticket[NAME_BYTES..]].concat();
    assert_eq!(keys.decrypt(&mixed, 5), None);
    assert_eq!(keys.decrypt(&[], 5), None);
}

#[test]
fn keys_that_are_all_to_come_are_taken_when_the_first_begins() {
    let text = keys(&[key(1, 20, 40), key(2, 30, 50)]).text();
    let early = TicketKeys::prove(&parts(&text), at(10)).unwrap_err();
    assert_eq!(early.label(), "not_yet_valid");
    assert!(early.may_be_over(at(20)) && !early.may_be_over(at(19)));
    assert_eq!(
        TicketKeys::prove(&parts(&text), at(20))
            .unwrap()
            .all()
            .len(),
        2
    );
}
