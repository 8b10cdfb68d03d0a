//! Credentials in use: certificates and session-ticket keys towards clients, identity and trust towards the ingress.
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

mod replace;
mod source;
mod tickets;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use postern_api::HostName;
use postern_certs::{
    Bundle, Content as _, Expectations, Proof, TicketExpectations, TicketKeys, UnixTime,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ServerConfig};

use crate::metrics::{CredentialUse, Metrics};
use crate::upstream::Protocol;
use source::Source;
pub use source::{Place, Rejected};
use tickets::Tickets;

/// Where credentials are published.
#[derive(Debug, Clone)]
pub struct Options {
    /// Server certificates, in order of preference, each with the names it must cover.
    pub server: Vec<(PathBuf, Vec<String>)>,
    /// Our client certificate.
    pub identity: PathBuf,
    /// The internal CA.
    pub trust: PathBuf,
    /// Client certificate and CA towards account routing, if they are not the same as towards the ingress.
    pub routing: Option<(PathBuf, PathBuf)>,
    /// The session-ticket keys that the fleet shares, if it does.
    pub ticket_keys: Option<PathBuf>,
}

/// What is in use.
pub struct Credentials {
    server: ArcSwap<ServerCredentials>,
    client: ArcSwapOption<ClientCredentials>,
    routing: Option<ArcSwapOption<ClientCredentials>>,
    provider: Arc<CryptoProvider>,
    tickets: Arc<Tickets>,
    watched: Mutex<Watched>,
    metrics: Arc<Metrics>,
}

struct Watched {
    server: Vec<Source>,
    client: Pair,
    routing: Option<Pair>,
    ticket_keys: Option<Source<TicketExpectations>>,
}

