//! Every reason why parts are no bundle, and the bundles that there are.

use std::time::Duration;

use super::*;
use crate::bundle::Bundle;
use crate::dev_ca::{DevCa, Issued, KeyKind, LeafOptions};
use crate::facts;

/// What `openssl req -x509 -newkey rsa:1024 -sha256 -subj /CN=weak.example -addext subjectAltName=DNS:weak.example`
/// makes, with its key thrown away.
const RSA_1024: &str = include_str!("rsa_1024.pem");
/// The same with `-newkey rsa:2048 -sha1`, issued by another CA.
const SHA_1: &str = include_str!("sha_1.pem");

fn now() -> UnixTime {
    UnixTime::now()
}

fn unix(offset: i64) -> i64 {
    seconds(now()) + offset
}

fn ca() -> DevCa {
    DevCa::new("Test CA").unwrap()
}

fn server(ca: &DevCa) -> Issued {
    ca.server(&["a.example", "*.dicom.example"]).unwrap()
}

fn prove(parts: Parts) -> Result<Bundle, Unproven> {
    Bundle::prove(parts, &Expectations::server(), now())
}

/// The label and the whole text of the reason.
fn why(result: Result<Bundle, Unproven>) -> (&'static str, String) {
    let reason = result.unwrap_err();
    (reason.label(), reason.to_string())
}

fn chain(issued: &[&str]) -> String {
    issued.concat()
}

#[test]
fn a_server_certificate_proves_with_each_kind_of_key() {
    let kinds = [
        (KeyKind::P256, KeyType::EcP256),
        (KeyKind::P384, KeyType::EcP384),
        (KeyKind::Ed25519, KeyType::Ed25519),
        (KeyKind::Rsa2048, KeyType::Rsa(2048)),
    ];
    for (kind, expected) in kinds {
        let options = LeafOptions {
            key: kind,
            ..LeafOptions::new(Purpose::Server, ["a.example"])
        };
        let issued = ca().leaf(&options).unwrap();
        let bundle = prove(issued.parts()).unwrap();
        assert_eq!(bundle.facts().key, expected);
        assert_eq!(bundle.facts().subject, "CN=a.example");
        assert_eq!(bundle.facts().issuer, "CN=Test CA");
        assert!(bundle.certified_key().unwrap().keys_match().is_ok());
        assert!(bundle.roots().is_empty());
    }
}

#[test]
fn keys_in_sec1_and_pkcs1_prove_as_well() {
    let kinds = [
        (KeyKind::P256, "EC"),
        (KeyKind::P384, "EC"),
        (KeyKind::Rsa2048, "RSA"),
    ];
    for (kind, family) in kinds {
        let options = LeafOptions {
            key: kind,
            ..LeafOptions::new(Purpose::Server, ["a.example"])
        };
        let issued = ca().leaf(&options).unwrap();
        let chain = pem::certificates(issued.chain_pem.as_bytes(), Piece::Chain).unwrap();
        // RFC 5958 section 2: the third element of PKCS#8 holds the key in its older form.
        let pkcs8 = pem::key(issued.key_pem.as_bytes()).unwrap();
        let (_, info) = x509_parser::der_parser::parse_der(pkcs8.secret_der()).unwrap();
        let older = info.as_sequence().unwrap()[2].as_slice().unwrap().to_vec();
        let key = match family {
            "EC" => PrivateKeyDer::Sec1(older.into()),
            _ => PrivateKeyDer::Pkcs1(older.into()),
        };
        let bundle = prove(Parts::from_der(&chain, &key)).expect(family);
        let written = bundle.key_pem().unwrap();
        assert!(written.starts_with(format!("-----BEGIN {family} PRIVATE KEY").as_bytes()));
        let again = Parts::identity(bundle.chain_pem(), written.as_slice());
        assert_eq!(prove(again).unwrap().fingerprint(), bundle.fingerprint());
    }
}

