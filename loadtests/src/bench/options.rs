//! What to ask of a load generator.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::Method;
use postern_api::LinkId;

/// What to send where, and how much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchOptions {
    /// Where to connect: the data listener of Postern, or of another proxy
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: SocketAddr,
    /// PEM file with the authorities to trust
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// Folder with tls.crt and tls.key to show as a client certificate
    #[arg(long, value_name = "FOLDER")]
    pub identity: Option<PathBuf>,

    /// Link id for the PROXY header; repeatable, with one --host for each or one for all
    #[arg(long, value_name = "NUMBER")]
    pub link_id: Vec<LinkId>,
    /// Host name for SNI and Host; repeatable
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Route file of Postern: every approved link with every host of its account, in turn
    #[arg(long, value_name = "FILE", conflicts_with_all = ["link_id", "host"])]
    pub routes: Option<PathBuf>,
    /// Begin connections with TLS at once
    #[arg(long)]
    pub no_proxy_header: bool,

    /// HTTP/1.1 or HTTP/2
    #[arg(long, value_enum, default_value_t)]
    pub protocol: BenchProtocol,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value = "16")]
    pub connections: NonZeroU32,
    /// Requests at a time on each HTTP/2 connection
    #[arg(long, value_name = "M", default_value = "1")]
    pub streams: NonZeroU32,
    /// A new connection for each request, with a full or a resumed TLS handshake
    #[arg(long, value_enum)]
    pub handshake: Option<Handshake>,
    /// Offer the key exchange X25519 and no other, as a client that knows of no ML-KEM
    #[arg(long)]
    pub x25519: bool,

    /// Path and query to ask for
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// Method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: Method,
    /// Bytes of body to send with each request
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub upload: u64,

    /// Requests a second, due whether or not earlier ones were answered [default: as many as are answered]
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,
    /// How long to go on [default: 10, unless --requests says how many]
    #[arg(long, value_name = "S")]
    pub seconds: Option<Seconds>,
    /// How many requests to send
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub requests: Option<u64>,
    /// Open N connections, send one request on each, and hold them for --seconds or until Ctrl-C
    #[arg(long, value_name = "N", conflicts_with_all = ["requests", "rate", "handshake"])]
    pub idle: Option<u32>,

    /// Write the report as JSON; `-` is standard output, instead of text
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Which HTTP to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BenchProtocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2.
    H2,
}

impl BenchProtocol {
    /// `h1` or `h2`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        }
    }

    pub(super) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

/// How each connection of one request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Handshake {
    /// With all of TLS.
    Full,
    /// With a ticket of an earlier connection, except the first ones.
    Resumed,
}

impl Handshake {
    /// `full` or `resumed`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// A positive length of time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds(Duration);

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(length) if !length.is_zero() && length <= LONGEST => Ok(Self(length)),
            _ => Err("must be more than 0 and at most 86400".to_owned()),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_secs_f64().fmt(f)
    }
}

// Limit: a day.
const LONGEST: Duration = Duration::from_hours(24);
