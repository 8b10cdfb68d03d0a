//! `pingora-peer`: pingora-proxy doing Postern's job, to compare with. Not for production: it lets everyone through.
//!
//! PROXY v2 header → TLS → HTTP/1.1 or HTTP/2 → mutual TLS to one ingress, whose name is verified. It adds
//! `X-Forwarded-For`, keeps connections to the ingress, and writes an access log if asked to. pingora offers no
//! way to resume TLS with a client certificate.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::Parser;
use pingora_core::listeners::PreTlsProcess;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::{ALPN, GetSocketDigest as _, SocketDigest};
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora_core::{Error, ErrorType, OrErr as _, Result};
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// pingora-proxy with PROXY v2 in front and mutual TLS behind.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Folder with tls.crt and tls.key for clients
    #[arg(long)]
    certificate: PathBuf,
    /// The ingress
    #[arg(long)]
    ingress: SocketAddr,
    /// Its name
    #[arg(long)]
    name: String,
    /// Folder with tls.crt and tls.key for the ingress
    #[arg(long)]
    identity: PathBuf,
    /// PEM file with the authority that signs the ingress's certificate
    #[arg(long)]
    trust: PathBuf,
    /// Speak HTTP/1.1 to the ingress instead of HTTP/2
    #[arg(long)]
    http1: bool,
    /// Write a line for each request
    #[arg(long)]
    access_log: Option<PathBuf>,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed, the exit code says it alone.
            let _ = writeln!(io::stderr().lock(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: POOL_SIZE,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Peer::new(arguments)?);
    let file = |name: &str| arguments.certificate.join(name).display().to_string();
    let mut tls = TlsSettings::intermediate(&file("tls.crt"), &file("tls.key"))?;
    tls.enable_h2();
    service
        .endpoints()
        .set_pre_tls_callback(Arc::new(ProxyHeader));
    service.add_tls_with_settings(&arguments.listen.to_string(), None, tls);
    server.add_service(service);
    server.run_forever()
}

/// Reads a PROXY v2 header and takes the client's address from it.
struct ProxyHeader;

#[async_trait]
impl PreTlsProcess for ProxyHeader {
    async fn process(&self, stream: &mut Stream) -> Result<()> {
        let header = read_header(stream);
        let client = tokio::time::timeout(HEADER_TIMEOUT, header)
            .await
            .or_err(ErrorType::ReadTimedout, "no PROXY header in time")?
            .or_err(ErrorType::ReadError, "no PROXY header")?;
        if let Some(client) = client {
            // Whoever asks for the peer gets this one; nobody asked before TLS.
            let announced = SocketDigest::from_raw_fd(stream.as_raw_fd());
            let _ = announced.peer_addr.set(Some(PeerAddr::Inet(client)));
            stream.set_socket_digest(announced);
        }
        Ok(())
    }
}

async fn read_header(stream: &mut Stream) -> io::Result<Option<SocketAddr>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let [signature @ .., version, family, high, low] = fixed;
    if &signature != SIGNATURE || version & 0xf0 != 0x20 {
        return Err(malformed());
    }
    let length = u16::from_be_bytes([high, low]);
    if length > HEADER_BYTES_MAX {
        return Err(malformed());
    }
    let mut rest = vec![0; usize::from(length)];
    stream.read_exact(&mut rest).await?;
    // Only what the comparison sends is looked into: PROXY, TCP over IPv4.
    Ok(match (version & 0x0f, family, rest.as_slice()) {
        (1, 0x11, &[a, b, c, d, _, _, _, _, high, low, ..]) => {
            let port = u16::from_be_bytes([high, low]);
            Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
        }
        _ => None,
    })
}

struct Peer {
    upstream: HttpPeer,
    log: Option<Mutex<io::BufWriter<File>>>,
}

impl Peer {
    fn new(arguments: &Arguments) -> Result<Self, Box<dyn std::error::Error>> {
        let chain = certificates(&arguments.identity.join("tls.crt"))?;
        let key = PrivateKeyDer::from_pem_file(arguments.identity.join("tls.key"))?;
        let identity = CertKey::new(chain, key.secret_der().to_vec());
        let mut upstream = HttpPeer::new_mtls(
            arguments.ingress,
            arguments.name.clone(),
            Arc::new(identity),
        );
        let authorities = certificates(&arguments.trust)?;
        let authorities = authorities
            .into_iter()
            .map(|certificate| WrappedX509::new(certificate, parse_x509));
        upstream.options.ca = Some(authorities.collect());
        upstream.options.alpn = if arguments.http1 { ALPN::H1 } else { ALPN::H2 };
        upstream.options.max_h2_streams = STREAMS_MAX;
        upstream.options.h2_stream_window_size = Some(STREAM_WINDOW_BYTES);
        upstream.options.h2_connection_window_size = Some(CONNECTION_WINDOW_BYTES);
        let log = match &arguments.access_log {
            Some(path) => Some(Mutex::new(io::BufWriter::new(File::create(path)?))),
            None => None,
        };
        Ok(Self { upstream, log })
    }
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path)? {
        all.push(certificate?.to_vec());
    }
    Ok(all)
}

#[async_trait]
impl ProxyHttp for Peer {
    type CTX = Instant;

    fn new_ctx(&self) -> Instant {
        Instant::now()
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Instant) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut Instant,
    ) -> Result<()> {
        if let Some(PeerAddr::Inet(client)) = session.client_addr() {
            request.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        request.insert_header("X-Forwarded-Proto", "https")
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, begun: &mut Instant) {
        let Some(log) = &self.log else { return };
        let status = session
            .response_written()
            .map_or(0, |head| head.status.as_u16());
        let request = session.req_header();
        let (method, path) = (&request.method, request.uri.path());
        let client = session.client_addr().map(ToString::to_string);
        let client = client.as_deref().unwrap_or("-");
        let sent = session.body_bytes_sent();
        let micros = begun.elapsed().as_micros();
        let failed = error.is_some();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop traffic.
        let _ = writeln!(
            log,
            r#"{{"client":"{client}","method":"{method}","path":"{path}","status":{status},"bytes":{sent},"us":{micros},"failed":{failed}}}"#
        );
    }
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
// Limit: addresses and a few TLVs.
const HEADER_BYTES_MAX: u16 = 4096;
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
const POOL_SIZE: usize = 512;
const STREAMS_MAX: usize = 100;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
