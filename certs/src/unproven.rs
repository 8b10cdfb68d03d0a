//! Why parts are not a bundle: the closed list of reasons.
//!
//! Each reason has one word ([`Unproven::label`]) and one text that an operator can act on.
//!
//! Invariant: no text holds key bytes.

use std::fmt;

use rustls_pki_types::{UnixTime, pem};

use crate::tickets::TicketKeyError;

/// Which piece of the input a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Piece {
    /// The certificate chain, leaf first.
    Chain,
    /// The private key.
    Key,
    /// The trust anchors.
    Anchors,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "certificate chain",
            Self::Key => "private key",
            Self::Anchors => "trust anchors",
        })
    }
}

/// Why [`Parts`](crate::Parts) could not be proven.
///
/// A field `certificate` says which one, in words: `the leaf (CN=a.example)`. Times are Unix seconds.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// More text than is read.
    #[error("the {piece} has {bytes} bytes of PEM; at most {max} are read")]
    TooLarge {
        /// Of what.
        piece: Piece,
        /// Size of the input in bytes.
        bytes: usize,
        /// The most that is read, in bytes.
        max: usize,
    },
    /// More certificates than are read.
    #[error("the {piece} has more than {max} certificates")]
    TooManyCertificates {
        /// Of what.
        piece: Piece,
        /// The most that are read.
        max: usize,
    },
    /// No `CERTIFICATE` section.
    #[error("the {piece} has no certificate in it")]
    NoCertificate {
        /// In what.
        piece: Piece,
    },
    /// No private key section.
    #[error(
        "there is no private key: expected a PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY section (in Key Vault, mark the key exportable and read the secret, not the certificate)"
    )]
    NoKey,
    /// More than one private key section.
    #[error("there is more than one private key: keep only the leaf's")]
    SeveralKeys,
    /// The private key is encrypted with a password.
    #[error("the private key is encrypted with a password: store it without one")]
    EncryptedKey,
    /// A PEM section begins and does not end.
    #[error("the PEM text of the {piece} is cut off: was it copied or written only in part?")]
    TruncatedPem {
        /// Of what.
        piece: Piece,
    },
    /// A PEM section does not decode.
    #[error("the PEM text of the {piece} does not decode")]
    MalformedPem {
        /// Of what.
        piece: Piece,
        /// The decoder's reason.
        source: pem::Error,
    },
    /// A certificate is not X.509 version 3.
    #[error("{certificate} is not a well-formed X.509 certificate: {reason}")]
    MalformedCertificate {
        /// Which one.
        certificate: String,
        /// The parser's reason.
        reason: String,
    },
    /// A key that we do not sign with.
    #[error(
        "the private key is not usable: expected ECDSA P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519"
    )]
    UnsupportedKey,
    /// A public key too short to be trusted.
    #[error("{certificate} has an RSA key of {bits} bits: issue it with at least 2048")]
    WeakKey {
        /// Which one.
        certificate: String,
        /// Length of the modulus in bits.
        bits: u32,
    },
    /// Signed with MD5 or SHA-1.
    #[error("{certificate} is signed with MD5 or SHA-1: issue it with SHA-256 or better")]
    WeakSignature {
        /// Which one.
        certificate: String,
    },
    /// The key belongs to no certificate of the chain.
    #[error("the private key belongs to another certificate than {certificate}")]
    KeyMismatch {
        /// The leaf.
        certificate: String,
    },
    /// The key belongs to a certificate that is not the first.
    #[error("the private key belongs to {certificate}: the leaf must come first in the chain")]
    LeafNotFirst {
        /// The one that should be first.
        certificate: String,
    },
    /// The validity window has not begun.
    #[error(
        "{certificate} is not valid before {}, and it is {} (until {}): check the clock, or wait",
        date(*not_before), date(*now), date(*not_after)
    )]
    NotYetValid {
        /// Which one.
        certificate: String,
        /// First second of validity.
        not_before: i64,
        /// Last second of validity.
        not_after: i64,
        /// When it was judged.
        now: i64,
    },
    /// The validity window is over.
    #[error(
        "{certificate} expired on {}, and it is {} (valid from {}): renew it",
        date(*not_after), date(*now), date(*not_before)
    )]
    Expired {
        /// Which one.
        certificate: String,
        /// First second of validity.
        not_before: i64,
        /// Last second of validity.
        not_after: i64,
        /// When it was judged.
        now: i64,
    },
    /// Key usage or extended key usage forbids what the certificate is for.
    #[error("{certificate} may not be used for {needed}; it is for {found}")]
    WrongUsage {
        /// Which one.
        certificate: String,
        /// The usage that is needed, in RFC 5280's words.
        needed: &'static str,
        /// The usages that it has.
        found: String,
    },
    /// The leaf does not cover names that it must.
    #[error(
        "{certificate} does not cover {}; it covers {}",
        list(missing),
        list(covered)
    )]
    NamesMissing {
        /// The leaf.
        certificate: String,
        /// Names that are not covered.
        missing: Vec<String>,
        /// Names that are.
        covered: Vec<String>,
    },
    /// A certificate is not followed by its issuer.
    #[error(
        "{certificate} is issued by {issuer}, but {next} follows it: order the chain leaf, intermediates, root"
    )]
    ChainOutOfOrder {
        /// Which one.
        certificate: String,
        /// Its issuer's name.
        issuer: String,
        /// The one that follows.
        next: String,
    },
    /// A certificate that has to issue others may not.
    #[error("{certificate} is not a CA certificate (basicConstraints CA and keyUsage keyCertSign)")]
    NotACa {
        /// Which one.
        certificate: String,
    },
    /// The next certificate's key did not make the signature.
    #[error(
        "the signature of {certificate} was not made by {issuer}: is that a re-issued CA with another key?"
    )]
    BrokenSignature {
        /// Which one.
        certificate: String,
        /// The one that should have signed it.
        issuer: String,
    },
    /// The chain leads to none of the anchors.
    #[error(
        "the chain does not verify to any of the {anchors} given trust anchors: is an intermediate missing?"
    )]
    UntrustedIssuer {
        /// How many anchors there are.
        anchors: usize,
    },
    /// The ticket keys are none.
    #[error(transparent)]
    TicketKeys(#[from] TicketKeyError),
    /// Another rule of RFC 5280 path validation is broken (path length, name constraints, critical extensions).
    #[error("the chain breaks a rule of certificate path validation")]
    BrokenPath {
        /// Which rule.
        source: webpki::Error,
    },
}

