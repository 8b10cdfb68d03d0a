//! What the secret of a certificate holds: PKCS#12 or PEM, unpacked into [`Parts`].
//!
//! Only unpacks and orders; whether key, chain and names hold together is `postern-certs`' to prove.
//!
//! Invariant: no error holds a byte of the content.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use p12_keystore::Pkcs12Archive;
use postern_certs::Parts;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// Why a secret is no key with certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// The certificate's policy must say `application/x-pkcs12` or `application/x-pem-file`.
    #[error("its content type is `{0}`, neither application/x-pkcs12 nor application/x-pem-file")]
    ContentType(String),
    /// Larger than any certificate with its key.
    #[error("it has {bytes} bytes, more than the {max} that are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A PKCS#12 secret is base64.
    #[error("it says it is PKCS#12, but it is not base64")]
    NotBase64,
    /// Broken, or with a password.
    #[error(
        "it says it is PKCS#12, but it cannot be opened with the empty password; import it again, or set the policy's content type to PEM"
    )]
    NotPkcs12,
    /// Broken.
    #[error("it says it is PEM, but it cannot be read as that; import it again")]
    NotPem,
    /// A certificate in it does not parse.
    #[error("certificate {0} in it does not parse; import it again")]
    NotACertificate(usize),
    /// The certificate's policy must say that its key is exportable.
    #[error("it holds no private key; the certificate's policy must make the key exportable")]
    NoKey,
    /// Only one key is a certificate's.
    #[error("it holds {0} private keys, and not one alone")]
    SeveralKeys(usize),
    /// There is a key and nothing else.
    #[error("it holds no certificate; import it again")]
    NoCertificate,
    /// More than any chain has.
    #[error("it holds {0} certificates, more than any chain has")]
    TooManyCertificates(usize),
}

/// The key and the chain of a secret's value, the key's certificate first.
pub(super) fn parts(content_type: Option<&str>, value: &str) -> Result<Parts, ContentsError> {
    if value.len() > SECRET_BYTES_MAX {
        return Err(ContentsError::TooLarge {
            bytes: value.len(),
            max: SECRET_BYTES_MAX,
        });
    }
    let (key, certificates) = match content_type {
        Some(PKCS12) => pkcs12(value)?,
        Some(PEM) => pem(value)?,
        other => {
            let other = other.unwrap_or("missing").chars().take(64);
            return Err(ContentsError::ContentType(
                other.filter(|c| !c.is_control()).collect(),
            ));
        }
    };
    match certificates.len() {
        0 => Err(ContentsError::NoCertificate),
        count if count > CERTIFICATES_MAX => Err(ContentsError::TooManyCertificates(count)),
        _ => Ok(Parts::from_der(&chain(certificates, &key)?, &key)),
    }
}

type Unpacked = (
    Zeroizing<PrivateKeyDer<'static>>,
    Vec<CertificateDer<'static>>,
);

/// RFC 7292, as Key Vault exports it. The archive's own copy of the key is freed unwiped: its crate offers no way.
fn pkcs12(value: &str) -> Result<Unpacked, ContentsError> {
    // Sized beforehand, so that it never moves and leaves a copy behind.
    let mut compact = Zeroizing::new(Vec::with_capacity(value.len()));
    compact.extend(value.bytes().filter(|b| !b.is_ascii_whitespace()));
    let der = BASE64
        .decode(&compact)
        .map(Zeroizing::new)
        .map_err(|_| ContentsError::NotBase64)?;
    // The crate's reasons are about its parser and no help to an operator.
    let archive = Pkcs12Archive::from_pkcs12(&der, "").map_err(|_| ContentsError::NotPkcs12)?;
    let key = match archive.keys.as_slice() {
        [one] => PrivatePkcs8KeyDer::from(one.key.as_der().to_vec()),
        [] => return Err(ContentsError::NoKey),
        several => return Err(ContentsError::SeveralKeys(several.len())),
    };
    let certificates = archive.certs.iter();
    let certificates = certificates
        .map(|bag| CertificateDer::from(bag.cert.as_der().to_vec()))
        .collect();
    Ok((Zeroizing::new(key.into()), certificates))
}

fn pem(value: &str) -> Result<Unpacked, ContentsError> {
    let mut keys = PrivateKeyDer::pem_slice_iter(value.as_bytes())
        .map(|key| key.map(Zeroizing::new))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ContentsError::NotPem)?;
    let certificates = CertificateDer::pem_slice_iter(value.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ContentsError::NotPem)?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok((key, certificates)),
        (None, _) => Err(ContentsError::NoKey),
        (Some(_), more) => Err(ContentsError::SeveralKeys(more + 1)),
    }
}

/// The certificates from the key's one upwards. What does not belong to that path is left out, unless no
/// certificate is the key's: then all are kept as they are, for the proof to say so.
fn chain(
    certificates: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Result<Vec<CertificateDer<'static>>, ContentsError> {
    let mut parsed = Vec::with_capacity(certificates.len());
    for (at, certificate) in certificates.iter().enumerate() {
        let (_, x509) = X509Certificate::from_der(certificate)
            .map_err(|_| ContentsError::NotACertificate(at + 1))?;
        parsed.push(x509);
    }
    let public = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .ok()
        .and_then(|signer| signer.public_key().map(|public| public.as_ref().to_vec()));
    let leaf = parsed.iter().position(|x509| {
        public
            .as_deref()
            .is_some_and(|public| x509.public_key().raw == public)
    });
    let Some(leaf) = leaf else {
        return Ok(certificates);
    };
    let mut path = vec![leaf];
    while let Some(&last) = path.last() {
        let below = &parsed[last];
        if below.issuer().as_raw() == below.subject().as_raw() {
            break;
        }
        let issuers = (0..parsed.len())
            .filter(|at| !path.contains(at))
            .filter(|at| parsed[*at].subject().as_raw() == below.issuer().as_raw());
        // Two CAs of one name, as after a renewal: the key identifier tells them apart (RFC 5280 section 4.2.1.1).
        let Some(next) = issuers.max_by_key(|at| named_by(&parsed[*at], below)) else {
            break;
        };
        path.push(next);
    }
    Ok(path.iter().map(|at| certificates[*at].clone()).collect())
}

/// Whether `below` names the key of `issuer` as the one that signed it.
fn named_by(issuer: &X509Certificate<'_>, below: &X509Certificate<'_>) -> bool {
    let authority = below
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
            _ => None,
        });
    let subject = issuer
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id),
            _ => None,
        });
    matches!((authority, subject), (Some(authority), Some(subject)) if authority == subject)
}

pub(super) const PKCS12: &str = "application/x-pkcs12";
pub(super) const PEM: &str = "application/x-pem-file";
// Limit: Key Vault keeps at most 25 KiB in a secret; a certificate's own may be somewhat larger.
const SECRET_BYTES_MAX: usize = 128 * 1024;
// Limit: leaf, eight intermediates, root; and as many that do not belong to the chain.
const CERTIFICATES_MAX: usize = 20;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
