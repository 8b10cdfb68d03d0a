//! The sections of one thing each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_chassis::log::LogLevel;
use postern_chassis::{Section, Setting, options, period};
use serde::{Deserialize, Serialize};

options! {
    /// Where it listens.
    pub struct ListenOptions {
        /// Address and port.
        pub address: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8450));
    }
}

options! {
    /// The certificates of both sides. They are read again when they change; open connections keep theirs.
    pub struct TlsOptions {
        /// Required. Where our server certificate is: a certificate store, a folder of PEM files, or one PEM file.
        pub identity: PathBuf = PathBuf::new() => r#""certs/server""#;
        /// Required. Where the certificate authorities are that sign the clients' certificates.
        pub trust: PathBuf = PathBuf::new() => r#""certs/trust""#;
        /// Time between looks at both for a change.
        #[serde(with = "period")]
        pub reload_interval: Duration = Duration::from_secs(1);
        /// Time for a TLS handshake.
        #[serde(with = "period")]
        pub handshake_timeout: Duration = Duration::from_secs(5);
    }
}

options! {
    /// Where it keeps the books.
    pub struct StoreOptions {
        /// "sqlite": a file on a local disk of this machine.
        pub kind: StoreKind = StoreKind::Sqlite;
        /// Required. The file of the database. It is made if it is not there; two more appear beside it.
        pub path: PathBuf = PathBuf::new() => r#""routing.sqlite""#;
        /// Private endpoint connections that an account may have, unless it says otherwise itself.
        pub connections_max: u32 = 100;
    }
}

/// What keeps the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// `SQLite`, embedded.
    Sqlite,
}

impl Setting for StoreKind {}

options! {
    /// The data plane's lookups.
    pub struct LookupOptions {
        /// How long an answer may be used without asking again, by whoever does not follow the changes; in whole seconds.
        #[serde(with = "period")]
        pub max_age: Duration = Duration::from_mins(1);
    }
}

options! {
    /// The log of changes, and the streams that tell the data plane of them.
    pub struct ChangesOptions {
        /// Time between signs of life on a stream. Who hears none for three times as long takes it for broken.
        #[serde(with = "period")]
        pub heartbeat: Duration = Duration::from_secs(5);
        /// Changes that are kept. Who missed older ones takes a snapshot.
        pub kept: u64 = 1_000_000;
        /// Streams open at once; one more is answered 503.
        pub subscribers_max: usize = 2048;
        /// Time that a stream's reader may take none of what is sent; then its connection is cut. Also a snapshot's.
        #[serde(with = "period")]
        pub stall_timeout: Duration = Duration::from_secs(15);
    }
}

options! {
    /// How much it takes on.
    pub struct LimitOptions {
        /// Connections open at once; one more waits to be accepted.
        pub connections_max: usize = 4096;
        /// HTTP/2 streams open at once on one connection.
        pub streams_max: u32 = 256;
        /// Requests in work at once, without streams that are being followed; one more is answered 503.
        pub requests_max: usize = 1024;
        /// Time a request may take until its answer begins.
        #[serde(with = "period")]
        pub request_timeout: Duration = Duration::from_secs(10);
        /// Age at which a connection is ended in good order, so that certificates and addresses are looked at anew.
        /// It ends with its client's certificate, too.
        #[serde(with = "period")]
        pub connection_age_max: Duration = Duration::from_hours(12);
        /// Time that requests get to end when the process stops or a connection has its age.
        #[serde(with = "period")]
        pub drain_timeout: Duration = Duration::from_secs(10);
    }
}

options! {
    /// The admin listener.
    pub struct AdminOptions {
        /// Address and port to listen on: plain HTTP without authentication, so keep it on the loopback.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9093));
    }
}

options! {
    /// The operational log.
    pub struct LogOptions {
        /// "off", "error", "warn", "info", "debug" or "trace".
        pub level: LogLevel = LogLevel::Info;
    }
}

const MILLISECONDS_10: Duration = Duration::from_millis(10);
const MINUTES_10: Duration = Duration::from_mins(10);
const DAY: Duration = Duration::from_hours(24);
// Limit: as many private endpoints as a Private Link Service takes; see `model::ConnectionsMax`.
const CONNECTIONS_MAX: u32 = 1000;
// Limit: a change has 1 to 10 KB on the disk; ten million are some 10 GB.
const KEPT_MAX: u64 = 10_000_000;

impl ListenOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.port("address", self.address);
    }
}

impl TlsOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.require("identity", !self.identity.as_os_str().is_empty(), || {
            "is required: where our server certificate is".into()
        });
        at.require("trust", !self.trust.as_os_str().is_empty(), || {
            "is required: where the certificate authorities of the clients are".into()
        });
        at.period(
            "reload_interval",
            self.reload_interval,
            MILLISECONDS_10..=MINUTES_10,
        );
        at.wait("handshake_timeout", self.handshake_timeout);
    }
}

impl StoreOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.require("path", !self.path.as_os_str().is_empty(), || {
            "is required: the file of the database".into()
        });
        at.within("connections_max", self.connections_max, 1..=CONNECTIONS_MAX);
    }
}

impl LookupOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.period("max_age", self.max_age, Duration::ZERO..=DAY);
        at.require("max_age", self.max_age.subsec_nanos() == 0, || {
            "must be whole seconds".into()
        });
    }

    /// In seconds.
    pub(crate) fn seconds(&self) -> u32 {
        u32::try_from(self.max_age.as_secs()).unwrap_or(u32::MAX)
    }
}

impl ChangesOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.period("heartbeat", self.heartbeat, MILLISECONDS_10..=MINUTES_10);
        at.within("kept", self.kept, 1..=KEPT_MAX);
        at.within("subscribers_max", self.subscribers_max, 1..=100_000);
        at.wait("stall_timeout", self.stall_timeout);
    }
}

impl LimitOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.within("connections_max", self.connections_max, 1..=100_000);
        at.within("streams_max", self.streams_max, 1..=10_000);
        at.within("requests_max", self.requests_max, 1..=100_000);
        at.wait("request_timeout", self.request_timeout);
        at.wait("connection_age_max", self.connection_age_max);
        at.wait("drain_timeout", self.drain_timeout);
    }
}

impl AdminOptions {
    pub(super) fn validate(&self, service: &ListenOptions, mut at: Section<'_>) {
        at.port("listen", self.listen);
        at.require("listen", self.listen != service.address, || {
            format!("`{}` is already listen.address", self.listen)
        });
    }
}
