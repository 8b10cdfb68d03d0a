//! Postern itself, as its user runs it: the built binary, a configuration file, a route file.
//!
//! The data listener trusts [`TRUSTED_SOURCE`] alone and takes [`PROBE_SOURCE`] for the health probe's, so
//! that one machine can play all three: the Private Link Service, the load balancer and a stranger.

mod reload;
mod upgrade;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

pub use reload::Reloaded;

use http::StatusCode;
use rustix::process::Signal;
use serde_json::Value;

use super::child::READY_TIMEOUT;
use super::client::{Answer, ClientError, Connection};
use super::credentials::Credentials;
use super::descendant::{Descendant, End};
use super::metrics::Metrics;
use super::routing::ROUTING_NAME;
use super::{
    Child, Deadline, JsonLines, StackError, accounts, binary, free_address, make_folder, write_file,
};

/// From here, the data listener accepts clients.
pub const TRUSTED_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// From here, it accepts health probes.
pub const PROBE_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// From here, it accepts nothing.
pub const UNTRUSTED_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// How a Postern of the stack is set up.
#[derive(Debug, Clone)]
pub struct PosternOptions {
    /// Endpoints of the one ingress cluster, `dicom`.
    pub ingress: Vec<SocketAddr>,
    /// More endpoints of it, as the configuration spells them, such as `"name:443"` with its quotes.
    pub more_endpoints: Vec<String>,
    /// Protocol towards the ingress: `auto`, `http1` or `h2`.
    pub ingress_protocol: &'static str,
    /// Where routes come from.
    pub routes: Routes,
    /// Lines above the first section of the configuration, such as `mode = "audit"`.
    pub top_level: String,
    /// Sections below the last one, such as another cluster.
    pub more: String,
    /// Environment of the process: `POSTERN_SECTION__KEY` and value, over what the file says.
    pub environment: Vec<(String, String)>,
    /// The data listener's address; a free one on the loopback interface if `None`.
    pub listen: Option<SocketAddr>,
    /// The program, such as a link to it that a test has point elsewhere; the one that was built if `None`.
    pub program: Option<PathBuf>,
}

/// Where a Postern of the stack has its routes from.
#[derive(Debug, Clone)]
pub enum Routes {
    /// A route file with this content.
    File(String),
    /// The account-routing service at these addresses. What is learnt there is kept in [`SNAPSHOT`], too.
    Service(Vec<SocketAddr>),
}

/// The file under a Postern's folder with what it has learnt from account routing.
pub const SNAPSHOT: &str = "routes.snapshot";

impl PosternOptions {
    /// The accounts of the stack in front of one ingress, everything else by default.
    pub fn new(ingress: SocketAddr) -> Self {
        Self {
            ingress: vec![ingress],
            more_endpoints: Vec::new(),
            ingress_protocol: "auto",
            routes: Routes::File(accounts::routes()),
            top_level: String::new(),
            more: String::new(),
            environment: Vec::new(),
            listen: None,
            program: None,
        }
    }

    /// Adds one override, such as `("POSTERN_TLS__REFUSE", "alert")`.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment
            .push((variable.to_owned(), value.to_owned()));
        self
    }
}

/// A running Postern.
#[derive(Debug)]
pub struct Postern {
    child: Child,
    /// Those that took over, one after the other; the last one serves.
    successors: Vec<Descendant>,
    data: SocketAddr,
    probe: SocketAddr,
    admin: SocketAddr,
    config: PathBuf,
    routes: PathBuf,
    access_log: JsonLines,
    ready_after: Duration,
}

impl Postern {
    /// Writes `postern.toml` and `routes.toml` under `folder`, starts `postern run`, and waits until
    /// `/readyz` answers 200.
    pub async fn start(
        folder: &Path,
        credentials: &Credentials,
        options: &PosternOptions,
    ) -> Result<Self, StackError> {
        let mut postern = Self::launch(folder, credentials, options)?;
        let probe = postern.probe;
        let awaited = format!("200 from http://{probe}/readyz");
        let ready = async || ready(probe).await;
        let ready_after = postern
            .child
            .wait_until(&awaited, READY_TIMEOUT, ready)
            .await?;
        postern.ready_after = ready_after;
        Ok(postern)
    }

