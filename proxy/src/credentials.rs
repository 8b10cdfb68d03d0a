//! Credentials in use: certificates towards clients, identity and trust towards the ingress.
//!
//! Reads them from where the sidecar publishes them, and again when they change. A set that cannot be proven is
//! refused and counted, and the one in use stays. New handshakes use the new set at once; connections that are
//! established keep theirs.
//!
//! All cipher suites here are safe (RFC 9325), so the cheapest that both sides have is taken: AES-128 with SHA-256 before
//! AES-256 with SHA-384, which processors have no instructions for, and which makes a handshake a quarter dearer.
//!
//! Invariant: what is in use was proven by `postern-certs`. The ingress is verified against the internal CA
//! alone; there is no other root and no way around it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use postern_api::HostName;
use postern_certs::{Bundle, Change, Expectations, Location, Refused, UnixTime, Watch};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ServerConfig};

use crate::metrics::{CredentialUse, Metrics};
use crate::upstream::Protocol;

/// Where credentials are published.
#[derive(Debug, Clone)]
pub struct Options {
    /// Server certificates, in order of preference, each with the names it must cover.
    pub server: Vec<(PathBuf, Vec<String>)>,
    /// Our client certificate.
    pub identity: PathBuf,
    /// The internal CA.
    pub trust: PathBuf,
}

/// What is in use.
pub struct Credentials {
    server: ArcSwap<ServerCredentials>,
    client: ArcSwapOption<ClientCredentials>,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    watched: Mutex<Watched>,
    metrics: Arc<Metrics>,
}

struct Watched {
    server: Vec<Source>,
    identity: Source,
    trust: Source,
    generation: u64,
}

struct Source {
    path: PathBuf,
    watch: Watch,
    bundle: Option<Arc<Bundle>>,
    generation: u64,
}

/// One place of credentials, as it stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// What they are used as.
    pub used_as: CredentialUse,
    /// Where they are read.
    pub path: PathBuf,
    /// How many sets were taken into use from here since this process started.
    pub generation: u64,
    /// The set in use.
    pub bundle: Option<Arc<Bundle>>,
    /// Why what is there now is not in use, if it is not.
    pub refused: Option<Arc<Refused>>,
}

/// The certificates towards clients.
#[derive(Default)]
pub struct ServerCredentials {
    certificates: Vec<Certificate>,
    by_name: HashMap<String, usize>,
    by_suffix: HashMap<String, usize>,
}

/// A certificate towards clients.
pub struct Certificate {
    bundle: Arc<Bundle>,
    by_our_order: Arc<ServerConfig>,
    by_their_order: Arc<ServerConfig>,
}

/// Identity and trust towards the ingress.
pub struct ClientCredentials {
    /// Grows with each set.
    pub generation: u64,
    auto: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// What [`Credentials::refresh`] refused.
#[derive(Debug)]
pub struct Rejected {
    /// Where it was read.
    pub path: PathBuf,
    /// Why it is not in use.
    pub why: Arc<Refused>,
}

/// TLS could not be set up at all.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct SetupError(#[source] rustls::Error);

impl Credentials {
    /// Watches these places. Nothing is read before the first [`Credentials::refresh`].
    pub fn new(options: Options, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        let source = |path: PathBuf, expectations: Expectations| Source {
            watch: Watch::new(Location::new(&path), expectations),
            path,
            bundle: None,
            generation: 0,
        };
        let server = options.server.into_iter();
        Ok(Self {
            server: ArcSwap::default(),
            client: ArcSwapOption::empty(),
            provider: Arc::new(provider()),
            tickets: aws_lc_rs::Ticketer::new().map_err(SetupError)?,
            watched: Mutex::new(Watched {
                server: server
                    .map(|(path, names)| source(path, Expectations::server().covering(names)))
                    .collect(),
                identity: source(options.identity, Expectations::client()),
                trust: source(options.trust, Expectations::trust()),
                generation: 0,
            }),
            metrics,
        })
    }

    /// The certificates towards clients.
    pub fn server(&self) -> Arc<ServerCredentials> {
        self.server.load_full()
    }

    /// Identity and trust towards the ingress, once there are any.
    pub fn client(&self) -> Option<Arc<ClientCredentials>> {
        self.client.load_full()
    }