/// Who we are towards a server, and whom we take for it.
struct Pair {
    identity: Source,
    trust: Source,
    generation: u64,
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

/// Identity and trust towards the ingress, or towards account routing.
pub struct ClientCredentials {
    /// Grows with each set.
    pub generation: u64,
    auto: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// TLS could not be set up at all.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct SetupError(#[source] rustls::Error);

impl Credentials {
    /// Watches these places. Nothing is read before the first [`Credentials::refresh`].
    pub fn new(options: Options, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        Ok(Self {
            server: ArcSwap::default(),
            client: ArcSwapOption::empty(),
            routing: options.routing.is_some().then(ArcSwapOption::empty),
            provider: Arc::new(provider()),
            tickets: Arc::new(Tickets::new().map_err(SetupError)?),
            watched: Mutex::new(Watched::new(options)),
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

    /// Identity and trust towards account routing, once there are any: its own, or those towards the ingress.
    pub fn routing(&self) -> Option<Arc<ClientCredentials>> {
        self.routing.as_ref().unwrap_or(&self.client).load_full()
    }

    /// Whether each place has given a set that is still valid at `now`. Session tickets need none: see
    /// [`Credentials::refresh`].
    pub fn complete(&self, now: UnixTime) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched
            .sources()
            .all(|source| source.is_usable(seconds(now)))
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
    ///
    /// While there is no shared ticket key to encrypt with, tickets are good for this process alone: a client that
    /// comes to another does a full handshake, and nothing fails.
    pub fn refresh(&self, now: UnixTime) -> Vec<Rejected> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rejected = Vec::new();
        let mut server_changed = false;
        for source in &mut watched.server {
            server_changed |= source.check(now, &self.metrics, &mut rejected);
        }
        self.tell(CredentialUse::Server, &watched.server, now);
        if server_changed {
            self.server
                .store(Arc::new(self.server_set(&watched.server)));
        }
        if let Some(client) = self.refresh_pair(&mut watched.client, now, &mut rejected) {
            self.metrics.credential_generation(client.generation);
            self.client.store(Some(Arc::new(client)));
        }
        if let (Some(pair), Some(routing)) = (&mut watched.routing, &self.routing)
            && let Some(client) = self.refresh_pair(pair, now, &mut rejected)
        {
            routing.store(Some(Arc::new(client)));
        }
        if let Some(source) = &mut watched.ticket_keys {
            if source.check(now, &self.metrics, &mut rejected)
                && let Some(keys) = source.current()
            {
                self.tickets.share(Arc::clone(keys));
            }
            self.tell(CredentialUse::Tickets, [&*source], now);
            self.metrics
                .tickets_shared(self.tickets.are_shared(seconds(now)));
        }
        rejected
    }

    /// A new set, if the pair has given one.
    fn refresh_pair(
        &self,
        pair: &mut Pair,
        now: UnixTime,
        rejected: &mut Vec<Rejected>,
    ) -> Option<ClientCredentials> {
        let mut changed = pair.identity.check(now, &self.metrics, rejected);
        changed |= pair.trust.check(now, &self.metrics, rejected);
        for source in [&pair.identity, &pair.trust] {
            self.tell(source.used_as(), [source], now);
        }
        changed.then(|| self.renew(pair)).flatten()
    }

    /// The next generation of the pair.
    fn renew(&self, pair: &mut Pair) -> Option<ClientCredentials> {
        let client = self.client_set(pair)?;
        pair.generation = client.generation;
        Some(client)
    }

    /// The metrics of one use: the earliest end wins, and a look is a success only if nothing is amiss.
    fn tell<'a, P: Proof + 'a>(
        &self,
        used_as: CredentialUse,
        sources: impl IntoIterator<Item = &'a Source<P>> + Clone,
        now: UnixTime,
    ) {
        let in_use = sources
            .clone()
            .into_iter()
            .filter_map(|source| source.current());
        if let Some(end) = in_use.map(|content| content.usable_until()).min() {
            self.metrics.credential_not_after(used_as, end);
        }
        let mut all = sources.into_iter();
        if all.all(|source| source.is_good(seconds(now))) {
            self.metrics.credential_good(used_as, now.as_secs());
        }
    }

    fn server_set(&self, sources: &[Source]) -> ServerCredentials {
        let mut set = ServerCredentials::default();
        for bundle in sources.iter().filter_map(Source::current) {
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
        config.ticketer = Arc::<Tickets>::clone(&self.tickets);
        // One ticket per handshake is enough for a client that reconnects; a second one costs an encryption.
        config.send_tls13_tickets = 1;
        config.ignore_client_order = true;
        Some(config)
    }

    fn client_set(&self, pair: &Pair) -> Option<ClientCredentials> {
        let key = pair.identity.current()?.certified_key()?;
        let roots = pair.trust.current()?.roots();
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
            generation: pair.generation + 1,
            auto: config(&[b"h2", b"http/1.1"])?,
            http1: config(&[b"http/1.1"])?,
            http2: config(&[b"h2"])?,
        })
    }

    /// Every place of certificates that is configured, with what is in use from it.
    pub fn places(&self) -> Vec<Place> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.sources().map(Source::place).collect()
    }

    /// The place of the ticket keys that the fleet shares, if one is configured.
    pub fn ticket_keys(&self) -> Option<Place<TicketKeys>> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.ticket_keys.as_ref().map(Source::place)
    }
}

impl Watched {
    fn new(options: Options) -> Self {
        let server = options.server.into_iter();
        let tickets = options.ticket_keys;
        Self {
            server: server
                .map(|(path, names)| Source::server(path, names))
                .collect(),
            client: Pair::new(
                (CredentialUse::Client, options.identity),
                (CredentialUse::Trust, options.trust),
            ),
            routing: options.routing.map(|(identity, trust)| {
                Pair::new(
                    (CredentialUse::RoutingClient, identity),
                    (CredentialUse::RoutingTrust, trust),
                )
            }),
            ticket_keys: tickets
                .map(|path| Source::new(CredentialUse::Tickets, path, TicketExpectations)),
        }
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        let pairs = std::iter::once(&self.client).chain(&self.routing);
        let pairs = pairs.flat_map(|pair| [&pair.identity, &pair.trust]);
        self.server.iter().chain(pairs)
    }
}

impl Pair {
    fn new(identity: (CredentialUse, PathBuf), trust: (CredentialUse, PathBuf)) -> Self {
        Self {
            identity: Source::new(identity.0, identity.1, Expectations::client()),
            trust: Source::new(trust.0, trust.1, Expectations::trust()),
            generation: 0,
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

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

// Limit: sessions to resume towards the ingress: one server name a cluster, a few tickets each.
const SESSIONS_MAX: usize = 256;

#[cfg(test)]
mod tests;
