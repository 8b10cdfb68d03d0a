//! Creation and renewal of the internal mutual TLS pair, which Key Vault does not do by itself: it renews only what
//! its own issuers sign.
//!
//! ```text
//!   is_due ──▶ create (issuer Unknown) ──▶ pending: signing request ──▶ held against the policy
//!                 │ 409: somebody else's,                                      │
//!                 ▼ go on with that                                            ▼
//!            merge leaf + CA ◀── verified ◀── signed by the CA that may sign now (vault key, or files)
//! ```
//!
//! Every instance of a fleet may do it, and no lease is needed: the vault has one pending operation for a certificate,
//! and ends it once. Who comes late finds a new version there and has lost nothing ([`Outcome::Lost`]).
//!
//! Invariant: what is merged was signed by a CA that this host trusts, was verified, and is what the policy says.

mod authority;
mod der;
mod leaf;
mod policy;
mod request;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::vault::{Pending, PendingState, Vault, VaultError, Version};

pub use authority::Authority;
pub use policy::{Due, Policy, PolicyError, PolicyOptions, Standing, Usage, is_due};

use authority::Cas;

/// One certificate in a vault, with the policy it follows and the CA that issues it.
#[derive(Debug, Clone)]
pub struct Issuer {
    vault: Vault,
    certificate: String,
    policy: Policy,
    authority: Authority,
}

/// What a round came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No new version is due.
    NotDue,
    /// A new version was issued.
    Issued {
        /// Its name in the vault.
        version: String,
        /// Why it was due.
        due: Due,
    },
    /// Another instance issued one meanwhile.
    Lost,
}

impl Outcome {
    /// One word, for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::Issued { .. } => "issued",
            Self::Lost => "lost",
        }
    }
}

/// Why no version was issued, though one was due.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A vault did not do its part.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The CA is there, but leaves of it would not be trusted everywhere yet.
    #[error("no version of the CA may sign yet: {0}")]
    NotYetTrusted(String),
    /// There is no CA, or all its versions are disabled or expired.
    #[error("the CA certificate `{0}` has no enabled version that is valid; add one")]
    NoCa(String),
    /// The CA cannot be used.
    #[error("the CA cannot issue: {0}")]
    Ca(String),
    /// The vault's signing request is not what the policy says, or there is none.
    #[error(
        "the pending operation cannot be completed: {0}; if nobody else completes it, cancel it in the vault"
    )]
    Request(String),
    /// The signature is not of the CA's key.
    #[error("the CA's signature does not verify; is its key in the vault still its certificate's?")]
    Signature,
}

impl IssueError {
    /// One word, for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Vault(error) => error.label(),
            Self::NotYetTrusted(_) => "not_yet_trusted",
            Self::NoCa(_) => "no_ca",
            Self::Ca(_) => "ca",
            Self::Request(_) => "request",
            Self::Signature => "signature",
        }
    }
}

impl Issuer {
    /// Of the certificate of this name in the vault.
    pub fn new(
        vault: Vault,
        certificate: impl Into<String>,
        policy: Policy,
        authority: Authority,
    ) -> Self {
        Self {
            vault,
            certificate: certificate.into(),
            policy,
            authority,
        }
    }

