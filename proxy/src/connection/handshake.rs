//! The rest of the TLS handshake, with a client that was judged.
//!
//! Invariant: a [`Secured`] connection carries the standing that `authorize` gave it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use postern_api::{HostName, LinkId};
use rustls::{HandshakeKind, ProtocolVersion};
use tokio_rustls::server::TlsStream;

use crate::connection::accept::Seat;
use crate::connection::authorize::Standing;
use crate::connection::client_hello::{Greeted, TlsIo};
use crate::routing::RouteWatch;
use crate::short_slices::TLS_BUFFER_BYTES;

/// A connection whose handshake is complete.
pub struct Secured {
    /// Plaintext, both ways. Boxed: it is handed on from stage to stage.
    pub stream: Box<TlsStream<TlsIo>>,
    /// What it may do.
    pub standing: Standing,
    /// Tells when that may have changed.
    pub watch: Option<RouteWatch>,
    /// The name the client asked for.
    pub sni: HostName,
    /// The private endpoint.
    pub link_id: LinkId,
    /// The client's own address.
    pub client: SocketAddr,
    /// The TCP peer.
    pub source: SocketAddr,
    /// When it was accepted.
    pub opened: Instant,
    /// From accept to the last handshake byte.
    pub handshake: Duration,
    /// How long authorization took.
    pub authorize: Duration,
    /// Its place among the open connections.
    pub seat: Seat,
}

impl Secured {
    /// Whether the client chose HTTP/2 by ALPN (RFC 7301; RFC 9113 section 3.2).
    pub fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// `TLSv1.2` or `TLSv1.3`.
    pub fn tls_version(&self) -> &'static str {
        match self.stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        }
    }

    /// Whether the session was resumed by a ticket.
    pub fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// Finishes the handshake. The caller bounds the time.
pub async fn finish(
    greeted: Greeted,
    standing: Standing,
    watch: Option<RouteWatch>,
    authorize: Duration,
) -> std::io::Result<Secured> {
    let Greeted {
        start,
        tls,
        sni,
        link_id,
        client,
        source,
        opened,
        seat,
    } = greeted;
    let shaken = start.into_stream(tls).into_fallible().await;
    let stream = shaken.map_err(|(error, mut io)| {
        io.handshake_failed();
        error
    })?;
    let mut stream = Box::new(stream);
    let (io, tls) = stream.get_mut();
    io.handshake_done();
    tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    let handshake = opened.elapsed();
    Ok(Secured {
        stream,
        standing,
        watch,
        sni,
        link_id,
        client,
        source,
        opened,
        handshake,
        authorize,
        seat,
    })
}
