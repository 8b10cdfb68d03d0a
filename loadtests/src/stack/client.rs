//! The test client: TCP, PROXY header, TLS and HTTP, each step by itself.
//!
//! [`open`] connects and writes the header, [`Tls::handshake`] does TLS with the SNI and ALPN of one's
//! choice, [`Connection`] speaks HTTP/1.1 or HTTP/2 over either. It believes nothing and hides nothing: it
//! never retries, follows no redirect and adds no header but `Host`.
//!
//! Invariant: every step ends within [`STEP_TIMEOUT`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::proxy_v2::Header;

/// How long connecting, a handshake, or an answer's head or body may take.
// Limit: generous, for a debug build on busy cores; a test that awaits silence sets its own.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(30);

// Limit: of an answer's content, this much is worth showing.
const SUMMARY_CHARS_MAX: usize = 120;

/// An error of whatever made a request's body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request of this client.
pub type RequestBody = BoxBody<Bytes, BodyError>;

/// Where the client failed, which is often what a test wants to know.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TCP, or writing the PROXY header.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The TLS handshake; [`ClientError::alert`] has the alert, if the server sent one.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The HTTP exchange.
    #[error("the HTTP exchange failed")]
    Http(#[from] hyper::Error),
    /// The request could not be built.
    #[error("the request is invalid")]
    Request(#[from] http::Error),
    /// Certificates could not be read or used.
    #[error("cannot use the certificates in {path}: {reason}")]
    Certificates {
        /// The file or folder.
        path: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A WebSocket was refused.
    #[error("the answer to a request for a WebSocket is {0}")]
    NoWebSocket(StatusCode),
    /// [`STEP_TIMEOUT`] passed, or the time that was given.
    #[error("no end of {0} in time")]
    Late(&'static str),
}

impl ClientError {
    /// The TLS alert that the server answered the handshake with.
    pub fn alert(&self) -> Option<rustls::AlertDescription> {
        let Self::Handshake(error) = self else {
            return None;
        };
        match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::AlertReceived(alert) => Some(*alert),
            _ => None,
        }
    }
}

/// Connects, from `source` if given, and writes the header.
pub async fn open(
    address: SocketAddr,
    source: Option<IpAddr>,
    header: &Header,
) -> Result<TcpStream, ClientError> {
    let connect = async {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let mut stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&header.bytes()).await?;
        Ok(stream)
    };
    limited("connecting", connect)
        .await?
        .map_err(|source| ClientError::Connect { address, source })
}

/// Which HTTP a client speaks over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// `h1` or `h2`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// The TLS side of the client.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the authorities in the PEM file `ca`, offers TLS 1.2 and 1.3, shows no certificate.
    pub fn trusting(ca: &Path) -> Result<Self, ClientError> {
        Self::new(ca, None, rustls::ALL_VERSIONS)
    }

    /// As [`Tls::trusting`], and shows `tls.crt` of the folder `identity` to the server.
    pub fn with_identity(ca: &Path, identity: &Path) -> Result<Self, ClientError> {
        Self::new(ca, Some(identity), rustls::ALL_VERSIONS)
    }

    /// With a choice of authorities, our certificate and protocol versions.
    pub fn new(
        ca: &Path,
        identity: Option<&Path>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, ClientError> {
        Self::with_provider(ca, identity, versions, aws_lc_rs::default_provider())
    }

    /// With every choice: as [`Tls::new`], and cipher suites and key exchanges.
    pub fn with_provider(
        ca: &Path,
        identity: Option<&Path>,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        for anchor in certificates(ca)? {
            roots.add(anchor).map_err(|error| unusable(ca, &error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .map_err(|error| unusable(ca, &error))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(folder) => {
                let path = folder.join("tls.key");
                let key =
                    PrivateKeyDer::from_pem_file(&path).map_err(|error| unusable(&path, &error))?;
                builder
                    .with_client_auth_cert(certificates(&folder.join("tls.crt"))?, key)
                    .map_err(|error| unusable(folder, &error))?
            }
        };
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// What a handshake starts from, for one that differs; tickets are shared with it.
    pub fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }

    /// The same, without the sessions of former handshakes, and with a place for its own as `resumption` says.
    #[must_use]
    pub fn resuming(&self, resumption: Resumption) -> Self {
        let mut config = self.config();
        config.resumption = resumption;
        Self {
            config: Arc::new(config),
        }
    }

    /// A TLS handshake for `sni` that offers one protocol. Without `sni` the extension is left out and the
    /// certificate is checked for `localhost`, which none of ours is valid for.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        sni: Option<&str>,
        protocol: Protocol,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        config.enable_sni = sni.is_some();
        let invalid =
            |error| ClientError::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error));
        let name = ServerName::try_from(sni.unwrap_or("localhost").to_owned()).map_err(invalid)?;
        let connector = TlsConnector::from(Arc::new(config));
        limited("the TLS handshake", connector.connect(name, stream))
            .await?
            .map_err(ClientError::Handshake)
    }

    /// [`open`], [`Tls::handshake`] and [`Connection::new`] in one: a connection ready for requests.
    pub async fn connect(
        &self,
        address: SocketAddr,
        header: &Header,
        sni: &str,
        protocol: Protocol,
    ) -> Result<Connection, ClientError> {
        let stream = open(address, None, header).await?;
        let stream = self.handshake(stream, Some(sni), protocol).await?;
        Connection::new(stream, protocol, sni).await
    }
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// An HTTP connection.
pub struct Connection {
    sender: Sender,
    host: String,
    task: AbortHandle,
}

impl Connection {
    /// Speaks `protocol` over `stream`; requests that name no host ask for `host`.
    pub async fn new<S>(stream: S, protocol: Protocol, host: &str) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        // How the connection itself ends, its requests tell; here it is only driven.
        let (sender, task) = match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await?;
                let task = tokio::spawn(async { drop(driver.with_upgrades().await) });
                (Sender::Http1(sender), task)
            }
            Protocol::Http2 => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
                let task = tokio::spawn(async { drop(driver.await) });
                (Sender::Http2(sender), task)
            }
        };
        Ok(Self {
            sender,
            host: host.to_owned(),
            task: task.abort_handle(),
        })
    }

    /// A cleartext HTTP/1.1 connection without a PROXY header: probes, metrics, the back end.
    pub async fn plain(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = open(address, None, &Header::Absent).await?;
        Self::new(stream, Protocol::Http1, &address.to_string()).await
    }

    /// A request for `path` of `host`, with that in `Host` or `:authority`.
    pub fn request_for(
        &self,
        host: &str,
        method: Method,
        path: &str,
    ) -> Result<http::request::Builder, ClientError> {
        let builder = Request::builder().method(method);
        Ok(match self.sender {
            Sender::Http1(_) => builder.uri(path).header(HOST, host),
            Sender::Http2(_) => {
                let uri = Uri::builder().scheme("https").authority(host);
                let uri = uri.path_and_query(path).build()?;
                builder.version(Version::HTTP_2).uri(uri)
            }
        })
    }

    /// A request for `path` of the connection's own host.
    pub fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<http::request::Builder, ClientError> {
        self.request_for(&self.host, method, path)
    }

    /// Sends a request and returns with the head of the answer.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.send_within(STEP_TIMEOUT, request).await
    }

    /// The same with another limit: the answer to a long upload comes late.
    pub async fn send_within(
        &mut self,
        limit: Duration,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        let late = |_| ClientError::Late("an answer's head");
        Ok(timeout(limit, answer).await.map_err(late)??)
    }

    /// Sends a request and reads the whole answer.
    pub async fn fetch(&mut self, request: Request<RequestBody>) -> Result<Answer, ClientError> {
        Answer::read(self.send(request).await?).await
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        let request = self.request(Method::GET, path)?.body(empty())?;
        self.fetch(request).await
    }

    /// A second handle on the same HTTP/2 connection, for concurrent requests; `None` over HTTP/1.1.
    pub fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else {
            return None;
        };
        let sender = Sender::Http2(sender.clone());
        Some(Self {
            sender,
            host: self.host.clone(),
            task: self.task.clone(),
        })
    }

    /// Whether the connection has ended or will take no other request.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Breaks the connection off, in the middle of whatever it does.
    pub fn abort(self) {
        self.task.abort();
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The protocol it came over.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Bytes,
    /// Its trailers, empty if there were none.
    pub trailers: HeaderMap,
}

impl Answer {
    /// Reads the rest of an answer.
    pub async fn read(response: Response<Incoming>) -> Result<Self, ClientError> {
        let (head, body) = response.into_parts();
        let whole = limited("an answer's body", body.collect()).await??;
        let trailers = whole.trailers().cloned().unwrap_or_default();
        let (status, version, headers) = (head.status, head.version, head.headers);
        Ok(Self {
            status,
            version,
            headers,
            body: whole.to_bytes(),
            trailers,
        })
    }

    /// The content as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and the first of the content, for a message.
    pub fn summary(&self) -> String {
        let text = self.text();
        let first: String = text.chars().take(SUMMARY_CHARS_MAX).collect();
        format!("{} {first:?}", self.status)
    }

    /// The content as JSON; `Null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A request without a body.
pub fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A request with these bytes as its body.
pub fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A request with any body, such as a channel that is still being written to.
pub fn streaming<B>(body: B) -> RequestBody
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed()
}

pub(super) async fn limited<F: Future>(
    step: &'static str,
    future: F,
) -> Result<F::Output, ClientError> {
    let late = |_| ClientError::Late(step);
    timeout(STEP_TIMEOUT, future).await.map_err(late)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Certificates {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}