    /// Whether each place has given a set that is still valid at `now`.
    pub fn complete(&self, now: UnixTime) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        watched.sources().all(|source| source.is_usable(now))
    }

    /// Whether one certificate of ours covers both hosts, so that a client may try both on one connection
    /// (RFC 9113 section 9.1.1).
    pub fn same_certificate(&self, one: &HostName, other: &HostName) -> bool {
        let server = self.server.load();
        server
            .select(one)
            .is_some_and(|certificate| certificate.bundle.covers(other.as_str()))
    }

    /// Looks at each place and takes what is new and proven. Blocks on files; returns what was refused.
    pub fn refresh(&self, now: UnixTime) -> Vec<Rejected> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rejected = Vec::new();
        let mut server_changed = false;
        for source in &mut watched.server {
            server_changed |=
                source.check(CredentialUse::Server, now, &self.metrics, &mut rejected);
        }
        self.tell(CredentialUse::Server, &watched.server, now);
        if server_changed {
            self.server
                .store(Arc::new(self.server_set(&watched.server)));
        }
        let identity = &mut watched.identity;
        let mut changed = identity.check(CredentialUse::Client, now, &self.metrics, &mut rejected);
        let trust = &mut watched.trust;
        changed |= trust.check(CredentialUse::Trust, now, &self.metrics, &mut rejected);
        self.tell(CredentialUse::Client, [&watched.identity], now);
        self.tell(CredentialUse::Trust, [&watched.trust], now);
        if changed {
            let generation = watched.generation + 1;
            if let Some(client) = self.client_set(&watched, generation) {
                self.client.store(Some(Arc::new(client)));
                self.metrics.credential_generation(generation);
                watched.generation = generation;
            }
        }
        rejected
    }

    /// The metrics of one use: the earliest end wins, and a look is a success only if nothing is amiss.
    fn tell<'a>(
        &self,
        used_as: CredentialUse,
        sources: impl IntoIterator<Item = &'a Source> + Clone,
        now: UnixTime,
    ) {
        let in_use = sources
            .clone()
            .into_iter()
            .filter_map(|source| source.bundle.as_ref());
        if let Some(end) = in_use.map(|bundle| bundle.usable_until()).min() {
            self.metrics.credential_not_after(used_as, end);
        }
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut all = sources.into_iter();
        if all.all(|source| source.is_usable(seconds) && source.watch.refusal().is_none()) {
            self.metrics.credential_good(used_as, now.as_secs());
        }
    }

    fn server_set(&self, sources: &[Source]) -> ServerCredentials {
        let mut set = ServerCredentials::default();
        for bundle in sources.iter().filter_map(|source| source.bundle.as_ref()) {
            let Some(by_our_order) = bundle
                .certified_key()
                .and_then(|key| self.server_config(&key))
            else {
                continue;
            };
            let mut by_their_order = by_our_order.clone();
            by_their_order.ignore_client_order = false;
            let place = set.certificates.len();
            for name in &bundle.facts().dns_names {
                match name.strip_prefix("*.") {
                    Some(suffix) => set.by_suffix.entry(suffix.to_owned()).or_insert(place),
                    None => set.by_name.entry(name.clone()).or_insert(place),
                };
            }
            set.certificates.push(Certificate {
                bundle: Arc::clone(bundle),
                by_our_order: Arc::new(by_our_order),
                by_their_order: Arc::new(by_their_order),
            });
        }
        set
    }

    fn server_config(&self, key: &CertifiedKey) -> Option<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .ok()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&self.tickets);
        // One ticket per handshake is enough for a client that reconnects; a second one costs an encryption.
        config.send_tls13_tickets = 1;
        config.ignore_client_order = true;
        Some(config)
    }

    fn client_set(&self, watched: &Watched, generation: u64) -> Option<ClientCredentials> {
        let key = watched.identity.bundle.as_ref()?.certified_key()?;
        let roots = watched.trust.bundle.as_ref()?.roots();
        let config = |alpn: &[&[u8]]| {
            let resolver = Arc::new(SingleCertAndKey::from((*key).clone()));
            let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
                .with_protocol_versions(&[&TLS13, &TLS12])
                .ok()?
                .with_root_certificates(Arc::clone(&roots))
                .with_client_cert_resolver(resolver);
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Some(Arc::new(config))
        };
        Some(ClientCredentials {
            generation,
            auto: config(&[b"h2", b"http/1.1"])?,
            http1: config(&[b"http/1.1"])?,
            http2: config(&[b"h2"])?,
        })
    }

    /// Every place that is configured, with what is in use from it.
    pub fn places(&self) -> Vec<Place> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let server = watched
            .server
            .iter()
            .map(|source| source.place(CredentialUse::Server));
        let rest = [
            watched.identity.place(CredentialUse::Client),
            watched.trust.place(CredentialUse::Trust),
        ];
        server.chain(rest).collect()
    }
}

