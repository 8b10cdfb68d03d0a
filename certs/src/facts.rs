//! What a certificate says about itself.
//!
//! Invariant: no text in [`Facts`] holds a control character, so that it can go into a log line as it is.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, X509Certificate, X509Error};
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::fingerprint::Fingerprint;

/// The facts of one certificate, for logs, metrics and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Subject, such as `CN=a.example, O=Example`.
    pub subject: String,
    /// Issuer, in the same form.
    pub issuer: String,
    /// DNS names of the subjectAltName extension, in lower case, wildcards as `*.example`.
    pub dns_names: Vec<String>,
    /// Serial number in lower-case hex, as Key Vault and `openssl x509 -serial` count it.
    pub serial: String,
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time.
    pub not_after: i64,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: Fingerprint,
    /// The kind of public key.
    pub key: KeyType,
}

impl Facts {
    /// Whether one of the DNS names covers `host`: the same name in any letter case, or a wildcard for
    /// exactly its first label (RFC 9525 section 6.3). Allocates nothing.
    pub fn covers(&self, host: &str) -> bool {
        let beyond_first_label = host.split_once('.').and_then(|(label, rest)| {
            let wildcard_may_stand_for_it = !label.is_empty() && label != "*";
            wildcard_may_stand_for_it.then_some(rest)
        });
        self.dns_names.iter().any(|name| {
            name.eq_ignore_ascii_case(host)
                || name.strip_prefix("*.").is_some_and(|suffix| {
                    beyond_first_label.is_some_and(|rest| rest.eq_ignore_ascii_case(suffix))
                })
        })
    }
}

/// The kind of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// ECDSA on P-256.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// RSA, with the length of its modulus in bits.
    Rsa(u32),
    /// Ed25519.
    Ed25519,
    /// Anything else. Only a CA certificate of a proven bundle may have it.
    Other,
}

impl KeyType {
    /// The kind of a public key from its DER (`SubjectPublicKeyInfo`). [`Other`](Self::Other) if it does not parse.
    pub fn of_public_key(der: &[u8]) -> Self {
        SubjectPublicKeyInfo::from_der(der).map_or(Self::Other, |(_, key)| Self::of(&key))
    }

    fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let algorithm = &key.algorithm.algorithm;
        if *algorithm == oid::OID_PKCS1_RSAENCRYPTION {
            let bits = key.parsed().map_or(0, |key| key.key_size());
            return Self::Rsa(u32::try_from(bits).unwrap_or(u32::MAX));
        }
        if *algorithm == oid::OID_SIG_ED25519 {
            return Self::Ed25519;
        }
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok());
        match curve {
            Some(curve) if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY => {
                if curve == oid::OID_EC_P256 {
                    Self::EcP256
                } else if curve == oid::OID_NIST_EC_P384 {
                    Self::EcP384
                } else {
                    Self::Other
                }
            }
            _ => Self::Other,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => f.write_str("ECDSA P-256"),
            Self::EcP384 => f.write_str("ECDSA P-384"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// A parsed certificate and its facts.
pub(crate) struct Inspected<'a> {
    pub(crate) x509: X509Certificate<'a>,
    pub(crate) facts: Facts,
}

impl<'a> Inspected<'a> {
    /// Parses `der`; the error is the parser's reason.
    pub(crate) fn new(der: &'a [u8]) -> Result<Self, String> {
        let (rest, x509) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow its end", rest.len()));
        }
        let validity = x509.validity();
        let facts = Facts {
            subject: name(x509.subject()),
            issuer: name(x509.issuer()),
            dns_names: dns_names(&x509).map_err(|e| e.to_string())?,
            serial: hex(x509.raw_serial()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            fingerprint: Fingerprint::of(der),
            key: KeyType::of(x509.public_key()),
        };
        Ok(Self { x509, facts })
    }

    /// The public key as DER (`SubjectPublicKeyInfo`).
    pub(crate) fn public_key(&self) -> &[u8] {
        self.x509.public_key().raw
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.x509.subject().as_raw() == self.x509.issuer().as_raw()
    }

    /// Whether it may issue certificates (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
    pub(crate) fn is_ca(&self) -> bool {
        let may_sign = match self.x509.key_usage() {
            Ok(None) => true,
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Err(_) => false,
        };
        self.x509.is_ca() && may_sign
    }

    /// Whether its signature uses MD5 or SHA-1.
    pub(crate) fn has_weak_signature(&self) -> bool {
        let algorithm = &self.x509.signature_algorithm.algorithm;
        *algorithm == oid::OID_PKCS1_MD5WITHRSAENC
            || *algorithm == oid::OID_PKCS1_SHA1WITHRSA
            || algorithm.to_id_string() == ECDSA_WITH_SHA1
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn dns_names(x509: &X509Certificate<'_>) -> Result<Vec<String>, X509Error> {
    let Some(names) = x509.subject_alternative_name()? else {
        return Ok(Vec::new());
    };
    let dns_names = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(printable(name).to_ascii_lowercase()),
            _ => None,
        });
    Ok(dns_names.collect())
}

fn name(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() {
        "no name".to_owned()
    } else {
        printable(&text)
    }
}

fn printable(text: &str) -> String {
    let shown = text.chars().take(NAME_CHARS_MAX);
    shown
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

// Limit: a DNS name has at most 253 characters; a distinguished name that is longer is cut for the reader.
const NAME_CHARS_MAX: usize = 256;
// RFC 3279 section 2.2.3.
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";

#[cfg(test)]
mod tests {
    use super::*;

    fn covering(names: &[&str]) -> Facts {
        Facts {
            subject: String::new(),
            issuer: String::new(),
            dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
            serial: String::new(),
            not_before: 0,
            not_after: 0,
            fingerprint: Fingerprint::of(b""),
            key: KeyType::EcP256,
        }
    }

    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let facts = covering(&["*.dicom.example", "b.example"]);
        for host in [
            "a.dicom.example",
            "A.DICOM.example",
            "b.example",
            "*.dicom.example",
        ] {
            assert!(facts.covers(host), "{host}");
        }
        for host in [
            "dicom.example",
            ".dicom.example",
            "a.b.dicom.example",
            "a.b.example",
            "",
        ] {
            assert!(!facts.covers(host), "{host}");
        }
    }

    #[test]
    fn a_wildcard_within_a_label_covers_nothing() {
        assert!(!covering(&["a*.example", "*"]).covers("ab.example"));
        assert!(!covering(&["*"]).covers("example"));
    }

    #[test]
    fn a_name_cannot_break_a_log_line() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(printable(&"x".repeat(1000)).len(), NAME_CHARS_MAX);
    }
}
