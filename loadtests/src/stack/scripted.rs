//! An ingress that a test plays itself, where nginx and Envoy are too well behaved.
//!
//! It demands our client certificate as they do, and hands each connection that carries a byte to the test.
//! Connections that carry none, such as health checks, are let go.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::STEP_TIMEOUT;
use super::credentials::Credentials;
use super::wire::Wire;
use super::{StackError, free_address};

// Limit: connections that the test has not asked for yet.
const WAITING_MAX: usize = 256;

/// A connection to the test's ingress: TLS is done, the first bytes are there.
pub type Taken = Wire<TlsStream<TcpStream>>;

/// A listening ingress; ends on drop.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    taken: mpsc::Receiver<Taken>,
    bytes_seen: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Listens with the certificate in the folder `identity`, and offers these protocols by ALPN.
    pub async fn listen(
        credentials: &Credentials,
        identity: &Path,
        protocols: &[&str],
    ) -> Result<Self, StackError> {
        Self::listen_on(free_address()?, credentials, identity, protocols).await
    }

    /// The same on this address.
    pub async fn listen_on(
        address: SocketAddr,
        credentials: &Credentials,
        identity: &Path,
        protocols: &[&str],
    ) -> Result<Self, StackError> {
        let listen = |source| StackError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let acceptor = acceptor(credentials, identity, protocols).map_err(listen)?;
        let (sender, taken) = mpsc::channel(WAITING_MAX);
        let bytes_seen = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, acceptor, sender, Arc::clone(&bytes_seen)));
        Ok(Self {
            address,
            taken,
            bytes_seen,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that carried at least one byte of plaintext so far.
    pub fn spoken_to(&self) -> u64 {
        self.bytes_seen.load(Ordering::Relaxed)
    }

    /// Listens no more; gives the address for whoever listens there next.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        // It was aborted: that is what it says.
        let _ = (&mut self.task).await;
        self.address
    }

    /// The next connection that carries a byte.
    pub async fn next(&mut self) -> io::Result<Taken> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(STEP_TIMEOUT, self.taken.recv())
            .await
            .map_err(late)?
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// TLS with the certificate in `identity`, for clients that show one of the internal authority.
pub fn acceptor(
    credentials: &Credentials,
    identity: &Path,
    protocols: &[&str],
) -> io::Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    for anchor in certificates(&credentials.trust.join("ca.crt"))? {
        roots.add(anchor).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(identity.join("tls.key")).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&identity.join("tls.crt"))?, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(io::Error::other)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    taken: mpsc::Sender<Taken>,
    spoken_to: Arc<AtomicU64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, taken) = (acceptor.clone(), taken.clone());
        let spoken_to = Arc::clone(&spoken_to);
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut wire = Wire::new(stream);
            // A connection that stays silent for the whole of a step is let go as well.
            if wire.readable().await.unwrap_or(false) {
                spoken_to.fetch_add(1, Ordering::Relaxed);
                // The test may be over.
                let _ = taken.send(wire).await;
            }
        });
    }
}
