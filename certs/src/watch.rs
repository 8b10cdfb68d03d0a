//! Watching a location for new credentials, without a timer of its own: the caller decides when to look.
//!
//! Promises: only what is proven is ever yielded; the last good content stays until a better one is proven.
//! Never yields a torn state: chain and key of two writes do not prove.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::bundle::Bundle;
use crate::content::{Content, Proof};
use crate::expectations::Expectations;
use crate::fingerprint::Fingerprint;
use crate::location::{Identity, Location, ReadError};
use crate::unproven::{Unproven, seconds};

/// A location, how what is there is proven, and the last that was: a [`Bundle`] by [`Expectations`], or
/// [`TicketKeys`](crate::TicketKeys) by [`TicketExpectations`](crate::TicketExpectations).
#[derive(Debug)]
pub struct Watch<P: Proof = Expectations> {
    location: Location,
    proof: P,
    current: Option<Arc<P::Content>>,
    label: Option<String>,
    refused: Option<Arc<Refused>>,
    seen: Option<Seen>,
    reads: u64,
}

/// What a [`Watch::check`] found.
#[derive(Debug, Clone)]
pub enum Change<C = Bundle> {
    /// Nothing that was not known.
    Unchanged,
    /// Another content than the one before.
    Proven(Arc<C>),
    /// What is there now is no good, for a reason not reported before. The last good one stays.
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

impl<P: Proof> Watch<P> {
    /// A watch that has not looked yet.
    pub const fn new(location: Location, proof: P) -> Self {
        Self {
            location,
            proof,
            current: None,
            label: None,
            refused: None,
            seen: None,
            reads: 0,
        }
    }

    /// Looks once. Cheap when nothing was written since: a few calls of `stat`, no file is opened. Blocks on the
    /// disk, so call it from a thread that may.
    ///
    /// Time counts as a change where it matters: what was not yet valid is proven again when it is, and a set of
    /// trust anchors or of ticket keys when one of them begins or ends.
    pub fn check(&mut self, now: UnixTime) -> Change<P::Content> {
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
        let label = parts.label().map(ToOwned::to_owned);
        match self.proof.prove(parts, now) {
            Ok(content) => {
                self.label = label;
                self.proven(content)
            }
            Err(reason) => {
                let known = self
                    .refused
                    .as_ref()
                    .is_some_and(|it| it.label() == reason.label());
                self.refused(reason.into(), is_same && known)
            }
        }
    }

    /// The last good content. It may have expired since: see [`Bundle::usable_until`].
    pub const fn current(&self) -> Option<&Arc<P::Content>> {
        self.current.as_ref()
    }

    /// Where its publisher says it comes from: see [`Parts::label`](crate::Parts::label).
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
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
            (None, Some(content)) => content.changes_at().is_some_and(|at| at <= seconds(now)),
            _ => false,
        }
    }

    fn proven(&mut self, content: P::Content) -> Change<P::Content> {
        self.refused = None;
        let content = Arc::new(content);
        let before = self.current.replace(Arc::clone(&content));
        match before {
            Some(before) if before.fingerprint() == content.fingerprint() => {
                // Holders of the old value and `current` stay one and the same, unless it is about to change.
                if before.changes_at() == content.changes_at() {
                    self.current = Some(before);
                }
                Change::Unchanged
            }
            _ => Change::Proven(content),
        }
    }

    fn unread(&mut self, error: ReadError) -> Change<P::Content> {
        // Whatever comes next is read afresh, even if it looks like what was there before.
        self.seen = None;
        let known = self
            .refused
            .as_ref()
            .is_some_and(|it| it.to_string() == error.to_string());
        self.refused(error.into(), known)
    }

    fn refused(&mut self, why: Refused, is_known: bool) -> Change<P::Content> {
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
