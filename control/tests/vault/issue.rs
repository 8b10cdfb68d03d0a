//! Certificates are created, signed and merged; several issuers at once end with one version.

use std::time::Duration;

use postern_certs::dev_ca::DevCa;
use postern_certs::{Bundle, Expectations, UnixTime};
use postern_control::issue::{
    Authority, Due, IssueError, Issuer, Outcome, Policy, PolicyOptions, Usage,
};
use postern_control::testing::key_vault::{Faults, NewVersion};
use postern_control::vault::{KeyKind, NewCertificate, Vault, VaultError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;

use crate::scene::{Scene, der, now};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn policy(key: KeyKind) -> Policy {
    let options = PolicyOptions {
        subject: "CN=postern, O=Example".to_owned(),
        names: vec!["postern.internal.example".to_owned()],
        key,
        lifetime: Duration::from_hours(90 * 24),
        renew_at: 0.66,
        usage: Usage::Client,
    };
    options.try_into().unwrap()
}

fn issuer(vault: &Vault) -> Issuer {
    let authority = Authority::Vault {
        vault: vault.clone(),
        certificate: "internal-ca".to_owned(),
        trusted_for: Duration::from_hours(72),
    };
    Issuer::new(vault.clone(), "client", policy(KeyKind::EcP256), authority)
}

/// The CA's versions as this host publishes them.
async fn trust(vault: &Vault) -> Vec<CertificateDer<'static>> {
    let enabled = vault.enabled("internal-ca", now()).await.unwrap();
    enabled
        .into_iter()
        .map(|(_, certificate)| certificate)
        .collect()
}

/// When the CA has been in the vault for long enough.
fn trusted() -> i64 {
    now() + 73 * HOUR
}

async fn proven(vault: &Vault, trust: &[CertificateDer<'static>]) -> Bundle {
    proven_at(vault, trust, trusted()).await
}

async fn proven_at(vault: &Vault, trust: &[CertificateDer<'static>], at: i64) -> Bundle {
    let version = vault.newest("client").await.unwrap();
    let parts = vault.identity("client", &version.id).await.unwrap();
    let anchors: String = trust.iter().map(|anchor| pem(anchor)).collect();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.cast_unsigned()));
    Bundle::prove(parts.with_anchors(anchors), &Expectations::client(), at).unwrap()
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn the_first_version_is_issued_and_then_none_is_due() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    let issuer = issuer(&scene.vault);
    let outcome = issuer.round(&trust, trusted()).await.unwrap();
    let Outcome::Issued {
        version,
        due: Due::Missing,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(scene.vault.newest("client").await.unwrap().id, version);
    let bundle = proven(&scene.vault, &trust).await;
    assert_eq!(bundle.facts().subject, "CN=postern, O=Example");
    assert!(bundle.covers("postern.internal.example"));
    let length = bundle.facts().not_after - bundle.facts().not_before;
    assert_eq!(length, 90 * DAY + 300);
    assert_eq!(
        issuer.round(&trust, trusted() + 50 * DAY).await.unwrap(),
        Outcome::NotDue
    );
}

#[tokio::test]
async fn a_version_is_renewed_with_a_new_key_when_its_time_is_up() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    let issuer = issuer(&scene.vault);
    issuer.round(&trust, trusted()).await.unwrap();
    let (_, first) = scene.vault.newest_certificate("client").await.unwrap();
    let renewed = issuer.round(&trust, trusted() + 60 * DAY).await.unwrap();
    assert!(
        matches!(renewed, Outcome::Issued { due: Due::Age, .. }),
        "{renewed:?}"
    );
    let (_, second) = scene.vault.newest_certificate("client").await.unwrap();
    let (_, first) = x509_parser::parse_x509_certificate(&first).unwrap();
    let (_, second) = x509_parser::parse_x509_certificate(&second).unwrap();
    assert_ne!(first.public_key().raw, second.public_key().raw);
}

#[tokio::test]
async fn every_kind_of_ca_in_a_vault_signs() {
    let kinds: [(&'static SignatureAlgorithm, KeyKind); 3] = [
        (&rcgen::PKCS_RSA_SHA256, KeyKind::EcP384),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::Rsa2048),
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::EcP256),
    ];
    for (algorithm, key) in kinds {
        let scene = Scene::start().await;
        let ca = ca_with_key(algorithm);
        let certificate = der(ca.ca_pem());
        scene.stand_in.add_ca("other-ca", ca).unwrap();
        let authority = Authority::Vault {
            vault: scene.vault.clone(),
            certificate: "other-ca".to_owned(),
            trusted_for: Duration::ZERO,
        };
        let issuer = Issuer::new(scene.vault.clone(), "client", policy(key), authority);
        issuer
            .round(std::slice::from_ref(&certificate), now())
            .await
            .unwrap();
        proven(&scene.vault, &[certificate]).await;
    }
}

/// A CA with a key of this kind.
fn ca_with_key(algorithm: &'static SignatureAlgorithm) -> DevCa {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "Other CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    DevCa::load(&certificate.pem(), &key.serialize_pem()).unwrap()
}

#[tokio::test]
async fn a_ca_that_is_not_trusted_everywhere_does_not_sign_and_the_sentence_says_why() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    let issuer = issuer(&scene.vault);
    let too_early = issuer.round(&trust, now()).await.unwrap_err();
    assert!(
        matches!(too_early, IssueError::NotYetTrusted(_)),
        "{too_early:?}"
    );
    assert!(
        too_early.to_string().contains("in the vault for 72 h"),
        "{too_early}"
    );
    let not_published = issuer.round(&[], trusted()).await.unwrap_err();
    assert!(
        not_published.to_string().contains("publish it first"),
        "{not_published}"
    );
    assert_eq!(
        scene.stand_in.log().count("POST", "/certificates/client"),
        0
    );
}

