//! HTTP/2 and HTTP/1.1 over mutual TLS, bounded in connections, streams, heads and time.
//!
//! ```text
//!   accept ──▶ handshake ──▶ who is it? ──▶ requests ──▶ graceful end: stop, age, the client's certificate ends
//! ```
//!
//! Promises: no request is read before the client's certificate has been verified; each request knows its `Peer`. When
//! told to stop it accepts no more, sends GOAWAY or `Connection: close`, lets what has begun end, and cuts what has not
//! ended in time.
//!
//! * `credentials`: certificates, watched. `peer`: the client and its roles. `connection`: one connection's life.

mod connection;
mod credentials;
mod peer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::metrics::Metrics;
use super::options::{LimitOptions, TlsOptions};
pub use credentials::CredentialError;
pub(super) use credentials::{Credentials, Tls};
pub(super) use peer::{Clients, Peer};

/// What every connection needs.
pub(super) struct Shared {
    pub(super) tls: watch::Receiver<Tls>,
    pub(super) clients: Clients,
    pub(super) router: Router,
    pub(super) limits: LimitOptions,
    pub(super) handshake_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
}

/// Looks after the credentials until dropped.
pub(super) async fn watch_credentials(
    mut credentials: Credentials,
    options: TlsOptions,
    metrics: Arc<Metrics>,
) {
    loop {
        tokio::time::sleep(options.reload_interval).await;
        let metrics = Arc::clone(&metrics);
        let looked = tokio::task::spawn_blocking(move || {
            credentials.refresh(postern_certs::UnixTime::now(), &metrics);
            credentials
        });
        // It ends with the runtime alone.
        let Ok(looked) = looked.await else { return };
        credentials = looked;
    }
}

/// Answers until `stop` turns true or its sender is gone, then ends every connection.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let seats = Arc::new(Semaphore::new(shared.limits.connections_max));
    let mut connections = JoinSet::new();
    let mut is_failing = false;
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &seats) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, seat)) => {
                if std::mem::take(&mut is_failing) {
                    tracing::info!("connections are accepted again");
                }
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                connections.spawn(async move {
                    connection::attend(stream, &shared, stop).await;
                    drop(seat);
                });
            }
            Err(error) => {
                // Such as no file descriptors: they come back when connections end.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracing::info!(connections = connections.len(), "stopping");
    // Each ends by itself within its own bound, which is this one.
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await;
    let seat = seat.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, seat))
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
