//! A connection to an ingress endpoint: TCP, then mutual TLS, then HTTP by ALPN.
//!
//! The name that is sent and verified is the cluster's logical name, against the internal CA alone. There is
//! no option to skip it and no public root to fall back to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::credentials::ClientCredentials;
use crate::read_ahead::ReadAhead;
use crate::request::body::RequestBody;
use crate::short_slices::{ShortSlices, TLS_BUFFER_BYTES};
use crate::upstream::Options;
use crate::upstream::cluster::{Cluster, Protocol};
use crate::upstream::http2;
use crate::upstream::tally::{Tallied, Tally};

/// A connection, ready for its first request.
pub enum Opened {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Many requests at a time.
    Http2(http2::Sender),
}

/// Why an endpoint could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP did not connect.
    #[error("TCP connect failed")]
    Tcp(#[source] io::Error),
    /// TLS failed: the ingress's certificate was refused, or ours was.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The endpoint does not speak the HTTP that the configuration demands.
    #[error("the endpoint does not speak HTTP/2")]
    Alpn,
    /// HTTP did not start.
    #[error("HTTP handshake failed")]
    Http(#[source] hyper::Error),
    /// HTTP/2 did not start.
    #[error("HTTP/2 did not start")]
    Http2(#[source] h2::Error),
    /// It took too long.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
}

impl ConnectError {
    /// Whether the endpoint is there and does not speak the HTTP it was asked for (RFC 7301 section 3.2).
    pub fn is_alpn(&self) -> bool {
        let refused = |error: &io::Error| {
            let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
            let alert = AlertDescription::NoApplicationProtocol;
            (*error == rustls::Error::AlertReceived(alert)).then_some(())
        };
        match self {
            Self::Alpn => true,
            Self::Tls(error) => refused(error).is_some(),
            _ => false,
        }
    }
}

/// Connects. The connection is in `tally` until its socket is closed.
pub async fn open(
    endpoint: SocketAddr,
    cluster: &Cluster,
    protocol: Protocol,
    identity: &ClientCredentials,
    options: Options,
    tally: &Arc<Tally>,
) -> Result<Opened, ConnectError> {
    timeout(
        options.connect_timeout,
        establish(endpoint, cluster, protocol, identity, tally),
    )
    .await
    .map_err(|_| ConnectError::Timeout(options.connect_timeout))?
}

async fn establish(
    endpoint: SocketAddr,
    cluster: &Cluster,
    protocol: Protocol,
    identity: &ClientCredentials,
    tally: &Arc<Tally>,
) -> Result<Opened, ConnectError> {
    let tcp = TcpStream::connect(endpoint)
        .await
        .map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let tls = TlsConnector::from(identity.tls(protocol));
    let mut stream = tls
        .connect(cluster.server_name.clone(), ReadAhead::new(tcp))
        .await
        .map_err(ConnectError::Tls)?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let generation = identity.generation;
    let stream = Tallied::new(ShortSlices::new(stream), tally.enter(generation));
    match (speaks_http2, protocol) {
        (true, _) => {
            let started = http2::start(stream).await;
            let (sender, connection) = started.map_err(ConnectError::Http2)?;
            tally.drive(generation, connection);
            Ok(Opened::Http2(sender))
        }
        (false, Protocol::Http2) => Err(ConnectError::Alpn),
        (false, _) => {
            let (sender, connection) = http1(TokioIo::new(stream)).await?;
            tally.drive(generation, connection);
            Ok(Opened::Http1(sender))
        }
    }
}

/// Starts HTTP/1.1, and gives what drives the connection.
async fn http1(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
) -> Result<
    (
        http1::SendRequest<RequestBody>,
        impl Future<Output = ()> + Send + 'static,
    ),
    ConnectError,
> {
    let (sender, connection) = http1::Builder::new()
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .handshake(io)
        .await
        .map_err(ConnectError::Http)?;
    let driven = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the ingress ended");
        }
    };
    Ok((sender, driven))
}

// Limit: an answer's head; a DICOMweb or FHIR server sends a few hundred bytes. hyper's own bound of 100 fields
// stands: any other makes it allocate their table for each answer.
const HEAD_BYTES_MAX: usize = 128 * 1024;
const HTTP1_BUFFER_BYTES: usize = 128 * 1024;
