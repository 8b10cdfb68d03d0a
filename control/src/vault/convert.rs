//! Between the SDK's models and our types. Parses: what the service left out or bent is an error here, not later.

use azure_core::http::Url;
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_certificates::models as certificates;
use azure_security_keyvault_secrets::models as secrets;
use rustls_pki_types::CertificateDer;

use super::error::{SetupError, VaultError};
use super::{
    KeyKind, NewCertificate, Pending, PendingState, SecretVersion, VaultOptions, Version, contents,
};

impl VaultOptions {
    /// The vault's URL, if these options make sense together.
    pub fn checked(&self) -> Result<Url, SetupError> {
        let refused = || SetupError::Url(self.url.clone());
        let url = Url::parse(&self.url).map_err(|_| refused())?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if url.scheme() != "https" || url.host_str().is_none() || !bare {
            return Err(refused());
        }
        if !self.verify_challenge && self.ca.is_none() {
            return Err(SetupError::UnverifiedChallenge);
        }
        Ok(url)
    }
}

/// A version of a certificate as the vault describes it.
pub(super) struct Described {
    pub(super) version: Version,
    pub(super) enabled: bool,
    pub(super) certificate: Option<CertificateDer<'static>>,
}

impl Described {
    pub(super) fn with_certificate(self) -> Result<(Version, CertificateDer<'static>), VaultError> {
        let certificate = self.certificate.ok_or_else(|| lacking("certificate"))?;
        Ok((self.version, certificate))
    }
}

impl TryFrom<certificates::Certificate> for Described {
    type Error = VaultError;

    fn try_from(model: certificates::Certificate) -> Result<Self, VaultError> {
        let id = model.id.ok_or_else(|| lacking("id"))?;
        let attributes = model.attributes.ok_or_else(|| lacking("attributes"))?;
        Ok(Self {
            version: version(&id, &attributes, model.x509_thumbprint.as_deref())?,
            enabled: attributes.enabled != Some(false),
            certificate: model.cer.map(CertificateDer::from),
        })
    }
}

/// The version of a certificate at the URL `id`.
pub(super) fn version(
    id: &str,
    attributes: &certificates::CertificateAttributes,
    thumbprint: Option<&[u8]>,
) -> Result<Version, VaultError> {
    Ok(Version {
        id: last_segment(id)?,
        created: created(attributes.created)?,
        not_before: attributes.not_before.map(OffsetDateTime::unix_timestamp),
        not_after: attributes.expires.map(OffsetDateTime::unix_timestamp),
        thumbprint: thumbprint.map(hex),
    })
}

/// The version of a secret at the URL `id`.
pub(super) fn secret_version(
    id: &str,
    attributes: &secrets::SecretAttributes,
) -> Result<SecretVersion, VaultError> {
    Ok(SecretVersion {
        id: last_segment(id)?,
        created: created(attributes.created)?,
        not_before: attributes.not_before.map(OffsetDateTime::unix_timestamp),
        expires: attributes.expires.map(OffsetDateTime::unix_timestamp),
    })
}

impl TryFrom<certificates::CertificateOperation> for Pending {
    type Error = VaultError;

    fn try_from(model: certificates::CertificateOperation) -> Result<Self, VaultError> {
        let state = match model.status.as_deref() {
            Some("completed") => PendingState::Completed,
            Some("inProgress") => PendingState::InProgress,
            _ => PendingState::Ended,
        };
        let issuer = model.issuer_parameters.and_then(|issuer| issuer.name);
        Ok(Self {
            request: model.csr,
            issuer: issuer.ok_or_else(|| lacking("issuer"))?,
            state,
        })
    }
}

/// The policy of a certificate whose issuer is outside the vault.
pub(super) fn policy(new: &NewCertificate) -> certificates::CertificatePolicy {
    let (key_type, curve, key_size) = match new.key {
        KeyKind::EcP256 => (
            certificates::KeyType::Ec,
            Some(certificates::CurveName::P256),
            None,
        ),
        KeyKind::EcP384 => (
            certificates::KeyType::Ec,
            Some(certificates::CurveName::P384),
            None,
        ),
        KeyKind::Rsa2048 => (certificates::KeyType::Rsa, None, Some(2048)),
        KeyKind::Rsa3072 => (certificates::KeyType::Rsa, None, Some(3072)),
        KeyKind::Rsa4096 => (certificates::KeyType::Rsa, None, Some(4096)),
    };
    certificates::CertificatePolicy {
        issuer_parameters: Some(certificates::IssuerParameters {
            name: Some(UNKNOWN_ISSUER.to_owned()),
            ..certificates::IssuerParameters::default()
        }),
        key_properties: Some(certificates::KeyProperties {
            curve,
            exportable: Some(true),
            key_size,
            key_type: Some(key_type),
            reuse_key: Some(false),
        }),
        secret_properties: Some(certificates::SecretProperties {
            content_type: Some(contents::PEM.to_owned()),
        }),
        x509_certificate_properties: Some(certificates::X509CertificateProperties {
            enhanced_key_usage: Some(new.extended_key_usages.clone()),
            key_usage: Some(vec![certificates::KeyUsageType::DigitalSignature]),
            subject: Some(new.subject.clone()),
            subject_alternative_names: Some(certificates::SubjectAlternativeNames {
                dns_names: Some(new.dns_names.clone()),
                ..certificates::SubjectAlternativeNames::default()
            }),
            validity_in_months: Some(new.validity_months),
        }),
        ..certificates::CertificatePolicy::default()
    }
}

/// A name that can stand in a request's path as it is. Another one, nothing in a vault has.
pub(super) fn checked(name: &str) -> Result<&str, VaultError> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (fits && plain).then_some(name).ok_or(VaultError::NotFound)
}

/// A Unix time in seconds as the SDK wants it.
pub(super) fn time(unix: i64) -> Result<OffsetDateTime, VaultError> {
    OffsetDateTime::from_unix_timestamp(unix)
        .map_err(|_| VaultError::Malformed(format!("{unix} is no time")))
}

/// Something that the protocol promises is not there.
pub(super) fn lacking(what: &str) -> VaultError {
    VaultError::Malformed(format!("it has no {what}"))
}

fn created(time: Option<OffsetDateTime>) -> Result<i64, VaultError> {
    time.map(OffsetDateTime::unix_timestamp)
        .ok_or_else(|| lacking("creation time"))
}

fn last_segment(url: &str) -> Result<String, VaultError> {
    let last = url.rsplit('/').next().unwrap_or_default();
    let checked = checked(last).map_err(|_| lacking("version in its id"))?;
    Ok(checked.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// What Key Vault calls an issuer that it does not know.
pub(super) const UNKNOWN_ISSUER: &str = "Unknown";
// Limit: Key Vault's own for the name of an object.
const NAME_BYTES_MAX: usize = 127;
