//! The account-routing service as its user runs it: the built `postern-control`, a configuration file, `SQLite`.
//!
//! Who may do what, by the name in the client's certificate: Postern reads, the operator writes, the ingress asks
//! who may pass.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use http::StatusCode;
use rustix::process::Signal;

use super::child::READY_TIMEOUT;
use super::client::{ClientError, Connection};
use super::credentials::{CLIENT_NAME, Credentials};
use super::metrics::Metrics;
use super::operator::Operator;
use super::{Child, JsonLines, StackError, binary, free_address, make_folder, write_file};

/// The name in the service's certificate.
pub const ROUTING_NAME: &str = "routing.internal.example";
/// The name in the operator's certificate.
pub const OPERATOR_NAME: &str = "operator.internal.example";
/// The name in the certificate of an ingress that asks who may pass.
pub const ASKING_NAME: &str = "asking-ingress.internal.example";

/// How a service is set up.
#[derive(Debug, Clone)]
pub struct RoutingOptions {
    /// Time between two signs of life on a change stream, such as `500ms`.
    pub heartbeat: String,
    /// `POSTERN_ROUTING_…` variables.
    pub environment: Vec<(String, String)>,
    /// Where it listens; at a free address of the loopback interface if `None`.
    pub listen: Option<SocketAddr>,
}

impl Default for RoutingOptions {
    fn default() -> Self {
        Self {
            heartbeat: "500ms".to_owned(),
            environment: Vec::new(),
            listen: None,
        }
    }
}

/// A service, running or killed.
#[derive(Debug)]
pub struct Routing {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    environment: Vec<(String, String)>,
    ready_after: Duration,
}

impl Routing {
    /// Writes `postern-routing.toml` under `folder`, starts `postern-control routing`, and waits until it is ready.
    pub async fn start(
        folder: &Path,
        credentials: &Credentials,
        options: &RoutingOptions,
    ) -> Result<Self, StackError> {
        make_folder(folder)?;
        let certs = folder.join("certs");
        let internal = &credentials.internal;
        internal
            .server(&[ROUTING_NAME, "localhost"])?
            .write_to(&certs.join("server"))?;
        for (name, place) in [(OPERATOR_NAME, "operator"), (ASKING_NAME, "asking")] {
            internal.client(name)?.write_to(&certs.join(place))?;
        }
        make_folder(&certs.join("trust"))?;
        write_file(&certs.join("trust/ca.crt"), internal.ca_pem())?;
        let address = match options.listen {
            Some(address) => address,
            None => free_address()?,
        };
        let admin = free_address()?;
        let text = configuration(folder, address, admin, options);
        write_file(&folder.join("postern-routing.toml"), text)?;
        write_file(&folder.join("postern-routes.toml"), books(folder, address))?;
        let child = spawn(folder, &options.environment)?;
        let mut routing = Self {
            child,
            folder: folder.to_owned(),
            address,
            admin,
            environment: options.environment.clone(),
            ready_after: Duration::ZERO,
        };
        routing.ready_after = routing.wait_until_ready().await?;
        Ok(routing)
    }

    /// Kills it, with whatever it is doing (SIGKILL).
    pub fn kill(&mut self) {
        self.child.set_stop_signal(Signal::KILL);
        self.child.stop();
    }

    /// Sends a signal, such as SIGSTOP to halt it.
    pub fn signal(&self, signal: Signal) -> Result<(), StackError> {
        self.child
            .signal(signal)
            .map_err(|source| StackError::Signal {
                name: self.child.name().to_owned(),
                source,
            })
    }

    /// Starts it again where and with what it was, and waits until it is ready. Returns how long that took.
    pub async fn restart(&mut self) -> Result<Duration, StackError> {
        self.child.stop();
        self.child = spawn(&self.folder, &self.environment)?;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<Duration, StackError> {
        let admin = self.admin;
        let awaited = format!("200 from http://{admin}/readyz");
        let ready = async || is_ready(admin).await;
        self.child.wait_until(&awaited, READY_TIMEOUT, ready).await
    }

    /// Where it answers, over mutual TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("postern-routing.toml")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("routing.sqlite")
    }

    /// The folder with its certificate: `tls.crt` and `tls.key`.
    pub fn identity(&self) -> PathBuf {
        self.folder.join("certs/server")
    }

