//! The proofs, from the cheapest to the dearest.
//!
//! Pure functions of (parts, expectations, now): they read no file and no clock.

use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use zeroize::Zeroizing;

use crate::expectations::{Expectations, Purpose};
use crate::facts::{Facts, Inspected, KeyType};
use crate::parts::Parts;
use crate::pem;
use crate::unproven::{Piece, Unproven, seconds};

/// A chain and key that hold together.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) facts: Vec<Facts>,
    pub(crate) key: Zeroizing<PrivateKeyDer<'static>>,
    pub(crate) certified: CertifiedKey,
}

/// Trust anchors that are CA certificates.
#[derive(Default)]
pub(crate) struct Anchors {
    /// Those whose window is open.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// Their facts.
    pub(crate) facts: Vec<Facts>,
    pub(crate) roots: Vec<TrustAnchor<'static>>,
    /// When the set next changes by itself, in Unix seconds: a window opens or closes.
    pub(crate) changes_at: Option<i64>,
}

/// Proves the chain and key of `parts`.
pub(crate) fn identity(
    parts: &Parts,
    anchors: &Anchors,
    expectations: &Expectations,
    now: UnixTime,
) -> Result<Identity, Unproven> {
    let key = pem::key(&parts.key)?;
    let chain = pem::certificates(&parts.chain, Piece::Chain)?;
    let (signer, facts) = {
        let inspected = inspect(&chain, Piece::Chain)?;
        for (at, certificate) in inspected.iter().enumerate() {
            let is_root = at > 0 && certificate.is_self_issued();
            strength(
                certificate,
                &describe(Piece::Chain, at, certificate),
                is_root,
            )?;
        }
        let signer = signer(&key, &inspected)?;
        for (at, certificate) in inspected.iter().enumerate() {
            window(
                &certificate.facts,
                &describe(Piece::Chain, at, certificate),
                now,
            )?;
        }
        usage(&inspected[0], expectations.purpose)?;
        names(&inspected[0], expectations)?;
        order(&inspected)?;
        let facts: Vec<_> = inspected
            .into_iter()
            .map(|certificate| certificate.facts)
            .collect();
        (signer, facts)
    };
    paths(&chain, anchors, expectations, now)?;
    let certified = CertifiedKey::new(sent(&chain, &facts), signer);
    Ok(Identity {
        chain,
        facts,
        key,
        certified,
    })
}

/// Proves the anchors of `parts`.
///
/// Each must be a CA certificate of sufficient strength. One that is expired or not yet valid is left out, so
/// that an overlap during a CA rotation works by itself; only if none is left, the set is refused.
pub(crate) fn anchors(parts: &Parts, now: UnixTime) -> Result<Anchors, Unproven> {
    let all = pem::certificates(&parts.anchors, Piece::Anchors)?;
    let mut anchors = Anchors::default();
    let mut closed = None;
    for (at, certificate) in inspect(&all, Piece::Anchors)?.into_iter().enumerate() {
        let described = describe(Piece::Anchors, at, &certificate);
        if !certificate.is_ca() {
            return Err(Unproven::NotACa {
                certificate: described,
            });
        }
        strength(&certificate, &described, true)?;
        let Facts {
            not_before,
            not_after,
            ..
        } = certificate.facts;
        let changes = [not_before, not_after.saturating_add(1)];
        let next = changes
            .into_iter()
            .filter(|change| *change > seconds(now))
            .min();
        anchors.changes_at = anchors.changes_at.into_iter().chain(next).min();
        match window(&certificate.facts, &described, now) {
            Ok(()) => {
                let root = webpki::anchor_from_trusted_cert(&all[at])
                    .map_err(|e| malformed(described, &e))?;
                anchors.roots.push(root.to_owned());
                anchors.facts.push(certificate.facts);
                anchors.certificates.push(all[at].clone());
            }
            Err(reason) => closed = closed.or(Some(reason)),
        }
    }
    match closed {
        Some(reason) if anchors.roots.is_empty() => Err(reason),
        _ => Ok(anchors),
    }
}

fn inspect<'a>(
    certificates: &'a [CertificateDer<'_>],
    piece: Piece,
) -> Result<Vec<Inspected<'a>>, Unproven> {
    let inspect = |(at, der): (usize, &'a CertificateDer<'_>)| {
        Inspected::new(der).map_err(|reason| Unproven::MalformedCertificate {
            certificate: place(piece, at),
            reason,
        })
    };
    certificates.iter().enumerate().map(inspect).collect()
}

