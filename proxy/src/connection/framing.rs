//! What hyper hides about how an HTTP/1.1 message was framed.
//!
//! hyper resolves a request that has both `Content-Length` and `Transfer-Encoding`, repeated equal lengths
//! and bare line feeds in the way RFC 9112 allows, and does not tell. We refuse such requests (sections
//! 2.2, 6.1 and 6.3: a recipient MAY, and it is what keeps two parsers from disagreeing), so [`Tap`] watches
//! the bytes on their way to hyper: line by line in message heads, not at all in bodies.
//!
//! It never changes a byte and parses nothing that hyper does not parse again. The one gap: a head that is
//! pipelined behind a chunked body, which hyper then handles by itself, safely.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the tap saw, for those who handle the requests of the connection.
#[derive(Debug, Default)]
pub struct Framing {
    doubtful: AtomicBool,
    body_ended: AtomicBool,
    upgraded: AtomicBool,
    head_bytes: AtomicU32,
    heads: AtomicU32,
    in_body: AtomicBool,
    starved: AtomicBool,
    unflushed: AtomicBool,
}

impl Framing {
    /// Whether the head that was just read was framed in a doubtful way.
    pub fn doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    /// The current request's body was read to its end: what comes next is a head.
    pub fn body_ended(&self) {
        self.body_ended.store(true, Ordering::Relaxed);
    }

    /// What comes from now on is not HTTP.
    pub fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// How many heads were whole; wraps around.
    pub fn heads(&self) -> u32 {
        self.heads.load(Ordering::Relaxed)
    }

    /// Bytes seen of a head that is not whole yet; 0 between messages.
    pub fn partial_head_bytes(&self) -> u32 {
        self.head_bytes.load(Ordering::Relaxed)
    }

    /// Whether every request was read to its end, everything written is on its way, and hyper waits for more.
    pub fn quiet(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        self.partial_head_bytes() == 0
            && (!is(&self.in_body) || is(&self.body_ended))
            && is(&self.starved)
            && !is(&self.unflushed)
    }
}

/// A stream whose HTTP/1.1 message heads are watched.
#[derive(Debug)]
pub struct Tap<T> {
    io: T,
    scanner: Scanner,
    framing: Arc<Framing>,
    given_back: Bytes,
}

impl<T> Tap<T> {
    /// Watches `io`; tells `framing`.
    pub fn new(io: T, framing: Arc<Framing>) -> Self {
        Self {
            io,
            scanner: Scanner::default(),
            framing,
            given_back: Bytes::new(),
        }
    }

    /// The stream that is watched.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// These bytes were read, but no use was made of them: they are read once more.
    pub fn give_back(&mut self, bytes: &[u8]) {
        // Behind a chunked body, they were not watched yet.
        if self.scanner.state == State::Chunked {
            self.watch(bytes);
        }
        self.given_back = Bytes::copy_from_slice(bytes);
    }

