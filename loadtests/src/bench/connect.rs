//! A connection: TCP, PROXY header, TLS, HTTP.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use super::options::BenchProtocol;
use super::plan::{Plan, Target};
use super::tally::{Failure, Tally};

/// An open connection.
pub(super) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Upload>),
    /// Many.
    Http2(http2::SendRequest<Upload>),
}

impl Sender {
    /// Opens one.
    pub(super) async fn open(
        plan: &Plan,
        tls: Arc<ClientConfig>,
        target: &Target,
        tally: &Tally,
    ) -> Result<Self, Failure> {
        tokio::time::timeout(CONNECT_TIMEOUT, establish(plan, tls, target, tally))
            .await
            .unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Waits until it takes a request; false if it never will.
    pub(super) async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }

    /// Another handle on an HTTP/2 connection that is still open.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::Http2(sender) if !sender.is_closed() => Some(Self::Http2(sender.clone())),
            _ => None,
        }
    }
}

async fn establish(
    plan: &Plan,
    tls: Arc<ClientConfig>,
    target: &Target,
    tally: &Tally,
) -> Result<Sender, Failure> {
    let mut tcp = TcpStream::connect(plan.address)
        .await
        .map_err(|_| Failure::Connect)?;
    tcp.set_nodelay(true).map_err(|_| Failure::Connect)?;
    if !target.header.is_empty() {
        tcp.write_all(&target.header)
            .await
            .map_err(|_| Failure::Connect)?;
    }
    let io = BufReader::with_capacity(plan.read_bytes(), tcp);
    let stream = TlsConnector::from(tls)
        .connect(target.name.clone(), io)
        .await
        .map_err(|_| Failure::Tls)?;
    let session = stream.get_ref().1;
    if session.alpn_protocol().unwrap_or(b"http/1.1") != plan.protocol.alpn() {
        return Err(Failure::Alpn);
    }
    tally.connected(session.handshake_kind() == Some(HandshakeKind::Resumed));
    let io = TokioIo::new(stream);
    // How a connection ends, its requests tell; here it is only driven.
    match plan.protocol {
        BenchProtocol::H1 => {
            let (sender, driver) = http1::handshake(io).await.map_err(|_| Failure::Http)?;
            spawn_local(async move { drop(driver.await) });
            Ok(Sender::Http1(sender))
        }
        BenchProtocol::H2 => {
            let (sender, driver) = http2::Builder::new(Local)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .handshake(io)
                .await
                .map_err(|_| Failure::Http)?;
            spawn_local(async move { drop(driver.await) });
            Ok(Sender::Http2(sender))
        }
    }
}

/// Tasks stay on this thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move { drop(future.await) });
    }
}

/// A request's body: so many zeros.
#[derive(Debug)]
pub(super) struct Upload {
    left: u64,
}

impl Upload {
    pub(super) const fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        self.left -= length as u64;
        let chunk = Bytes::from_static(ZEROS.get(..length).unwrap_or_default());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

static ZEROS: [u8; 65_536] = [0; 65_536];

// Limit: TCP, TLS and HTTP of a new connection; on a loaded machine, with thousands of them at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_has_the_length_that_was_asked_for() {
        for bytes in [0, 1, 65_536, 65_537, 200_000] {
            let upload = Upload::new(bytes);
            assert_eq!(upload.size_hint().exact(), Some(bytes));
            let whole = upload.collect().await.unwrap().to_bytes();
            assert_eq!(whole.len() as u64, bytes);
        }
    }
}
