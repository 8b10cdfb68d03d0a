//! The configuration: one TOML file, overrides from the environment, typed options with defaults.
//!
//! Promises that a [`Config`] from [`Config::load`] is whole and makes sense: required keys are set, waits are
//! not zero, sizes are within bounds, names that refer to something exist, paths are absolute if the file's own is.
//! Never opens what a path names, never holds a secret.
//!
//! How options are declared, read and checked is [`postern_chassis`]'s part. Variables that begin with
//! `POSTERN_CONTROL_` or `POSTERN_ROUTING_` are `postern-control`'s and ignored here.
//!
//! Each section is a small struct of its own. A part of the proxy is given its section, never the `Config`.
//!
//! Invariant: `postern defaults` prints every key there is, with the default that is in force.

mod change;
mod clients;
mod listeners;
mod operation;
mod routes;
#[cfg(test)]
mod tests;
mod upstream;

use std::fmt;
use std::path::Path;

pub use postern_chassis::log::{InvalidLogLevel, LogLevel};
pub use postern_chassis::{ConfigError, Findings};
use postern_chassis::{Root, Section, Setting, options};
use serde::{Deserialize, Serialize};

pub use change::{Changes, Incomparable};
pub use clients::{CertificatePlace, HttpOptions, RefuseBy, TlsOptions};
pub use listeners::{AdminOptions, DataOptions, ProbeOptions, ProxyHeaderOptions};
pub use operation::{
    AccessLogOptions, AccessLogOutput, CredentialOptions, DrainOptions, LogOptions, UpgradeOptions,
};
pub use routes::{
    Endpoint, Host, InvalidEndpoint, RouteCacheOptions, RouteOptions, RouteServiceOptions,
};
pub use upstream::{ClusterEndpoint, ClusterOptions, UpstreamOptions, UpstreamProtocol};

options! {
    /// Everything that can be configured.
    pub struct Config {
        /// "enforce" decides who may reach what. "audit" decides, logs `would_refuse`, and lets through. "forward" does
        /// not look up: it hands link id and client address to a back end that decides itself.
        pub mode: Mode = Mode::Enforce;
        /// The cluster that everything goes to. Required with mode = "forward", refused otherwise.
        pub forward_cluster: Option<String> = None => r#""dicom""#;
        /// Threads, each with its own listener socket and upstream connections. 0 is one for each core.
        pub workers: usize = 0;
        /// The data listener: PROXY v2 header, TLS, HTTP.
        pub data: DataOptions = DataOptions::default();
        /// The probe listener, for the load balancer, the scale set's health extension and Traffic Manager.
        pub probe: ProbeOptions = ProbeOptions::default();
        /// The admin listener: metrics, certificates, connections, drain.
        pub admin: AdminOptions = AdminOptions::default();
        /// The PROXY v2 header in front of each data connection.
        pub proxy_header: ProxyHeaderOptions = ProxyHeaderOptions::default();
        /// TLS towards clients.
        pub tls: TlsOptions = TlsOptions::default();
        /// HTTP towards clients.
        pub http: HttpOptions = HttpOptions::default();
        /// Where routes come from.
        pub routes: RouteOptions = RouteOptions::default();
        /// The cache of routing answers.
        pub route_cache: RouteCacheOptions = RouteCacheOptions::default();
        /// Mutual TLS to the ingress.
        pub upstream: UpstreamOptions = UpstreamOptions::default();
        /// How rotated credentials are noticed.
        pub credentials: CredentialOptions = CredentialOptions::default();
        /// The access log: one line of JSON for each request and each refused connection. Lines are written within a
        /// tenth of a second; a kill loses those that are not, a graceful end none.
        pub access_log: AccessLogOptions = AccessLogOptions::default();
        /// The operational log: JSON to standard error.
        pub log: LogOptions = LogOptions::default();
        /// How the process goes away.
        pub drain: DrainOptions = DrainOptions::default();
        /// How a new process takes over (SIGUSR2).
        pub upgrade: UpgradeOptions = UpgradeOptions::default();
    }
}

