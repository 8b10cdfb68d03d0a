//! One place that credentials are read from, and what is told of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_certs::{
    Bundle, Change, Content as _, Expectations, Location, Proof, Refused, UnixTime, Watch,
};

use crate::metrics::{CredentialUse, Metrics};

/// A place that is watched.
pub(super) struct Source<P: Proof = Expectations> {
    used_as: CredentialUse,
    /// What it must cover.
    names: Vec<String>,
    watch: Watch<P>,
    /// The label that the metrics show.
    shown: String,
    generation: u64,
}

/// One place of credentials, as it stands.
#[derive(Debug, Clone)]
pub struct Place<C = Bundle> {
    /// What they are used as.
    pub used_as: CredentialUse,
    /// Where they are read.
    pub path: PathBuf,
    /// How many sets were taken into use from here since this process started.
    pub generation: u64,
    /// Where the set in use comes from, in its publisher's words: the Key Vault version. Only a store tells.
    pub label: Option<String>,
    /// The set in use.
    pub content: Option<Arc<C>>,
    /// Why what is there now is not in use, if it is not.
    pub refused: Option<Arc<Refused>>,
}

/// What was refused.
#[derive(Debug)]
pub struct Rejected {
    /// Where it was read.
    pub path: PathBuf,
    /// Why it is not in use.
    pub why: Arc<Refused>,
}

impl Source {
    /// A server certificate that covers these names. Nothing is read yet.
    pub(super) fn server(path: PathBuf, names: Vec<String>) -> Self {
        let proof = Expectations::server().covering(names.iter().cloned());
        let source = Self::new(CredentialUse::Server, path, proof);
        Self { names, ..source }
    }
}

impl<P: Proof> Source<P> {
    /// Nothing is read yet.
    pub(super) fn new(used_as: CredentialUse, path: PathBuf, proof: P) -> Self {
        Self {
            used_as,
            names: Vec::new(),
            watch: Watch::new(Location::new(path), proof),
            shown: String::new(),
            generation: 0,
        }
    }

    /// What it is used as.
    pub(super) const fn used_as(&self) -> CredentialUse {
        self.used_as
    }

    /// The set in use.
    pub(super) fn current(&self) -> Option<&Arc<P::Content>> {
        self.watch.current()
    }

    /// Whether both are the same place, held to the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.used_as, self.path(), &self.names) == (other.used_as, other.path(), &other.names)
    }

    /// Whether a set from here was ever taken into use.
    pub(super) const fn was_used(&self) -> bool {
        self.generation > 0
    }

    /// Reads it for the first time, and takes nothing into use yet. Why not, if it is not good.
    pub(super) fn prove(&mut self, now: UnixTime) -> Option<Rejected> {
        let path = self.path().to_owned();
        match self.watch.check(now) {
            Change::Refused(why) => Some(Rejected { path, why }),
            Change::Proven(_) | Change::Unchanged => None,
        }
    }

    /// What was proven is in use now.
    pub(super) fn take(&mut self, metrics: &Metrics) {
        if let Some(content) = self.current().cloned() {
            self.taken(&content, metrics);
        }
    }

    /// Nothing from here is in use any more.
    pub(super) fn leave(&self, metrics: &Metrics) {
        metrics.credential_left(self.used_as, self.path(), &self.shown);
        tracing::info!(path = %self.path().display(), used_as = self.used_as.label(), "credentials no longer in use");
    }

    /// Whether a set from here is in use that has not expired at `now`, in seconds since 1970.
    pub(super) fn is_usable(&self, now: i64) -> bool {
        self.current()
            .is_some_and(|content| now <= content.usable_until())
    }

    /// Whether it is, and what is there now is that set.
    pub(super) fn is_good(&self, now: i64) -> bool {
        self.is_usable(now) && self.watch.refusal().is_none()
    }

    pub(super) fn place(&self) -> Place<P::Content> {
        Place {
            used_as: self.used_as,
            path: self.path().to_owned(),
            generation: self.generation,
            label: self.watch.label().map(ToOwned::to_owned),
            content: self.current().cloned(),
            refused: self.watch.refusal().cloned(),
        }
    }

    /// Whether a new set was taken.
    pub(super) fn check(
        &mut self,
        now: UnixTime,
        metrics: &Metrics,
        rejected: &mut Vec<Rejected>,
    ) -> bool {
        match self.watch.check(now) {
            Change::Unchanged => false,
            Change::Proven(content) => {
                self.taken(&content, metrics);
                true
            }
            Change::Refused(why) => {
                metrics.credential_refused(self.used_as, why.label());
                tracing::error!(
                    path = %self.path().display(), used_as = self.used_as.label(), reason = why.label(),
                    error = %why, previous_kept = self.current().is_some(), "credentials refused"
                );
                rejected.push(Rejected {
                    path: self.path().to_owned(),
                    why,
                });
                false
            }
        }
    }

    fn taken(&mut self, content: &P::Content, metrics: &Metrics) {
        self.generation += 1;
        let before = std::mem::replace(
            &mut self.shown,
            self.watch.label().unwrap_or_default().to_owned(),
        );
        metrics.credential_taken(self.used_as, self.path(), &before, &self.shown);
        let about = content.about();
        tracing::info!(
            path = %self.path().display(), used_as = self.used_as.label(),
            subject = about.subject, serial = about.serial, label = self.watch.label(),
            fingerprint = %content.fingerprint(), not_after = content.usable_until(), "credentials in use"
        );
    }

    fn path(&self) -> &Path {
        self.watch.location().path()
    }
}
