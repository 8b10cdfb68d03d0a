//! The account-routing service: who may reach what, kept, looked up and told to the data plane.
//!
//! ```text
//!   operators ──▶ books ────┐                             ┌──▶ lookup ────▶ the data plane, where it knows no answer
//!                           ├─ api ──▶ store: tables ─────┤
//!   data plane, ingress ────┘          and change log     ├──▶ changes ───▶ the data plane, as they happen
//!     over server: mutual TLS,         (one transaction)  ├──▶ snapshot ──▶ the data plane, when it starts
//!     roles by name                                       └──▶ authorize ─▶ an ingress that validates by itself
//! ```
//!
//! Promises: an answer is definite, or it is a failure that nobody can take for a "no"; what is acknowledged is kept, and
//! told to all who follow within a fraction of a second; nobody is answered whose certificate has not the role.
//!
//! In reading order: `options`; [`model`]: workspaces, accounts and private endpoint connections, valid by construction;
//! [`store`]: where they are kept; `server`: connections and who is at their other end; `api`: what can be asked;
//! [`metrics`]; `admin`.

mod admin;
mod api;
pub mod metrics;
pub mod model;
mod options;
mod server;
pub mod store;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use postern_certs::UnixTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use crate::metrics::MetricsError;
pub use api::print_openapi;
pub use options::{
    AdminOptions, ChangesOptions, ClientOptions, Config, LimitOptions, ListenOptions, LogOptions,
    LookupOptions, Role, StoreKind, StoreOptions, TlsOptions,
};
pub use server::CredentialError;

use crate::listen;
use admin::Admin;
use api::{Api, Feed, Health};
use metrics::Metrics;
use model::{ConnectionsMax, InvalidConnectionsMax};
use server::{Clients, Credentials, Shared};
use store::Store;
use store::sqlite::{OpenError, SqliteOptions, SqliteStore};

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// A certificate, or the clients' CAs, cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// An option of the store makes no sense. `Config::load` finds these with their place.
    #[error("store.connections_max")]
    ConnectionsMax(#[from] InvalidConnectionsMax),
    /// The folder of the database is not there.
    #[error("store.path: {0} is in no folder that is there")]
    Folder(String),
    /// The database cannot be opened.
    #[error("store.path")]
    Open(#[from] OpenError),
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

impl RoutingError {
    /// Whether the configuration, or what it refers to, is to blame: exit code 2.
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Credentials(_) | Self::ConnectionsMax(_) | Self::Folder(_)
        )
    }
}

/// Everything that is needed to answer. Its listeners are bound; nothing is accepted before [`run`](Self::run).
pub struct Service {
    config: Config,
    listener: TcpListener,
    admin_listener: TcpListener,
    store: Arc<dyn Store>,
    credentials: Credentials,
    metrics: Arc<Metrics>,
}

impl Service {
    /// Opens the store, looks at the certificates and binds the listeners. Certificates that are not there yet, or are
    /// no good, are waited for: no handshake succeeds until then.
    pub async fn new(config: &Config) -> Result<Self, RoutingError> {
        let metrics = Arc::new(Metrics::new()?);
        let mut credentials = Credentials::new(&config.tls);
        credentials.refresh(UnixTime::now(), &metrics);
        let store = match config.store.kind {
            StoreKind::Sqlite => SqliteStore::open(&sqlite(config)?).await?,
        };
        Ok(Self {
            listener: bound("listen.address", config.listen.address).await?,
            admin_listener: bound("admin.listen", config.admin.listen).await?,
            store: Arc::new(store),
            config: config.clone(),
            credentials,
            metrics,
        })
    }

    /// Proves what the configuration refers to, as far as that changes nothing: the certificates, and that the database
    /// has a folder.
    pub fn check(config: &Config) -> Result<(), RoutingError> {
        let mut credentials = Credentials::new(&config.tls);
        credentials.refresh(UnixTime::now(), &Metrics::new()?);
        if let Some(error) = credentials.refusals().next() {
            return Err(error.into());
        }
        let path = sqlite(config)?.path;
        // A file in the folder we are in has no other.
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(RoutingError::Folder(path.display().to_string()));
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where its admin listener listens.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin_listener.local_addr()
    }

    /// Where it keeps the books.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Runs until `stop` turns true or its sender is gone; then lets what has begun end, within `limits.drain_timeout`.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let Self {
            config,
            listener,
            admin_listener,
            store,
            credentials,
            metrics,
        } = self;
        let health = Arc::new(Health::default());
        let feed = Arc::new(Feed::new(
            Arc::clone(&store),
            Arc::clone(&metrics),
            Arc::clone(&health),
            config.changes.heartbeat,
        ));
        let admin = Admin {
            store: Arc::clone(&store),
            tls: credentials.tls(),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
        };
        let api = Api::new(
            &config,
            store,
            Arc::clone(&feed),
            Arc::clone(&metrics),
            health,
        );
        let shared = Shared {
            tls: credentials.tls(),
            clients: Clients::new(&config.clients),
            router: api.router(),
            limits: config.limits.clone(),
            handshake_timeout: config.tls.handshake_timeout,
            metrics: Arc::clone(&metrics),
        };
        if let (Ok(address), Ok(admin)) = (listener.local_addr(), admin_listener.local_addr()) {
            let version = env!("CARGO_PKG_VERSION");
            tracing::info!(version, %address, %admin, clients = config.clients.len(), "listening");
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(listen::serve(admin_listener, admin::router(admin)));
        tasks.spawn(server::watch_credentials(credentials, config.tls, metrics));
        tasks.spawn(async move { feed.run().await });
        server::serve(listener, Arc::new(shared), stop).await;
        tasks.shutdown().await;
        tracing::info!("stopped");
    }
}

fn sqlite(config: &Config) -> Result<SqliteOptions, RoutingError> {
    let mut options = SqliteOptions::new(&config.store.path);
    options.connections_max = ConnectionsMax::try_from(config.store.connections_max)?;
    options.changes_kept = NonZeroU64::new(config.changes.kept).unwrap_or(NonZeroU64::MIN);
    Ok(options)
}

async fn bound(key: &'static str, address: SocketAddr) -> Result<TcpListener, RoutingError> {
    listen::bind(address)
        .await
        .map_err(|source| RoutingError::Bind {
            key,
            address,
            source,
        })
}
