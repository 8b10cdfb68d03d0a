//! The manifest of a generation: what was published, and the SHA-256 of each file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::{About, Content};
use crate::fingerprint::Fingerprint;

/// File names of a generation.
pub(crate) const CHAIN_FILE: &str = "chain.pem";
pub(crate) const KEY_FILE: &str = "key.pem";
pub(crate) const ANCHORS_FILE: &str = "anchors.pem";
pub(crate) const TICKETS_FILE: &str = "ticket_keys";
pub(crate) const MANIFEST_FILE: &str = "manifest.toml";

// Limit: three digests and a label, twenty times over.
pub(crate) const MANIFEST_BYTES_MAX: usize = 16 * 1024;
// Limit: room for a Key Vault certificate identifier (vault, name, version: at most 24 + 127 + 32 characters).
const LABEL_CHARS_MAX: usize = 256;

/// What a generation says about itself, in `manifest.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The generation's number.
    pub generation: u64,
    /// Where it came from, in the publisher's words (a Key Vault version, say).
    pub label: String,
    /// What it was proven for: `server`, `client`, `trust` or `tickets`.
    pub purpose: String,
    /// Subject of the leaf, or of the first anchor; how many ticket keys.
    pub subject: String,
    /// [`Content::fingerprint`] in hex.
    pub fingerprint: String,
    /// First second of the leaf's validity, or of a ticket key's, Unix time.
    pub not_before: i64,
    /// Last second of the leaf's validity, or of a ticket key's, Unix time.
    pub not_after: i64,
    /// SHA-256 in hex of each file of the generation.
    pub sha256: BTreeMap<String, String>,
}

impl Manifest {
    pub(crate) fn new<'a>(
        generation: u64,
        label: &str,
        content: &impl Content,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let About {
            purpose,
            subject,
            not_before,
            not_after,
            ..
        } = content.about();
        let digest = |(name, content): (&str, &[u8])| {
            (name.to_owned(), Fingerprint::of(content).to_string())
        };
        Self {
            generation,
            label: label
                .chars()
                .filter(|c| !c.is_control())
                .take(LABEL_CHARS_MAX)
                .collect(),
            purpose: purpose.to_owned(),
            subject,
            fingerprint: content.fingerprint().to_string(),
            not_before,
            not_after,
            sha256: files.into_iter().map(digest).collect(),
        }
    }

    /// Whether `content` was issued before what this manifest is about, and also ends before it. A certificate
    /// that is merely backdated further is not older. Sets of trust anchors and of ticket keys have no age.
    pub(crate) fn is_newer_than(&self, content: &impl Content) -> bool {
        let about = content.about();
        about.has_age
            && self.purpose == about.purpose
            && self.not_before > about.not_before
            && self.not_after > about.not_after
    }
}