fn place(piece: Piece, at: usize) -> String {
    match (piece, at) {
        (Piece::Anchors, at) => format!("trust anchor {}", at + 1),
        (_, 0) => "the leaf".to_owned(),
        (_, at) => format!("certificate {} of the chain", at + 1),
    }
}

fn describe(piece: Piece, at: usize, certificate: &Inspected<'_>) -> String {
    format!("{} ({})", place(piece, at), certificate.facts.subject)
}

fn malformed(certificate: String, reason: &dyn std::error::Error) -> Unproven {
    Unproven::MalformedCertificate {
        certificate,
        reason: reason.to_string(),
    }
}

/// `is_root`: nobody verifies the signature of a root, so it may be of any kind.
fn strength(certificate: &Inspected<'_>, described: &str, is_root: bool) -> Result<(), Unproven> {
    if let KeyType::Rsa(bits) = certificate.facts.key
        && bits < RSA_BITS_MIN
    {
        return Err(Unproven::WeakKey {
            certificate: described.to_owned(),
            bits,
        });
    }
    if !is_root && certificate.has_weak_signature() {
        return Err(Unproven::WeakSignature {
            certificate: described.to_owned(),
        });
    }
    Ok(())
}

/// The signing key, if it is the leaf's.
fn signer(
    key: &PrivateKeyDer<'_>,
    chain: &[Inspected<'_>],
) -> Result<Arc<dyn SigningKey>, Unproven> {
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .map_err(|_| Unproven::UnsupportedKey)?;
    let public = signer.public_key().ok_or(Unproven::UnsupportedKey)?;
    match chain
        .iter()
        .position(|certificate| certificate.public_key() == public.as_ref())
    {
        Some(0) if chain[0].facts.key == KeyType::Other => Err(Unproven::UnsupportedKey),
        Some(0) => Ok(signer),
        Some(at) => Err(Unproven::LeafNotFirst {
            certificate: describe(Piece::Chain, at, &chain[at]),
        }),
        None => Err(Unproven::KeyMismatch {
            certificate: describe(Piece::Chain, 0, &chain[0]),
        }),
    }
}

fn window(facts: &Facts, described: &str, now: UnixTime) -> Result<(), Unproven> {
    let now = seconds(now);
    let Facts {
        not_before,
        not_after,
        ..
    } = *facts;
    let certificate = described.to_owned();
    if now < not_before {
        return Err(Unproven::NotYetValid {
            certificate,
            not_before,
            not_after,
            now,
        });
    }
    if now > not_after {
        return Err(Unproven::Expired {
            certificate,
            not_before,
            not_after,
            now,
        });
    }
    Ok(())
}

/// RFC 5280 section 4.2.1.12: "If the extension is present, then the certificate MUST only be used for one of
/// the purposes indicated." Without the extension any purpose is allowed. TLS 1.3 and the ECDHE suites of TLS
/// 1.2 sign with the key, so a `keyUsage` extension must allow `digitalSignature` (section 4.2.1.3).
fn usage(leaf: &Inspected<'_>, purpose: Purpose) -> Result<(), Unproven> {
    let described = describe(Piece::Chain, 0, leaf);
    let extended = leaf
        .x509
        .extended_key_usage()
        .map_err(|e| malformed(described.clone(), &e))?;
    if let Some(extended) = extended {
        let has = extended.value;
        let (needed, granted) = match purpose {
            Purpose::Client => ("clientAuth", has.client_auth),
            Purpose::Server | Purpose::Trust => ("serverAuth", has.server_auth),
        };
        if !granted {
            let known = [
                ("serverAuth", has.server_auth),
                ("clientAuth", has.client_auth),
                ("any", has.any),
            ];
            let found: Vec<_> = known
                .iter()
                .filter(|usage| usage.1)
                .map(|usage| usage.0)
                .collect();
            let found = if found.is_empty() {
                "something else".to_owned()
            } else {
                found.join(", ")
            };
            return Err(Unproven::WrongUsage {
                certificate: described,
                needed,
                found,
            });
        }
    }
    let usage = leaf
        .x509
        .key_usage()
        .map_err(|e| malformed(described.clone(), &e))?;
    match usage {
        Some(usage) if !usage.value.digital_signature() => Err(Unproven::WrongUsage {
            certificate: described,
            needed: "digitalSignature",
            found: usage.value.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Clients match DNS names only (RFC 9525 section 6.3), so a server certificate without one is of no use.
fn names(leaf: &Inspected<'_>, expectations: &Expectations) -> Result<(), Unproven> {
    let covers = |name: &&String| !leaf.facts.covers(name);
    let missing: Vec<String> = expectations.names.iter().filter(covers).cloned().collect();
    let nameless = expectations.purpose == Purpose::Server && leaf.facts.dns_names.is_empty();
    if missing.is_empty() && !nameless {
        return Ok(());
    }
    Err(Unproven::NamesMissing {
        certificate: describe(Piece::Chain, 0, leaf),
        missing: if missing.is_empty() {
            vec!["any DNS name".to_owned()]
        } else {
            missing
        },
        covered: leaf.facts.dns_names.clone(),
    })
}

/// RFC 8446 section 4.4.2: "Each following certificate SHOULD directly certify the one immediately preceding it."
fn order(chain: &[Inspected<'_>]) -> Result<(), Unproven> {
    if let [only] = chain
        && only.is_self_issued()
    {
        let certificate = describe(Piece::Chain, 0, only);
        return signed_by(only, only, &certificate, &certificate);
    }
    for (at, pair) in chain.windows(2).enumerate() {
        let [certificate, next] = pair else { continue };
        let described = describe(Piece::Chain, at, certificate);
        let issuer = describe(Piece::Chain, at + 1, next);
        if certificate.x509.issuer().as_raw() != next.x509.subject().as_raw() {
            return Err(Unproven::ChainOutOfOrder {
                certificate: described,
                issuer: certificate.facts.issuer.clone(),
                next: issuer,
            });
        }
        if !next.is_ca() {
            return Err(Unproven::NotACa {
                certificate: issuer,
            });
        }
        signed_by(certificate, next, &described, &issuer)?;
    }
    Ok(())
}

fn signed_by(
    certificate: &Inspected<'_>,
    issuer: &Inspected<'_>,
    described: &str,
    issuer_described: &str,
) -> Result<(), Unproven> {
    let key = SubjectPublicKeyInfoDer::from(issuer.public_key());
    let issuer = RawPublicKeyEntity::try_from(&key)
        .map_err(|e| malformed(issuer_described.to_owned(), &e))?;
    let message = certificate.x509.tbs_certificate.as_ref();
    let signature = &certificate.x509.signature_value.data;
    // Each algorithm first checks that the key is of its kind, so that trying them all costs one verification
    // or two. The algorithm that the certificate itself names has been judged by `strength`.
    let verified = webpki::ALL_VERIFICATION_ALGS.iter().any(|algorithm| {
        issuer
            .verify_signature(*algorithm, message, signature)
            .is_ok()
    });
    if verified {
        return Ok(());
    }
    Err(Unproven::BrokenSignature {
        certificate: described.to_owned(),
        issuer: issuer_described.to_owned(),
    })
}

/// What is left of RFC 5280 section 6: path length, name constraints, critical extensions; and the anchors.
fn paths(
    chain: &[CertificateDer<'_>],
    shipped: &Anchors,
    expectations: &Expectations,
    now: UnixTime,
) -> Result<(), Unproven> {
    let described = || place(Piece::Chain, 0);
    let leaf = EndEntityCert::try_from(&chain[0]).map_err(|e| malformed(described(), &e))?;
    let verify = |anchors: &[TrustAnchor<'_>], between: &[CertificateDer<'_>]| {
        let usage = match expectations.purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server | Purpose::Trust => KeyUsage::server_auth(),
        };
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        match leaf.verify_for_usage(algorithms, anchors, between, now, usage, None, None) {
            Ok(_) => Ok(()),
            // The second: an anchor has the issuer's name, and another key.
            Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
                Err(Unproven::UntrustedIssuer {
                    anchors: anchors.len(),
                })
            }
            Err(source) => Err(Unproven::BrokenPath { source }),
        }
    };
    if let [_, between @ .., last] = chain {
        let last =
            webpki::anchor_from_trusted_cert(last).map_err(|e| malformed(described(), &e))?;
        verify(&[last], between)?;
    }
    if !shipped.roots.is_empty() {
        verify(&shipped.roots, &chain[1..])?;
    }
    if let Some(required) = &expectations.anchors {
        verify(&required.roots, &chain[1..])?;
    }
    Ok(())
}

/// RFC 8446 section 4.4.2: "a certificate that specifies a trust anchor MAY be omitted from the chain". It costs
/// bytes in every handshake and convinces nobody.
fn sent(chain: &[CertificateDer<'static>], facts: &[Facts]) -> Vec<CertificateDer<'static>> {
    let ends_in_root =
        chain.len() > 1 && facts.last().is_some_and(|last| last.subject == last.issuer);
    chain[..chain.len() - usize::from(ends_in_root)].to_vec()
}

// Limit: NIST SP 800-131A Rev. 2 disallows shorter RSA keys; rustls verifies none either.
const RSA_BITS_MIN: u32 = 2048;

#[cfg(test)]
mod tests;