impl Unproven {
    /// The one word: metric label and log word.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::TooManyCertificates { .. } => "too_many_certificates",
            Self::NoCertificate { .. } => "no_certificate",
            Self::NoKey => "no_key",
            Self::SeveralKeys => "several_keys",
            Self::EncryptedKey => "encrypted_key",
            Self::TruncatedPem { .. } => "truncated_pem",
            Self::MalformedPem { .. } => "malformed_pem",
            Self::MalformedCertificate { .. } => "malformed_certificate",
            Self::UnsupportedKey => "unsupported_key",
            Self::WeakKey { .. } => "weak_key",
            Self::WeakSignature { .. } => "weak_signature",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::LeafNotFirst { .. } => "leaf_not_first",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::WrongUsage { .. } => "wrong_usage",
            Self::NamesMissing { .. } => "names_missing",
            Self::ChainOutOfOrder { .. } => "chain_out_of_order",
            Self::NotACa { .. } => "not_a_ca",
            Self::BrokenSignature { .. } => "broken_signature",
            Self::UntrustedIssuer { .. } => "untrusted_issuer",
            Self::TicketKeys(TicketKeyError::Empty) => "no_ticket_keys",
            Self::TicketKeys(_) => "malformed_ticket_keys",
            Self::BrokenPath { .. } => "broken_path",
        }
    }

    /// Whether time alone may have settled this reason at `now`, so that proving again is worth it: a window
    /// has begun, or a clock that ran ahead was put right.
    pub(crate) fn may_be_over(&self, now: UnixTime) -> bool {
        match self {
            Self::NotYetValid { not_before, .. } => seconds(now) >= *not_before,
            Self::Expired { not_after, .. } => seconds(now) <= *not_after,
            _ => false,
        }
    }
}

/// Unix seconds as certificates count them.
pub(crate) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, or the bare number for a year beyond 9999.
fn date(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |time| time.to_string())
}

// Limit: a certificate may cover hundreds of names; a log line shows this many.
const NAMES_SHOWN_MAX: usize = 8;

fn list(names: &[String]) -> String {
    match names {
        [] => "no DNS name".to_owned(),
        names if names.len() <= NAMES_SHOWN_MAX => names.join(", "),
        names => {
            let rest = names.len() - NAMES_SHOWN_MAX;
            format!("{} and {rest} more", names[..NAMES_SHOWN_MAX].join(", "))
        }
    }
}
