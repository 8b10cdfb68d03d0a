//! One round of the session-ticket keys: a new key when one is due, and all that are alive are published.
//!
//! The keys are the versions of one secret. Every instance of a fleet may add one: two that do so at the same moment
//! make one key more than is needed, which harms nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postern_certs::{Content as _, TicketKey, TicketKeys, UnixTime, Unproven};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::certificate::blocking;
use super::inspect::read_tickets;
use super::metrics::Metrics;
use super::outcome::{Done, Published, Refusal, RoundError};
use super::place::Place;
use crate::vault::{NewSecret, SecretVersion, Vault, VaultError};

/// The versions of a secret, what they are renewed by, and where they are published.
#[derive(Debug)]
pub(super) struct Tickets {
    pub(super) name: String,
    pub(super) vault: Vault,
    /// The name of the secret.
    pub(super) object: String,
    pub(super) place: Place,
    pub(super) schedule: Schedule,
    pub(super) metrics: Arc<Metrics>,
    /// The keys of versions that were fetched already; `None` for one that is no key.
    pub(super) fetched: Mutex<BTreeMap<String, Option<TicketKey>>>,
}

/// When keys begin and end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Time between new keys.
    pub(super) period: Duration,
    /// Time between a key's creation and its first use.
    pub(super) lead: Duration,
    /// How long a ticket is good.
    pub(super) lifetime: Duration,
}

/// The window of a key that is to be made.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    not_before: i64,
    expires: i64,
}

impl Schedule {
    /// The window of the key that is due at `now`, if one is.
    fn due(&self, versions: &[SecretVersion], now: i64) -> Option<Window> {
        let [period, lead, lifetime] = [self.period, self.lead, self.lifetime]
            .map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        let ends = |not_before: i64| Window {
            not_before,
            expires: not_before.saturating_add(period).saturating_add(lifetime),
        };
        let has_begun =
            |version: &SecretVersion| version.not_before.is_none_or(|begin| begin <= now);
        if !versions.iter().any(has_begun) {
            // Nobody can encrypt: a key that begins at once.
            return Some(ends(now));
        }
        let newest = versions.iter().map(|version| version.created).max()?;
        (newest.saturating_add(period) <= now).then(|| ends(now.saturating_add(lead)))
    }
}

impl Tickets {
    /// One round at `now` (Unix seconds).
    pub(super) async fn round(self: &Arc<Self>, now: i64) -> Result<Done, RoundError> {
        let mut versions = self.versions(now).await?;
        let mut not_made = None;
        if let Some(window) = self.schedule.due(&versions, now) {
            match self.create(&window).await {
                Ok(()) => versions = self.versions(now).await?,
                // What others have made is published all the same.
                Err(error) if !versions.is_empty() => not_made = Some(error),
                Err(error) => return Err(error),
            }
        }
        let keys = self.keys(&versions).await?;
        let newest = versions.first().map(|version| version.id.clone());
        let newest = newest.unwrap_or_default();
        let this = Arc::clone(self);
        let done = blocking(move || {
            let refused = |why: Unproven| RoundError::Refused {
                version: newest.clone(),
                why: Refusal::Unproven(why),
            };
            let keys = TicketKeys::new(keys).map_err(|error| refused(error.into()))?;
            let label = format!("{}/secrets/{}/{newest}", this.vault.host(), this.object);
            this.place.publish(&keys, &label, &newest)
        })
        .await?;
        not_made.map_or(Ok(done), Err)
    }

    /// What is published, as it stands on the disk.
    pub(super) fn published(&self, now: UnixTime) -> Option<Published> {
        let manifest = self.place.manifest()?;
        let keys = read_tickets(self.place.location(), now);
        let published = Published::from(manifest);
        Some(Published {
            until: keys.map_or(published.until, |keys| keys.usable_until()),
            ..published
        })
    }

    /// The versions that are enabled and have not ended, newest first.
    async fn versions(&self, now: i64) -> Result<Vec<SecretVersion>, RoundError> {
        let versions = match self.vault.secret_versions(&self.object).await {
            // Before its first version there is no secret.
            Err(VaultError::NotFound) => Ok(Vec::new()),
            versions => versions,
        };
        let versions = self.counted(versions)?.into_iter();
        let alive = versions.filter(|version| version.expires.is_none_or(|end| now < end));
        Ok(alive.take(Vault::ENABLED_VERSIONS_MAX).collect())
    }

