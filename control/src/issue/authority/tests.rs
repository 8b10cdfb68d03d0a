use postern_certs::dev_ca::DevCa;

use super::*;

const HOUR: i64 = 3600;
const TRUSTED_FOR: Duration = Duration::from_hours(72);

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn der(ca: &DevCa) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).unwrap()
}

/// The version of `ca` that has been in the vault since `created`.
fn version(id: &str, ca: &DevCa, created: i64) -> Ca {
    let version = Version {
        id: id.to_owned(),
        created,
        not_before: None,
        not_after: None,
        thumbprint: None,
    };
    Ca::new(der(ca), Some(version)).unwrap()
}

fn reason(refused: Result<usize, IssueError>) -> String {
    match refused {
        Err(error @ IssueError::NotYetTrusted(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_version_signs_only_after_its_time_and_the_old_one_until_then() {
    let (old, new) = (
        DevCa::new("Internal CA").unwrap(),
        DevCa::new("Internal CA").unwrap(),
    );
    let trust = [der(&old), der(&new)];
    let start = now();
    let all = [
        version("new", &new, start),
        version("old", &old, start - 1000 * HOUR),
    ];
    let signs = |now| may_sign(&all, &trust, TRUSTED_FOR, now).unwrap();
    assert_eq!(signs(start), 1);
    assert_eq!(signs(start + 72 * HOUR - 1), 1);
    assert_eq!(signs(start + 72 * HOUR), 0);
}

#[test]
fn a_version_that_this_host_does_not_trust_never_signs() {
    let (old, new) = (
        DevCa::new("Internal CA").unwrap(),
        DevCa::new("Internal CA").unwrap(),
    );
    let start = now();
    let all = [
        version("new", &new, start - 500 * HOUR),
        version("old", &old, start - 1000 * HOUR),
    ];
    assert_eq!(may_sign(&all, &[der(&old)], TRUSTED_FOR, start).unwrap(), 1);
    let why = reason(may_sign(&all[..1], &[der(&old)], TRUSTED_FOR, start));
    assert!(
        why.contains("new is not in the trust that this host publishes: publish it first"),
        "{why}"
    );
}

#[test]
fn the_sentence_says_when_a_version_may_sign_and_what_to_do() {
    let ca = DevCa::new("Internal CA").unwrap();
    let all = [version("v1", &ca, now())];
    let why = reason(may_sign(&all, &[der(&ca)], TRUSTED_FOR, now()));
    assert!(why.contains("v1 may sign from 20"), "{why}");
    assert!(why.contains("in the vault for 72 h"), "{why}");
    assert_eq!(
        may_sign(&all, &[der(&ca)], Duration::ZERO, now()).unwrap(),
        0
    );
}

#[test]
fn an_expired_version_does_not_sign() {
    let start = now();
    let ca = DevCa::valid("Internal CA", start - 10 * HOUR, start + HOUR).unwrap();
    let all = [version("v1", &ca, start - 500 * HOUR)];
    let signs = |now| may_sign(&all, &[der(&ca)], TRUSTED_FOR, now);
    assert_eq!(signs(start).unwrap(), 0);
    assert!(reason(signs(start + HOUR)).contains("not valid now"));
}

#[test]
fn a_leaf_is_no_ca() {
    let issued = DevCa::new("Internal CA")
        .unwrap()
        .client("postern")
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap();
    assert!(matches!(Ca::new(leaf, None), Err(IssueError::Ca(_))));
}

#[test]
fn r_and_s_become_a_sequence_of_numbers() {
    let mut raw = [0_u8; 64];
    raw[31] = 5;
    raw[32] = 0x80;
    let der = SignatureAlgorithm::EcdsaSha256.encode(&raw);
    assert_eq!(der[..8], [0x30, 38, 2, 1, 5, 2, 33, 0]);
    assert_eq!(der[8], 0x80);
    assert_eq!(der.len(), 40);
}
