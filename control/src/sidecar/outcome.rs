//! How a round ends: closed lists, each with one word that is the same in log and metric.

use std::time::Duration;

use postern_certs::{PublishError, Unproven};

use crate::vault::VaultError;

/// What is published, as far as readiness, metrics and the next look go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its generation in the store.
    pub generation: u64,
    /// Where it came from: vault, name and version.
    pub label: String,
    /// Subject of the leaf, or of the first anchor.
    pub subject: String,
    /// The last second at which it is of use, Unix time.
    pub until: i64,
}

/// How a round ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new version was published.
    Published,
    /// What is published is the newest.
    Unchanged,
    /// The newest enabled version is older than what is published, which stays.
    Older,
}

impl Outcome {
    /// The word of each way a round can end; the last two are errors.
    pub const LABELS: [&'static str; 5] = ["published", "unchanged", "older", "refused", "failed"];

    /// The word in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::Older => "older",
        }
    }
}

/// A round that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// How.
    pub outcome: Outcome,
    /// What is published now.
    pub published: Published,
    /// The version that the round was about, if another one than is published.
    pub version: String,
}

/// Why a version is not published. The last good one stays.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It does not hold together, or is not what the configuration demands.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// A client certificate, before any trust is published.
    #[error(
        "no trust is published yet to hold the client certificate against; it is taken as soon as [certificates.{trust}] is published"
    )]
    NoTrust {
        /// The trust's name in the configuration.
        trust: String,
    },
    /// It would break mutual TLS: a step of a CA's rotation comes before the one that it needs.
    #[error("{0}")]
    WrongOrder(String),
}

impl Refusal {
    /// The one word: metric label and log word.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unproven(reason) => reason.label(),
            Self::NoTrust { .. } => "no_trust",
            Self::WrongOrder(_) => "wrong_order",
        }
    }
}

/// Why a round did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The vault did not do its part.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What it has is not published.
    #[error("version {version} is refused: {why}")]
    Refused {
        /// The version's name in the vault.
        version: String,
        /// Why.
        why: Refusal,
    },
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] PublishError),
    /// A thread was lost, or there is no randomness.
    #[error("the round broke off")]
    Interrupted,
}

impl RoundError {
    /// The one word: metric label and log word.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Vault(error) => error.label(),
            Self::Refused { why, .. } => why.label(),
            Self::Store(error) => match error {
                PublishError::NotAStore { .. } => "not_a_store",
                PublishError::Io { .. } => "store_io",
                PublishError::NotDurable { .. } => "store_not_durable",
                PublishError::Busy { .. } => "store_busy",
                PublishError::Older { .. } => "older",
            },
            Self::Interrupted => "interrupted",
        }
    }

    /// The word for how the round ended: `refused` for what a version is, `failed` for all else.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            _ => "failed",
        }
    }

    /// How long not to ask the vault again, if it says so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Vault(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The version that is refused, if one is.
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Refused { version, .. } => Some(version),
            _ => None,
        }
    }
}
