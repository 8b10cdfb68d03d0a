//! From a signing request to a certificate, with a CA in files; and a race that only its loser sees. What else needs a
//! vault is in `tests/vault/issue.rs`.

use std::path::Path;
use std::time::Duration;

use postern_certs::dev_ca::DevCa;
use postern_certs::{Bundle, Expectations, Parts, UnixTime};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SignatureAlgorithm};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::leaf::{Unsigned, is_issued_by};
use super::*;
use crate::testing::credential;
use crate::testing::key_vault::KeyVault;
use crate::vault::{KeyKind, VaultOptions};

const YEAR: Duration = Duration::from_hours(365 * 24);

fn options_of_policy() -> PolicyOptions {
    PolicyOptions {
        subject: "CN=postern, O=Example".to_owned(),
        names: vec!["postern.internal.example".to_owned()],
        key: KeyKind::EcP256,
        lifetime: YEAR,
        renew_at: 0.66,
        usage: Usage::Client,
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn request(
    algorithm: &'static SignatureAlgorithm,
    attributes: &[(DnType, &str)],
) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(vec!["asked.example".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (attribute, value) in attributes {
        params.distinguished_name.push(attribute.clone(), *value);
    }
    let der = params.serialize_request(&key).unwrap().der().to_vec();
    (key, der)
}

fn ours() -> [(DnType, &'static str); 2] {
    [
        (DnType::CommonName, "postern"),
        (DnType::OrganizationName, "Example"),
    ]
}

/// A CA in files, self-signed with a key of this kind.
fn ca_files(dir: &Path, algorithm: &'static SignatureAlgorithm, days: i64) -> Authority {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Internal CA");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let start = rcgen::date_time_ymd(1970, 1, 1);
    let after = |unix: i64| start + Duration::from_secs(unix.cast_unsigned());
    params.not_before = after(now() - 3600);
    params.not_after = after(now() + days * 86400);
    let certificate = params.self_signed(&key).unwrap();
    let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    std::fs::write(&certificate_path, certificate.pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    Authority::Files {
        certificate: certificate_path,
        key: key_path,
    }
}

fn trust(authority: &Authority) -> Vec<CertificateDer<'static>> {
    let Authority::Files { certificate, .. } = authority else {
        unreachable!()
    };
    vec![CertificateDer::from_pem_slice(&std::fs::read(certificate).unwrap()).unwrap()]
}

async fn signed(
    authority: &Authority,
    policy: &Policy,
    request: &[u8],
) -> Result<(CertificateDer<'static>, Cas), IssueError> {
    let cas = authority.current(&trust(authority), now()).await?;
    let ca = &cas.all[cas.signs];
    let request = request::verified(request, policy)?;
    let unsigned = Unsigned::new(&request, ca, policy, now())?;
    let signature = authority.sign(ca, &unsigned.to_be_signed).await?;
    Ok((unsigned.signed(&signature, ca)?, cas))
}

#[tokio::test]
async fn every_kind_of_key_and_ca_gives_an_identity_that_proves() {
    let kinds = [
        (KeyKind::EcP256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (KeyKind::EcP384, &rcgen::PKCS_ECDSA_P384_SHA384),
        (KeyKind::Rsa2048, &rcgen::PKCS_RSA_SHA256),
    ];
    for (kind, algorithm) in kinds {
        let dir = TempDir::new().unwrap();
        let authority = ca_files(dir.path(), algorithm, 3650);
        let policy = PolicyOptions {
            key: kind,
            usage: Usage::Both,
            ..options_of_policy()
        };
        let (key, request) = request(algorithm, &ours());
        let (leaf, _) = signed(&authority, &policy.try_into().unwrap(), &request)
            .await
            .unwrap();
        let anchors = std::fs::read(dir.path().join("ca.crt")).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let parts = Parts::from_der(&[leaf], &key).with_anchors(anchors);
        for expectations in [Expectations::client(), Expectations::server()] {
            let bundle = Bundle::prove(parts.clone(), &expectations, UnixTime::now()).unwrap();
            assert!(bundle.covers("postern.internal.example"));
        }
    }
}

#[tokio::test]
async fn the_certificate_says_what_the_policy_says_and_nothing_of_what_was_asked() {
    let dir = TempDir::new().unwrap();
    let authority = ca_files(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256, 3650);
    let (_, request) = request(&rcgen::PKCS_ECDSA_P256_SHA256, &ours());
    let policy = options_of_policy().try_into().unwrap();
    let (first, _) = signed(&authority, &policy, &request).await.unwrap();
    let (second, cas) = signed(&authority, &policy, &request).await.unwrap();
    let (rest, leaf) = X509Certificate::from_der(&first).unwrap();
    assert!(rest.is_empty());
    assert_eq!(leaf.subject().to_string(), "CN=postern, O=Example");
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && extended.other.is_empty());
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(*names, [GeneralName::DNSName("postern.internal.example")]);
    let authority_key = leaf
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
            _ => None,
        });
    assert_eq!(authority_key.unwrap().0, cas.all[0].key_identifier());
    let window = leaf.validity();
    let length = window.not_after.timestamp() - window.not_before.timestamp();
    assert_eq!(length, 300 + YEAR.as_secs().cast_signed());
    let (_, other) = X509Certificate::from_der(&second).unwrap();
    assert_ne!(leaf.raw_serial(), other.raw_serial());
    assert!(leaf.raw_serial().len() == 16 && leaf.raw_serial()[0] < 0x80);
}

#[tokio::test]
async fn a_certificate_never_outlives_its_ca() {
    let dir = TempDir::new().unwrap();
    let authority = ca_files(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256, 30);
    let (_, request) = request(&rcgen::PKCS_ECDSA_P256_SHA256, &ours());
    let (leaf, cas) = signed(
        &authority,
        &options_of_policy().try_into().unwrap(),
        &request,
    )
    .await
    .unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(
        leaf.validity().not_after.timestamp(),
        cas.all[0].not_after()
    );
}

#[test]
fn a_request_that_is_not_what_the_policy_says_is_refused() {
    let policy: Policy = options_of_policy().try_into().unwrap();
    let refused = |der: &[u8]| request::verified(der, &policy).unwrap_err().to_string();
    let ec = &rcgen::PKCS_ECDSA_P256_SHA256;

    let (_, other_key) = request(&rcgen::PKCS_ECDSA_P384_SHA384, &ours());
    assert!(
        refused(&other_key).contains("its key is ECDSA P-384, and the policy says ECDSA P-256")
    );
    let (_, other_subject) = request(ec, &[(DnType::CommonName, "intruder")]);
    assert!(
        refused(&other_subject)
            .contains("its subject is CN=intruder, and the policy says CN=postern, O=Example")
    );
    let (_, mut forged) = request(ec, &ours());
    // A byte of the requested name, which is covered by the signature.
    let at = forged
        .windows(13)
        .position(|w| w == b"asked.example")
        .unwrap();
    forged[at] = b'b';
    assert!(refused(&forged).contains("its signature is not its key's"));
    assert!(refused(b"garbage").contains("does not parse"));
    let (_, mut longer) = request(ec, &ours());
    longer.push(0);
    assert!(refused(&longer).contains("follows its end"));

    let (_, turned_round) = request(ec, &[ours()[1].clone(), ours()[0].clone()]);
    request::verified(&turned_round, &policy).unwrap();
}

#[tokio::test]
async fn a_signature_of_another_key_is_not_taken() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
    let authority = ca_files(one.path(), algorithm, 3650);
    ca_files(other.path(), algorithm, 3650);
    std::fs::copy(other.path().join("ca.key"), one.path().join("ca.key")).unwrap();
    let (_, request) = request(algorithm, &ours());
    let refused = signed(
        &authority,
        &options_of_policy().try_into().unwrap(),
        &request,
    )
    .await;
    assert!(matches!(refused, Err(IssueError::Signature)));
}

#[tokio::test]
async fn a_ca_of_files_signs_only_while_it_is_trusted() {
    let dir = TempDir::new().unwrap();
    let authority = ca_files(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256, 3650);
    let refused = authority.current(&[], now()).await.unwrap_err();
    assert_eq!(refused.label(), "not_yet_trusted");
    authority.current(&trust(&authority), now()).await.unwrap();
}

#[tokio::test]
async fn who_issued_a_certificate_is_told_by_key_and_not_by_name() {
    let dir = TempDir::new().unwrap();
    let authority = ca_files(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256, 3650);
    let cas = authority.current(&trust(&authority), now()).await.unwrap();
    let namesake = DevCa::new("Internal CA")
        .unwrap()
        .client("postern")
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(namesake.chain_pem.as_bytes()).unwrap();
    assert!(!is_issued_by(&leaf, &cas.all[0]));
}

#[tokio::test]
async fn who_creates_after_somebody_else_has_finished_takes_it_back() {
    let stand_in = KeyVault::start().await.unwrap();
    let dir = TempDir::new().unwrap();
    let ca = dir.path().join("stand-in.pem");
    std::fs::write(&ca, stand_in.ca_pem()).unwrap();
    let options = VaultOptions {
        ca: Some(ca),
        verify_challenge: false,
        ..VaultOptions::new(stand_in.url())
    };
    let identity = credential::identity(stand_in.identity()).unwrap();
    let vault = Vault::new(&options, &identity).unwrap();
    let authority = ca_files(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256, 3650);
    let trust = trust(&authority);
    let cas = authority.current(&trust, now()).await.unwrap();
    let policy = options_of_policy().try_into().unwrap();
    let issuer = Issuer::new(vault.clone(), "client", policy, authority);

    let first = issuer.round(&trust, now()).await.unwrap();
    assert!(matches!(first, Outcome::Issued { .. }), "{first:?}");
    // As if the look had been before that round, and the creation after it.
    let late = issuer.issue(None, &cas, Due::Missing, now()).await.unwrap();
    assert_eq!(late, Outcome::Lost);
    assert_eq!(vault.enabled("client", now()).await.unwrap().len(), 1);
    let pending = vault.pending("client").await;
    assert!(matches!(pending, Err(VaultError::NotFound)), "{pending:?}");
}
