//! The internal CA: which of its versions may sign now, and how it signs.
//!
//! A CA is rotated in two steps: its new version is trusted everywhere, then leaves of it are issued. The order is
//! kept here: a version signs only after it has been in the vault for `trusted_for`, so that every host has had the
//! time to publish it, and only if this host has.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;
use postern_certs::KeyType;
use rustls::SignatureScheme;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::IssueError;
use super::der::{self, value};
use super::leaf::key_identifier;
use crate::vault::{SigningAlgorithm, Vault, VaultError, Version};

/// Where the internal CA is.
#[derive(Debug, Clone)]
pub enum Authority {
    /// A certificate in a vault, whose key signs there and never leaves.
    Vault {
        /// The vault.
        vault: Vault,
        /// The CA certificate's name.
        certificate: String,
        /// How long a version must have been in the vault before it signs.
        trusted_for: Duration,
    },
    /// Files, for development: whoever has the key is trusted by everything that trusts the CA.
    Files {
        /// The CA's certificate, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
}

/// The versions of the CA that exist, newest first, and the one among them that may sign now.
#[derive(Debug)]
pub(super) struct Cas {
    pub(super) all: Vec<Ca>,
    pub(super) signs: usize,
}

impl Authority {
    /// Finds the CA that may sign at `now` (Unix seconds), when `trust` is published on this host.
    pub(super) async fn current(
        &self,
        trust: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Cas, IssueError> {
        match self {
            Self::Vault {
                vault,
                certificate,
                trusted_for,
            } => {
                let versions = match vault.enabled(certificate, now).await {
                    Err(VaultError::NotFound) => Vec::new(),
                    versions => versions?,
                };
                // One that cannot be used does not keep the others from being.
                let mut unusable = None;
                let all: Vec<_> = versions
                    .into_iter()
                    .map(|(version, der)| Ca::new(der, Some(version)))
                    .filter_map(|ca| ca.map_err(|why| unusable = Some(why)).ok())
                    .collect();
                if all.is_empty() {
                    return Err(unusable.unwrap_or_else(|| IssueError::NoCa(certificate.clone())));
                }
                let signs = may_sign(&all, trust, *trusted_for, now)?;
                Ok(Cas { all, signs })
            }
            Self::Files { certificate, .. } => {
                let der = CertificateDer::from_pem_slice(&read(certificate)?).map_err(|_| {
                    IssueError::Ca(format!("{} holds no certificate", certificate.display()))
                })?;
                let all = vec![Ca::new(der, None)?];
                let signs = may_sign(&all, trust, Duration::ZERO, now)?;
                Ok(Cas { all, signs })
            }
        }
    }

    /// The CA's signature over `message`, as a certificate carries it.
    pub(super) async fn sign(&self, ca: &Ca, message: &[u8]) -> Result<Vec<u8>, IssueError> {
        match self {
            Self::Vault {
                vault, certificate, ..
            } => {
                // Always there for a CA in a vault.
                let version = ca.version.as_ref().map_or("", |version| &version.id);
                let algorithm = ca.algorithm.in_vault();
                let digest = digest::digest(ca.algorithm.digest(), message);
                let signature = vault
                    .sign(certificate, version, algorithm, digest.as_ref())
                    .await?;
                Ok(ca.algorithm.encode(&signature))
            }
            Self::Files { key, .. } => {
                let refused =
                    || IssueError::Ca(format!("{} holds no key of the CA's", key.display()));
                let key = PrivateKeyDer::from_pem_slice(&read(key)?).map(Zeroizing::new);
                let key = key.map_err(|_| refused())?;
                let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
                let signer = signer.map_err(|_| refused())?;
                let signer = signer
                    .choose_scheme(&[ca.algorithm.scheme()])
                    .ok_or_else(refused)?;
                signer.sign(message).map_err(|_| refused())
            }
        }
    }
}

fn read(path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, IssueError> {
    let text = fs::read(path).map(Zeroizing::new);
    text.map_err(|error| IssueError::Ca(format!("cannot read {}: {error}", path.display())))
}

/// The newest version that is valid, in the published trust, and has been in the vault for long enough.
fn may_sign(
    all: &[Ca],
    trust: &[CertificateDer<'_>],
    trusted_for: Duration,
    now: i64,
) -> Result<usize, IssueError> {
    let waits = i64::try_from(trusted_for.as_secs()).unwrap_or(i64::MAX);
    let mut why = Vec::new();
    for (at, ca) in all.iter().enumerate() {
        let name = ca.version.as_ref().map_or("the CA", |version| &version.id);
        let since = ca
            .version
            .as_ref()
            .map_or(i64::MIN, |version| version.created);
        if now < ca.not_before || now >= ca.not_after {
            why.push(format!("{name} is not valid now"));
        } else if !trust.contains(&ca.certificate) {
            why.push(format!(
                "{name} is not in the trust that this host publishes: publish it first, as a certificate of kind trust"
            ));
        } else if now < since.saturating_add(waits) {
            let until = shown(since.saturating_add(waits));
            let hours = trusted_for.as_secs() / 3600;
            why.push(format!(
                "{name} may sign from {until} on, once it has been in the vault for {hours} h and every host trusts it; \
                 only for a first CA that nothing uses yet, set trusted_for to 0"
            ));
        } else {
            return Ok(at);
        }
    }
    Err(IssueError::NotYetTrusted(why.join("; ")))
}

fn shown(unix: i64) -> String {
    Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |time| time.to_string())
}

/// A CA certificate.
#[derive(Debug)]
pub(super) struct Ca {
    version: Option<Version>,
    certificate: CertificateDer<'static>,
    subject: Vec<u8>,
    key_identifier: Vec<u8>,
    algorithm: SignatureAlgorithm,
    not_before: i64,
    not_after: i64,
}

impl Ca {
    fn new(
        certificate: CertificateDer<'static>,
        version: Option<Version>,
    ) -> Result<Self, IssueError> {
        let refused = |why: &str| IssueError::Ca(why.to_owned());
        let (_, x509) = X509Certificate::from_der(&certificate)
            .map_err(|_| refused("its certificate does not parse"))?;
        let may_sign = match x509.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
            Err(_) => false,
        };
        if !x509.is_ca() || !may_sign {
            return Err(refused(
                "its certificate is not a CA's (basicConstraints, keyCertSign)",
            ));
        }
        let algorithm = match KeyType::of_public_key(x509.public_key().raw) {
            KeyType::EcP256 => SignatureAlgorithm::EcdsaSha256,
            KeyType::EcP384 => SignatureAlgorithm::EcdsaSha384,
            KeyType::Rsa(bits) if bits >= 2048 => SignatureAlgorithm::RsaSha256,
            _ => {
                return Err(refused(
                    "its key is neither ECDSA on P-256 or P-384 nor RSA of 2048 bits or more",
                ));
            }
        };
        let named = x509
            .iter_extensions()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let key_identifier = match named {
            Some(id) => id,
            None => key_identifier(x509.public_key().raw)?,
        };
        Ok(Self {
            subject: x509.subject().as_raw().to_vec(),
            key_identifier,
            algorithm,
            not_before: x509.validity().not_before.timestamp(),
            not_after: x509.validity().not_after.timestamp(),
            version,
            certificate,
        })
    }

    pub(super) const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(super) fn key_identifier(&self) -> &[u8] {
        &self.key_identifier
    }

    pub(super) const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// First second of validity, Unix time.
    pub(super) const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Last second of validity, Unix time.
    pub(super) const fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// How a CA signs: by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureAlgorithm {
    EcdsaSha256,
    EcdsaSha384,
    RsaSha256,
}

impl SignatureAlgorithm {
    /// `AlgorithmIdentifier` (RFC 5758 section 3.2: without parameters; RFC 4055 section 5: with NULL).
    pub(super) const fn identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::EcdsaSha384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Self::RsaSha256 => &[
                0x30,
                13,
                6,
                9,
                0x2a,
                0x86,
                0x48,
                0x86,
                0xf7,
                0x0d,
                1,
                1,
                11,
                der::NULL,
                0,
            ],
        }
    }

    const fn in_vault(self) -> SigningAlgorithm {
        match self {
            Self::EcdsaSha256 => SigningAlgorithm::Es256,
            Self::EcdsaSha384 => SigningAlgorithm::Es384,
            Self::RsaSha256 => SigningAlgorithm::Rs256,
        }
    }

    const fn scheme(self) -> SignatureScheme {
        match self {
            Self::EcdsaSha256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::EcdsaSha384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::RsaSha256 => SignatureScheme::RSA_PKCS1_SHA256,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::EcdsaSha256 | Self::RsaSha256 => &digest::SHA256,
            Self::EcdsaSha384 => &digest::SHA384,
        }
    }

    /// A vault's signature as a certificate carries it: of ECDSA, r and s become a sequence (RFC 3279 section 2.2.3).
    fn encode(self, signature: &[u8]) -> Vec<u8> {
        match self {
            Self::EcdsaSha256 | Self::EcdsaSha384 => {
                let (r, s) = signature.split_at(signature.len() / 2);
                value(der::SEQUENCE, &[&der::unsigned(r), &der::unsigned(s)])
            }
            Self::RsaSha256 => signature.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
