//! The composition root: every part once, in order, nothing bound or spawned before all of it is proven.
//!
//! ```text
//!   configuration → logs → metrics → credentials → routes → clusters       (proven: `check` stops here)
//!                 → listeners bound → workers, probe, admin, background    (pingora runs them)
//!                 → signals → drain → end
//! ```
//!
//! One pingora service for each worker thread: a listener socket of its own (`SO_REUSEPORT`), its own
//! connections to the ingress, no work stealing. A connection is accepted, served and forwarded on one thread
//! because there is no other thread in its runtime.

mod background;
mod drain;
mod lifecycle;
mod listen;
mod parts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use postern_api::{HostName, LinkId};

use crate::config::Config;
use crate::explain::Explanation;

pub use drain::{Drain, Phase, Progress};
use parts::Parts;

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The operational log could not be set up.
    #[error(transparent)]
    Telemetry(#[from] postern_chassis::log::LogError),
    /// The access log could not be opened.
    #[error(transparent)]
    AccessLog(#[from] crate::access_log::AccessLogError),
    /// The metrics could not be registered.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] crate::credentials::SetupError),
    /// The route file is not good.
    #[error("{0}")]
    Routes(String),
    /// A name that is to be verified cannot be a TLS server name. Has the section.
    #[error("{0}.name is not a TLS server name")]
    ServerName(String),
    /// Credentials are not good; only `check` fails for this, a running process waits for better ones.
    #[error("{0}")]
    Credentials(String),
    /// A listener could not be bound.
    #[error("cannot listen on {key} = {address}")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl ServerError {
    /// Whether the configuration, or a file that it names, is to blame: exit code 2.
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Routes(_) | Self::ServerName(_) | Self::Credentials(_)
        )
    }
}

/// Proves what the configuration refers to: route file, credentials, names. Asks nobody.
pub fn check(config: &Config) -> Result<(), ServerError> {
    let parts = Parts::quiet(config)?;
    parts::prove_snapshot_folder(config)?;
    parts.prove_credentials()
}

/// What would happen to a request.
pub fn explain(
    config: &Config,
    link_id: LinkId,
    sni: &HostName,
    host: &str,
) -> Result<Explanation, ServerError> {
    let parts = Parts::quiet(config)?;
    // What is wrong with the certificates is part of the explanation.
    let _ = parts.prove_credentials();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Thread)?;
    let explanation = runtime.block_on(crate::explain::decide(
        &parts.authorizer,
        &parts.credentials,
        link_id,
        sni,
        host,
    ));
    Ok(explanation.with_service(parts.routes.service().map(Arc::as_ref)))
}

/// Serves until told to stop, then drains.
pub fn run(config: &Config) -> Result<(), ServerError> {
    let telemetry = crate::telemetry::start(config.log.level)?;
    let parts = Parts::live(config)?;
    parts.files.look();
    let listeners = listen::bind(config)?;
    let server_parts = listeners.services(config, &parts, telemetry);
    parts.listening.set(true);
    parts.metrics.workers(server_parts.workers);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), mode = config.mode.label(), workers = server_parts.workers,
        data = %config.data.listen, probe = %config.probe.listen, admin = %config.admin.listen,
        "listening"
    );
    background::watch_files(config, &parts)?;
    let mut server = Server::new_with_opt_and_conf(None, pingora());
    server.add_services(server_parts.services);
    server.run(RunArgs {
        shutdown_signal: Box::new(lifecycle::Lifecycle::new(Arc::clone(&parts.drain))),
    });
    // Nothing is looked up any more; the next start takes it up from here.
    if let Some(service) = parts.routes.service() {
        service.save(parts.authorizer.cache());
    }
    let flushed = parts.access_log.close(ACCESS_LOG_FLUSH_TIMEOUT);
    tracing::info!(access_log_flushed = flushed, "stopped");
    Ok(())
}

/// pingora only runs threads for us; drain, signals and listeners are ours.
fn pingora() -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        listener_tasks_per_fd: 1,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

// Limit: what is queued reaches a healthy disk in milliseconds; a stuck one must not keep us from ending.
const ACCESS_LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