    async fn create(&self, window: &Window) -> Result<(), RoundError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let filled = SystemRandom::new().fill(secret.as_mut_slice());
        filled.map_err(|_| RoundError::Interrupted)?;
        let value = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret.as_slice()));
        let new = NewSecret {
            value: &value,
            content_type: CONTENT_TYPE,
            not_before: window.not_before,
            expires: window.expires,
        };
        self.counted(self.vault.set_secret(&self.object, &new).await)?;
        tracing::info!(
            certificate = self.name,
            not_before = window.not_before,
            expires = window.expires,
            "ticket key made"
        );
        Ok(())
    }

    /// The keys of these versions. Only those that are not known yet are fetched.
    async fn keys(&self, versions: &[SecretVersion]) -> Result<Vec<TicketKey>, RoundError> {
        let mut fetched = self.fetched.lock().await;
        fetched.retain(|id, _| versions.iter().any(|version| version.id == *id));
        for version in versions {
            if fetched.contains_key(&version.id) {
                continue;
            }
            let secret = match self.vault.secret(&self.object, version).await {
                // Disabled or deleted since it was listed.
                Err(VaultError::Disabled | VaultError::NotFound) => continue,
                secret => self.counted(secret)?,
            };
            let is_key = secret.content_type.as_deref() == Some(CONTENT_TYPE);
            let key = is_key.then(|| key(&secret.value, version)).flatten();
            if key.is_none() {
                tracing::warn!(
                    certificate = self.name,
                    version = version.id,
                    "a version of the secret is no ticket key and is left out"
                );
            }
            fetched.insert(version.id.clone(), key);
        }
        Ok(fetched.values().flatten().cloned().collect())
    }

    fn counted<T>(&self, answer: Result<T, VaultError>) -> Result<T, VaultError> {
        self.metrics.asked(self.vault.host(), answer.as_ref().err());
        answer
    }
}

/// The key in a secret's value. The vault's `exp` is the first second at which it is over.
fn key(value: &str, version: &SecretVersion) -> Option<TicketKey> {
    let secret = Zeroizing::new(
        BASE64_URL_SAFE_NO_PAD
            .decode(value.trim_end_matches('='))
            .ok()?,
    );
    let not_before = version.not_before.unwrap_or(version.created);
    let last = version.expires?.saturating_sub(1);
    TicketKey::new(&secret, not_before, last).ok()
}

const SECRET_BYTES: usize = 32;
/// What a version of the secret says that it is.
const CONTENT_TYPE: &str = "application/vnd.postern.ticket-key";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    fn schedule() -> Schedule {
        Schedule {
            period: Duration::from_hours(12),
            lead: Duration::from_hours(1),
            lifetime: Duration::from_hours(24),
        }
    }

    fn version(created: i64, not_before: i64, expires: Option<i64>) -> SecretVersion {
        SecretVersion {
            id: "0".repeat(32),
            created,
            not_before: Some(not_before),
            expires,
        }
    }

    #[test]
    fn the_first_key_begins_at_once() {
        let first = Window {
            not_before: NOW,
            expires: NOW + 36 * HOUR,
        };
        assert_eq!(schedule().due(&[], NOW), Some(first));
    }

    #[test]
    fn a_key_that_nobody_may_use_yet_does_not_count() {
        let early = [version(NOW - 10, NOW + 10, None)];
        assert_eq!(schedule().due(&early, NOW).unwrap().not_before, NOW);
    }

    #[test]
    fn a_new_key_is_made_when_the_newest_is_a_period_old_and_begins_a_lead_later() {
        let at = |created| schedule().due(&[version(created, created, None)], NOW);
        assert_eq!(at(NOW - 12 * HOUR + 1), None);
        let next = Window {
            not_before: NOW + HOUR,
            expires: NOW + 37 * HOUR,
        };
        assert_eq!(at(NOW - 12 * HOUR), Some(next));
    }

    #[test]
    fn a_value_is_a_key_if_it_is_32_bytes_and_ends() {
        let value = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
        let found = key(&value, &version(NOW, NOW, Some(NOW + 10))).unwrap();
        assert_eq!((found.not_before(), found.not_after()), (NOW, NOW + 9));
        assert_eq!(key(&value, &version(NOW, NOW, None)), None);
        assert_eq!(key("AAAA", &version(NOW, NOW, Some(NOW + 10))), None);
        assert_eq!(key("?", &version(NOW, NOW, Some(NOW + 10))), None);
    }
}
