//! What the tests share: the stacks they run against, and what they look at.

use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::Deadline;
use postern_loadtests::stack::accounts::{CERTIFICATE_NAME, HOST_A, INGRESS_NAME, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, STEP_TIMEOUT, Tls, open};
use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::echo::{Echo, Seen};
use postern_loadtests::stack::ingress::{Ingress, IngressKind};
use postern_loadtests::stack::metrics::Metrics;
use postern_loadtests::stack::postern::{Postern, PosternOptions};
use postern_loadtests::stack::scripted::Scripted;
use postern_loadtests::stack::wire::{Message, Wire};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection of a client that writes its own HTTP/1.1.
pub type ClientWire = Wire<TlsStream<TcpStream>>;

/// How Postern speaks to which ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub ingress: IngressKind,
    pub protocol: &'static str,
}

impl Way {
    /// Both ingresses by both protocols.
    pub const ALL: [Self; 4] = [
        Self::new(IngressKind::Nginx, "http1"),
        Self::new(IngressKind::Nginx, "auto"),
        Self::new(IngressKind::Envoy, "http1"),
        Self::new(IngressKind::Envoy, "auto"),
    ];

    pub const fn new(ingress: IngressKind, protocol: &'static str) -> Self {
        Self { ingress, protocol }
    }

    /// What the log calls the protocol.
    pub fn logged(self) -> &'static str {
        if self.protocol == "http1" {
            "HTTP/1.1"
        } else {
            "HTTP/2.0"
        }
    }
}

/// What the log calls the client's protocol.
pub fn logged(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2.0",
    }
}

/// Postern, and a client of hospital A.
pub struct Front {
    pub postern: Postern,
    pub credentials: Credentials,
    tls: Tls,
    folder: TempDir,
}

impl Front {
    async fn start(folder: TempDir, credentials: Credentials, options: PosternOptions) -> Self {
        let place = folder.path().join("postern");
        let postern = Postern::start(&place, &credentials, &options)
            .await
            .unwrap();
        let tls = Tls::trusting(&credentials.public_ca).unwrap();
        Self {
            postern,
            credentials,
            tls,
            folder,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection of link A for host A.
    pub async fn connect(&self, protocol: Protocol) -> Connection {
        self.tls
            .connect(self.postern.data(), &Header::link(LINK_A), HOST_A, protocol)
            .await
            .unwrap()
    }

    /// The same, of which only TLS is done.
    pub async fn secure(&self, protocol: Protocol) -> TlsStream<TcpStream> {
        let stream = open(self.postern.data(), None, &Header::link(LINK_A))
            .await
            .unwrap();
        self.tls
            .handshake(stream, Some(HOST_A), protocol)
            .await
            .unwrap()
    }

    /// The same, for HTTP/1.1 byte by byte.
    pub async fn wire(&self) -> ClientWire {
        Wire::new(self.secure(Protocol::Http1).await)
    }

    /// Sends `request` on a connection of its own and gives the answer.
    pub async fn exchange(&self, request: &str) -> Message {
        let mut wire = self.wire().await;
        wire.send(request).await.unwrap();
        wire.answer().await.unwrap()
    }

    pub async fn metrics(&self) -> Metrics {
        self.postern.metrics().await.unwrap()
    }

    /// Waits for the log line of the request for `path`, and checks that it says what is `expected`.
    pub async fn told(&self, path: &str, expected: &Value) -> Value {
        let line = self
            .postern
            .logged(path, |line| line["path"] == path)
            .await
            .unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key} in {line}");
        }
        line
    }

    /// Resident memory of the process now, in bytes.
    pub fn resident(&mut self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever was.
    pub fn resident_peak(&mut self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&mut self, field: &str) -> u64 {
        let status = format!("/proc/{}/status", self.postern.child().pid());
        let text = std::fs::read_to_string(status).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        let kilobytes = line.split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }
}

/// By how much a metric grew.
pub fn grown(before: &Metrics, after: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    let growth = after.sum(name, labels) - before.sum(name, labels);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole and grow"
    )]
    let growth = growth.round() as u64;
    growth
}

