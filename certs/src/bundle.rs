//! A proven bundle.
//!
//! Invariant: a [`Bundle`] has been proven against its expectations at some moment; there is no other way to
//! get one. Time goes on: whoever holds it judges expiry by [`Bundle::facts`].

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::expectations::{Expectations, Purpose};
use crate::facts::Facts;
use crate::fingerprint::Fingerprint;
use crate::parts::Parts;
use crate::pem;
use crate::prove;
use crate::unproven::{Piece, Unproven};

/// Key, chain and trust anchors that hold together: for a server or client a chain and its key (and perhaps the
/// anchors that came with them), for trust the anchors alone.
pub struct Bundle {
    purpose: Purpose,
    chain: Vec<CertificateDer<'static>>,
    key: Option<Zeroizing<PrivateKeyDer<'static>>>,
    anchors: Vec<CertificateDer<'static>>,
    certified: Option<Arc<CertifiedKey>>,
    roots: Arc<RootCertStore>,
    facts: Facts,
    all_facts: Vec<Facts>,
    fingerprint: Fingerprint,
    changes_at: Option<i64>,
}

impl Bundle {
    /// Proves `parts` at `now`, or says why they are no bundle.
    ///
    /// * Server and client: the key is the leaf's; the chain is ordered, every issuer in it is a CA and every
    ///   signature verifies; every window is open; usages and names are as expected; the chain verifies to the
    ///   anchors that are expected and, for a client, to those that it ships.
    /// * Trust: each anchor is a CA, and at least one is within its window. The others are left out.
    pub fn prove(
        parts: Parts,
        expectations: &Expectations,
        now: UnixTime,
    ) -> Result<Self, Unproven> {
        let ships_anchors = expectations.purpose == Purpose::Client && !parts.anchors.is_empty();
        let anchors = if ships_anchors || expectations.purpose == Purpose::Trust {
            prove::anchors(&parts, now)?
        } else {
            prove::Anchors::default()
        };
        let identity = match expectations.purpose {
            Purpose::Trust => None,
            Purpose::Server | Purpose::Client => {
                Some(prove::identity(&parts, &anchors, expectations, now)?)
            }
        };
        drop(parts);
        Self::assemble(expectations.purpose, identity, anchors)
    }

    fn assemble(
        purpose: Purpose,
        identity: Option<prove::Identity>,
        anchors: prove::Anchors,
    ) -> Result<Self, Unproven> {
        let prove::Anchors {
            certificates,
            facts: anchor_facts,
            roots,
            changes_at,
        } = anchors;
        let (chain, all_facts, key, certified) = match identity {
            Some(identity) => {
                let prove::Identity {
                    chain,
                    facts,
                    key,
                    certified,
                } = identity;
                (chain, facts, Some(key), Some(Arc::new(certified)))
            }
            None => (Vec::new(), anchor_facts, None, None),
        };
        let piece = if key.is_some() {
            Piece::Chain
        } else {
            Piece::Anchors
        };
        let facts = all_facts
            .first()
            .cloned()
            .ok_or(Unproven::NoCertificate { piece })?;
        let pieces = chain.iter().map(AsRef::as_ref);
        let boundary: &[u8] = b"anchors";
        let pieces = pieces
            .chain([boundary])
            .chain(certificates.iter().map(AsRef::as_ref));
        Ok(Self {
            purpose,
            fingerprint: Fingerprint::of_all(pieces),
            chain,
            key,
            anchors: certificates,
            certified,
            roots: Arc::new(RootCertStore { roots }),
            facts,
            all_facts,
            changes_at,
        })
    }

