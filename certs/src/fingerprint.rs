//! SHA-256 fingerprints.

use std::fmt;

use aws_lc_rs::digest;

/// A SHA-256 digest: of a certificate's DER, of a bundle, of a file. Equal digests mean equal content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The digest of one piece of content.
    pub fn of(content: &[u8]) -> Self {
        Self::of_digest(&digest::digest(&digest::SHA256, content))
    }

    /// The digest of several pieces, each preceded by its length, so that no two lists share one digest.
    pub(crate) fn of_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for piece in pieces {
            context.update(&(piece.len() as u64).to_be_bytes());
            context.update(piece);
        }
        Self::of_digest(&context.finish())
    }

    fn of_digest(digest: &digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    /// Lower-case hex without separators, as `sha256sum` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_sha256sum_prints() {
        assert_eq!(
            Fingerprint::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn moving_a_boundary_changes_the_digest_of_a_list() {
        let one = Fingerprint::of_all([b"ab".as_slice(), b"c"]);
        let two = Fingerprint::of_all([b"a".as_slice(), b"bc"]);
        assert_ne!(one, two);
    }
}
