//! What the scenarios about credentials run on: an ingress, a back end, and several Posterns that read the same
//! credentials, as the instances of a scale set do.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::check::Broken;
use crate::prove::traffic::{Targets, Traffic};
use crate::stack::client::{ClientError, Connection, Tls};
use crate::stack::credentials::Credentials;
use crate::stack::echo::Echo;
use crate::stack::ingress::{Ingress, IngressKind};
use crate::stack::postern::{Postern, PosternOptions};
use crate::stack::{Deadline, StackError};

/// How often a Postern of the fleet looks for credentials.
const CHECK_INTERVAL: &str = "100ms";

/// A running fleet. Its parts end in the order of the fields.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) posterns: Vec<Postern>,
    pub(super) ingress: Ingress,
    /// The back end, in this process.
    pub(super) _echo: Echo,
}

impl Fleet {
    /// Starts `count` Posterns under `folder`, with these variables, and waits until they are ready.
    pub(super) async fn start(
        folder: &Path,
        credentials: &Credentials,
        count: usize,
        variables: &[(&str, &str)],
    ) -> Result<Self, StackError> {
        let echo = Echo::start(None).await?;
        let kind = IngressKind::Nginx;
        let ingress = Ingress::start(kind, folder, credentials, true, echo.address()).await?;
        let mut options = PosternOptions::new(ingress.address())
            .with("POSTERN_CREDENTIALS__CHECK_INTERVAL", CHECK_INTERVAL);
        for (name, value) in variables {
            options = options.with(name, value);
        }
        let mut posterns = Vec::with_capacity(count);
        for number in 1..=count {
            let folder = folder.join(format!("postern-{number}"));
            posterns.push(Postern::start(&folder, credentials, &options).await?);
        }
        Ok(Self {
            posterns,
            ingress,
            _echo: echo,
        })
    }

    /// Starts traffic of every kind to all of them.
    pub(super) fn traffic(&self, tls: Tls) -> Traffic {
        Traffic::start(Targets::new(self.data(), tls))
    }

    /// Their data listeners.
    pub(super) fn data(&self) -> Vec<SocketAddr> {
        self.posterns.iter().map(Postern::data).collect()
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
