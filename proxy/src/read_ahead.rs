//! A read buffer under TLS that exists only while bytes pour in.
//!
//! rustls asks its transport for at most 4 KiB at a time, which makes sixteen system calls of a 64 KiB
//! answer. [`ReadAhead`] notices that a read came back full, reads the next bytes in large chunks, and
//! gives the buffer back as soon as the stream pauses. A small request costs nothing extra, and an idle
//! connection holds no buffer. What precedes TLS can be looked at before it is taken, so that it and the first
//! bytes of TLS need one system call where they arrive together.
//!
//! Never reads unless asked to; never reorders or drops a byte.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::delegate::delegate_write;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

// Limit: eight TLS records of 16 KiB. With half as much, large bodies took more CPU.
const CHUNK_BYTES: usize = 128 * 1024;
// A read that fills this much of the caller's buffer says that more is waiting.
const FULL_BYTES: usize = 4096;

/// A stream whose reads are batched while it is busy.
#[derive(Debug)]
pub struct ReadAhead<T> {
    io: T,
    buffer: Vec<u8>,
    start: usize,
    busy: bool,
    broken: Option<io::Error>,
}

impl<T> ReadAhead<T> {
    /// Wraps a stream. Allocates nothing.
    pub fn new(io: T) -> Self {
        Self {
            io,
            buffer: Vec::new(),
            start: 0,
            busy: false,
            broken: None,
        }
    }

    fn release(&mut self) {
        self.buffer = Vec::new();
        self.start = 0;
        self.busy = false;
    }
}

impl<T: AsyncRead + Unpin> ReadAhead<T> {
    /// Waits for more bytes and tells all that there are, without taking them. No more: the end of the stream.
    pub async fn more(&mut self) -> io::Result<&[u8]> {
        std::future::poll_fn(|cx| {
            self.buffer.reserve(FULL_BYTES);
            poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buffer)
        })
        .await?;
        Ok(&self.buffer[self.start..])
    }

    /// Takes so many of the bytes that [`ReadAhead::more`] told.
    pub fn consume(&mut self, bytes: usize) {
        self.start = self.buffer.len().min(self.start + bytes);
    }

    /// Waits for the next byte and tells it without taking it. `None` at the end of the stream.
    pub async fn peek(&mut self) -> io::Result<Option<u8>> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await;
        match self.broken.take() {
            Some(error) => Err(error),
            None => Ok(self.buffer.get(self.start).copied()),
        }
    }

    /// Waits until there is something to read: bytes, the end of the stream or its failure. Holds no buffer meanwhile.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.start < self.buffer.len() || self.broken.is_some() {
            return Poll::Ready(());
        }
        let mut room = [MaybeUninit::uninit(); FULL_BYTES];
        let mut bytes = ReadBuf::uninit(&mut room);
        match ready!(Pin::new(&mut self.io).poll_read(cx, &mut bytes)) {
            Ok(()) => {
                self.buffer = bytes.filled().to_vec();
                self.start = 0;
            }
            Err(error) => self.broken = Some(error),
        }
        Poll::Ready(())
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.clear();
        self.start = 0;
        poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buffer)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ReadAhead<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start == this.buffer.len() {
            if let Some(error) = this.broken.take() {
                return Poll::Ready(Err(error));
            }
            if !this.busy {
                let before = out.filled().len();
                ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
                let filled = out.filled().len() - before;
                this.busy = out.remaining() == 0 && filled >= FULL_BYTES;
                return Poll::Ready(Ok(()));
            }
            this.buffer.clear();
            this.buffer.reserve_exact(CHUNK_BYTES);
            match this.poll_fill(cx) {
                Poll::Ready(read) => this.busy = read? == CHUNK_BYTES,
                Poll::Pending => {
                    this.release();
                    return Poll::Pending;
                }
            }
        }
        let have = &this.buffer[this.start..];
        let take = have.len().min(out.remaining());
        out.put_slice(&have[..take]);
        this.start += take;
        if this.start == this.buffer.len() && !this.busy {
            this.release();
        }
        Poll::Ready(Ok(()))
    }
}

delegate_write!(ReadAhead<T>, io);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn every_byte_arrives_in_order_and_the_buffer_is_given_back() {
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut near, far) = tokio::io::duplex(100_000);
        let mut far = ReadAhead::new(far);
        let expected = sent.clone();
        let writer = tokio::spawn(async move { near.write_all(&sent).await.map(|()| near) });
        let mut got = vec![0; expected.len()];
        for piece in got.chunks_mut(4096) {
            far.read_exact(piece).await.unwrap();
        }
        assert_eq!(got, expected);
        let near = writer.await.unwrap().unwrap();
        let idle = std::future::poll_fn(|cx| {
            let mut bytes = [0; 4096];
            Poll::Ready(
                Pin::new(&mut far)
                    .poll_read(cx, &mut ReadBuf::new(&mut bytes))
                    .is_pending(),
            )
        });
        assert!(idle.await);
        assert_eq!(far.buffer.capacity(), 0);
        drop(near);
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_was_looked_at_and_not_taken_is_still_there() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut far = ReadAhead::new(far);
        near.write_all(b"head").await.unwrap();
        assert_eq!(far.more().await.unwrap(), b"head");
        near.write_all(b"er, body").await.unwrap();
        assert_eq!(far.more().await.unwrap(), b"header, body");
        far.consume(8);
        assert_eq!(far.peek().await.unwrap(), Some(b'b'));
        let mut got = [0; 4];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"body");
        assert_eq!(far.buffer.capacity(), 0);
        drop(near);
        assert_eq!(far.more().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_peeked_byte_is_still_there() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut far = ReadAhead::new(far);
        near.write_all(b"hello").await.unwrap();
        assert_eq!(far.peek().await.unwrap(), Some(b'h'));
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        drop(near);
        assert_eq!(far.peek().await.unwrap(), None);
    }

    /// Gives these bytes, and then an error, once.
    struct Breaks(&'static [u8]);

    impl AsyncRead for Breaks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let bytes = std::mem::take(&mut self.0);
            out.put_slice(bytes);
            Poll::Ready(if bytes.is_empty() {
                Err(io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn whoever_waits_holds_no_buffer_and_takes_nothing() {
        let mut ahead = ReadAhead::new(Breaks(b"hello"));
        for _ in 0..2 {
            std::future::poll_fn(|cx| ahead.poll_ready(cx)).await;
        }
        let mut got = [0; 5];
        ahead.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        assert_eq!(ahead.buffer.capacity(), 0);
        for _ in 0..2 {
            std::future::poll_fn(|cx| ahead.poll_ready(cx)).await;
        }
        let error = ahead.read(&mut got).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
