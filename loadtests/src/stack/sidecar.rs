//! The sidecar as its user runs it: the built `postern-control`, a configuration file, a vault.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;

use super::accounts::CERTIFICATE_NAME;
use super::child::READY_TIMEOUT;
use super::client::{ClientError, Connection};
use super::metrics::Metrics;
use super::vault::{AUTHORITY, Access, CLIENT, SERVER, TICKETS};
use super::{Child, JsonLines, StackError, binary, free_address, make_folder, write_file};

/// How a sidecar is set up.
#[derive(Debug, Clone)]
pub struct SidecarOptions {
    /// The vault.
    pub vault: Access,
    /// The folder with a store of each kind: `server`, `client`, `trust`, `tickets`.
    pub stores: PathBuf,
    /// The least time between two requests of the process, such as `1s`.
    pub pace: String,
    /// The content of the section `[rest]`.
    pub rest: String,
    /// More sections.
    pub more: String,
    /// How long it may take until everything is published once.
    pub ready_timeout: Duration,
}

impl SidecarOptions {
    /// As in production.
    pub fn new(vault: &Access, stores: &Path) -> Self {
        Self {
            vault: vault.clone(),
            stores: stores.to_owned(),
            pace: "1s".to_owned(),
            rest: String::new(),
            more: String::new(),
            ready_timeout: READY_TIMEOUT,
        }
    }

    /// Looks as often as `interval` says, such as `300ms`, and from the start, as nobody else asks this vault.
    #[must_use]
    pub fn looking_every(self, interval: &str) -> Self {
        let rest = format!(
            "interval = \"{interval}\"\ninterval_min = \"100ms\"\nbackoff_min = \"100ms\"\n\
             backoff_max = \"{interval}\"\nstart_spread = \"0s\"\n"
        );
        Self {
            pace: "0s".to_owned(),
            rest,
            ..self
        }
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    admin: SocketAddr,
    config: PathBuf,
    ready_after: Duration,
}

impl Sidecar {
    /// Writes `postern-control.toml` under `folder`, starts `postern-control sidecar`, and waits until everything is
    /// published once.
    pub async fn start(folder: &Path, options: &SidecarOptions) -> Result<Self, StackError> {
        make_folder(folder)?;
        let admin = free_address()?;
        let config = folder.join("postern-control.toml");
        write_file(&config, configuration(admin, options))?;
        let mut command = Command::new(binary("postern-control")?);
        command
            .arg("sidecar")
            .arg("--config")
            .arg(&config)
            .env("RUST_BACKTRACE", "1")
            .envs(options.vault.environment.iter().cloned());
        let mut child = Child::spawn("postern-control", command, folder)?;
        let awaited = format!("200 from http://{admin}/readyz");
        let ready_after = child
            .wait_until(&awaited, options.ready_timeout, async || {
                is_ready(admin).await
            })
            .await?;
        Ok(Self {
            child,
            admin,
            config,
            ready_after,
        })
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How long it took to publish everything.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Its log so far.
    pub fn log(&self) -> JsonLines {
        JsonLines::new("postern-control", self.child.stderr())
    }

    /// What `/metrics` says now.
    pub async fn metrics(&self) -> Result<Metrics, ClientError> {
        let answer = Connection::plain(self.admin).await?.get("/metrics").await?;
        Ok(Metrics::parse(&answer.text()))
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let answer = async { Connection::plain(admin).await?.get("/readyz").await };
    answer
        .await
        .is_ok_and(|answer| answer.status == StatusCode::OK)
}

fn configuration(admin: SocketAddr, options: &SidecarOptions) -> String {
    let SidecarOptions {
        vault,
        stores,
        pace,
        rest,
        more,
        ..
    } = options;
    let Access {
        url, ca, client_id, ..
    } = vault;
    let (ca, stores) = (ca.display(), stores.display());
    format!(
        r#"[identities.machine]
kind = "managed"
client_id = "{client_id}"

[vaults.main]
url = "{url}"
identity = "machine"
ca = "{ca}"
verify_challenge = false
pace = "{pace}"

[certificates.server]
kind = "server"
vault = "main"
name = "{SERVER}"
store = "{stores}/server"
names = ["{CERTIFICATE_NAME}"]

[certificates.client]
kind = "client"
vault = "main"
name = "{CLIENT}"
store = "{stores}/client"

[certificates.trust]
kind = "trust"
vault = "main"
name = "{AUTHORITY}"
store = "{stores}/trust"

[tickets]
vault = "main"
name = "{TICKETS}"
store = "{stores}/tickets"

[admin]
listen = "{admin}"

[rest]
{rest}
{more}"#
    )
}
