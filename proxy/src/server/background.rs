//! What goes on beside traffic: files are looked at, endpoints are checked, readiness is told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use postern_certs::UnixTime;
use tokio::signal::unix::{SignalKind, signal};

use crate::access_log::AccessLog;
use crate::credentials::Credentials;
use crate::metrics::Metrics;
use crate::readiness::{Condition, Readiness};
use crate::routing::{self, RemoteRoutes, RouteCache, RouteSource as _};
use crate::server::ServerError;
use crate::server::parts::{Parts, Routes};
use crate::server::reload::Reload;
use crate::upstream;

/// The files that change while we run: credentials and routes.
pub struct Files {
    credentials: Arc<Credentials>,
    routes: Routes,
    metrics: Arc<Metrics>,
    credentials_complete: Condition,
    routes_loaded: Condition,
}

impl Files {
    /// Files that have not been looked at.
    pub fn new(
        readiness: &Readiness,
        credentials: Arc<Credentials>,
        routes: Routes,
        metrics: Arc<Metrics>,
    ) -> Self {
        let credentials_complete = readiness.condition("credentials");
        let routes_loaded = readiness.condition("routes");
        Self {
            credentials,
            routes,
            metrics,
            credentials_complete,
            routes_loaded,
        }
    }

    /// Looks at all of them. Blocks on the disk.
    pub fn look(&self) {
        self.look_at_credentials();
        match &self.routes {
            Routes::None => self.routes_loaded.set(true),
            Routes::File(routes) => {
                // The table was read before we listened; a bad change later leaves it in use.
                self.routes_loaded.set(true);
                self.metrics.routes_loaded(*routes.generation().borrow());
                self.look_at_routes();
            }
            // Whoever follows the service knows.
            Routes::Service(_) => {}
        }
    }

    fn look_at_credentials(&self) {
        let now = UnixTime::now();
        // Each refusal was counted and logged where it was found.
        let _ = self.credentials.refresh(now);
        self.credentials_complete
            .set(self.credentials.complete(now));
    }

    fn look_at_routes(&self) {
        let Routes::File(routes) = &self.routes else {
            return;
        };
        match routes.reload() {
            routing::Reload::Unchanged => {}
            routing::Reload::Loaded { accounts, links } => {
                tracing::info!(accounts, links, "routes loaded");
                self.metrics.routes_loaded(*routes.generation().borrow());
            }
            routing::Reload::Refused(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "route file refused; the previous routes stay in use");
                // Whoever is alerted by the metric finds the line.
                self.metrics.routes_refused();
            }
        }
    }
}

/// Looks at the files for ever, on a thread of its own, since files block.
pub fn watch_files(parts: &Parts) -> Result<(), ServerError> {
    let (files, in_force) = (Arc::clone(&parts.files), Arc::clone(&parts.in_force));
    every(
        "credentials",
        move || in_force.config().credentials.check_interval,
        move || files.look_at_credentials(),
    )?;
    let (files, in_force) = (Arc::clone(&parts.files), Arc::clone(&parts.in_force));
    every(
        "routes",
        move || in_force.config().routes.reload_interval,
        move || files.look_at_routes(),
    )
}

fn every(
    name: &str,
    interval: impl Fn() -> Duration + Send + 'static,
    look: impl Fn() + Send + 'static,
) -> Result<(), ServerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(interval());
                look();
            }
        })
        .map(drop)
        .map_err(ServerError::Thread)
}

/// Follows the account-routing service, in a runtime of its own: a snapshot of a million links keeps a thread busy for
/// a while.
pub struct Following {
    service: Arc<RemoteRoutes>,
    cache: RouteCache,
    ready: Condition,
}

impl Following {
    /// If routes come from the service.
    pub fn new(parts: &Parts) -> Option<Self> {
        Some(Self {
            service: Arc::clone(parts.routes.service()?),
            cache: parts.authorizer.cache().clone(),
            ready: parts.files.routes_loaded.clone(),
        })
    }
}

#[async_trait]
impl Service for Following {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        self.service.follow(&self.cache, &self.ready).await;
    }

    #[expect(
        clippy::unnecessary_literal_bound,
        reason = "the signature of the trait"
    )]
    fn name(&self) -> &str {
        "routing"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Health checks of the ingress, the news that all routes may have changed, and the gauge that says whether we are
/// ready.
pub struct Background {
    health: Arc<upstream::Health>,
    resolver: Arc<upstream::Resolver>,
    routes: RouteCache,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    reload: Arc<Reload>,
}

impl Background {
    /// What goes on in a runtime of its own.
    pub fn new(parts: &Parts, reload: Reload) -> Self {
        Self {
            reload: Arc::new(reload),
            health: Arc::clone(&parts.upstream_health),
            resolver: Arc::clone(&parts.resolver),
            routes: parts.authorizer.cache().clone(),
            readiness: Arc::clone(&parts.readiness),
            metrics: Arc::clone(&parts.metrics),
            access_log: parts.access_log.clone(),
        }
    }

    /// SIGHUP: the access log is opened anew, for whoever moved it away, and the configuration is read again.
    /// Certificates and routes are looked at all the time and need no signal. Signals that come during a reload are one
    /// more.
    async fn answer_hangups(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be watched");
            return;
        };
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: the access log is opened anew, the configuration read again");
            self.access_log.reopen();
            let reload = Arc::clone(&self.reload);
            // A reload that panicked has said so; the next one is a new one.
            let _ = tokio::task::spawn_blocking(move || reload.reload()).await;
        }
    }

    async fn tell_readiness(&self) {
        let mut before = None;
        loop {
            let ready = self.readiness.is_ready();
            if before != Some(ready) {
                self.metrics.ready(ready);
                tracing::info!(ready, waiting_for = ?self.readiness.waiting_for(), "readiness");
                before = Some(ready);
            }
            tokio::time::sleep(TELL_INTERVAL).await;
        }
    }
}

#[async_trait]
impl Service for Background {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        tokio::join!(
            self.health.run(HEALTH_INTERVAL),
            self.resolver.run(),
            self.routes.run(),
            self.tell_readiness(),
            self.answer_hangups()
        );
    }

    #[expect(
        clippy::unnecessary_literal_bound,
        reason = "the signature of the trait"
    )]
    fn name(&self) -> &str {
        "background"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const TELL_INTERVAL: Duration = Duration::from_millis(100);