#[tokio::test]
async fn a_new_ca_takes_over_once_it_is_trusted_and_not_before() {
    let scene = Scene::start().await;
    let old_trust = trust(&scene.vault).await;
    let issuer = issuer(&scene.vault);
    issuer.round(&old_trust, trusted()).await.unwrap();

    scene.stand_in.identity().clock().set_ahead(80 * HOUR);
    scene
        .stand_in
        .add_ca("internal-ca", DevCa::new("Internal CA").unwrap())
        .unwrap();
    let new_trust = trust(&scene.vault).await;
    assert_eq!(new_trust.len(), 2);
    // Long enough in the vault, but not published here; and the other way round.
    let late = now() + 160 * HOUR;
    assert_eq!(
        issuer.round(&old_trust, late).await.unwrap(),
        Outcome::NotDue
    );
    assert_eq!(
        issuer.round(&new_trust, late - 20 * HOUR).await.unwrap(),
        Outcome::NotDue
    );
    let taken_over = issuer.round(&new_trust, late).await.unwrap();
    assert!(
        matches!(
            taken_over,
            Outcome::Issued {
                due: Due::Authority,
                ..
            }
        ),
        "{taken_over:?}"
    );
    proven_at(&scene.vault, &new_trust[..1], late).await;
    // A host that is behind does not turn it back.
    assert_eq!(
        issuer.round(&old_trust, late).await.unwrap(),
        Outcome::NotDue
    );
    assert_eq!(
        issuer.round(&new_trust, late).await.unwrap(),
        Outcome::NotDue
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_issuers_at_once_end_with_one_version() {
    for steps_apart in 0..6 {
        let scene = Scene::start().await;
        let trust = trust(&scene.vault).await;
        let mut vaults: Vec<_> = (0..8).map(|_| scene.another()).collect();
        for vault in &vaults {
            vault.newest("internal-ca").await.unwrap();
        }
        let mut issuers = tokio::task::JoinSet::new();
        for (place, vault) in vaults.drain(..).enumerate() {
            let trust = trust.clone();
            issuers.spawn(async move {
                // So that each is somewhere else in its round: one finishes while another begins.
                for _ in 0..place * steps_apart {
                    vault.newest("internal-ca").await.unwrap();
                }
                issuer(&vault).round(&trust, trusted()).await
            });
        }
        let outcomes = issuers.join_all().await;
        let issued = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Outcome::Issued { .. })));
        assert_eq!(issued.count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(scene.vault.enabled("client", now()).await.unwrap().len(), 1);
        proven(&scene.vault, &trust).await;
    }
}

#[tokio::test]
async fn a_creation_that_somebody_began_and_left_is_completed() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    let issuer = issuer(&scene.vault);
    let sign_down = Faults {
        error: Some(503),
        path: "/keys/".to_owned(),
        ..Faults::default()
    };
    scene.stand_in.set_faults(sign_down);
    let left = issuer.round(&trust, trusted()).await.unwrap_err();
    assert_eq!(left.label(), "unavailable");
    scene.stand_in.set_faults(Faults::default());
    let other = self::issuer(&scene.another());
    let outcome = other.round(&trust, trusted()).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued { .. }), "{outcome:?}");
    proven(&scene.vault, &trust).await;
}

#[tokio::test]
async fn a_pending_request_that_is_not_ours_is_left_alone() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    let new = NewCertificate {
        subject: "CN=somebody".to_owned(),
        dns_names: Vec::new(),
        key: KeyKind::EcP256,
        extended_key_usages: Vec::new(),
        validity_months: 3,
    };
    scene.vault.create("client", &new).await.unwrap();
    let refused = issuer(&scene.vault)
        .round(&trust, trusted())
        .await
        .unwrap_err();
    assert_eq!(refused.label(), "request");
    assert!(
        refused.to_string().contains("its subject is CN=somebody"),
        "{refused}"
    );
    scene.vault.cancel("client").await.unwrap();
    let pending = scene.vault.pending("client").await;
    assert!(matches!(pending, Err(VaultError::NotFound)), "{pending:?}");
    issuer(&scene.vault).round(&trust, trusted()).await.unwrap();
}

#[tokio::test]
async fn a_ca_that_cannot_sign_is_no_error_while_nothing_is_due() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    let issuer = issuer(&scene.vault);
    issuer.round(&trust, trusted()).await.unwrap();
    scene
        .stand_in
        .set_enabled("internal-ca", None, false)
        .unwrap();
    assert_eq!(
        issuer.round(&trust, trusted()).await.unwrap(),
        Outcome::NotDue
    );
    let due = issuer
        .round(&trust, trusted() + 70 * DAY)
        .await
        .unwrap_err();
    assert_eq!(due.label(), "no_ca");
}

#[tokio::test]
async fn a_certificate_of_a_ca_that_was_dropped_is_replaced() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    scene.stand_in.know_ca("gone", DevCa::new("Gone").unwrap());
    scene
        .stand_in
        .add("client", &NewVersion::client("gone", "postern"))
        .unwrap();
    let outcome = issuer(&scene.vault).round(&trust, trusted()).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Issued {
                due: Due::Authority,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_version_of_the_ca_that_is_no_ca_does_not_keep_the_others_from_signing() {
    let scene = Scene::start().await;
    let trust = trust(&scene.vault).await;
    scene.stand_in.identity().clock().set_ahead(60);
    let no_ca = NewVersion::client("internal-ca", "by mistake");
    scene.stand_in.add("internal-ca", &no_ca).unwrap();
    let outcome = issuer(&scene.vault).round(&trust, trusted()).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued { .. }), "{outcome:?}");
    proven(&scene.vault, &trust).await;
}
