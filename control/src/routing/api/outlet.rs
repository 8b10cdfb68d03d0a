//! A body that is written as it is read, and is not waited for by anybody but its own task.
//!
//! Promises: what is not read is never more than [`CHUNKS_MAX`] chunks; who takes none for too long loses the connection,
//! since HTTP/2 has no other way to be rid of a stream that is not read; who has gone away is noticed at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::routing::server::Peer;

/// Where the chunks go.
pub(super) struct Outlet {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    peer: Arc<Peer>,
    stall_timeout: Duration,
}

/// Why no more can be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The reader has gone, or its connection is to end.
    Gone,
    /// The reader took too long, and its connection is cut.
    Stalled,
}

// Limit: a chunk has some hundred kilobytes at most, and is shared by those who read at the same pace.
const CHUNKS_MAX: usize = 2;

impl Outlet {
    /// An outlet, and the body that is its other end.
    pub(super) fn new(peer: Arc<Peer>, stall_timeout: Duration) -> (Self, Body) {
        let (chunks, read) = mpsc::channel(CHUNKS_MAX);
        let outlet = Self {
            chunks,
            peer,
            stall_timeout,
        };
        let read = stream::unfold(read, async |mut read| {
            let chunk: io::Result<Bytes> = read.recv().await?;
            Some((chunk, read))
        });
        (outlet, Body::from_stream(read))
    }

    /// Writes a chunk, once there is room.
    pub(super) async fn write(&self, chunk: Bytes) -> Result<(), Over> {
        self.push(Ok(chunk)).await
    }

    /// Breaks the body off, so that its reader knows that it is not whole.
    pub(super) async fn break_off(&self) -> Result<(), Over> {
        self.push(Err(io::Error::other("broken off"))).await
    }

    /// Waits until there is nobody to write for.
    pub(super) async fn over(&self) -> Over {
        let mut closing = self.peer.closing.subscribe();
        tokio::select! {
            () = self.chunks.closed() => {}
            // An error means that the connection is no more.
            _ = closing.wait_for(|closing| *closing) => {}
        }
        Over::Gone
    }

    async fn push(&self, chunk: io::Result<Bytes>) -> Result<(), Over> {
        let sent = tokio::time::timeout(self.stall_timeout, self.chunks.send(chunk));
        tokio::select! {
            sent = sent => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Over::Gone),
                Err(_) => {
                    self.peer.cut.notify_one();
                    Err(Over::Stalled)
                }
            },
            over = self.over() => Err(over),
        }
    }
}