/// Whether decisions are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decide and refuse.
    Enforce,
    /// Decide, log what would have been refused, let through.
    Audit,
    /// Do not decide; the back end does.
    Forward,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::Audit, Self::Forward];

    /// The word in the configuration, in metrics and in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Forward => "forward",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Setting for Mode {}

// Limit: more threads than any machine of today has cores.
const WORKERS_MAX: usize = 1024;

const INTRODUCTION: &str = "\
# Every option of `postern`, with its default. Written by `postern defaults`.
#
# A key without a default is shown as a comment, with an example. Lengths of time have a unit: \"250ms\", \"10s\",
# \"1h\". Relative paths are relative to the folder of the configuration file. An environment variable overrides a
# key: POSTERN_DATA__LISTEN=0.0.0.0:9443, with two underscores between levels and commas between the items of a list.
#
# SIGHUP has a running process take up a changed file: all of it, or nothing if any of it is not good. Bounds of
# connections and requests ([proxy_header], [tls], [http], upstream.response_timeout) then hold for connections that are
# opened from then on, the rest for all. These keys a running process cannot take up, and a reload that finds one of
# them changed is refused; SIGUSR2 or a restart takes them up:
#   mode, forward_cluster, workers, data.listen, data.tcp_keepalive, probe.listen, admin.listen, routes.file,
#   routes.service, route_cache, access_log.

";

impl Root for Config {
    const PROGRAM: &'static str = "postern";
    const PREFIX: &'static str = "POSTERN_";
    // `postern-control` may run with the same environment, so no option of ours may begin with `control` or `routing`.
    const OTHERS: &'static [&'static str] = &["POSTERN_CONTROL_", "POSTERN_ROUTING_"];
    const INTRODUCTION: &'static str = INTRODUCTION;

    fn resolve(&mut self, folder: &Path) {
        self.tls.resolve(folder);
        self.routes.resolve(folder);
        self.upstream.resolve(folder);
        self.access_log.resolve(folder);
    }

    fn validate(&self, mut at: Section<'_>) {
        self.validate_mode(&mut at);
        at.within("workers", self.workers, 0..=WORKERS_MAX);
        self.data.validate(at.under("data"));
        self.probe.validate(at.under("probe"));
        self.admin.validate(at.under("admin"));
        for (key, other) in [("probe", self.probe.listen), ("admin", self.admin.listen)] {
            at.under(key)
                .require("listen", other != self.data.listen, || {
                    format!("`{other}` is already data.listen")
                });
        }
        at.under("admin")
            .require("listen", self.admin.listen != self.probe.listen, || {
                format!("`{}` is already probe.listen", self.probe.listen)
            });
        self.proxy_header.validate(at.under("proxy_header"));
        self.tls.validate(at.under("tls"));
        self.http.validate(at.under("http"));
        self.routes.validate(
            self.mode != Mode::Forward,
            &self.route_cache,
            at.under("routes"),
        );
        self.route_cache.validate(at.under("route_cache"));
        self.upstream.validate(at.under("upstream"));
        self.credentials.validate(at.under("credentials"));
        self.access_log.validate(at.under("access_log"));
        self.drain.validate(at.under("drain"));
        self.upgrade.validate(at.under("upgrade"));
    }
}

impl Config {
    /// Reads the file, puts `POSTERN_*` of `env` on top, and validates the whole.
    pub fn load(
        path: &Path,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        postern_chassis::load(path, env)
    }

    /// Every option with its default and what it does, as a TOML file.
    pub fn print_defaults() -> String {
        postern_chassis::print_defaults::<Self>()
    }

    fn validate_mode(&self, at: &mut Section<'_>) {
        match (&self.forward_cluster, self.mode) {
            (None, Mode::Forward) => at.require("forward_cluster", false, || {
                "is required with mode = \"forward\": the name of a cluster".into()
            }),
            (Some(name), Mode::Forward) => {
                at.require(
                    "forward_cluster",
                    self.upstream.clusters.contains_key(name),
                    || format!("there is no [upstream.clusters.{name}]"),
                );
            }
            (Some(_), mode) => at.require("forward_cluster", false, || {
                format!("has a meaning only with mode = \"forward\", and mode is \"{mode}\"")
            }),
            (None, _) => {}
        }
    }
}