    fn watch(&mut self, bytes: &[u8]) {
        if self.framing.upgraded.load(Ordering::Relaxed) {
            return;
        }
        if self.scanner.state == State::Chunked && self.framing.body_ended.load(Ordering::Relaxed) {
            self.scanner.state = State::Head;
        }
        self.framing.body_ended.store(false, Ordering::Relaxed);
        self.scanner.scan(bytes);
        if self.scanner.doubtful {
            self.framing.doubtful.store(true, Ordering::Relaxed);
        }
        self.framing
            .head_bytes
            .store(self.scanner.head_bytes, Ordering::Relaxed);
        self.framing
            .heads
            .store(self.scanner.heads, Ordering::Relaxed);
        self.framing
            .in_body
            .store(self.scanner.state != State::Head, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Scanner {
    state: State,
    /// The first bytes of the line in progress, and its whole length so far.
    line: [u8; LINE_BYTES],
    line_bytes: usize,
    last: u8,
    /// Heads that were whole.
    heads: u32,
    /// Of the head in progress.
    head_bytes: u32,
    lengths: u32,
    length: u64,
    chunked: bool,
    doubtful: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Head,
            line: [0; LINE_BYTES],
            line_bytes: 0,
            last: 0,
            heads: 0,
            head_bytes: 0,
            lengths: 0,
            length: 0,
            chunked: false,
            doubtful: false,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    Chunked,
}

// Limit: `transfer-encoding:` is 18 bytes; `content-length:` and the 20 digits of a u64 are 35.
const LINE_BYTES: usize = 40;

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Chunked => return,
                State::Body(left) => {
                    let skip = left.min(bytes.len() as u64);
                    #[expect(clippy::cast_possible_truncation, reason = "at most bytes.len()")]
                    let rest = &bytes[skip as usize..];
                    bytes = rest;
                    self.state = if skip == left {
                        State::Head
                    } else {
                        State::Body(left - skip)
                    };
                }
                State::Head => {
                    let end = memchr::memchr(b'\n', bytes);
                    let line = &bytes[..end.unwrap_or(bytes.len())];
                    self.extend_line(line);
                    let Some(end) = end else { return };
                    self.head_bytes = self.head_bytes.saturating_add(1);
                    bytes = &bytes[end + 1..];
                    self.end_line();
                }
            }
        }
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        if let Some(&last) = bytes.last() {
            self.last = last;
        }
        if self.line_bytes < LINE_BYTES {
            let take = bytes.len().min(LINE_BYTES - self.line_bytes);
            self.line[self.line_bytes..self.line_bytes + take].copy_from_slice(&bytes[..take]);
        }
        self.line_bytes += bytes.len();
        let more = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.head_bytes = self.head_bytes.saturating_add(more);
    }

    fn end_line(&mut self) {
        let carriage_return = self.line_bytes > 0 && self.last == b'\r';
        // "A recipient MAY recognize a single LF as a line terminator": we do not.
        self.doubtful |= !carriage_return;
        let length = self.line_bytes - usize::from(carriage_return);
        self.line_bytes = 0;
        if length > 0 {
            self.classify(length);
        } else if self.head_bytes > 2 {
            self.end_head();
        } else {
            // An empty line before the request line (RFC 9112 section 2.2) is ignored.
            self.head_bytes = 0;
        }
    }

    fn classify(&mut self, length: usize) {
        let line = &self.line[..length.min(LINE_BYTES)];
        if let Some(value) = after_name(line, b"content-length:") {
            self.lengths += 1;
            let digits = std::str::from_utf8(value).unwrap_or_default().trim();
            match digits.parse() {
                Ok(n) if length <= LINE_BYTES => self.length = n,
                // hyper refuses what is not a number; a number too long for us is not plausible.
                _ => self.doubtful = true,
            }
        } else if after_name(line, b"transfer-encoding:").is_some() {
            self.chunked = true;
        }
    }

    fn end_head(&mut self) {
        self.doubtful |= self.lengths > 1 || (self.lengths > 0 && self.chunked);
        self.state = match (self.chunked, self.lengths, self.length) {
            (true, ..) => State::Chunked,
            (false, 0, _) | (false, _, 0) => State::Head,
            (false, _, n) => State::Body(n),
        };
        self.heads = self.heads.wrapping_add(1);
        self.head_bytes = 0;
        self.lengths = 0;
        self.length = 0;
        self.chunked = false;
    }
}

fn after_name<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, value) = line.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then_some(value)
}

