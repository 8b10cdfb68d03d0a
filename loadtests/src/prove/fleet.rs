//! What the scenarios about credentials run on: a vault, a sidecar that publishes what is there, several Posterns that
//! read it, as if each had a sidecar of its own, an ingress and a back end.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::check::Broken;
use crate::prove::traffic::{Targets, Traffic};
use crate::stack::Deadline;
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::client::{ClientError, Connection, Tls};
use crate::stack::credentials::Credentials;
use crate::stack::echo::Echo;
use crate::stack::ingress::{Ingress, IngressKind};
use crate::stack::postern::{Postern, PosternOptions};
use crate::stack::sidecar::{Sidecar, SidecarOptions};
use crate::stack::vault::Vault;

/// How often a Postern of the fleet looks for credentials.
const CHECK_INTERVAL: &str = "100ms";

/// A running fleet. Its parts end in the order of the fields.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) posterns: Vec<Postern>,
    pub(super) sidecar: Sidecar,
    pub(super) vault: Vault,
    pub(super) ingress: Ingress,
    /// The back end, in this process.
    _echo: Echo,
    /// `private`, `client` and `trust` are stores; the rest are folders.
    pub(super) credentials: Credentials,
    /// Trusts the certificate for clients.
    pub(super) tls: Tls,
}

impl Fleet {
    /// Starts all of it under `folder` and waits until it is ready, with `count` Posterns.
    ///
    /// `seed` puts more into the vault before anyone looks there; what it returns is given back.
    pub(super) async fn start<T>(
        folder: &Path,
        count: usize,
        seed: impl FnOnce(&Vault, &Credentials) -> Result<T, Broken>,
    ) -> Result<(Self, T), Broken> {
        let place = folder.join("certs");
        let mut credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
        let vault = Vault::start(&folder.join("vault"), &credentials).await?;
        let seeded = seed(&vault, &credentials)?;
        let stores = place.join("stores");
        credentials.read_from_stores(&stores);
        let options = SidecarOptions::new(vault.access(), &stores).looking_every("300ms");
        let sidecar = Sidecar::start(&folder.join("sidecar"), &options).await?;

        let echo = Echo::start(None).await?;
        let kind = IngressKind::Nginx;
        let ingress = Ingress::start(kind, folder, &credentials, true, echo.address()).await?;
        let tickets = stores.join("tickets").display().to_string();
        let options = PosternOptions::new(ingress.address())
            .with("POSTERN_CREDENTIALS__CHECK_INTERVAL", CHECK_INTERVAL)
            .with("POSTERN_TLS__TICKET_KEYS", &tickets);
        let mut posterns = Vec::with_capacity(count);
        for number in 1..=count {
            let folder = folder.join(format!("postern-{number}"));
            posterns.push(Postern::start(&folder, &credentials, &options).await?);
        }
        let fleet = Self {
            posterns,
            sidecar,
            vault,
            ingress,
            _echo: echo,
            tls: Tls::trusting(&credentials.public_ca)?,
            credentials,
        };
        Ok((fleet, seeded))
    }

    /// Starts traffic of every kind to all of them.
    pub(super) fn traffic(&self) -> Traffic {
        let data = self.posterns.iter().map(Postern::data).collect();
        Traffic::start(Targets::new(data, self.tls.clone()))
    }

    /// The sum of a metric over all of them.
    pub(super) async fn sum(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<f64, ClientError> {
        let mut sum = 0.0;
        for postern in &self.posterns {
            sum += postern.metrics().await?.sum(name, labels);
        }
        Ok(sum)
    }

    /// Waits until each connection to the ingress of a former generation has ended but `kept` of them, which have
    /// something to do. Fails after `limit`.
    pub(super) async fn previous_have_ended(
        &self,
        kept: usize,
        limit: Duration,
    ) -> Result<String, Broken> {
        let previous = [("generation", "previous")];
        let left = async || {
            let left = self.sum("postern_upstream_connections", &previous);
            left.await.unwrap_or(f64::MAX)
        };
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let ended = async || (left().await <= kept as f64).then_some(());
        match Deadline::after(limit).poll(ended).await {
            Some(()) => Ok(format!("{kept} left")),
            None => Err(Broken::Unexpected(format!(
                "{} are open after {limit:?}, not {kept}",
                left().await
            ))),
        }
    }
}

/// What `/certs` of a Postern says.
pub(super) async fn certificates(postern: &Postern) -> Result<Value, ClientError> {
    let answer = Connection::plain(postern.admin())
        .await?
        .get("/certs")
        .await?;
    Ok(answer.json())
}