    /// The same, without waiting for anything.
    pub fn launch(
        folder: &Path,
        credentials: &Credentials,
        options: &PosternOptions,
    ) -> Result<Self, StackError> {
        make_folder(folder)?;
        let data = match options.listen {
            Some(address) => address,
            None => free_address()?,
        };
        let (probe, admin) = (free_address()?, free_address()?);
        let (config, routes) = (folder.join("postern.toml"), folder.join("routes.toml"));
        let log = folder.join("access.jsonl");
        if let Routes::File(text) = &options.routes {
            write_file(&routes, text)?;
        }
        write_file(&log, "")?;
        write_file(
            &config,
            configuration([data, probe, admin], credentials, options),
        )?;

        let program = match &options.program {
            Some(program) => program.clone(),
            None => binary("postern")?,
        };
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("-c")
            .arg(&config)
            .env("RUST_BACKTRACE", "1");
        command.envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        let mut child = Child::spawn("postern", command, folder)?;
        // SIGINT ends Postern fast; SIGTERM would drain first.
        child.set_stop_signal(Signal::INT);
        let access_log = JsonLines::new("postern", log);
        Ok(Self {
            child,
            successors: Vec::new(),
            data,
            probe,
            admin,
            config,
            routes,
            access_log,
            ready_after: Duration::ZERO,
        })
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        ready(self.probe).await
    }

    /// The data listener: PROXY header, TLS.
    pub fn data(&self) -> SocketAddr {
        self.data
    }

    /// The probe listener.
    pub fn probe(&self) -> SocketAddr {
        self.probe
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process that was started first.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The number of the newest process.
    pub fn pid(&self) -> u32 {
        self.successors
            .last()
            .map_or(self.child.pid(), |last| last.pid())
    }

    /// Sends the newest process a signal, such as SIGTERM to drain.
    pub fn signal(&self, signal: Signal) -> Result<(), StackError> {
        let sent = match self.successors.last() {
            Some(newest) => newest.signal(signal),
            None => self.child.signal(signal),
        };
        sent.map_err(|source| StackError::Signal {
            name: self.child.name().to_owned(),
            source,
        })
    }

    /// Waits until the newest process has ended, and tells how.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus, StackError> {
        let Some(newest) = self.successors.last().copied() else {
            return self.child.wait_for_exit(limit).await;
        };
        let ended = async || match newest.end() {
            End::Status(status) => Some(status),
            End::Running | End::Gone => None,
        };
        let ended = Deadline::after(limit).poll(ended).await;
        ended.ok_or_else(|| self.late(limit, "the end of the newest process"))
    }

    fn late(&self, limit: Duration, awaited: &str) -> StackError {
        StackError::Late {
            name: self.child.name().to_owned(),
            limit,
            awaited: awaited.to_owned(),
            log: self.child.tail(),
        }
    }

    /// How much memory it has had resident at most so far, in bytes.
    pub fn resident_peak(&self) -> Result<u64, StackError> {
        let path = PathBuf::from(format!("/proc/{}/status", self.pid()));
        let status = std::fs::read_to_string(&path).map_err(|source| StackError::File {
            action: "read",
            path,
            source,
        })?;
        let peak = status.lines().find_map(|line| {
            let kilobytes = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
            kilobytes.trim().parse::<u64>().ok()
        });
        Ok(peak.unwrap_or(u64::MAX / 1024) * 1024)
    }

    /// How long it took to become ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The access log so far.
    pub fn access_log(&self) -> &JsonLines {
        &self.access_log
    }

