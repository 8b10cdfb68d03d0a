//! `postern-load pipe`: a byte pipe from one TLS connection to another, to know what no proxy can go below.
//!
//! PROXY v2 header → TLS → mutual TLS with the protocol that the client chose. It reads no HTTP, adds no header, decides,
//! counts and logs nothing, and opens a connection to the ingress for each one of a client. Not for production: it lets
//! everyone through.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, BufReader, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::stack::client::{ClientError, Tls};

/// Between which two connections.
#[derive(Debug, Clone, clap::Args)]
pub struct PipeOptions {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Folder with tls.crt and tls.key for clients
    #[arg(long, value_name = "FOLDER")]
    pub certificate: PathBuf,
    /// The ingress
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub ingress: SocketAddr,
    /// Its name
    #[arg(long)]
    pub name: String,
    /// Folder with tls.crt and tls.key for the ingress
    #[arg(long, value_name = "FOLDER")]
    pub identity: PathBuf,
    /// PEM file with the authority that signs the ingress's certificate
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
}

/// Why there is no pipe.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The certificates.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file with a certificate or key.
    #[error("a certificate or key cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// TLS does not take them.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The ingress's name.
    #[error("the name of the ingress is none")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    /// The runtime or the listener.
    #[error("cannot listen")]
    Listen(#[from] io::Error),
}

/// Both sides of every pipe.
struct Pipe {
    acceptor: TlsAcceptor,
    ingress: SocketAddr,
    name: ServerName<'static>,
    http1: TlsConnector,
    http2: TlsConnector,
}

/// Pipes on the calling thread until the process is ended.
pub fn run(options: PipeOptions) -> Result<(), PipeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(listen(options))
}

async fn listen(options: PipeOptions) -> Result<(), PipeError> {
    let mut client = Tls::with_identity(&options.trust, &options.identity)?.config();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let http1 = TlsConnector::from(Arc::new(ClientConfig::clone(&client)));
    client.alpn_protocols = vec![b"h2".to_vec()];
    let pipe = Arc::new(Pipe {
        acceptor: TlsAcceptor::from(Arc::new(server(&options.certificate)?)),
        ingress: options.ingress,
        name: ServerName::try_from(options.name)?,
        http1,
        http2: TlsConnector::from(Arc::new(client)),
    });
    let listener = TcpListener::bind(options.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let pipe = Arc::clone(&pipe);
        // Whatever ends a pipe, the load generator sees and counts it.
        tokio::spawn(async move { pipe.serve(stream).await });
    }
}

fn server(folder: &Path) -> Result<ServerConfig, PipeError> {
    let chain = CertificateDer::pem_file_iter(folder.join("tls.crt"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key"))?;
    let mut provider = aws_lc_rs::default_provider();
    // As Postern has it: the cheapest of what both sides know.
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

impl Pipe {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).await?;
        let length = u16::from_be_bytes([fixed[14], fixed[15]]);
        let mut rest = vec![0; length.into()];
        stream.read_exact(&mut rest).await?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let mut client = self.acceptor.accept(stream).await?;
        let connector = match client.get_ref().1.alpn_protocol() {
            Some(b"h2") => &self.http2,
            _ => &self.http1,
        };
        let stream = TcpStream::connect(self.ingress).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let mut ingress = connector.connect(self.name.clone(), stream).await?;
        copy_bidirectional_with_sizes(&mut client, &mut ingress, COPY_BYTES, COPY_BYTES).await?;
        Ok(())
    }
}

// Limit: rustls reads 4 KiB a call from a socket that is not buffered; Postern reads 128 KiB.
const READ_BYTES: usize = 128 * 1024;
// Limit: four records.
const COPY_BYTES: usize = 64 * 1024;