#[test]
fn the_facts_are_those_of_the_leaf() {
    let options = LeafOptions {
        not_before: Some(unix(-100)),
        not_after: Some(unix(100)),
        ..LeafOptions::new(Purpose::Server, ["A.example", "*.dicom.example"])
    };
    let bundle = prove(ca().leaf(&options).unwrap().parts()).unwrap();
    let facts = bundle.facts();
    assert_eq!(facts.dns_names, ["a.example", "*.dicom.example"]);
    assert_eq!(
        (facts.not_before, facts.not_after),
        (options.not_before.unwrap(), options.not_after.unwrap())
    );
    assert_eq!(bundle.usable_until(), options.not_after.unwrap());
    assert!(facts.serial.len() >= 16 && facts.serial.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(bundle.covers("x.DICOM.example") && !bundle.covers("b.example"));
}

#[test]
fn key_and_chain_in_one_text_prove_in_either_order() {
    let issued = server(&ca());
    let key_first = format!(
        "Bag Attributes: none\n{}{}",
        issued.key_pem.as_str(),
        issued.chain_pem
    );
    let key_last = format!("{}\r\n{}", issued.chain_pem, issued.key_pem.as_str());
    for text in [key_first, key_last] {
        prove(Parts::combined(text)).unwrap();
    }
}

#[test]
fn der_from_a_pkcs12_file_proves_like_pem() {
    let issued = server(&ca());
    let proven = prove(issued.parts()).unwrap();
    let key = pem::key(issued.key_pem.as_bytes()).unwrap();
    let chain = pem::certificates(issued.chain_pem.as_bytes(), Piece::Chain).unwrap();
    assert_eq!(
        prove(Parts::from_der(&chain, &key)).unwrap().fingerprint(),
        proven.fingerprint()
    );
}

#[test]
fn an_empty_input_is_refused() {
    let issued = server(&ca());
    assert_eq!(why(prove(Parts::default())).0, "no_key");
    assert_eq!(
        why(prove(Parts::identity("", issued.key_pem.as_str()))).0,
        "no_certificate"
    );
    assert_eq!(
        why(prove(Parts::identity(&issued.chain_pem, ""))).0,
        "no_key"
    );
    let trust = Bundle::prove(Parts::default(), &Expectations::trust(), now());
    assert_eq!(why(trust).0, "no_certificate");
}

#[test]
fn input_beyond_the_bounds_is_refused() {
    let issued = server(&ca());
    let long = format!(
        "{}{}",
        issued.chain_pem,
        "#".repeat(pem::IDENTITY_PEM_BYTES_MAX)
    );
    assert_eq!(
        why(prove(Parts::identity(long, issued.key_pem.as_str()))).0,
        "too_large"
    );
    let many = issued.chain_pem.repeat(pem::CHAIN_CERTIFICATES_MAX + 1);
    let (label, _) = why(prove(Parts::identity(many, issued.key_pem.as_str())));
    assert_eq!(label, "too_many_certificates");
}

#[test]
fn a_text_that_is_cut_off_is_refused() {
    let issued = server(&ca());
    let cut = |text: &str| text[..text.len() - 40].to_owned();
    let (label, text) = why(prove(Parts::identity(
        cut(&issued.chain_pem),
        issued.key_pem.as_str(),
    )));
    assert_eq!(
        (label, text.contains("certificate chain")),
        ("truncated_pem", true),
        "{text}"
    );
    let (label, text) = why(prove(Parts::identity(
        &issued.chain_pem,
        cut(&issued.key_pem),
    )));
    assert_eq!(
        (label, text.contains("private key")),
        ("truncated_pem", true),
        "{text}"
    );
}

#[test]
fn a_file_cut_at_any_byte_is_never_proven_with_less_than_its_leaf_and_key() {
    let issued = server(&ca());
    let whole = format!("{}{}", issued.key_pem.as_str(), issued.chain_pem);
    let end = whole.trim_end().len();
    for length in (0..end).step_by(7).chain([end - 1]) {
        assert!(
            prove(Parts::combined(&whole[..length])).is_err(),
            "{length} of {end}"
        );
    }
}

#[test]
fn text_that_does_not_decode_is_refused() {
    let issued = server(&ca());
    let broken = issued.chain_pem.replacen("MII", "M!I", 1);
    assert_eq!(
        why(prove(Parts::identity(broken, issued.key_pem.as_str()))).0,
        "malformed_pem"
    );
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (label, text) = why(prove(Parts::identity(not_x509, issued.key_pem.as_str())));
    assert_eq!(
        (label, text.contains("the leaf")),
        ("malformed_certificate", true),
        "{text}"
    );
}

#[test]
fn keys_that_we_cannot_use_are_refused() {
    let ca = ca();
    let issued = server(&ca);
    let twice = issued.key_pem.repeat(2);
    assert_eq!(
        why(prove(Parts::identity(&issued.chain_pem, twice))).0,
        "several_keys"
    );
    let encrypted = issued
        .key_pem
        .replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(
        why(prove(Parts::identity(&issued.chain_pem, encrypted))).0,
        "encrypted_key"
    );
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(
        why(prove(Parts::identity(&issued.chain_pem, garbage))).0,
        "unsupported_key"
    );
    let p521 = LeafOptions {
        key: KeyKind::P521,
        ..LeafOptions::new(Purpose::Server, ["a.example"])
    };
    assert_eq!(
        why(prove(ca.leaf(&p521).unwrap().parts())).0,
        "unsupported_key"
    );
}

#[test]
fn the_key_of_another_certificate_is_refused() {
    let ca = ca();
    let (one, two) = (server(&ca), server(&ca));
    let (label, text) = why(prove(Parts::identity(&one.chain_pem, two.key_pem.as_str())));
    assert_eq!(
        (label, text.contains("CN=a.example")),
        ("key_mismatch", true),
        "{text}"
    );
}

#[test]
fn windows_that_are_not_open_are_refused_with_both_dates() {
    let ca = ca();
    let leaf = |not_before, not_after| {
        let window = (Some(not_before), Some(not_after));
        let options = LeafOptions::new(Purpose::Server, ["a.example"]);
        ca.leaf(&LeafOptions {
            not_before: window.0,
            not_after: window.1,
            ..options
        })
        .unwrap()
        .parts()
    };
    let (label, text) = why(prove(leaf(1_600_000_000, 1_700_000_000)));
    assert_eq!(label, "expired");
    for date in ["2020-09-13T12:26:40Z", "2023-11-14T22:13:20Z"] {
        assert!(text.contains(date), "{text}");
    }
    let (label, text) = why(prove(leaf(unix(3600), 4_102_444_800)));
    assert_eq!(
        (label, text.contains("2100-01-01T00:00:00Z")),
        ("not_yet_valid", true),
        "{text}"
    );
    // Both ends are within (RFC 5280 section 4.1.2.5).
    let at = |at: i64| UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap()));
    let (first, last) = (unix(10), unix(20));
    for (moment, open) in [
        (first - 1, false),
        (first, true),
        (last, true),
        (last + 1, false),
    ] {
        let proven = Bundle::prove(leaf(first, last), &Expectations::server(), at(moment));
        assert_eq!(proven.is_ok(), open);
    }
}