    /// PEM file with whom it trusts, and who trusts it.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("certs/trust/ca.crt")
    }

    /// The folder with the operator's certificate.
    pub fn operator_identity(&self) -> PathBuf {
        self.folder.join("certs/operator")
    }

    /// The folder with the certificate of an ingress that asks who may pass.
    pub fn asking_identity(&self) -> PathBuf {
        self.folder.join("certs/asking")
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How long it took to become ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Its log so far.
    pub fn log(&self) -> JsonLines {
        JsonLines::new("routing", self.child.stderr())
    }

    /// What `/metrics` says now.
    pub async fn metrics(&self) -> Result<Metrics, ClientError> {
        let answer = Connection::plain(self.admin).await?.get("/metrics").await?;
        Ok(Metrics::parse(&answer.text()))
    }

    /// Who may write.
    pub fn operator(&self) -> Result<Operator, ClientError> {
        Operator::new(self.address, &self.ca(), &self.operator_identity())
    }

    /// The configuration of `postern-control routes` for the operator.
    pub fn routes_config(&self) -> PathBuf {
        self.folder.join("postern-routes.toml")
    }

    /// What to type to keep the books by hand, as the operator; arguments follow.
    pub fn routes_command(&self) -> String {
        let program = binary("postern-control").unwrap_or_else(|_| "postern-control".into());
        let (program, config) = (program.display(), self.routes_config());
        format!("{program} routes --config {}", config.display())
    }

    /// Runs `postern-control routes` with these arguments against the service, as the operator.
    pub fn routes(&self, arguments: &[&str]) -> Result<Output, StackError> {
        run(&self.routes_config(), arguments)
    }

    /// Runs it on the file of a service that does not run.
    pub fn routes_in_file(&self, arguments: &[&str]) -> Result<Output, StackError> {
        let config = self.folder.join("postern-routes-in-file.toml");
        let text = format!("file = \"{}\"\n", self.database().display());
        write_file(&config, text)?;
        run(&config, arguments)
    }
}

fn run(config: &Path, arguments: &[&str]) -> Result<Output, StackError> {
    let program = binary("postern-control")?;
    let mut command = Command::new(&program);
    command.arg("routes").arg("--config").arg(config);
    command.args(arguments);
    command.output().map_err(|source| StackError::Spawn {
        name: "postern-control routes".to_owned(),
        program: program.display().to_string(),
        source,
    })
}

fn spawn(folder: &Path, environment: &[(String, String)]) -> Result<Child, StackError> {
    let mut command = Command::new(binary("postern-control")?);
    command
        .arg("routing")
        .arg("--config")
        .arg(folder.join("postern-routing.toml"))
        .env("RUST_BACKTRACE", "1")
        .envs(environment.iter().cloned());
    Child::spawn("routing", command, folder)
}

async fn is_ready(admin: SocketAddr) -> bool {
    let answer = async { Connection::plain(admin).await?.get("/readyz").await };
    answer
        .await
        .is_ok_and(|answer| answer.status == StatusCode::OK)
}

fn books(folder: &Path, address: SocketAddr) -> String {
    let certs = folder.join("certs");
    let certs = certs.display();
    format!(
        r#"service = "https://{address}"
name = "{ROUTING_NAME}"
identity = "{certs}/operator"
trust = "{certs}/trust"
"#
    )
}

fn configuration(
    folder: &Path,
    address: SocketAddr,
    admin: SocketAddr,
    options: &RoutingOptions,
) -> String {
    let folder = folder.display();
    let heartbeat = &options.heartbeat;
    format!(
        r#"[listen]
address = "{address}"

[tls]
identity = "{folder}/certs/server"
trust = "{folder}/certs/trust"
reload_interval = "100ms"

[clients.postern]
san = "{CLIENT_NAME}"
roles = ["read"]

[clients.operator]
san = "{OPERATOR_NAME}"
roles = ["read", "write"]

[clients.ingress]
san = "{ASKING_NAME}"
roles = ["authorize"]

[store]
kind = "sqlite"
path = "{folder}/routing.sqlite"

[changes]
heartbeat = "{heartbeat}"

[admin]
listen = "{admin}"
"#
    )
}
