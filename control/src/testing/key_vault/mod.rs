//! A Key Vault to test against: HTTPS, a challenge, versions, pending and merge, PKCS#12 and PEM secrets,
//! signatures, soft delete. All of it is in memory.
//!
//! ```text
//!   Azure SDK ── HTTPS ──▶ service: token, faults, api-version ──▶ certificates · secrets · keys
//!                                                                     objects: versions, policies
//!   a test ──── KeyVault ──────────────────────────────────────────▶ seed, faults, log
//!   another process ── HTTP, /stand-in/… ──────────────────────────▶ the same: switches
//! ```
//!
//! In reading order: `service`, `certificates`, `pending`, `policy`, `secrets`, `keys`; under them `object`,
//! `key`, `contents`; then `faults`, `log`, `seed` and `switches`.
//!
//! # Switches
//!
//! In one process they are methods of [`KeyVault`]. For other processes they are JSON over plain HTTP, under
//! [`KeyVault::switches_url`], on a listener and a path that no Key Vault has; they need no token:
//!
//! | request | does |
//! |---|---|
//! | `GET`, `PUT /stand-in/faults` | shows, sets [`Faults`] |
//! | `GET`, `DELETE /stand-in/requests` | figures of the [`Log`]; clears it |
//! | `POST /stand-in/certificates/{name}` | a version made to order: [`NewVersion`]; answers `{"version"}` |
//! | `POST /stand-in/authorities/{name}` | a new CA, as the next version of that certificate and as issuer |
//! | `PUT /stand-in/certificates/{name}/{version}` | `{"enabled": false}`; `newest` for the newest |
//! | `PUT /stand-in/clock` | `{"ahead": seconds}`, of vault and identity |
//!
//! What it does not have: issuers other than `Self` and `Unknown`, backup, contacts, keys without a
//! certificate, network rules.
//!
//! Where the service shows no order (versions) or leaves room, this stand-in takes the liberty that is harder
//! for a client.

mod answers;
mod certificates;
mod contents;
mod faults;
mod key;
mod keys;
mod log;
mod object;
mod paging;
mod pending;
mod policy;
mod secrets;
mod seed;
mod service;
mod switches;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

pub use contents::Contents;
pub use faults::Faults;
pub use log::{Log, Request};
pub use seed::{NewVersion, SeedError};

use super::StandInError;
use super::http::Server;
use super::identity::Identity;
use service::Service;
use switches::Switches;

/// What a token for Key Vault is asked for.
pub const RESOURCE: &str = "https://vault.azure.net";

/// Where a vault listens.
#[derive(Debug, Clone, Copy)]
pub struct KeyVaultOptions {
    /// HTTPS, for the SDKs.
    pub listen: SocketAddr,
    /// Plain HTTP, for the [switches](self) of other processes.
    pub switches: SocketAddr,
}

impl Default for KeyVaultOptions {
    /// Free ports of 127.0.0.1.
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: free,
            switches: free,
        }
    }
}

/// A running vault, ended when the value is dropped.
#[derive(Debug)]
pub struct KeyVault {
    service: Arc<Service>,
    identity: Arc<Identity>,
    server: Server,
    switches: Server,
}

impl KeyVault {
    /// Starts one on a free port of 127.0.0.1, empty, with an [`Identity`] of its own.
    pub async fn start() -> Result<Self, StandInError> {
        let identity = Arc::new(Identity::start().await?);
        Self::start_with(KeyVaultOptions::default(), identity).await
    }

    /// Starts one to order, which accepts the tokens of `identity` and is trusted through the same CA.
    pub async fn start_with(
        options: KeyVaultOptions,
        identity: Arc<Identity>,
    ) -> Result<Self, StandInError> {
        let service = Arc::new(Service::new(
            Arc::clone(identity.clock()),
            Arc::clone(identity.tokens()),
            identity.authority(),
        ));
        let tls = Some(identity.server_tls(options.listen.ip())?);
        let handler = Arc::clone(&service);
        let server = Server::start(options.listen, tls, service.down(), handler).await?;
        let handler = Arc::new(Switches(Arc::clone(&service)));
        // Without its switches a vault that is down would stay so.
        let always_up = watch::Sender::new(false).subscribe();
        let switches = Server::start(options.switches, None, always_up, handler).await?;
        Ok(Self {
            service,
            identity,
            server,
            switches,
        })
    }

    /// `https://{address}`, as a client names the vault.
    pub fn url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://{address}/stand-in`, under which are the [switches](self) for other processes.
    pub fn switches_url(&self) -> String {
        format!("http://{}/stand-in", self.switches.address())
    }

    /// The identity whose tokens it accepts.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The CA that its certificate is of, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.identity.ca_pem()
    }

    /// What was asked of it.
    pub fn log(&self) -> &Log {
        &self.service.log
    }

    /// What goes wrong now.
    pub fn faults(&self) -> Faults {
        self.service.faults().clone()
    }

    /// Says what goes wrong from now on; `Faults::default()` ends it.
    pub fn set_faults(&self, faults: Faults) {
        self.service.set_faults(faults);
    }
}

#[cfg(test)]
mod tests;
