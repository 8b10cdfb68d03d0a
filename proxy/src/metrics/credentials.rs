//! What is counted about credentials.

use std::path::Path;

use super::{CredentialUse, Metrics};

impl Metrics {
    /// The first of the credentials in use for this ceases to be good at `not_after`, in seconds since 1970.
    pub fn credential_not_after(&self, of: CredentialUse, not_after: i64) {
        self.credential_not_after.at(of).set(not_after);
    }

    /// At `now`, in seconds since 1970, all credentials for this were looked at and are good and in use.
    pub fn credential_good(&self, of: CredentialUse, now: u64) {
        self.credential_last_success
            .at(of)
            .set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Client certificate and trust towards the ingress are generation `generation` now.
    pub fn credential_generation(&self, generation: u64) {
        self.credential_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// New credentials from `path` were taken into use. Their publisher calls them `label`, and called those before
    /// `before`; no label is empty.
    pub fn credential_taken(&self, of: CredentialUse, path: &Path, before: &str, label: &str) {
        self.credential_changes.at(of).inc();
        let path = path.to_string_lossy();
        // The first has none before it.
        let _ = self
            .credential_info
            .remove_label_values(&[of.label(), &path, before]);
        if let Ok(info) =
            self.credential_info
                .get_metric_with_label_values(&[of.label(), &path, label])
        {
            info.set(1);
        }
    }

    /// Nothing from `path` is in use any more; it was called `label`.
    pub fn credential_left(&self, of: CredentialUse, path: &Path, label: &str) {
        let path = path.to_string_lossy();
        let _ = self
            .credential_info
            .remove_label_values(&[of.label(), &path, label]);
    }

    /// Whether session tickets are encrypted with a key that the fleet shares.
    pub fn tickets_shared(&self, shared: bool) {
        self.tickets_shared.set(i64::from(shared));
    }

    /// New credentials were refused. `reason` is a word of a closed set, never text from outside.
    pub fn credential_refused(&self, of: CredentialUse, reason: &'static str) {
        if let Ok(counter) = self
            .credential_refusals
            .get_metric_with_label_values(&[of.label(), reason])
        {
            counter.inc();
        }
    }
}