#[test]
fn a_certificate_for_another_use_is_refused() {
    let ca = ca();
    let client = ca.client("postern").unwrap();
    let (label, text) = why(prove(client.parts()));
    assert_eq!(
        (label, text.contains("clientAuth")),
        ("wrong_usage", true),
        "{text}"
    );
    let as_client = Bundle::prove(server(&ca).parts(), &Expectations::client(), now());
    assert_eq!(why(as_client).0, "wrong_usage");
    Bundle::prove(client.parts(), &Expectations::client(), now()).unwrap();
}

#[test]
fn names_that_are_not_covered_are_listed() {
    let issued = server(&ca());
    let expect = |names: &[&str]| {
        let expectations = Expectations::server().covering(names.iter().copied());
        Bundle::prove(issued.parts(), &expectations, now())
    };
    expect(&["a.example", "x.dicom.example", "*.dicom.example"]).unwrap();
    let (label, text) = why(expect(&[
        "a.example",
        "b.example",
        "a.b.dicom.example",
        "*.example",
    ]));
    assert_eq!(label, "names_missing");
    assert!(
        text.contains("does not cover b.example, a.b.dicom.example, *.example;"),
        "{text}"
    );
    let nameless = ca().server(&["10.0.0.4"]).unwrap();
    assert_eq!(why(prove(nameless.parts())).0, "names_missing");
}

#[test]
fn weak_keys_and_signatures_are_refused() {
    let key = server(&ca()).key_pem;
    let (label, text) = why(prove(Parts::identity(RSA_1024, key.as_str())));
    assert_eq!(
        (label, text.contains("1024 bits")),
        ("weak_key", true),
        "{text}"
    );
    assert_eq!(
        why(prove(Parts::identity(SHA_1, key.as_str()))).0,
        "weak_signature"
    );
    let trust = Bundle::prove(Parts::anchors(RSA_1024), &Expectations::trust(), now());
    assert_eq!(why(trust).0, "weak_key");
}

#[test]
fn debug_shows_no_key_bytes() {
    let issued = server(&ca());
    let bundle = prove(issued.parts()).unwrap();
    let shown = format!("{bundle:?} {:?}", issued.parts());
    let key = pem::key(issued.key_pem.as_bytes()).unwrap();
    let hex = facts::hex(key.secret_der());
    let list = format!("{:?}", &key.secret_der()[36..44]);
    let base64 = issued.key_pem.lines().nth(1).unwrap();
    for secret in [base64, &hex[72..88], list.trim_matches(['[', ']'])] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("redacted") && shown.contains("key_bytes"));
}

mod chains;
