//! The composition root: every part once, in order, nothing bound or spawned before all of it is proven.
//!
//! ```text
//!   configuration → logs → metrics → credentials → routes → clusters       (proven: `check` stops here)
//!                 → listeners bound → workers, probe, admin, background    (pingora runs them)
//!                 → accepting (after an upgrade: once ready) → signals → drain, or another process takes over → end
//! ```
//!
//! One pingora service for each worker thread: a listener socket of its own (`SO_REUSEPORT`), its own
//! connections to the ingress, no work stealing. A connection is accepted, served and forwarded on one thread
//! because there is no other thread in its runtime.

mod background;
mod drain;
mod in_force;
mod lifecycle;
mod listen;
mod opening;
mod parts;
mod reload;
pub mod supervision;
mod upgrade;
mod workers;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, RunArgs, Server};
use postern_api::{HostName, LinkId};

use crate::config::Config;
use crate::explain::Explanation;

pub use drain::{Drain, Phase, Progress};
pub use in_force::{History, InForce, Refused};
use lifecycle::{Life, Listening};
use parts::Parts;
pub use reload::Read;
use reload::Reload;
pub use upgrade::Launch;
use upgrade::Upgrade;

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
    /// Signals could not be listened to.
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
    /// The listeners are bound, but nothing accepts on one of them.
    #[error("a listener does not accept")]
    NotAccepting,
    /// The process before this one did not hand over what is its.
    #[error("cannot take over from the previous process: {0}")]
    TakeOver(String),
    /// This process was to take over, but was not ready in time. Has what it waited for.
    #[error("not ready to take over within upgrade.timeout: waiting for {0}")]
    NotReady(String),
}

impl ServerError {
    /// What the process ends with: 2 if the configuration, or a file that it names, is to blame, 3 if an address is in
    /// use, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Routes(_) | Self::ServerName(_) | Self::Credentials(_) => 2,
            Self::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => 3,
            _ => 1,
        }
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

/// Serves until told to stop or replaced, then drains. `read` reads the configuration again, for a reload; `launch` is
/// how it was started; `predecessor`, where the process is met that it takes over from, if it does.
pub fn run(
    config: &Config,
    read: Read,
    launch: Launch,
    predecessor: Option<&Path>,
) -> Result<(), ServerError> {
    // Before there is a log: pingora complains in it of each time that it has to wait.
    let (incoming, fds) = match predecessor {
        Some(folder) => {
            let (incoming, fds) = upgrade::take(folder, config.upgrade.timeout)?;
            (Some(incoming), fds)
        }
        None => (None, Fds::new()),
    };
    let telemetry = crate::telemetry::start(config.log.level)?;
    let parts = Arc::new(Parts::live(config)?);
    parts.files.look();
    let listeners = listen::bind(config, fds)?;
    let reload = Reload::new(read, Arc::clone(&parts), telemetry.clone());
    let services = listeners.services(config, &parts, telemetry, reload);
    parts.listening.set(true);
    parts.metrics.capacity().workers(services.workers);
    background::watch_files(&parts)?;
    let failure = Arc::new(Mutex::new(None));
    let life = Life {
        listening: listening(config, services.workers),
        opening: services.opening,
        readiness: Arc::clone(&parts.readiness),
        seats: Arc::clone(&parts.seats),
        drain: Arc::clone(&parts.drain),
        metrics: Arc::clone(&parts.metrics),
        upgrade: Upgrade {
            launch,
            fds: services.fds,
            in_force: Arc::clone(&parts.in_force),
            drain: Arc::clone(&parts.drain),
            metrics: Arc::clone(&parts.metrics),
        },
        incoming: Mutex::new(incoming),
        failure: Arc::clone(&failure),
    };
    let mut server = Server::new_with_opt_and_conf(None, pingora());
    server.add_services(supervision::watch(services.all)?);
    server.run(RunArgs {
        shutdown_signal: Box::new(life),
    });
    // Nothing is looked up any more; the next start takes it up from here.
    if let Some(service) = parts.routes.service() {
        service.save(parts.authorizer.cache());
    }
    let flushed = parts.access_log.close(ACCESS_LOG_FLUSH_TIMEOUT);
    tracing::info!(access_log_flushed = flushed, "stopped");
    let failure = failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    failure.map_or(Ok(()), Err)
}

fn listening(config: &Config, workers: usize) -> Listening {
    Listening {
        mode: config.mode.label(),
        workers,
        data: config.data.listen,
        probe: config.probe.listen,
        admin: config.admin.listen,
    }
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
