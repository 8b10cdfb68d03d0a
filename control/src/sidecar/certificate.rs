//! One round of one certificate: fetch, inspect, publish.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use postern_certs::{Bundle, Parts, UnixTime};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::inspect::{Demands, read_trust};
use super::metrics::Metrics;
use super::outcome::{Done, Outcome, Published, RoundError};
use super::place::Place;
use crate::issue::{IssueError, Issuer};
use crate::vault::{Vault, VaultError};

/// A certificate in a vault, what it must be, and where it is published.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Its name in the configuration.
    pub(super) name: String,
    /// `server`, `client` or `trust`.
    pub(super) kind: &'static str,
    pub(super) vault: Vault,
    /// Its names in the vault: one, or for trust several.
    pub(super) objects: Vec<String>,
    pub(super) place: Place,
    pub(super) demands: Demands,
    /// Who makes new versions, if we do.
    pub(super) issuer: Option<Issuer>,
    /// Held while something is inspected and published: what one is held against does not change meanwhile.
    pub(super) publishing: Arc<Mutex<()>>,
    pub(super) metrics: Arc<Metrics>,
    /// Of trust, the CA certificates by version: they do not change.
    pub(super) fetched: tokio::sync::Mutex<BTreeMap<String, CertificateDer<'static>>>,
    /// Why no new version could be made last time, if it could not.
    pub(super) not_made: Mutex<Option<&'static str>>,
    /// The version that was taken last, which a store that had its content already does not know.
    pub(super) taken: Mutex<Option<String>>,
}

impl Certificate {
    /// One round at `now` (Unix seconds).
    pub(super) async fn round(self: &Arc<Self>, now: i64) -> Result<Done, RoundError> {
        match self.objects.as_slice() {
            _ if self.demands.is_trust() => self.round_of_trust(now).await,
            [object] => {
                if let Some(issuer) = &self.issuer {
                    self.issue(issuer, now).await;
                }
                self.round_of_identity(object, now).await
            }
            _ => Err(VaultError::NotFound.into()),
        }
    }

    /// How many requests its first round takes, as a rule: a challenge and the secret, or for trust a challenge, and the
    /// versions and the newest of them of each CA.
    pub(super) fn first_requests(&self) -> u32 {
        if self.demands.is_trust() {
            let objects = u32::try_from(self.objects.len()).unwrap_or(u32::MAX);
            objects.saturating_mul(2).saturating_add(1)
        } else {
            2
        }
    }

    /// What is published, as it stands on the disk.
    pub(super) fn published(&self, now: UnixTime) -> Option<Published> {
        let manifest = self.place.manifest()?;
        let bundle = self.demands.published(self.place.location(), now);
        let published = Published::from(manifest);
        Some(Published {
            // Without a proof, as for one that has ended, the leaf's end has to do.
            until: bundle.map_or(published.until, |bundle| bundle.usable_until()),
            ..published
        })
    }

