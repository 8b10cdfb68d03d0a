//! The PROXY v2 header: who is calling, by link id and private address.
//!
//! Takes exactly one header and not a byte more, within one deadline, then tells clients from health
//! probes. Invariant: an [`Announced`] client has a link id.

use std::net::SocketAddr;
use std::time::Duration;

use postern_api::LinkId;
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};

use crate::connection::accept::{Accepted, ClientSocket, Seat, Trust};
use crate::outcome::Refusal;
use crate::proxy_protocol::{self, Header, Progress};
use crate::read_ahead::ReadAhead;

/// Bounds of this stage.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// From accept to the last byte of the header.
    pub timeout: Duration,
    /// Largest header, fixed part included, in bytes.
    pub bytes_max: usize,
}

/// The socket with what was read of it ahead.
pub type ClientIo = ReadAhead<ClientSocket>;

/// A connection that said who it is.
pub struct Announced {
    /// The bytes after the header.
    pub io: ClientIo,
    /// The TCP peer.
    pub source: SocketAddr,
    /// The client's own address as the header gives it; the TCP peer's where it gives none.
    pub client: SocketAddr,
    /// Who calls.
    pub caller: Caller,
    /// When it was accepted.
    pub opened: std::time::Instant,
    /// Its place among the open connections.
    pub seat: Seat,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A private endpoint.
    Link(LinkId),
    /// A health probe: it may only ever see the health answer.
    Probe,
}

/// What is known of a connection that failed this stage.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub refusal: Refusal,
    /// The TCP peer.
    pub source: SocketAddr,
    /// When it was accepted.
    pub opened: std::time::Instant,
    /// Whether the peer closed without sending a byte, as a TCP health probe does.
    pub silent: bool,
}

/// Reads the header of an accepted connection.
pub async fn read(accepted: Accepted, options: Options) -> Result<Announced, Failed> {
    let Accepted {
        socket,
        source,
        trust,
        opened,
        seat,
    } = accepted;
    let deadline = Instant::from_std(opened) + options.timeout;
    let failed = |refusal, silent| Failed {
        refusal,
        source,
        opened,
        silent,
    };

    let mut io = ReadAhead::new(socket);
    let header = match timeout_at(deadline, read_header(&mut io, options.bytes_max)).await {
        Ok(Ok(header)) => header,
        Ok(Err(NotRead { refusal, bytes })) => return Err(failed(refusal, bytes == 0)),
        Err(_) => return Err(failed(Refusal::ProxyHeaderLate, false)),
    };
    // LOCAL and UNSPEC headers have no source; the parser gives no link id without one.
    let caller = match (header.link_id, header.source) {
        // Who may only probe could otherwise claim any link id.
        (Some(_), _) if trust == Trust::Probes => {
            return Err(failed(Refusal::UntrustedSource, false));
        }
        (Some(link_id), _) => Caller::Link(link_id),
        (None, Some(_)) if trust == Trust::Links => {
            return Err(failed(Refusal::LinkIdMissing, false));
        }
        (None, _) => Caller::Probe,
    };
    let client = header.source.unwrap_or(source);
    Ok(Announced {
        io,
        source,
        client,
        caller,
        opened,
        seat,
    })
}

struct NotRead {
    refusal: Refusal,
    bytes: usize,
}

async fn read_header<T: AsyncRead + Unpin>(
    io: &mut ReadAhead<T>,
    bytes_max: usize,
) -> Result<Header, NotRead> {
    let mut have = 0;
    loop {
        let bytes = match io.more().await {
            Ok(bytes) if bytes.len() > have => bytes,
            _ => {
                return Err(NotRead {
                    refusal: Refusal::ProxyHeaderTruncated,
                    bytes: have,
                });
            }
        };
        have = bytes.len();
        match proxy_protocol::parse(bytes, bytes_max) {
            Progress::Need(_) => {}
            Progress::Header(header, taken) => {
                io.consume(taken);
                return Ok(header);
            }
            Progress::Malformed(malformed) => {
                return Err(NotRead {
                    refusal: Refusal::ProxyHeader(malformed),
                    bytes: have,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const VECTOR: [u8; 36] = [
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00,
        0x14, 10, 0, 0, 4, 10, 1, 0, 5, 0xc3, 0x50, 0x01, 0xbb, 0xee, 0x00, 0x05, 0x01, 0xc1, 0x45,
        0x00, 0x21,
    ];

    #[tokio::test]
    async fn takes_the_header_and_not_a_byte_more() {
        let mut sent = VECTOR.to_vec();
        sent.extend_from_slice(b"\x16\x03\x01");
        let mut io = ReadAhead::new(sent.as_slice());
        let header = read_header(&mut io, 4096)
            .await
            .unwrap_or_else(|_| panic!("refused"));
        assert_eq!(header.link_id, Some(LinkId::new(0x2100_45c1)));
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\x16\x03\x01");
    }

    #[tokio::test]
    async fn a_header_cut_at_any_byte_is_truncated() {
        for length in 0..VECTOR.len() {
            let mut io = ReadAhead::new(&VECTOR[..length]);
            let Err(failed) = read_header(&mut io, 4096).await else {
                panic!("accepted {length}")
            };
            assert_eq!(
                failed.refusal,
                Refusal::ProxyHeaderTruncated,
                "cut at {length}"
            );
        }
    }
}
