//! The TLS `ClientHello`: which name the client came for.
//!
//! Reads the hello and judges it before any key operation. A connection that names no server, or one we
//! hold no certificate for, gets the alert `unrecognized_name` (RFC 6066 section 3) and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use postern_api::{HostName, LinkId};
use rustls::ServerConfig;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::connection::accept::Seat;
use crate::connection::late_ticket::LateTicket;
use crate::connection::proxy_header::ClientIo;
use crate::credentials::ServerCredentials;
use crate::outcome::Refusal;

/// What is under a client's TLS.
pub type TlsIo = LateTicket<ClientIo>;

/// A client that named a server we have a certificate for.
pub struct Greeted {
    /// The handshake, stopped after the hello.
    pub start: StartHandshake<TlsIo>,
    /// The TLS configuration whose certificate covers `sni`.
    pub tls: Arc<ServerConfig>,
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
    /// Its place among the open connections.
    pub seat: Seat,
}

/// Why no [`Greeted`] came of it.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub refusal: Refusal,
    /// The name, if one was given.
    pub sni: Option<HostName>,
    /// Whether the peer closed without sending a byte.
    pub silent: bool,
}

/// What precedes the hello.
pub struct Caller {
    /// The private endpoint.
    pub link_id: LinkId,
    /// The client's own address.
    pub client: SocketAddr,
    /// The TCP peer.
    pub source: SocketAddr,
    /// When it was accepted.
    pub opened: Instant,
    /// Its place among the open connections.
    pub seat: Seat,
}

/// Reads the hello. The caller bounds the time.
pub async fn read(
    mut io: ClientIo,
    caller: Caller,
    credentials: &ServerCredentials,
) -> Result<Greeted, Failed> {
    let failed = |refusal, sni| Failed {
        refusal,
        sni,
        silent: false,
    };
    match io.peek().await {
        Ok(Some(TLS_HANDSHAKE)) => {}
        // A second PROXY header begins with CR; HTTP and everything else is not TLS either.
        Ok(Some(b'\r')) => return Err(failed(Refusal::ProxyHeaderDuplicate, None)),
        Ok(Some(_)) => {
            refuse(&mut io, Refusal::ClientHelloMalformed).await;
            return Err(failed(Refusal::ClientHelloMalformed, None));
        }
        Ok(None) | Err(_) => {
            return Err(Failed {
                refusal: Refusal::ClientHelloMalformed,
                sni: None,
                silent: true,
            });
        }
    }
    let io = LateTicket::new(io);
    let Ok(mut start) = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await
    else {
        return Err(failed(Refusal::ClientHelloMalformed, None));
    };
    let hello = start.client_hello();
    let sni = hello
        .server_name()
        .and_then(|name| HostName::parse(name).ok());
    let Some(sni) = sni else {
        refuse(&mut start.io, Refusal::SniMissing).await;
        return Err(failed(Refusal::SniMissing, None));
    };
    let Some(tls) = credentials
        .select(&sni)
        .map(|certificate| certificate.tls(hello.cipher_suites()))
    else {
        refuse(&mut start.io, Refusal::SniUnknown).await;
        return Err(failed(Refusal::SniUnknown, Some(sni)));
    };
    let Caller {
        link_id,
        client,
        source,
        opened,
        seat,
    } = caller;
    Ok(Greeted {
        start,
        tls,
        sni,
        link_id,
        client,
        source,
        opened,
        seat,
    })
}

/// Sends the fatal alert of a refusal, in the clear: no keys exist yet (RFC 8446 section 6).
async fn refuse(io: &mut (impl AsyncWrite + Unpin), refusal: Refusal) {
    if let crate::outcome::Answer::Alert(description) = refusal.answer() {
        send_alert(io, description).await;
    }
}

/// Sends a fatal alert in a plaintext record and closes the sending side.
pub async fn send_alert(io: &mut (impl AsyncWrite + Unpin), description: u8) {
    // content type alert(21), legacy version TLS 1.2, length 2, level fatal(2)
    let record = [21, 3, 3, 0, 2, 2, description];
    // A peer that is gone already needs no alert.
    let _ = io.write_all(&record).await;
    let _ = io.shutdown().await;
}

// RFC 8446 section 5.1: content type handshake(22).
const TLS_HANDSHAKE: u8 = 22;