    async fn round_of_identity(
        self: &Arc<Self>,
        object: &str,
        now: i64,
    ) -> Result<Done, RoundError> {
        if self.place.manifest().is_none() {
            // Who has nothing published asks for all at once.
            match self.counted(self.vault.newest_identity(object).await) {
                Ok((version, parts)) => return self.publish(parts, vec![version], now).await,
                Err(VaultError::Disabled) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let newest = self.counted(self.vault.newest(object).await)?;
        if let Some(published) = self.still_published(&newest.id, now).await? {
            return Ok(Done {
                outcome: Outcome::Unchanged,
                published,
                version: newest.id,
            });
        }
        let parts = self.counted(self.vault.identity(object, &newest.id).await)?;
        self.publish(parts, vec![newest.id], now).await
    }

    async fn round_of_trust(self: &Arc<Self>, now: i64) -> Result<Done, RoundError> {
        let mut anchors = Vec::new();
        let mut versions = Vec::new();
        let mut fetched = self.fetched.lock().await;
        for object in &self.objects {
            let enabled = self.vault.enabled_versions(object, now).await;
            let enabled = self.counted(enabled)?;
            if enabled.is_empty() {
                // One that is to go is taken out of the configuration.
                return Err(VaultError::Disabled.into());
            }
            for version in enabled {
                let certificate = match fetched.get(&version.id) {
                    Some(certificate) => certificate.clone(),
                    None => match self.vault.certificate(object, &version.id).await {
                        // Disabled or deleted since it was listed.
                        Err(VaultError::Disabled | VaultError::NotFound) => continue,
                        found => self.counted(found)?.1,
                    },
                };
                versions.push(version.id);
                anchors.push(certificate);
            }
        }
        *fetched = versions
            .iter()
            .cloned()
            .zip(anchors.iter().cloned())
            .collect();
        drop(fetched);
        let parts = Parts::anchors_from_der(&anchors);
        self.publish(parts, versions, now).await
    }

    /// Makes a new version if one is due. Whether it does or not, the round goes on with what there is.
    async fn issue(self: &Arc<Self>, issuer: &Issuer, now: i64) {
        let this = Arc::clone(self);
        let trust = blocking(move || Ok(this.trusted(now))).await;
        let outcome = issuer.round(&trust.unwrap_or_default(), now).await;
        self.metrics.issued(&self.name, outcome.as_ref());
        let reason = outcome.as_ref().err().map(IssueError::label);
        let before = {
            let mut not_made = self.not_made.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *not_made, reason)
        };
        if let Err(error) = outcome
            && before != reason
        {
            tracing::warn!(
                certificate = self.name,
                reason = error.label(),
                error = postern_chassis::whole(&error),
                "no new version is made"
            );
        }
    }

    /// The CAs of the published trust.
    fn trusted(&self, now: i64) -> Vec<CertificateDer<'static>> {
        let trust = self.demands.trust.as_ref();
        let trust = trust.and_then(|(_, location)| read_trust(location, at(now)));
        let pem = trust.map(|trust: Bundle| trust.anchors_pem());
        let certificates = pem.as_deref().map(CertificateDer::pem_slice_iter);
        certificates.into_iter().flatten().flatten().collect()
    }

    /// What is published, if that is `version` and is still good.
    async fn still_published(
        self: &Arc<Self>,
        version: &str,
        now: i64,
    ) -> Result<Option<Published>, RoundError> {
        let this = Arc::clone(self);
        let label = self.label(&[version.to_owned()]);
        blocking(move || {
            let _publishing = this
                .publishing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(manifest) = this.place.manifest() else {
                return Ok(None);
            };
            let is_taken = {
                let taken = this.taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.as_ref().unwrap_or(&manifest.label) == &label
            };
            let bundle = is_taken.then(|| this.demands.published(this.place.location(), at(now)));
            Ok(bundle.flatten().map(|bundle| Published {
                until: bundle.usable_until(),
                ..manifest.into()
            }))
        })
        .await
    }

    async fn publish(
        self: &Arc<Self>,
        parts: Parts,
        versions: Vec<String>,
        now: i64,
    ) -> Result<Done, RoundError> {
        let this = Arc::clone(self);
        blocking(move || {
            let _publishing = this
                .publishing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let version = versions.join("+");
            let bundle =
                this.demands
                    .inspect(parts, at(now))
                    .map_err(|why| RoundError::Refused {
                        version: version.clone(),
                        why,
                    })?;
            let label = this.label(&versions);
            let done = this.place.publish(&bundle, &label, &version)?;
            if done.outcome != Outcome::Older {
                *this.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(label);
            }
            Ok(done)
        })
        .await
    }

    /// Where versions come from, for the manifest.
    fn label(&self, versions: &[String]) -> String {
        let names = self.objects.join("+");
        format!(
            "{}/certificates/{names}/{}",
            self.vault.host(),
            versions.join("+")
        )
    }

    fn counted<T>(&self, answer: Result<T, VaultError>) -> Result<T, VaultError> {
        self.metrics.asked(self.vault.host(), answer.as_ref().err());
        answer
    }
}

/// Runs what blocks on the disk where that may be. It goes on to its end even if nobody waits for it any more.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RoundError> + Send + 'static,
) -> Result<T, RoundError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| RoundError::Interrupted)?
}

/// Unix seconds as proofs count them.
pub(super) fn at(now: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.try_into().unwrap_or(0)))
}