/// Postern between a client and a real ingress with the back end behind it.
pub struct Stack {
    front: Front,
    pub ingress: Ingress,
    pub echo: Echo,
}

impl Deref for Stack {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Stack {
    pub async fn start(way: Way) -> Self {
        Self::with(way, |options| options).await
    }

    pub async fn with(way: Way, change: impl FnOnce(PosternOptions) -> PosternOptions) -> Self {
        let (folder, credentials) = credentials();
        let echo = Echo::start(None).await.unwrap();
        let ingress = Ingress::start(
            way.ingress,
            folder.path(),
            &credentials,
            way.protocol != "http1",
            echo.address(),
        );
        let ingress = ingress.await.unwrap();
        let options = PosternOptions {
            ingress_protocol: way.protocol,
            ..PosternOptions::new(ingress.address())
        };
        Self {
            front: Front::start(folder, credentials, change(options)).await,
            ingress,
            echo,
        }
    }

    pub fn front(&mut self) -> &mut Front {
        &mut self.front
    }

    /// Waits until the back end has the request for `uri`.
    pub async fn saw(&self, uri: &str) -> Seen {
        self.echo.saw(uri, |seen| seen.uri == uri).await.unwrap()
    }

    /// Whether a request for `uri` came as far as the back end.
    pub fn arrived(&self, uri: &str) -> bool {
        self.echo.seen().iter().any(|seen| seen.uri == uri)
    }
}

/// Postern in front of the back end itself, which is the ingress: nothing in between changes anything.
pub struct Direct {
    front: Front,
    pub echo: Echo,
}

impl Deref for Direct {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Direct {
    pub async fn start(protocol: Protocol) -> Self {
        Self::with(protocol, |options| options).await
    }

    pub async fn with(
        protocol: Protocol,
        change: impl FnOnce(PosternOptions) -> PosternOptions,
    ) -> Self {
        let (folder, credentials) = credentials();
        let echo = Echo::start_as_ingress(&credentials, alpn(protocol)).await;
        let echo = echo.unwrap();
        let options = change(PosternOptions::new(echo.address()));
        Self {
            front: Front::start(folder, credentials, options).await,
            echo,
        }
    }

    pub fn front(&mut self) -> &mut Front {
        &mut self.front
    }

    /// Waits until the back end has the request for `uri`.
    pub async fn saw(&self, uri: &str) -> Seen {
        self.echo.saw(uri, |seen| seen.uri == uri).await.unwrap()
    }
}

/// Postern in front of an ingress that the test plays.
pub struct Played {
    front: Front,
    pub ingress: Scripted,
}

impl Deref for Played {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Played {
    /// One that speaks HTTP/1.1.
    pub async fn start() -> Self {
        Self::with(Protocol::Http1, |options| options).await
    }

    pub async fn with(
        protocol: Protocol,
        change: impl FnOnce(PosternOptions) -> PosternOptions,
    ) -> Self {
        let (folder, credentials) = credentials();
        let identity = credentials.ingress.clone();
        let ingress = Scripted::listen(&credentials, &identity, alpn(protocol)).await;
        let ingress = ingress.unwrap();
        let options = change(PosternOptions::new(ingress.address()));
        Self {
            front: Front::start(folder, credentials, options).await,
            ingress,
        }
    }
}

pub fn credentials() -> (TempDir, Credentials) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("certs");
    let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME).unwrap();
    (folder, credentials)
}

fn alpn(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Http1 => &["http/1.1"],
        Protocol::Http2 => &["h2"],
    }
}

/// Waits until `progress` has not grown for a while, and gives how far it came: something holds it back.
pub async fn stalled(mut progress: impl FnMut() -> u64) -> u64 {
    let (mut last, mut since) = (progress(), Instant::now());
    let held = Deadline::after(STEP_TIMEOUT).poll(async || {
        let now = progress();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (last > 0 && since.elapsed() >= STALL).then_some(last)
    });
    held.await.unwrap_or_else(|| panic!("it goes on: {last}"))
}

// Limit: without progress for so long, a transfer on the loopback interface is held back by back-pressure.
const STALL: Duration = Duration::from_millis(700);
