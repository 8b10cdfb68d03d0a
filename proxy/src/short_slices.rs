//! Hands plaintext to TLS in slices that are quick to copy.
//!
//! rustls copies what it encrypts into the record that it is sent in. A copy of more than 2112 bytes is made by
//! `rep movsb` where the processor says that this is fast, and on some of AMD's it is not if source and target
//! lie almost alike within their pages (glibc bug 30994): 3 instead of 39 GB/s, measured with 16 KiB on an EPYC. Pieces of a
//! body begin at the beginning of a page, payloads of records five bytes behind one, so most copies were of that
//! kind: a quarter of the CPU of an upload. Shorter copies are made by other instructions.
//!
//! Records are cut as before: rustls joins slices. Never copies, never holds a byte back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS stream that is written to in short slices.
#[derive(Debug)]
pub struct ShortSlices<T>(T);

impl<T> ShortSlices<T> {
    /// Wraps a stream that writes vectored.
    pub fn new(stream: T) -> Self {
        Self(stream)
    }

    /// The stream that is written to.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ShortSlices<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if slices.iter().all(|slice| slice.len() <= SLICE_BYTES) {
            return stream.poll_write_vectored(cx, slices);
        }
        let mut short = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let pieces = slices.iter().flat_map(|slice| slice.chunks(SLICE_BYTES));
        for (place, piece) in short.iter_mut().zip(pieces) {
            *place = IoSlice::new(piece);
            count += 1;
        }
        stream.poll_write_vectored(cx, &short[..count])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ShortSlices<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

/// Limit: what TLS holds for a peer that reads slowly. A head and 64 KiB of a body fit, so that they
/// leave in one write.
pub const TLS_BUFFER_BYTES: usize = 96 * 1024;

// Limit: the longest copy that glibc makes without `rep movsb`, rounded down.
const SLICE_BYTES: usize = 2048;
// Limit: 128 KiB in one call, more than TLS takes at once.
const SLICES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes everything and notes how it came.
    #[derive(Default)]
    struct Noted {
        bytes: Vec<u8>,
        longest: usize,
        calls: usize,
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.calls += 1;
            for slice in slices {
                self.longest = self.longest.max(slice.len());
                self.bytes.extend_from_slice(slice);
            }
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn every_byte_passes_in_order_and_no_slice_is_long() {
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let mut stream = ShortSlices::new(Noted::default());
        stream.write_all(&sent).await.unwrap();
        assert_eq!(stream.0.bytes, sent);
        assert_eq!(stream.0.longest, SLICE_BYTES);
        assert_eq!(stream.0.calls, 3);
    }

    #[tokio::test]
    async fn a_head_and_its_body_pass_in_one_call() {
        let (head, body) = ([1; 300], vec![2; 64 * 1024]);
        let mut stream = ShortSlices::new(Noted::default());
        let slices = [IoSlice::new(&head), IoSlice::new(&body)];
        let written = stream.write_vectored(&slices).await.unwrap();
        assert_eq!(written, head.len() + body.len());
        assert_eq!(stream.0.bytes, [&head[..], &body].concat());
        assert_eq!(stream.0.calls, 1);
    }
}