    /// Issues a new version if one is due at `now` (Unix seconds), when `trust` is published on this host.
    ///
    /// Asks for the newest version and the CA's versions. A CA that may not sign is an error only if it has to.
    pub async fn round(
        &self,
        trust: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Outcome, IssueError> {
        let newest = self.newest().await?;
        let cas = match self.authority.current(trust, now).await {
            Ok(cas) => cas,
            Err(IssueError::Vault(error)) => return Err(error.into()),
            Err(error) => {
                let standing = newest.as_ref().and_then(|newest| standing(newest, None));
                return match is_due(now, standing.as_ref(), &self.policy, i64::MAX) {
                    Some(_) => Err(error),
                    None => Ok(Outcome::NotDue),
                };
            }
        };
        let standing = newest
            .as_ref()
            .and_then(|newest| standing(newest, Some(&cas)));
        let ca_end = cas.all[cas.signs].not_after();
        match is_due(now, standing.as_ref(), &self.policy, ca_end) {
            Some(due) => {
                self.issue(newest.map(|(version, _)| version), &cas, due, now)
                    .await
            }
            None => Ok(Outcome::NotDue),
        }
    }

    async fn issue(
        &self,
        before: Option<Version>,
        cas: &Cas,
        due: Due,
        now: i64,
    ) -> Result<Outcome, IssueError> {
        let new = self.policy.new_certificate();
        let (pending, is_ours) = match self.vault.create(&self.certificate, &new).await {
            Ok(pending) => (Ok(pending), true),
            Err(conflict @ VaultError::Conflict { .. }) => {
                let theirs = self.vault.pending(&self.certificate).await;
                // Taken back meanwhile; or the conflict is another, as with a deleted certificate.
                let gone = |error| match error {
                    VaultError::NotFound => conflict,
                    error => error,
                };
                (theirs.map_err(gone), false)
            }
            Err(error) => return Err(error.into()),
        };
        // Between our look and our creation somebody may have finished a whole round.
        if self.changed_since(before.as_ref()).await? {
            if is_ours {
                // If it cannot be taken back, it waits for the next renewal.
                let _ = self.vault.cancel(&self.certificate).await;
            }
            return Ok(Outcome::Lost);
        }
        let pending = pending?;
        let certificate = self.sign(&pending, cas, now).await?;
        let chain = [certificate, cas.all[cas.signs].certificate().clone()];
        match self.vault.merge(&self.certificate, &chain).await {
            Ok(version) => {
                tracing::info!(
                    certificate = self.certificate,
                    version = version.id,
                    due = due.label(),
                    not_after = version.not_after,
                    "certificate issued"
                );
                Ok(Outcome::Issued {
                    version: version.id,
                    due,
                })
            }
            // Already merged, or taken back: the service says so in several ways.
            Err(_) if self.changed_since(before.as_ref()).await.unwrap_or(false) => {
                Ok(Outcome::Lost)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn sign(
        &self,
        pending: &Pending,
        cas: &Cas,
        now: i64,
    ) -> Result<CertificateDer<'static>, IssueError> {
        if !pending.is_for_us() {
            return Err(IssueError::Request(format!(
                "its issuer is {}",
                pending.issuer
            )));
        }
        let request = match (&pending.request, pending.state) {
            (Some(request), PendingState::InProgress) => request::verified(request, &self.policy)?,
            _ => return Err(IssueError::Request("it is not in progress".to_owned())),
        };
        let ca = &cas.all[cas.signs];
        let unsigned = leaf::Unsigned::new(&request, ca, &self.policy, now)?;
        let signature = self.authority.sign(ca, &unsigned.to_be_signed).await?;
        unsigned.signed(&signature, ca)
    }

    /// The newest enabled version with its certificate, if there is one.
    async fn newest(&self) -> Result<Option<(Version, CertificateDer<'static>)>, VaultError> {
        match self.vault.newest_certificate(&self.certificate).await {
            Ok(newest) => Ok(Some(newest)),
            // Before its first version, a certificate is shown as disabled.
            Err(VaultError::NotFound | VaultError::Disabled) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn changed_since(&self, before: Option<&Version>) -> Result<bool, VaultError> {
        let newest = self.newest().await?;
        Ok(newest.is_some_and(|(newest, _)| before.is_none_or(|before| before.id != newest.id)))
    }
}

/// The newest version as the policy sees it. None if it is no certificate.
fn standing(
    (_, certificate): &(Version, CertificateDer<'_>),
    cas: Option<&Cas>,
) -> Option<Standing> {
    let (_, x509) = X509Certificate::from_der(certificate).ok()?;
    // A newer CA than the one that signs here is another instance's, whose host trusts it already.
    let issued_by = |cas: &Cas| {
        cas.all
            .iter()
            .position(|ca| leaf::is_issued_by(certificate, ca))
    };
    let superseded = cas.is_some_and(|cas| issued_by(cas).is_none_or(|at| at > cas.signs));
    Some(Standing {
        not_before: x509.validity().not_before.timestamp(),
        not_after: x509.validity().not_after.timestamp(),
        superseded,
    })
}

#[cfg(test)]
mod tests;
