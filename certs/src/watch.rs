//! Watching a location for new credentials, without a timer of its own: the caller decides when to look.
//!
//! Promises: only proven bundles are ever yielded; the last good one stays until a better one is proven.
//! Never yields a torn state: chain and key of two writes do not prove.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::bundle::Bundle;
use crate::expectations::Expectations;
use crate::fingerprint::Fingerprint;
use crate::location::{Identity, Location, ReadError};
use crate::unproven::{Unproven, seconds};

/// A location, what its content has to be good for, and the last good bundle.
#[derive(Debug)]
pub struct Watch {
    location: Location,
    expectations: Expectations,
    current: Option<Arc<Bundle>>,
    refused: Option<Arc<Refused>>,
    seen: Option<Seen>,
    reads: u64,
}

/// What a [`Watch::check`] found.
#[derive(Debug, Clone)]
pub enum Change {
    /// Nothing that was not known.
    Unchanged,
    /// Another bundle than the one before.
    Proven(Arc<Bundle>),
    /// What is there now is no good, for a reason not reported before. The last good bundle stays.
    Refused(Arc<Refused>),
}

/// Why what is there now is no good.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It could not be read.
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// It was read, and does not prove.
    #[error(transparent)]
    Unproven(#[from] Unproven),
}

impl Refused {
    /// The one word: metric label and log word.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unread(error) => error.label(),
            Self::Unproven(reason) => reason.label(),
        }
    }
}

/// What was read last, so that it need not be read again.
struct Seen {
    identity: Identity,
    content: Fingerprint,
    /// Whether an equal identity is sure to mean equal content.
    is_settled: bool,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the digest, which covers the key.
        self.identity.fmt(f)
    }
}

impl Watch {
    /// A watch that has not looked yet.
    pub const fn new(location: Location, expectations: Expectations) -> Self {
        Self {
            location,
            expectations,
            current: None,
            refused: None,
            seen: None,
            reads: 0,
        }
    }

    /// Looks once. Cheap when nothing was written since: a few calls of `stat`, no file is opened. Blocks on the
    /// disk, so call it from a thread that may.
    ///
    /// Time counts as a change where it matters: what was not yet valid is proven again when it is, and a set of
    /// trust anchors when one of them begins or ends.
    pub fn check(&mut self, now: UnixTime) -> Change {
        let is_due = self.is_due(now);
        if !is_due
            && self
                .location
                .identify()
                .is_ok_and(|found| self.has_settled_at(&found))
        {
            return Change::Unchanged;
        }
        self.reads += 1;
        let (parts, identity) = match self.location.read() {
            Ok(read) => read,
            Err(error) => return self.unread(error),
        };
        let content = parts.content();
        let is_settled = identity.is_settled(seconds(now));
        let is_same = self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.content == content);
        self.seen = Some(Seen {
            identity,
            content,
            is_settled,
        });
        if is_same && !is_due {
            return Change::Unchanged;
        }
        match Bundle::prove(parts, &self.expectations, now) {
            Ok(bundle) => self.proven(bundle),
            Err(reason) => {
                let known = self
                    .refused
                    .as_ref()
                    .is_some_and(|it| it.label() == reason.label());
                self.refused(reason.into(), is_same && known)
            }
        }
    }

    /// The last good bundle. It may have expired since: see [`Bundle::usable_until`].
    pub const fn current(&self) -> Option<&Arc<Bundle>> {
        self.current.as_ref()
    }

    /// Why what is there now is not current, if it is not.
    pub const fn refusal(&self) -> Option<&Arc<Refused>> {
        self.refused.as_ref()
    }

    /// Where it looks.
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// How often files were opened and read, of all the checks.
    pub const fn reads(&self) -> u64 {
        self.reads
    }

    fn has_settled_at(&self, identity: &Identity) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|seen| seen.is_settled && seen.identity == *identity)
    }

    /// Whether time alone may have changed the verdict on what was read last.
    fn is_due(&self, now: UnixTime) -> bool {
        match (self.refused.as_deref(), &self.current) {
            (Some(Refused::Unproven(reason)), _) => reason.may_be_over(now),
            (None, Some(bundle)) => bundle.changes_at().is_some_and(|at| at <= seconds(now)),
            _ => false,
        }
    }

    fn proven(&mut self, bundle: Bundle) -> Change {
        self.refused = None;
        let bundle = Arc::new(bundle);
        let before = self.current.replace(Arc::clone(&bundle));
        match before {
            Some(before) if before.fingerprint() == bundle.fingerprint() => {
                // Holders of the old value and `current` stay one and the same, unless it is about to change.
                if before.changes_at() == bundle.changes_at() {
                    self.current = Some(before);
                }
                Change::Unchanged
            }
            _ => Change::Proven(bundle),
        }
    }

    fn unread(&mut self, error: ReadError) -> Change {
        // Whatever comes next is read afresh, even if it looks like what was there before.
        self.seen = None;
        let known = self
            .refused
            .as_ref()
            .is_some_and(|it| it.to_string() == error.to_string());
        self.refused(error.into(), known)
    }

    fn refused(&mut self, why: Refused, is_known: bool) -> Change {
        let why = Arc::new(why);
        self.refused = Some(Arc::clone(&why));
        if is_known {
            Change::Unchanged
        } else {
            Change::Refused(why)
        }
    }
}

#[cfg(test)]
mod tests;
