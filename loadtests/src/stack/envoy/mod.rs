//! A real Envoy as the AKS ingress: the data plane of its Gateway API and Istio ingresses.
//!
//! It terminates TLS for one name, demands a client certificate of the internal CA, answers HTTP/2 and
//! HTTP/1.1, and writes what it saw of each request as one JSON object a line. The paths are those of
//! [`super::nginx`]:
//!
//! | path | answer |
//! |---|---|
//! | `/` | a small JSON object |
//! | `/nonce/TEXT` | TEXT |
//! | `/bytes/N` | the N bytes of [`pattern`](super::nginx::pattern), for any N up to 16 MiB |
//! | `/grpc/…` | proxied over HTTP/2 cleartext, trailers included |
//! | anything else | proxied over HTTP/1.1, WebSocket upgrades allowed; 404 without a back end |
//!
//! A WebSocket may also come as an extended CONNECT (RFC 8441): its SETTINGS announce that. Envoy makes an
//! HTTP/1.1 upgrade of it without adding the `Sec-WebSocket-Key` that a back end demands.
//!
//! Invariant: a handshake without our client certificate fails, one for another name is not answered.

mod configuration;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::credentials::Credentials;
use super::json_lines::JsonLines;
use super::python::{DICOM, Python};
use super::{Child, StackError, free_address, make_folder, write_file};

/// What an ingress is made of.
#[derive(Debug, Clone)]
pub struct EnvoyOptions {
    /// The one name it serves: SNI and certificate.
    pub name: String,
    /// Whether ALPN offers `h2`.
    pub http2: bool,
    /// Where `/grpc/` and everything without a route of its own goes.
    pub backend: Option<SocketAddr>,
    /// Worker threads.
    pub workers: usize,
    /// Requests on one connection before Envoy ends it; Envoy's own default is no limit.
    pub keepalive_requests: Option<u32>,
    /// The address to listen on; a free one on the loopback interface if `None`.
    pub listen: Option<SocketAddr>,
}

impl Default for EnvoyOptions {
    fn default() -> Self {
        Self {
            name: "z1-weu-aks.internal.example".to_owned(),
            http2: true,
            backend: None,
            workers: 1,
            keepalive_requests: None,
            listen: None,
        }
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    secrets: PathBuf,
    seen: JsonLines,
    ready_after: Duration,
}

impl Envoy {
    /// Installs Envoy if it is not there, starts it under `folder` with the certificates of the stack, and
    /// waits until it listens.
    pub async fn start(
        folder: &Path,
        credentials: &Credentials,
        options: &EnvoyOptions,
    ) -> Result<Self, StackError> {
        let program = Python::install(DICOM).await?.envoy().await?;
        let address = match options.listen {
            Some(address) => address,
            None => free_address()?,
        };
        let admin = free_address()?;
        let secrets = folder.join("secrets");
        make_folder(&secrets)?;
        write_secrets(&secrets, credentials)?;
        let seen = folder.join("seen.jsonl");
        write_file(&seen, "")?;
        let places = configuration::Places {
            address,
            admin,
            secrets: &secrets,
            seen: &seen,
        };
        let config = folder.join("envoy.json");
        write_file(
            &config,
            configuration::bootstrap(&places, options).to_string(),
        )?;

        let mut command = Command::new(program);
        command
            .arg("--config-path")
            .arg(&config)
            .args(["--concurrency", &options.workers.to_string()])
            // Several run on one machine; hot restart would have them share memory.
            .arg("--disable-hot-restart")
            .args(["--log-level", "warning"])
            // The log of requests would otherwise be written every ten seconds.
            .args(["--file-flush-interval-msec", "20"]);
        let mut child = Child::spawn("envoy", command, folder)?;
        let ready_after = child.wait_for_port(address).await?;
        let seen = JsonLines::new("envoy", seen);
        Ok(Self {
            child,
            address,
            admin,
            secrets,
            seen,
            ready_after,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its administration over plain HTTP, for example `POST /drain_listeners?graceful` and `/stats`.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// How long it took to listen.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Gives it certificates and trust anchors again, without ending open connections. Handshakes use them
    /// shortly after; Envoy does not say when.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), StackError> {
        write_secrets(&self.secrets, credentials)
    }

    /// What it saw so far, one object a request, all values texts; headers that were not sent are empty.
    pub fn seen(&self) -> &JsonLines {
        &self.seen
    }

    /// Waits until it has logged a request that `matches`. Envoy logs when the exchange has ended.
    pub async fn saw(
        &self,
        awaited: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, StackError> {
        self.seen.wait_for(awaited, matches).await
    }
}

/// Writes the two files that Envoy watches, each by one rename, which is what it waits for.
fn write_secrets(folder: &Path, credentials: &Credentials) -> Result<(), StackError> {
    let read = |name: &str| {
        let path = credentials.ingress.join(name);
        std::fs::read_to_string(&path).map_err(|source| StackError::File {
            action: "read",
            path,
            source,
        })
    };
    let identity = configuration::identity(&read("tls.crt")?, &read("tls.key")?);
    let trust = configuration::trust(&read("ca.crt")?);
    for (name, content) in [
        (configuration::IDENTITY, identity),
        (configuration::TRUST, trust),
    ] {
        let path = configuration::secret_file(folder, name);
        let new = path.with_extension("new");
        write_file(&new, content.to_string())?;
        std::fs::rename(&new, &path).map_err(|source| StackError::File {
            action: "replace",
            path,
            source,
        })?;
    }
    Ok(())
}
