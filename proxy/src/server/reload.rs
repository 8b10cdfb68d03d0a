//! SIGHUP: another configuration, all of it or nothing.
//!
//! ```text
//!   read and validate → compare → prove what it refers to → take it up → tell
//! ```
//!
//! Everything is proven as `postern check` does before anything changes, and names of endpoints that are new are resolved,
//! so that no cluster is without an address for a moment. The one step that may still fail, other places of credentials,
//! comes first. Blocks on files, so it runs on a thread of its own, one reload after the other; signals
//! that come meanwhile are one more.

use std::sync::Arc;

use postern_certs::UnixTime;
use postern_chassis::whole;
use tokio::runtime::Handle;
use tokio::sync::MutexGuard;
use tracing::subscriber::NoSubscriber;

use crate::config::{Changes, Config, ConfigError};
use crate::server::parts::{self, Parts, Routes};
use crate::server::{Phase, ServerError, check, supervision};
use crate::telemetry::Telemetry;
use crate::upstream::{Cluster, Unresolved};

/// Reads the configuration again, file and environment.
pub type Read = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// What reloads.
pub struct Reload {
    read: Read,
    parts: Arc<Parts>,
    telemetry: Telemetry,
}

/// What a reload came to.
enum Outcome {
    /// Another configuration is in force, which differs in these keys.
    Applied(Vec<String>),
    /// There is no other.
    Unchanged,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this process is draining")]
    Draining,
    #[error("this process is being upgraded; a new one reads the file by itself")]
    Upgrading,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration {0}")]
    Incomparable(#[from] crate::config::Incomparable),
    #[error("{0} cannot change in a running process: SIGUSR2 (or a restart) takes the file up")]
    NeedsUpgrade(String),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
}

impl Reload {
    /// Changes these parts to what is read.
    pub fn new(read: Read, parts: Arc<Parts>, telemetry: Telemetry) -> Self {
        Self {
            read,
            parts,
            telemetry,
        }
    }

    /// Reloads. Blocks, inside a runtime.
    pub fn reload(&self) {
        match self.turn() {
            Err(refused) => self.tell(Err(refused)),
            Ok(_turn) => {
                supervision::reloading();
                self.tell(self.attempt());
                supervision::ready();
            }
        }
    }

    /// Another configuration is for a process that goes on with it.
    fn turn(&self) -> Result<MutexGuard<'_, ()>, Refused> {
        let turn = self.parts.in_force.turn_now().ok_or(Refused::Upgrading)?;
        match self.parts.drain.phase() {
            Phase::Serving => Ok(turn),
            _ => Err(Refused::Draining),
        }
    }

    fn tell(&self, outcome: Result<Outcome, Refused>) {
        let in_force = &self.parts.in_force;
        match outcome {
            Ok(Outcome::Applied(keys)) => {
                tracing::info!(changed = keys.join(", "), "reload: applied");
            }
            Ok(Outcome::Unchanged) => {
                in_force.unchanged();
                tracing::info!("reload: nothing changed");
            }
            Err(why) => {
                let error = whole(&why);
                in_force.refused(error.clone());
                tracing::error!(error, "reload: refused; the configuration in force stays");
            }
        }
    }

    fn attempt(&self) -> Result<Outcome, Refused> {
        let config = (self.read)()?;
        let changes = Changes::between(&self.parts.in_force.config(), &config)?;
        if !changes.needs_upgrade.is_empty() {
            return Err(Refused::NeedsUpgrade(changes.needs_upgrade.join(", ")));
        }
        // Also where nothing changed, so that whoever reloads hears of a certificate that is not good. It speaks of
        // parts that serve nobody: what it says is in the error alone.
        tracing::subscriber::with_default(NoSubscriber::default(), || check(&config))?;
        if changes.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        self.take_up(config, &changes)?;
        Ok(Outcome::Applied(changes.live))
    }

    /// The clusters, if they change: none of them without an address.
    fn clusters(
        &self,
        config: &Config,
        changes: &Changes,
    ) -> Result<Option<Vec<Cluster>>, Refused> {
        if !changes.touch(CLUSTERS) {
            return Ok(None);
        }
        let clusters = parts::clusters(config)?;
        let options = parts::resolve(config);
        let resolved = self.parts.resolver.prepare(&clusters, &options);
        Handle::current().block_on(resolved)?;
        Ok(Some(clusters))
    }

    /// What may fail comes first, and changes nothing then.
    fn take_up(&self, config: Config, changes: &Changes) -> Result<(), Refused> {
        let parts = &self.parts;
        let clusters = self.clusters(&config, changes)?;
        if changes.touch(CREDENTIALS) {
            parts.replace_credentials(&config, UnixTime::now())?;
        }
        if let Some(clusters) = clusters {
            parts.clusters.replace(clusters);
            let names = || parts::cluster_names(&config);
            match &parts.routes {
                Routes::None => {}
                Routes::File(file) => file.know(names()),
                Routes::Service(service) => service.know(names()),
            }
        }
        parts.resolver.set_options(parts::resolve(&config));
        parts.bounds.set(parts::upstream(&config));
        parts.seats.set_max(config.data.connections_max);
        parts.load.set_max(config.http.requests_max);
        parts.drain.set_options(config.drain.clone());
        parts.sources.replace(parts::networks(&config));
        parts.workers.reload(&config);
        if changes.touch(&["log.level"]) {
            let level = config.log.level;
            // It fails only where nothing is logged any more.
            let _ = self.telemetry.level.set_level(level);
        }
        parts.in_force.applied(config);
        Ok(())
    }
}

/// The keys that say where the ingress is.
const CLUSTERS: &[&str] = &["upstream.clusters", "upstream.zone"];

/// The keys that say where credentials are.
const CREDENTIALS: &[&str] = &[
    "tls.certificates",
    "tls.ticket_keys",
    "upstream.identity",
    "upstream.trust",
];
