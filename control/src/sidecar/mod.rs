//! The certificate sidecar: every certificate from Key Vault to the disk, for ever.
//!
//! ```text
//!            ┌──────────────── one task a certificate ────────────────┐
//!   vault ──▶│ fetch ──▶ inspect ──▶ publish ──▶ rest ──▶ fetch …     │──▶ postern_certs::Store ──▶ the data plane
//!            │   ▲ issue                           ▲ notify           │
//!            └───┼─────────────────────────────────┼──────────────────┘
//!          internal CA                        Event Grid (optional)
//! ```
//!
//! Promises: whatever goes wrong, what was published last stays; the reason is in one log line when it begins or
//! changes, and in one metric; recovery needs no hand. Never removes a credential, never publishes what it has not
//! proven.
//!
//! In reading order: `options`; [`certificate`](self) and `tickets`, one round each, by `inspect` and `place`, which
//! end in an [`Outcome`] or a [`RoundError`]; `cycle`, round after round, with [`rest`] between; `status`, `admin` and
//! `notify`; [`metrics`]. Beside all that, `events` drains Postern before Azure takes the machine away.

mod admin;
mod certificate;
mod cycle;
mod events;
mod inspect;
pub mod metrics;
mod notify;
mod options;
mod outcome;
mod place;
mod rest;
mod setup;
mod status;
#[cfg(test)]
mod tests;
mod tickets;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use crate::metrics::MetricsError;
pub use events::{EventKind, Outcome as EventOutcome};
pub use notify::TokenError;
pub use options::{
    AdminOptions, CaOptions, CertificateOptions, Config, IdentityKind, IdentityOptions,
    IssueOptions, Kind, LogOptions, NotificationOptions, RestOptions, ScheduledEventsOptions,
    TicketOptions, VaultOptions,
};
pub use outcome::{Outcome, Published, Refusal, RoundError};
pub use rest::{Last, rest};
pub use status::Status;

use admin::now;
use cycle::{Cycle, Shared};
use events::Watch;
use notify::{Notifications, Topic};

use crate::{listen, vault};

/// Why the sidecar cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// A vault or an identity cannot be set up.
    #[error("{section}")]
    Setup {
        /// Which section of the configuration.
        section: String,
        /// Why.
        source: vault::SetupError,
    },
    /// What a section says makes no sense. `Config::load` finds these with their place.
    #[error("{0}")]
    Configuration(String),
    /// There is no token for notifications.
    #[error("notifications.token_file")]
    Token(#[from] TokenError),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A listener could not be bound.
    #[error("cannot listen on {key} = {address}")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl SidecarError {
    /// Whether the configuration, or what it refers to, is to blame: exit code 2.
    pub const fn is_configuration(&self) -> bool {
        !matches!(self, Self::Bind { .. } | Self::Metrics(_))
    }
}

/// Everything that is needed to publish what is configured. Nothing runs and nothing is asked before
/// [`run`](Self::run) or [`once`](Self::once).
pub struct Sidecar {
    config: Config,
    parts: Arc<Shared>,
    cycles: Vec<(Cycle, Wakes)>,
    topics: Vec<Topic>,
    events: Option<Watch>,
}

/// What makes the next look at one certificate earlier.
#[derive(Debug, Clone)]
struct Wakes {
    /// A notification.
    notified: Arc<Notify>,
    /// The trust that it is held against was published.
    followed: Arc<Notify>,
}

impl Sidecar {
    /// Sets everything up. Reads the CAs of vaults, and what the environment says of identities.
    pub fn new(config: &Config) -> Result<Self, SidecarError> {
        setup::sidecar(config, &|options| {
            options.source().map(vault::Identity::new).transpose()
        })
    }

    /// The same, with one identity for all vaults, in whose environment this process is not.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_identity(
        config: &Config,
        identity: &vault::Identity,
    ) -> Result<Self, SidecarError> {
        setup::sidecar(config, &|_| Ok(Some(identity.clone())))
    }

    /// Sets everything up and proves what it refers to.
    pub async fn check(config: &Config) -> Result<(), SidecarError> {
        let sidecar = Self::new(config)?;
        sidecar.check_token().await
    }

    /// The metrics, for whoever runs this in its own process.
    pub fn metrics(&self) -> Arc<metrics::Metrics> {
        Arc::clone(&self.parts.metrics)
    }

    /// One round of each certificate, one after the other: trust first, then what is held against it. Returns the names
    /// of those that failed.
    pub async fn once(mut self) -> Vec<String> {
        let mut failed = Vec::new();
        for (cycle, _) in &mut self.cycles {
            cycle.recall(now()).await;
            cycle.step(now(), 0.0).await;
            if cycle.is_failing() {
                failed.push(cycle.subject().name().to_owned());
            }
        }
        failed
    }

    /// Runs until `stop` turns true or its sender is gone. A publication that has begun is finished.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), SidecarError> {
        self.check_token().await?;
        let Self {
            config,
            parts,
            cycles,
            topics,
            events,
        } = self;
        let mut tasks = JoinSet::new();
        let admin = bound("admin.listen", config.admin.listen).await?;
        tasks.spawn(listen::serve(admin, admin::router(Arc::clone(&parts))));
        let mut spread = Duration::ZERO;
        if let Some(options) = &config.notifications {
            let listener = bound("notifications.listen", options.listen).await?;
            let notifications = Notifications {
                token_file: options.token_file.clone(),
                topics,
                metrics: Arc::clone(&parts.metrics),
            };
            tasks.spawn(listen::serve(listener, notify::router(notifications)));
            spread = options.spread;
        }
        if let Some(events) = events {
            tasks.spawn(events.run());
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), certificates = cycles.len(), admin = %config.admin.listen,
            "listening"
        );
        let mut earlier = 0_u32;
        for (cycle, wakes) in cycles {
            let own = cycle.subject().first_requests();
            let first = rest::start(&config.rest, earlier, own, chance());
            earlier = earlier.saturating_add(own);
            tasks.spawn(attend(cycle, wakes, first, spread));
        }
        // An error means that nobody can stop us any more, which is the same.
        let _ = stop.wait_for(|stop| *stop).await;
        tasks.shutdown().await;
        tracing::info!("stopped");
        Ok(())
    }

    async fn check_token(&self) -> Result<(), SidecarError> {
        if let Some(notifications) = &self.config.notifications {
            notify::read_token(&notifications.token_file).await?;
        }
        Ok(())
    }
}

/// Round after round of one certificate.
async fn attend(mut cycle: Cycle, wakes: Wakes, first: Duration, spread: Duration) {
    cycle.recall(now()).await;
    let mut rest = first;
    cycle.next_look(now(), rest);
    loop {
        let begin = Instant::now();
        let next = begin + rest;
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = wakes.followed.notified(), if cycle.waits_for_trust() => {}
            () = wakes.notified.notified() => {
                let sooner = Instant::now() + spread.mul_f64(chance());
                let sooner = sooner.max(begin + cycle.asked()).min(next);
                cycle.next_look(now(), sooner - Instant::now());
                tokio::time::sleep_until(sooner).await;
            }
        }
        rest = cycle.step(now(), chance()).await;
    }
}

async fn bound(
    key: &'static str,
    address: SocketAddr,
) -> Result<tokio::net::TcpListener, SidecarError> {
    listen::bind(address)
        .await
        .map_err(|source| SidecarError::Bind {
            key,
            address,
            source,
        })
}

/// A number from 0 to 1, another one each time and in each process.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without chance, everybody is in the middle.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}