    /// Waits for an access log line that `matches`; `awaited` says in words what it is.
    pub async fn logged(
        &self,
        awaited: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, StackError> {
        self.access_log.wait_for(awaited, matches).await
    }

    /// The operational log so far.
    pub fn operational_log(&self) -> JsonLines {
        JsonLines::new("postern", self.child.stderr())
    }

    /// Waits for a line of the operational log whose message begins with `message`.
    pub async fn said(&self, message: &str) -> Result<Value, StackError> {
        let begins = |line: &Value| {
            let said = line["message"].as_str();
            said.is_some_and(|said| said.starts_with(message))
        };
        self.operational_log().wait_for(message, begins).await
    }

    /// What the probe listener answers now.
    pub async fn probe_answer(&self, path: &str) -> Result<Answer, ClientError> {
        Connection::plain(self.probe).await?.get(path).await
    }

    /// Replaces the route file by one rename, as a careful operator does.
    pub fn write_routes(&self, routes: &str) -> Result<(), StackError> {
        let new = self.routes.with_extension("new");
        write_file(&new, routes)?;
        std::fs::rename(&new, &self.routes).map_err(|source| StackError::File {
            action: "replace",
            path: self.routes.clone(),
            source,
        })
    }

    /// What `/metrics` says now.
    pub async fn metrics(&self) -> Result<Metrics, ClientError> {
        let answer = Connection::plain(self.admin).await?.get("/metrics").await?;
        Ok(Metrics::parse(&answer.text()))
    }

    /// Waits until the samples of `name` with these labels sum up to `value` at least.
    pub async fn counted(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), StackError> {
        let reached = async || {
            let metrics = self.metrics().await.ok()?;
            (metrics.sum(name, labels) >= value).then_some(())
        };
        let reached = Deadline::after(READY_TIMEOUT).poll(reached).await;
        reached.ok_or_else(|| self.late(READY_TIMEOUT, &format!("{name}{labels:?} of {value}")))
    }

    /// What `postern explain` says, and whether it could say anything.
    pub fn explain(&self, link_id: u32, sni: &str, host: &str) -> Result<Value, StackError> {
        let program = binary("postern")?;
        let failed = |source| StackError::Spawn {
            name: "postern explain".to_owned(),
            program: program.display().to_string(),
            source,
        };
        let mut command = Command::new(&program);
        command.arg("explain").arg("-c").arg(&self.config);
        command.args([
            "--link-id",
            &link_id.to_string(),
            "--sni",
            sni,
            "--host",
            host,
            "--json",
        ]);
        let output = command.output().map_err(failed)?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }
}

async fn ready(probe: SocketAddr) -> bool {
    let answer = async { Connection::plain(probe).await?.get("/readyz").await };
    answer
        .await
        .is_ok_and(|answer| answer.status == StatusCode::OK)
}

fn routes(routes: &Routes) -> String {
    let Routes::Service(endpoints) = routes else {
        return "[routes]\nfile = \"routes.toml\"\n".to_owned();
    };
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!(
        r#"[routes.service]
endpoints = {endpoints:?}
name = "{ROUTING_NAME}"
snapshot = "{SNAPSHOT}"
"#
    )
}

fn configuration(
    [data, probe, admin]: [SocketAddr; 3],
    credentials: &Credentials,
    options: &PosternOptions,
) -> String {
    let PosternOptions {
        ingress,
        ingress_protocol,
        top_level,
        more,
        ..
    } = options;
    let endpoints: Vec<String> = ingress
        .iter()
        .map(|address| format!("\"{address}\""))
        .chain(options.more_endpoints.iter().cloned())
        .collect();
    let endpoints = endpoints.join(", ");
    let Credentials {
        private,
        client,
        trust,
        ..
    } = credentials;
    let (private, client, trust) = (private.display(), client.display(), trust.display());
    let name = accounts::INGRESS_NAME;
    let routes = routes(&options.routes);
    format!(
        r#"{top_level}
[data]
listen = "{data}"
trusted_sources = ["{TRUSTED_SOURCE}/32"]
probe_sources = ["{PROBE_SOURCE}/32"]

[probe]
listen = "{probe}"

[admin]
listen = "{admin}"

[tls]
certificates = [{{ path = "{private}", names = ["*.dicom.example"] }}]

{routes}
[upstream]
identity = "{client}"
trust = "{trust}"

[upstream.clusters.dicom]
name = "{name}"
endpoints = [{endpoints}]
protocol = "{ingress_protocol}"

[access_log]
output = "access.jsonl"

{more}"#
    )
}
