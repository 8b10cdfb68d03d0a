//! HTTP/1.1 byte by byte, for either side of a connection.
//!
//! A [`Wire`] sends what it is told to and takes apart what comes back, without the opinions of an HTTP
//! library: a test can send what no library would, and see what a library would hide.
//!
//! Invariant: every step ends within [`STEP_TIMEOUT`], and nothing is read beyond
//! the message that was asked for.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::client::STEP_TIMEOUT;

// Limit: a message head; four times what Postern takes.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// A connection that carries HTTP/1.1.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    buffer: BytesMut,
}

/// The head of a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Request line or status line.
    pub start: String,
    /// The fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// All values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.fields.iter().filter(|(key, _)| key == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// A field's first value, or an empty text.
    pub fn field(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    /// The status of an answer; 0 for a request.
    pub fn status(&self) -> u16 {
        let rest = self.start.strip_prefix("HTTP/1.").unwrap_or_default();
        rest.get(2..5)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Self {
            start,
            fields: lines.map(field).collect(),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its head.
    pub head: Head,
    /// Its content, without the chunks' framing.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Nothing was read from or written to `stream` yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let send = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        limited(send).await
    }

    /// Says that no more will be sent.
    pub async fn finish(&mut self) -> io::Result<()> {
        limited(self.stream.shutdown()).await
    }

    /// Waits until at least one byte is there to be read. `false` at the end of the stream.
    pub async fn readable(&mut self) -> io::Result<bool> {
        Ok(!self.buffer.is_empty() || self.fill().await? > 0)
    }

    /// Reads a head, and with it the empty line behind it.
    pub async fn head(&mut self) -> io::Result<Head> {
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.buffer.split_to(end + 4);
                return Ok(Head::parse(&head));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("a head without an end"));
            }
            self.more().await?;
        }
    }

    /// Reads a line, without its end.
    pub async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more().await?;
        }
    }

    /// Reads so many bytes.
    pub async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(self.buffer.split_to(length).to_vec())
    }

    /// Reads to the end of the stream. A stream that was cut instead of ended is an error.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? > 0 {}
        Ok(self.buffer.split().to_vec())
    }

    /// What was read, but not asked for yet.
    pub fn ahead(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads the answer to a request that was not HEAD.
    pub async fn answer(&mut self) -> io::Result<Message> {
        let head = self.head().await?;
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        let bodiless = matches!(head.status(), 100..=199 | 204 | 304);
        if bodiless {
        } else if head.field("transfer-encoding") == "chunked" {
            (body, trailers) = self.chunks().await?;
        } else if let Ok(length) = head.field("content-length").parse() {
            body = self.exactly(length).await?;
        } else {
            body = self.rest().await?;
        }
        Ok(Message {
            head,
            body,
            trailers,
        })
    }

    /// Reads a chunked body (RFC 9112 section 7.1): its content and its trailers.
    pub async fn chunks(&mut self) -> io::Result<(Vec<u8>, Vec<(String, String)>)> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            if length == 0 {
                break;
            }
            body.extend(self.exactly(length).await?);
            if self.exactly(2).await? != b"\r\n" {
                return Err(io::Error::other("a chunk without an end"));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok((body, trailers));
            };
            trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The stream itself, if nothing was read ahead.
    pub fn into_stream(self) -> S {
        self.stream
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        limited(self.stream.read_buf(&mut self.buffer)).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads and forgets a body of `length` bytes, as large as it may be.
    pub async fn discard(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let ready = usize::try_from(length)
                .map_or(self.buffer.len(), |length| length.min(self.buffer.len()));
            self.buffer.advance(ready);
            length -= ready as u64;
        }
        Ok(())
    }
}

async fn limited<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(STEP_TIMEOUT, step)
        .await
        .map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_taken_apart_one_after_the_other() {
        let (near, far) = tokio::io::duplex(1024);
        let (mut near, mut far) = (Wire::new(near), Wire::new(far));
        far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        let chunked =
            "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
        far.send(chunked).await.unwrap();
        let first = near.answer().await.unwrap();
        assert_eq!((first.head.status(), first.body), (200, b"ab".to_vec()));
        assert_eq!(near.answer().await.unwrap().head.status(), 204);
        let third = near.answer().await.unwrap();
        assert_eq!((third.head.status(), third.body), (404, b"abc".to_vec()));
        assert_eq!(third.trailers, [("a".to_owned(), "b".to_owned())]);
        drop(far);
        assert!(near.rest().await.unwrap().is_empty());
    }
}
