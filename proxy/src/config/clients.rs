//! What clients meet: TLS and HTTP on the data listener.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::{Setting, options};
use super::period;
use super::problems::Section;

options! {
    /// TLS towards clients.
    pub struct TlsOptions {
        /// Required. Where the server certificates are: certificate stores or folders of PEM files, or single PEM files.
        pub certificates: Vec<PathBuf> = Vec::new() => r#"["certs/private"]"#;
        /// Time for the `ClientHello`, authorization and handshake together.
        #[serde(with = "period")]
        pub timeout: Duration = Duration::from_secs(10);
        /// How a link that is not approved is told: "answer" finishes the handshake and answers each request with a
        /// readable 403; "alert" sends the TLS alert `access_denied` and no handshake.
        pub refuse: RefuseBy = RefuseBy::Answer;
    }
}

/// How a connection whose link is not approved is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefuseBy {
    /// The handshake is finished, each request answered 403.
    Answer,
    /// TLS alert `access_denied`, no handshake.
    Alert,
}

impl Setting for RefuseBy {}

options! {
    /// HTTP towards clients.
    pub struct HttpOptions {
        /// Time until a request head must be whole.
        #[serde(with = "period")]
        pub header_timeout: Duration = Duration::from_secs(15);
        /// Time a connection may be open without a request.
        #[serde(with = "period")]
        pub idle_timeout: Duration = Duration::from_mins(2);
        /// Time a WebSocket may be silent in both directions.
        #[serde(with = "period")]
        pub upgraded_idle_timeout: Duration = Duration::from_hours(1);
        /// Bytes of a request head; a larger one is answered 431.
        pub head_bytes_max: usize = 65_536;
        /// Header fields of a request; more are answered 431.
        pub headers_max: usize = 128;
        /// HTTP/2 streams open at once on one connection.
        pub streams_max: u32 = 128;
        /// Requests in flight in the whole process; more are answered 503.
        pub requests_max: usize = 20_000;
    }
}

// Limit: a request head is held in memory for each connection: 1 MiB for each of 100000 is the machine.
const HEAD_BYTES: std::ops::RangeInclusive<usize> = 4096..=1_048_576;
// Limit: each field costs an entry in the header map; clients and browsers send fewer than 50.
const HEADERS: std::ops::RangeInclusive<usize> = 16..=1000;
// Limit: RFC 9113 section 6.5.2 advises at least 100; above 1000 one connection could hold the whole process.
const STREAMS: std::ops::RangeInclusive<u32> = 1..=1000;
// Limit: two file descriptors each at worst, below the kernel's default `nr_open` of 1048576.
const REQUESTS: std::ops::RangeInclusive<usize> = 1..=500_000;

impl TlsOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for location in &mut self.certificates {
            *location = folder.join(&location);
        }
    }

    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.require("certificates", !self.certificates.is_empty(), || {
            "is required: list where the server certificates are, as in [\"certs/private\"]".into()
        });
        at.wait("timeout", self.timeout);
    }
}

impl HttpOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("header_timeout", self.header_timeout);
        at.wait("idle_timeout", self.idle_timeout);
        at.wait("upgraded_idle_timeout", self.upgraded_idle_timeout);
        at.within("head_bytes_max", self.head_bytes_max, HEAD_BYTES);
        at.within("headers_max", self.headers_max, HEADERS);
        at.within("streams_max", self.streams_max, STREAMS);
        at.within("requests_max", self.requests_max, REQUESTS);
    }
}
