//! What clients meet: TLS and HTTP on the data listener.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_api::HostName;
use postern_chassis::{Section, Setting, options, period};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

options! {
    /// TLS towards clients.
    pub struct TlsOptions {
        /// Required. Where the server certificates are: certificate stores or folders of PEM files, or single PEM files.
        /// A place may say which names its certificate must cover, always: { path = "certs/private", names = ["*.dicom.example"] }.
        /// A certificate that does not is refused and the one in use stays.
        pub certificates: Vec<CertificatePlace> = Vec::new() => r#"["certs/private"]"#;
        /// Where the session-ticket keys are that the fleet shares, so that a client resumes on any instance: a store or
        /// one file. Without them, or while none is good, tickets are good for this process alone.
        pub ticket_keys: Option<PathBuf> = None => r#""certs/tickets""#;
        /// Time for the `ClientHello`, authorization and handshake together.
        #[serde(with = "period")]
        pub timeout: Duration = Duration::from_secs(10);
        /// How a link that is not approved is told: "answer" finishes the handshake and answers each request with a
        /// readable 403; "alert" sends the TLS alert `access_denied` and no handshake.
        pub refuse: RefuseBy = RefuseBy::Answer;
    }
}

/// Where a server certificate is, and which names it must cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePlace {
    /// A certificate store, a folder of PEM files, or one PEM file.
    pub path: PathBuf,
    /// Names that every certificate from there must cover; none: whatever it covers.
    pub names: Vec<String>,
}

impl Setting for CertificatePlace {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedPlace {
    path: PathBuf,
    #[serde(default)]
    names: Vec<String>,
}

impl<'de> Deserialize<'de> for CertificatePlace {
    /// From a path, or from a table of `path` and `names`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrTable;
        impl<'de> Visitor<'de> for PathOrTable {
            type Value = CertificatePlace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a table of path and names")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<CertificatePlace, E> {
                Ok(CertificatePlace {
                    path: path.into(),
                    names: Vec::new(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CertificatePlace, A::Error> {
                let NamedPlace { path, names } =
                    NamedPlace::deserialize(MapAccessDeserializer::new(map))?;
                Ok(CertificatePlace { path, names })
            }
        }
        deserializer.deserialize_any(PathOrTable)
    }
}

impl Serialize for CertificatePlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.names.is_empty() {
            self.path.serialize(serializer)
        } else {
            let Self { path, names } = self.clone();
            NamedPlace { path, names }.serialize(serializer)
        }
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
        pub headers_max: usize = 100;
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
        for place in &mut self.certificates {
            place.path = folder.join(&place.path);
        }
        if let Some(path) = &mut self.ticket_keys {
            *path = folder.join(&path);
        }
    }

    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.require("certificates", !self.certificates.is_empty(), || {
            "is required: list where the server certificates are, as in [\"certs/private\"]".into()
        });
        for name in self.certificates.iter().flat_map(|place| &place.names) {
            let host = name.strip_prefix("*.").unwrap_or(name);
            at.require("certificates", HostName::parse(host).is_ok(), || {
                format!("`{name}` is neither a host name nor a wildcard as *.dicom.example")
            });
        }
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