impl<T: AsyncRead + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.given_back.is_empty() {
            let take = this.given_back.len().min(out.remaining());
            out.put_slice(&this.given_back.split_to(take));
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, out);
        this.framing
            .starved
            .store(read.is_pending(), Ordering::Relaxed);
        ready!(read)?;
        this.watch(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T> Tap<T> {
    fn unflushed(&self, whether: bool) {
        self.framing.unflushed.store(whether, Ordering::Relaxed);
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed(true);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.unflushed(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unflushed(true);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed(true);
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn doubtful(bytes: &[u8]) -> bool {
        let mut whole = Scanner::default();
        whole.scan(bytes);
        let mut split = Scanner::default();
        for byte in bytes {
            split.scan(std::slice::from_ref(byte));
        }
        assert_eq!(
            whole.doubtful, split.doubtful,
            "depends on how it was split: {bytes:?}"
        );
        whole.doubtful
    }

    #[test]
    fn ordinary_requests_are_not_doubtful() {
        assert!(!doubtful(
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        assert!(!doubtful(
            b"POST / HTTP/1.1\r\nContent-Length: 16\r\n\r\nContent-Length:\nGET / HTTP/1.1\r\n\r\n"
        ));
        assert!(!doubtful(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\ncd\r\n0\r\n\r\n"
        ));
        assert!(!doubtful(b"\r\nGET / HTTP/1.1\r\n\r\n"));
    }

    #[test]
    fn a_length_beside_chunked_is_doubtful_in_either_order() {
        assert!(doubtful(
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(doubtful(
            b"POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nContent-Length: 3\r\n\r\n"
        ));
    }

    #[test]
    fn two_lengths_are_doubtful_even_if_equal() {
        assert!(doubtful(
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"
        ));
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_doubtful() {
        assert!(doubtful(b"GET / HTTP/1.1\nHost: a\r\n\r\n"));
        assert!(doubtful(b"GET / HTTP/1.1\r\nHost: a\n\r\n"));
    }

    #[test]
    fn a_head_pipelined_behind_a_sized_body_is_watched() {
        assert!(doubtful(
            b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabPOST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
    }

    #[test]
    fn a_head_after_a_chunked_body_is_watched_once_the_body_was_read() {
        let framing = Arc::new(Framing::default());
        let mut tap = Tap::new((), Arc::clone(&framing));
        tap.watch(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        framing.body_ended();
        tap.watch(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(framing.doubtful());
    }

    #[test]
    fn a_head_in_progress_is_told_by_its_bytes() {
        let framing = Arc::new(Framing::default());
        let mut tap = Tap::new((), Arc::clone(&framing));
        tap.watch(b"GET / HTTP/1.1\r\nHo");
        assert_eq!(framing.partial_head_bytes(), 18);
        tap.watch(b"st: a\r\n\r\n");
        assert_eq!(framing.partial_head_bytes(), 0);
    }

    /// A tap over a pipe, and what it tells.
    fn tapped() -> (
        tokio::io::DuplexStream,
        Tap<tokio::io::DuplexStream>,
        Arc<Framing>,
    ) {
        let (near, far) = tokio::io::duplex(1024);
        let framing = Arc::new(Framing::default());
        let tap = Tap::new(far, Arc::clone(&framing));
        (near, tap, framing)
    }

    /// Reads until there is nothing more to read, as hyper does.
    fn read_all(tap: &mut Tap<tokio::io::DuplexStream>) -> Vec<u8> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut got = Vec::new();
        loop {
            let mut bytes = [0; 16];
            let mut room = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *tap).poll_read(&mut context, &mut room) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => return got,
            }
            got.extend_from_slice(room.filled());
        }
    }

    #[tokio::test]
    async fn it_is_quiet_between_messages_once_everything_is_flushed() {
        let (mut near, mut tap, framing) = tapped();
        assert!(!framing.quiet(), "nobody waits yet");
        read_all(&mut tap);
        assert!(framing.quiet());
        near.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
        read_all(&mut tap);
        assert!(!framing.quiet(), "within a head");
        near.write_all(b"Content-Length: 2\r\n\r\na").await.unwrap();
        read_all(&mut tap);
        assert!(!framing.quiet(), "within a body");
        near.write_all(b"b").await.unwrap();
        read_all(&mut tap);
        assert!(framing.quiet());
        tap.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        assert!(!framing.quiet(), "not flushed");
        tap.flush().await.unwrap();
        assert!(framing.quiet());
    }

    #[tokio::test]
    async fn it_is_quiet_after_a_chunked_body_once_that_was_read_to_its_end() {
        let (mut near, mut tap, framing) = tapped();
        near.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .await
            .unwrap();
        read_all(&mut tap);
        assert!(!framing.quiet());
        framing.body_ended();
        assert!(framing.quiet());
    }

    #[tokio::test]
    async fn what_is_given_back_is_read_first_and_watched_once() {
        let (mut near, mut tap, framing) = tapped();
        near.write_all(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
        )
        .await
        .unwrap();
        read_all(&mut tap);
        framing.body_ended();
        tap.give_back(b"GET / HTTP/1.1\r\n");
        assert_eq!(framing.partial_head_bytes(), 16);
        near.write_all(b"\r\n").await.unwrap();
        assert_eq!(read_all(&mut tap), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!((framing.heads(), framing.partial_head_bytes()), (2, 0));
        assert!(framing.quiet() && !framing.doubtful());
    }
}
