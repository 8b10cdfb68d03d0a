//! Our certificate, and whose certificates we believe: both watched, and new ones used by the next handshake.
//!
//! Promises: what is in use was proven by `postern-certs`; what cannot be proven is refused with a line in the log, and
//! what was in use stays. Nothing is resumed: each connection shows its certificate to what is trusted then.

use std::sync::Arc;

use postern_certs::{Bundle, Change, Expectations, Location, UnixTime, Watch};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;

use crate::routing::metrics::Metrics;
use crate::routing::options::TlsOptions;

/// What handshakes use now; nothing until both places have given something that proves.
pub(in crate::routing) type Tls = Option<InUse>;

/// What handshakes use.
#[derive(Debug, Clone)]
pub(in crate::routing) struct InUse {
    pub(in crate::routing) config: Arc<ServerConfig>,
    /// The last second at which it is of use, Unix time.
    pub(in crate::routing) until: i64,
}

/// Both places.
pub(in crate::routing) struct Credentials {
    identity: Place,
    trust: Place,
    tls: watch::Sender<Tls>,
}

struct Place {
    key: &'static str,
    watch: Watch,
}

/// Why there is nothing to shake hands with.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {path}")]
pub struct CredentialError {
    key: &'static str,
    path: String,
    source: Arc<postern_certs::Refused>,
}

impl Credentials {
    /// Nothing is read yet.
    pub(in crate::routing) fn new(options: &TlsOptions) -> Self {
        let place = |key, path: &std::path::Path, expectations| Place {
            key,
            watch: Watch::new(Location::new(path), expectations),
        };
        Self {
            identity: place("tls.identity", &options.identity, Expectations::server()),
            trust: place("tls.trust", &options.trust, Expectations::trust()),
            tls: watch::Sender::new(None),
        }
    }

    /// What is in use, now and later.
    pub(in crate::routing) fn tls(&self) -> watch::Receiver<Tls> {
        self.tls.subscribe()
    }

    /// Looks at both places and takes what is new. Blocks on files.
    pub(in crate::routing) fn refresh(&mut self, now: UnixTime, metrics: &Metrics) {
        // Both are looked at, whatever the first gives.
        let changed = self.identity.check(now, metrics) | self.trust.check(now, metrics);
        if changed
            && let (Some(identity), Some(trust)) =
                (self.identity.watch.current(), self.trust.watch.current())
        {
            match config(identity, trust) {
                Ok(config) => {
                    self.tls.send_replace(Some(InUse {
                        config: Arc::new(config),
                        until: identity.usable_until().min(trust.usable_until()),
                    }));
                }
                Err(error) => tracing::error!(%error, "TLS cannot be set up"),
            }
        }
    }

    /// What is wrong with the places at present.
    pub(in crate::routing) fn refusals(&self) -> impl Iterator<Item = CredentialError> {
        [&self.identity, &self.trust]
            .into_iter()
            .filter_map(|place| {
                Some(CredentialError {
                    key: place.key,
                    path: place.path(),
                    source: Arc::clone(place.watch.refusal()?),
                })
            })
    }
}

impl Place {
    /// Whether something new was taken.
    fn check(&mut self, now: UnixTime, metrics: &Metrics) -> bool {
        match self.watch.check(now) {
            Change::Unchanged => false,
            Change::Proven(bundle) => {
                metrics.credential_taken(self.key, bundle.usable_until());
                tracing::info!(
                    key = self.key, path = self.path(), subject = bundle.facts().subject,
                    fingerprint = %bundle.fingerprint(), not_after = bundle.usable_until(), "credentials in use"
                );
                true
            }
            Change::Refused(why) => {
                metrics.credential_refused(self.key);
                tracing::error!(
                    key = self.key, path = self.path(), reason = why.label(), error = %why,
                    previous_kept = self.watch.current().is_some(), "credentials refused"
                );
                false
            }
        }
    }

    fn path(&self) -> String {
        self.watch.location().path().display().to_string()
    }
}

fn config(identity: &Bundle, trust: &Bundle) -> Result<ServerConfig, SetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(trust.roots(), Arc::clone(&provider))
        .build()?;
    let key = identity.certified_key().ok_or(SetupError::NoKey)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from((*key).clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// TLS could not be set up of what was proven.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the identity has no key")]
    NoKey,
}
