//! What a bundle is made of, before anything about it is known to be true.

use std::fmt;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::fingerprint::Fingerprint;
use crate::pem;

/// Unproven input: PEM text for a chain, a key and trust anchors, and text of ticket keys, each possibly empty.
///
/// Nothing here has been looked at. [`Bundle::prove`](crate::Bundle::prove) turns it into a
/// [`Bundle`](crate::Bundle), [`TicketKeys::prove`](crate::TicketKeys::prove) into ticket keys, or says why not. The buffers are wiped when dropped, and `Debug` shows sizes only.
#[derive(Clone, Default)]
pub struct Parts {
    pub(crate) chain: Zeroizing<Vec<u8>>,
    pub(crate) key: Zeroizing<Vec<u8>>,
    pub(crate) anchors: Zeroizing<Vec<u8>>,
    pub(crate) tickets: Zeroizing<Vec<u8>>,
    pub(crate) label: Option<String>,
}

impl Parts {
    /// A chain (leaf first) and its key.
    pub fn identity(chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Self {
        Self {
            chain: copy(chain_pem),
            key: copy(key_pem),
            ..Self::default()
        }
    }

    /// One text that holds key and chain in any order, as Key Vault's `application/x-pem-file` secrets do.
    pub fn combined(pem: impl AsRef<[u8]>) -> Self {
        Self::identity(&pem, &pem)
    }

    /// Trust anchors only.
    pub fn anchors(anchors_pem: impl AsRef<[u8]>) -> Self {
        Self {
            anchors: copy(anchors_pem),
            ..Self::default()
        }
    }

    /// Trust anchors only, as DER.
    pub fn anchors_from_der(anchors: &[CertificateDer<'_>]) -> Self {
        Self {
            anchors: Zeroizing::new(pem::encode_certificates(anchors)),
            ..Self::default()
        }
    }

    /// A chain (leaf first) and its key as DER, for callers that unpack PKCS#12.
    pub fn from_der(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Self {
        Self {
            chain: Zeroizing::new(pem::encode_certificates(chain)),
            key: pem::encode_key(key),
            ..Self::default()
        }
    }

    /// The same with these trust anchors.
    #[must_use]
    pub fn with_anchors(mut self, anchors_pem: impl AsRef<[u8]>) -> Self {
        self.anchors = copy(anchors_pem);
        self
    }

    /// Where a store's publisher says they come from (a Key Vault version, say). Other layouts do not tell.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// A digest of the text, to tell whether content changed. Never shown: it covers the key.
    pub(crate) fn content(&self) -> Fingerprint {
        Fingerprint::of_all([
            self.chain.as_slice(),
            &self.key,
            &self.anchors,
            &self.tickets,
        ])
    }
}

fn copy(pem: impl AsRef<[u8]>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(pem.as_ref().to_vec())
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("chain_bytes", &self.chain.len())
            .field("key_bytes", &self.key.len())
            .field("anchors_bytes", &self.anchors.len())
            .field("tickets_bytes", &self.tickets.len())
            .field("label", &self.label)
            .finish()
    }
}
