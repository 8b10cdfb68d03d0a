//! The session ticket of TLS 1.3, sent together with the first answer.
//!
//! A server may send it at any time after the handshake (RFC 8446 section 4.6.1). rustls has it ready at once and
//! tokio-rustls would send it alone, which is one segment more for each new connection; here it is held until there is
//! something else to send. A client that never gets an answer has no use for a ticket.
//!
//! Invariant: nobody waits for what is held: it is sent as soon as a handshake waits to read, and when it fails.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream under TLS.
#[derive(Debug)]
pub struct LateTicket<T> {
    io: T,
    held: Vec<u8>,
    handshaking: bool,
}

impl<T> LateTicket<T> {
    /// Wraps a stream on which a handshake begins.
    pub fn new(io: T) -> Self {
        Self {
            io,
            held: Vec::new(),
            handshaking: true,
        }
    }

    /// The stream itself, to wait on.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// The handshake is over: what is written from now on is sent, and before it what was held.
    pub fn handshake_done(&mut self) {
        self.handshaking = false;
    }
}

impl<T: AsyncWrite + Unpin> LateTicket<T> {
    /// The handshake failed: what was held is no ticket but an alert, which is sent if the socket takes it.
    pub fn handshake_failed(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        let _ = self.poll_write_held(&mut nobody, &[]);
    }

    /// Writes what is held, and as much of `more` as goes with it; tells how much of it that was.
    fn poll_write_held(
        &mut self,
        cx: &mut Context<'_>,
        more: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            all[0] = IoSlice::new(&self.held);
            for (place, slice) in all[1..].iter_mut().zip(more) {
                *place = IoSlice::new(slice);
            }
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(more) = written.checked_sub(self.held.len()) {
                self.held = Vec::new();
                return Poll::Ready(Ok(more));
            }
            self.held.drain(..written);
        }
        Poll::Ready(Ok(0))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for LateTicket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, out);
        if this.handshaking && read.is_pending() {
            ready!(this.poll_write_held(cx, &[]))?;
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LateTicket<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.handshaking && is_ticket(slices) {
            let before = this.held.len();
            for slice in slices {
                this.held.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(this.held.len() - before));
        }
        let more = ready!(this.poll_write_held(cx, slices))?;
        if more > 0 {
            return Poll::Ready(Ok(more));
        }
        Pin::new(&mut this.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Whether a server that is in a handshake writes a ticket: a flight of the handshake itself begins with a record in
/// the clear.
fn is_ticket(slices: &[IoSlice<'_>]) -> bool {
    slices.iter().find_map(|slice| slice.first()) == Some(&APPLICATION_DATA)
}

// RFC 8446 section 5.1: content type application_data(23), as which every encrypted record of TLS 1.3 shows.
const APPLICATION_DATA: u8 = 23;
// Limit: rustls hands over one slice a record; what is more waits for the next write.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_ticket_is_sent_before_the_next_bytes_and_not_alone() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = LateTicket::new(near);
        near.write_all(b"\x16hello").await.unwrap();
        near.write_all(b"\x17ticket").await.unwrap();
        near.flush().await.unwrap();
        near.handshake_done();
        let mut got = [0; 64];
        assert_eq!(far.read(&mut got).await.unwrap(), 6);
        near.write_all(b"\x17answer").await.unwrap();
        let count = far.read(&mut got).await.unwrap();
        assert_eq!(&got[..count], b"\x17ticket\x17answer");
        assert_eq!(near.held.capacity(), 0);
        near.write_all(b"\x17more").await.unwrap();
        assert_eq!(far.read(&mut got).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn nobody_waits_for_what_is_held_in_a_handshake() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = LateTicket::new(near);
        let mut got = [0; 64];
        near.write_all(b"\x17rest of a flight").await.unwrap();
        assert!(futures_util::poll!(pin!(near.read_u8())).is_pending());
        assert_eq!(far.read(&mut got).await.unwrap(), 17);
        near.write_all(b"\x17alert").await.unwrap();
        near.handshake_failed();
        assert_eq!(far.read(&mut got).await.unwrap(), 6);
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_however_little_is_taken_at_a_time() {
        for room in 1..20 {
            let (near, mut far) = tokio::io::duplex(room);
            let mut near = LateTicket::new(near);
            near.write_all(b"\x17ticket").await.unwrap();
            near.handshake_done();
            let written = tokio::spawn(async move { near.write_all(b"\x17answer").await });
            let mut got = [0; 14];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"\x17ticket\x17answer");
            written.await.unwrap().unwrap();
        }
    }
}