impl Watched {
    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.server.iter().chain([&self.identity, &self.trust])
    }
}

impl Source {
    /// Whether a set from here is in use that has not expired at `now`, in seconds since 1970.
    fn is_usable(&self, now: i64) -> bool {
        self.bundle
            .as_ref()
            .is_some_and(|bundle| now <= bundle.usable_until())
    }

    fn place(&self, used_as: CredentialUse) -> Place {
        Place {
            used_as,
            path: self.path.clone(),
            generation: self.generation,
            bundle: self.bundle.clone(),
            refused: self.watch.refusal().cloned(),
        }
    }

    /// Whether a new set was taken.
    fn check(
        &mut self,
        used_as: CredentialUse,
        now: UnixTime,
        metrics: &Metrics,
        rejected: &mut Vec<Rejected>,
    ) -> bool {
        match self.watch.check(now) {
            Change::Unchanged => false,
            Change::Proven(bundle) => {
                self.generation += 1;
                tracing::info!(
                    path = %self.path.display(), used_as = used_as.label(),
                    subject = %bundle.facts().subject, serial = %bundle.facts().serial,
                    not_after = bundle.usable_until(), "credentials in use"
                );
                self.bundle = Some(bundle);
                true
            }
            Change::Refused(why) => {
                metrics.credential_refused(used_as, why.label());
                tracing::error!(
                    path = %self.path.display(), used_as = used_as.label(), reason = why.label(),
                    error = %why, previous_kept = self.bundle.is_some(), "credentials refused"
                );
                rejected.push(Rejected {
                    path: self.path.clone(),
                    why,
                });
                false
            }
        }
    }
}

impl ServerCredentials {
    /// Some configuration, for a probe that names no host.
    pub fn any(&self) -> Option<Arc<ServerConfig>> {
        self.certificates
            .first()
            .map(|certificate| Arc::clone(&certificate.by_our_order))
    }

    /// The certificate that covers the host.
    pub fn select(&self, host: &HostName) -> Option<&Certificate> {
        let host = host.as_str();
        let exact = self.by_name.get(host);
        let suffix = || {
            host.split_once('.')
                .and_then(|(_, suffix)| self.by_suffix.get(suffix))
        };
        exact
            .or_else(suffix)
            .and_then(|&place| self.certificates.get(place))
    }
}

impl Certificate {
    /// The TLS configuration for a client that offers these cipher suites.
    ///
    /// A client that puts `ChaCha20` first says that it has no AES instructions; then its order counts.
    pub fn tls(&self, offered: &[CipherSuite]) -> Arc<ServerConfig> {
        let ours = &self.by_our_order.crypto_provider().cipher_suites;
        let known = |suite: &&CipherSuite| ours.iter().any(|our| our.suite() == **suite);
        Arc::clone(match offered.iter().find(known) {
            Some(first) if is_chacha20(*first) => &self.by_their_order,
            _ => &self.by_our_order,
        })
    }
}

/// The primitives of both sides: all that are safe, the cheapest first.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
    provider
}

const fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

const fn is_chacha20(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

impl ClientCredentials {
    /// The TLS configuration that offers what `protocol` says.
    pub fn tls(&self, protocol: Protocol) -> Arc<ClientConfig> {
        Arc::clone(match protocol {
            Protocol::Auto => &self.auto,
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        })
    }
}

// Limit: sessions to resume towards the ingress: one server name a cluster, a few tickets each.
const SESSIONS_MAX: usize = 256;

#[cfg(test)]
mod tests;
