//! Why a vault did not do it: the closed list, with one word and one sentence each.

use std::path::PathBuf;
use std::time::Duration;

use super::contents::ContentsError;

/// Why a call to a vault failed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// 429: the vault is asked too often, by us or by others.
    #[error("the vault asks for fewer requests")]
    Throttled {
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// 401, also with a fresh token.
    #[error(
        "the vault does not accept the identity's token; is the identity of the vault's tenant?"
    )]
    Unauthorized,
    /// 403: the identity lacks a permission, or the vault's firewall refuses this machine.
    #[error("the vault forbids it: {reason}")]
    Forbidden {
        /// What the vault says.
        reason: String,
    },
    /// 404: there is no such object, or no such version of it.
    #[error("the vault has no such object")]
    NotFound,
    /// 409: another operation on the object is under way, or the object is deleted and can be recovered.
    #[error("the vault is busy with the object, or keeps it deleted: {reason}")]
    Conflict {
        /// What the vault says.
        reason: String,
    },
    /// The version is disabled, or all versions are.
    #[error("it is disabled in the vault; enable a version, or add one")]
    Disabled,
    /// Any other 4xx: the vault understood and refuses.
    #[error("the vault refuses the request (status {status}): {reason}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What the vault says.
        reason: String,
    },
    /// It could not be reached, broke off, or answered with a 5xx.
    #[error("the vault is not available: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// A deadline passed.
    #[error("the vault did not answer in time")]
    TimedOut,
    /// The identity has no token to show. The vault was not asked.
    #[error("there is no token for the vault: {reason}")]
    Identity {
        /// What the identity's source says.
        reason: String,
        /// How long the source wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// What the vault holds is no credential.
    #[error("what the vault holds cannot be used: {0}")]
    Contents(#[source] ContentsError),
    /// The answer is not what the protocol promises, or exceeds a limit.
    #[error("the vault's answer is not understood: {0}")]
    Malformed(String),
}

impl VaultError {
    /// One word, for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Disabled => "disabled",
            Self::Rejected { .. } => "rejected",
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Identity { .. } => "identity",
            Self::Contents(_) => "contents",
            Self::Malformed(_) => "malformed",
        }
    }

    /// Every word that [`label`](Self::label) gives.
    pub const LABELS: [&'static str; 12] = [
        "throttled",
        "unauthorized",
        "forbidden",
        "not_found",
        "conflict",
        "disabled",
        "rejected",
        "unavailable",
        "timed_out",
        "identity",
        "contents",
        "malformed",
    ];

    /// How long not to ask again, if the vault or the identity's source says so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after }
            | Self::Unavailable { retry_after, .. }
            | Self::Identity { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why a vault or an identity cannot be set up. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL is none, not https, or has a path, a query or a user.
    #[error("`{0}` is no vault's URL; it looks like https://NAME.vault.azure.net")]
    Url(String),
    /// The challenge may go unverified only where a CA of our own says who answers.
    #[error("verify_challenge = false is for stand-ins: it needs `ca`, their own CA")]
    UnverifiedChallenge,
    /// The CA's file cannot be read.
    #[error("cannot read the CA's file {path}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA's file holds no certificate.
    #[error("{0} holds no PEM certificate")]
    NoCa(PathBuf),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// The identity's source lacks something: a variable, a file.
    #[error("the identity cannot be set up: {0}")]
    Identity(String),
}
