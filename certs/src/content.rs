//! What a store publishes and a watch yields: something proven that is made of files, and proven again from them.

use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::bundle::Bundle;
use crate::expectations::{Expectations, Purpose};
use crate::fingerprint::Fingerprint;
use crate::manifest::{ANCHORS_FILE, CHAIN_FILE, KEY_FILE};
use crate::parts::Parts;
use crate::unproven::Unproven;

/// A file of a generation: its name, and its content in a buffer that is wiped.
pub type ContentFile = (&'static str, Zeroizing<Vec<u8>>);

/// What one generation of a [`Store`](crate::Store) holds: a [`Bundle`], or
/// [`TicketKeys`](crate::TicketKeys).
pub trait Content {
    /// What its manifest says of it.
    fn about(&self) -> About;

    /// Contents with the same fingerprint are the same. It tells nothing of a secret.
    fn fingerprint(&self) -> Fingerprint;

    /// The files it is made of, none of them empty.
    fn files(&self) -> Vec<ContentFile>;

    /// The last second at which all of it is of use, Unix time; of anchors and ticket keys, any of it.
    fn usable_until(&self) -> i64;

    /// When proving the same files again gives something else, Unix seconds.
    fn changes_at(&self) -> Option<i64>;
}

/// What is said about a content, to people and to later publishers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `server`, `client`, `trust` or `tickets`.
    pub purpose: &'static str,
    /// Subject of the leaf, or whatever else names it. No secret.
    pub subject: String,
    /// First second at which it is of use, Unix time.
    pub not_before: i64,
    /// Last second at which it is of use, Unix time.
    pub not_after: i64,
    /// Serial number of the leaf, or of the first anchor.
    pub serial: Option<String>,
    /// Whether one that begins and ends earlier is older, and not to be published by mistake.
    pub has_age: bool,
}

/// How parts are proven: [`Expectations`] make them a [`Bundle`], [`TicketExpectations`](crate::TicketExpectations) makes them
/// [`TicketKeys`](crate::TicketKeys).
pub trait Proof {
    /// What they are then.
    type Content: Content;

    /// Proves `parts` at `now`, or says why not.
    fn prove(&self, parts: Parts, now: UnixTime) -> Result<Self::Content, Unproven>;
}

impl Content for Bundle {
    fn about(&self) -> About {
        let facts = self.facts();
        About {
            purpose: self.purpose().label(),
            subject: facts.subject.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            serial: Some(facts.serial.clone()),
            has_age: self.purpose() != Purpose::Trust,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint()
    }

    fn files(&self) -> Vec<ContentFile> {
        let mut files = vec![
            (CHAIN_FILE, Zeroizing::new(self.chain_pem())),
            (KEY_FILE, self.key_pem().unwrap_or_default()),
            (ANCHORS_FILE, Zeroizing::new(self.anchors_pem())),
        ];
        files.retain(|(_, content)| !content.is_empty());
        files
    }

    fn usable_until(&self) -> i64 {
        self.usable_until()
    }

    fn changes_at(&self) -> Option<i64> {
        self.changes_at()
    }
}

impl Proof for Expectations {
    type Content = Bundle;

    fn prove(&self, parts: Parts, now: UnixTime) -> Result<Bundle, Unproven> {
        Bundle::prove(parts, self, now)
    }
}
