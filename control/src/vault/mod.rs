//! Key Vault, in our own words. The only place that knows the Azure SDK.
//!
//! ```text
//!   Identity ──token──▶ SDK clients ──▶ wire ──https──▶ Key Vault
//!     ▲                    │             │ bounds, deadlines, no redirects
//!     └──── refused token ─┼─────────────┘
//!                          ▼
//!              Version · Secret · Pending · Parts        or VaultError (closed; label, retry_after)
//! ```
//!
//! Every call makes one attempt: when to try again is the caller's to decide ([`VaultError::retry_after`]).
//! The one exception is a token that the vault refuses: it is dropped and the call is made once more.
//!
//! Invariant: no error, log line or `Debug` text holds secret content. Our copies of it are wiped; those in the SDK's
//! own buffers are freed as they are, which the SDK leaves no way around.

mod azure;
mod contents;
mod convert;
mod error;
mod failure;
mod identity;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use postern_certs::KeyType;
use zeroize::Zeroizing;

pub use azure::Vault;
pub use contents::ContentsError;
pub use error::{SetupError, VaultError};
pub use identity::{Identity, IdentityOptions};

/// Which vault, and how to reach it.
#[derive(Debug, Clone)]
pub struct VaultOptions {
    /// `https://NAME.vault.azure.net`.
    pub url: String,
    /// A PEM file of roots that are trusted besides the system's: for private clouds and stand-ins.
    pub ca: Option<PathBuf>,
    /// Whether the vault's host must belong to the resource that its challenge names. `false` is for stand-ins and
    /// refused without [`ca`](Self::ca): it is what keeps a token for Key Vault from being sent elsewhere.
    pub verify_challenge: bool,
    /// How long a TCP and TLS connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one request may take, its connection included.
    pub request_timeout: Duration,
    /// The least time between two requests of this process to the vault, challenges included.
    pub pace: Duration,
}

impl VaultOptions {
    /// Defaults for the vault at `url`: the system's roots, 5 s to connect, 20 s for a request, no pace.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca: None,
            verify_challenge: true,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            pace: Duration::ZERO,
        }
    }
}

/// One version of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version's name in the vault: 32 hex digits.
    pub id: String,
    /// When the vault got it, in Unix seconds.
    pub created: i64,
    /// First second of validity, Unix time.
    pub not_before: Option<i64>,
    /// Last second of validity, Unix time.
    pub not_after: Option<i64>,
    /// SHA-1 of the certificate's DER in lower-case hex, as Key Vault shows it (`x5t`).
    pub thumbprint: Option<String>,
}

/// One version of a secret, with its value.
#[derive(Clone)]
pub struct Secret {
    /// The version's name in the vault: 32 hex digits.
    pub id: String,
    /// The value. Wiped when dropped.
    pub value: Zeroizing<String>,
    /// What the value is said to be.
    pub content_type: Option<String>,
    /// When the vault got it, in Unix seconds.
    pub created: i64,
    /// Not to be used before this, Unix seconds.
    pub not_before: Option<i64>,
    /// Not to be used from this on, Unix seconds.
    pub expires: Option<i64>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("id", &self.id)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// One version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVersion {
    /// The version's name in the vault: 32 hex digits.
    pub id: String,
    /// When the vault got it, in Unix seconds.
    pub created: i64,
    /// Not to be used before this, Unix seconds.
    pub not_before: Option<i64>,
    /// Not to be used from this on, Unix seconds.
    pub expires: Option<i64>,
}

/// A secret to be set.
pub struct NewSecret<'a> {
    /// The value.
    pub value: &'a str,
    /// What the value is said to be.
    pub content_type: &'a str,
    /// Not to be used before this, Unix seconds.
    pub not_before: i64,
    /// Not to be used from this on, Unix seconds.
    pub expires: i64,
}

/// A certificate to be created by an issuer outside the vault (`Unknown`): the vault makes a key, which stays
/// exportable, and a signing request.
#[derive(Debug, Clone)]
pub struct NewCertificate {
    /// `CN=name, O=organisation`.
    pub subject: String,
    /// DNS names of the subjectAltName extension.
    pub dns_names: Vec<String>,
    /// The kind of key.
    pub key: KeyKind,
    /// Extended key usages, as object identifiers.
    pub extended_key_usages: Vec<String>,
    /// Months of validity, for the vault's records: the issuer decides.
    pub validity_months: i32,
}

/// A certificate's creation that waits for its issuer.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The signing request (PKCS#10, DER), while there is one to sign.
    pub request: Option<Vec<u8>>,
    /// The name of the issuer in the vault: `Unknown`, `Self` or an integrated CA's.
    pub issuer: String,
    /// How far it is.
    pub state: PendingState,
}

impl Pending {
    /// Whether an issuer outside the vault is to sign it.
    pub fn is_for_us(&self) -> bool {
        self.issuer == convert::UNKNOWN_ISSUER
    }
}

/// How far the creation of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingState {
    /// It waits for the issuer.
    InProgress,
    /// A version was made of it.
    Completed,
    /// It was cancelled, or it failed.
    Ended,
}

/// The kind of key that a certificate is created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::EcP256,
        Self::EcP384,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// Its word in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// What a certificate of such a key says about it.
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::EcP256 => KeyType::EcP256,
            Self::EcP384 => KeyType::EcP384,
            Self::Rsa2048 => KeyType::Rsa(2048),
            Self::Rsa3072 => KeyType::Rsa(3072),
            Self::Rsa4096 => KeyType::Rsa(4096),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.label() == text);
        found.ok_or_else(|| UnknownKeyKind(text.to_owned()))
    }
}

/// A key type that cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no key type; it may be ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096")]
pub struct UnknownKeyKind(String);

/// How a key of the vault signs (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 over SHA-256.
    Es256,
    /// ECDSA on P-384 over SHA-384.
    Es384,
    /// RSASSA-PKCS1-v1_5 over SHA-256.
    Rs256,
}
