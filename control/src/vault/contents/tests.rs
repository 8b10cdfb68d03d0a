use postern_certs::dev_ca::DevCa;
use postern_certs::{Bundle, Expectations, UnixTime, Unproven};

use super::*;

/// One key, its leaf and two CAs above, as OpenSSL writes them with the empty password. `a.example`, for a century.
const AES: &str = include_str!("aes.b64");
const TRIPLE_DES: &str = include_str!("triple_des.b64");
const NOT_ENCRYPTED: &str = include_str!("plain.b64");
/// The same as PEM: key, root, leaf, intermediate.
const SHUFFLED: &str = include_str!("shuffled.pem");

fn proven(content_type: &str, value: &str) -> Result<Bundle, Unproven> {
    let parts = parts(Some(content_type), value).unwrap();
    Bundle::prove(parts, &Expectations::server(), UnixTime::now())
}

#[test]
fn every_encryption_of_a_pkcs_12_gives_the_leaf_first_and_the_chain_in_order() {
    for value in [AES, TRIPLE_DES, NOT_ENCRYPTED] {
        let bundle = proven(PKCS12, value).unwrap();
        assert_eq!(bundle.facts().subject, "CN=a.example");
        assert!(bundle.covers("a.example"));
    }
}

#[test]
fn pem_in_any_order_gives_the_same_as_pkcs_12() {
    let of_pem = proven(PEM, SHUFFLED).unwrap();
    let of_pkcs12 = proven(PKCS12, AES).unwrap();
    assert_eq!(of_pem.facts(), of_pkcs12.facts());
}

#[test]
fn base64_may_have_lines_and_lack_its_padding() {
    let lines: Vec<_> = AES.as_bytes().chunks(64).collect();
    let text = String::from_utf8(lines.join(&b"\r\n"[..])).unwrap();
    proven(PKCS12, text.trim_end_matches('=')).unwrap();
}

#[test]
fn a_certificate_that_does_not_belong_to_the_chain_is_left_out() {
    let stranger = DevCa::new("Stranger").unwrap();
    let text = format!("{}{SHUFFLED}", stranger.ca_pem());
    let bundle = proven(PEM, &text).unwrap();
    assert_eq!(bundle.facts(), proven(PEM, SHUFFLED).unwrap().facts());
}

#[test]
fn of_two_cas_with_one_name_the_one_that_signed_is_taken() {
    let (old, new) = (
        DevCa::new("Internal CA").unwrap(),
        DevCa::new("Internal CA").unwrap(),
    );
    let issued = new.server(&["a.example"]).unwrap();
    for above in [[&old, &new], [&new, &old]] {
        let above: String = above.iter().map(|ca| ca.ca_pem()).collect();
        let text = format!("{}{}{above}", issued.key_pem.as_str(), issued.chain_pem);
        proven(PEM, &text).unwrap();
    }
}

#[test]
fn a_key_of_another_certificate_is_left_for_the_proof_to_refuse() {
    let ca = DevCa::new("Internal CA").unwrap();
    let (one, other) = (
        ca.server(&["a.example"]).unwrap(),
        ca.server(&["b.example"]).unwrap(),
    );
    let text = format!("{}{}", one.key_pem.as_str(), other.chain_pem);
    let refused = proven(PEM, &text);
    assert!(
        matches!(refused, Err(Unproven::KeyMismatch { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_is_no_credential_is_refused_with_a_sentence_that_shows_nothing_of_it() {
    let two_keys = format!("{SHUFFLED}{SHUFFLED}");
    let certificate_alone = DevCa::new("Internal CA").unwrap().ca_pem().to_owned();
    let key_alone = SHUFFLED
        .split_inclusive("-----END PRIVATE KEY-----")
        .next()
        .unwrap();
    let torn = &SHUFFLED[..SHUFFLED.len() / 2];
    let large = "A".repeat(SECRET_BYTES_MAX + 1);
    let many = format!(
        "{key_alone}\n{}",
        certificate_alone.repeat(CERTIFICATES_MAX + 1)
    );
    let cases: [(Option<&str>, &str, ContentsError); 12] = [
        (None, AES, ContentsError::ContentType("missing".into())),
        (
            Some("text/\nplain"),
            AES,
            ContentsError::ContentType("text/plain".into()),
        ),
        (Some(PKCS12), "not base64!", ContentsError::NotBase64),
        (Some(PKCS12), "Z2FyYmFnZQ==", ContentsError::NotPkcs12),
        (
            Some(PKCS12),
            include_str!("password.b64"),
            ContentsError::NotPkcs12,
        ),
        (
            Some(PKCS12),
            include_str!("no_key.b64"),
            ContentsError::NoKey,
        ),
        (
            Some(PKCS12),
            &large,
            ContentsError::TooLarge {
                bytes: large.len(),
                max: SECRET_BYTES_MAX,
            },
        ),
        (Some(PEM), torn, ContentsError::NotPem),
        (Some(PEM), &certificate_alone, ContentsError::NoKey),
        (Some(PEM), key_alone, ContentsError::NoCertificate),
        (Some(PEM), &two_keys, ContentsError::SeveralKeys(2)),
        (
            Some(PEM),
            &many,
            ContentsError::TooManyCertificates(CERTIFICATES_MAX + 1),
        ),
    ];
    for (content_type, value, expected) in cases {
        let refused = parts(content_type, value).unwrap_err();
        assert_eq!(refused, expected);
        let sentence = refused.to_string();
        assert!(
            !sentence.contains("MII") && !sentence.contains('\n'),
            "{sentence}"
        );
    }
}