    /// What it was proven for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Chain and signing key for rustls. `None` for [`Purpose::Trust`]. A root at the chain's end is not sent.
    pub fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        self.certified.clone()
    }

    /// The trust anchors for rustls. Empty, which trusts nobody, if none came with a server or client.
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// The leaf's facts; for [`Purpose::Trust`] the first anchor's.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The facts of every certificate of the chain, leaf first; for [`Purpose::Trust`] of every anchor.
    pub fn all_facts(&self) -> &[Facts] {
        &self.all_facts
    }

    /// The last second at which the bundle is of use, Unix time: the earliest end of a window in the chain; for
    /// [`Purpose::Trust`] the latest end of an anchor's window.
    pub fn usable_until(&self) -> i64 {
        let ends = self.all_facts.iter().map(|facts| facts.not_after);
        let end = if self.purpose == Purpose::Trust {
            ends.max()
        } else {
            ends.min()
        };
        end.unwrap_or(self.facts.not_after)
    }

    /// A digest of all certificates. Bundles with the same fingerprint are the same: the key is the leaf's.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the leaf covers a host name, in any letter case. Allocates nothing.
    pub fn covers(&self, host: impl AsRef<str>) -> bool {
        self.key.is_some() && self.facts.covers(host.as_ref())
    }

    /// The chain as PEM, leaf first, root included if it came with one. Empty for [`Purpose::Trust`].
    pub fn chain_pem(&self) -> Vec<u8> {
        pem::encode_certificates(&self.chain)
    }

    /// The trust anchors as PEM.
    pub fn anchors_pem(&self) -> Vec<u8> {
        pem::encode_certificates(&self.anchors)
    }

    /// The private key as PEM, in a buffer that is wiped. `None` for [`Purpose::Trust`].
    pub fn key_pem(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.key.as_ref().map(|key| pem::encode_key(key))
    }

    /// When proving the same parts again gives another bundle, Unix seconds: an anchor's window opens or closes.
    pub(crate) const fn changes_at(&self) -> Option<i64> {
        self.changes_at
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("purpose", &self.purpose)
            .field("facts", &self.facts)
            .field("fingerprint", &self.fingerprint)
            .field("certificates", &self.chain.len())
            .field("anchors", &self.anchors.len())
            .field("key", &self.key.as_ref().map(|_| "redacted"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::danger::ServerCertVerifier;
    use rustls::server::WebPkiClientVerifier;
    use rustls::sign::SingleCertAndKey;
    use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

    use super::*;
    use crate::dev_ca::{DevCa, KeyKind, LeafOptions};

    fn trust(ca: &DevCa) -> Arc<RootCertStore> {
        let trust = Bundle::prove(ca.trust(), &Expectations::trust(), UnixTime::now());
        trust.unwrap().roots()
    }

    fn resolver(ca: &DevCa, options: &LeafOptions) -> Arc<SingleCertAndKey> {
        let bundle = ca.leaf(options).unwrap().bundle().unwrap();
        Arc::new(SingleCertAndKey::from(bundle.certified_key().unwrap()))
    }

    /// A mutual TLS handshake in memory, between a server that trusts `clients` and a client that trusts `servers`.
    fn handshake(kind: KeyKind, ca: &DevCa, clients: &DevCa, servers: &DevCa) -> Result<(), Error> {
        let options = |purpose| LeafOptions {
            key: kind,
            ..LeafOptions::new(purpose, ["a.example"])
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(trust(clients), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_cert_resolver(resolver(ca, &options(Purpose::Server)));
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trust(servers))
            .with_client_cert_resolver(resolver(ca, &options(Purpose::Client)));
        let mut server = ServerConnection::new(Arc::new(server))?;
        let mut client = ClientConnection::new(Arc::new(client), "a.example".try_into().unwrap())?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn proven_bundles_complete_a_mutual_handshake_with_each_kind_of_key() {
        let root = DevCa::new("Test CA").unwrap();
        let issuing = root.intermediate("Issuing CA").unwrap();
        for kind in [
            KeyKind::P256,
            KeyKind::P384,
            KeyKind::Rsa2048,
            KeyKind::Ed25519,
        ] {
            handshake(kind, &issuing, &root, &root).unwrap();
        }
    }

    #[test]
    fn a_handshake_with_another_ca_fails_on_either_side() {
        let (ca, other) = (
            DevCa::new("Test CA").unwrap(),
            DevCa::new("Other CA").unwrap(),
        );
        assert!(handshake(KeyKind::P256, &ca, &other, &ca).is_err());
        assert!(handshake(KeyKind::P256, &ca, &ca, &other).is_err());
    }

    #[test]
    fn a_bundle_without_anchors_trusts_nobody() {
        let server = DevCa::new("Test CA")
            .unwrap()
            .server(&["a.example"])
            .unwrap()
            .bundle()
            .unwrap();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            server.roots(),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        );
        assert!(
            verifier
                .build()
                .map(|it| it.supported_verify_schemes())
                .is_err()
        );
    }
}
