//! One change stream: server-sent events, each judged by its place in the change log.
//!
//! Changes come in sequence, one after the other. Whatever breaks the sequence is a gap: something may have been
//! missed, and whoever follows has to begin again from a snapshot. A stream that merely ends is resumed where it was.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use postern_api::routing as wire;
use sse_stream::{Sse, SseByteStream};
use tokio::time::timeout;

use super::answer::{Answers, Distrusted};
use crate::routing::Change;

/// A change stream that is open.
pub(super) struct ChangeStream {
    events: SseByteStream<Bounded<BodyDataStream<Incoming>>>,
    /// Bytes since the last event.
    pending: Arc<AtomicUsize>,
    silence_max: Duration,
    /// The newest change that was given out.
    sequence: u64,
    /// Where we were at the last head, if that was behind it.
    behind: Option<u64>,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// The next change, and what to bring the cache up to date with.
    Change(Box<(wire::Change, Change)>),
    /// Everything up to the newest change has been given out.
    Current,
    /// The service is ahead; changes will follow.
    Behind,
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// Something may have been missed.
    #[error("the changes have a gap")]
    Gap(#[source] Gap),
    /// The stream broke.
    #[error("the change stream broke")]
    Broken(#[source] sse_stream::Error),
    /// It ended.
    #[error("the change stream ended")]
    Ended,
    /// Nothing came for so long.
    #[error("the change stream was silent for {} ms", .0.as_millis())]
    Silent(Duration),
}

/// What broke the sequence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Gap {
    /// The service says so.
    #[error("the service no longer has what follows change {0}")]
    Told(u64),
    /// Another change than the next one came.
    #[error("change {given} came after change {after}")]
    Jump {
        /// What was given out last.
        after: u64,
        /// What came.
        given: u64,
    },
    /// The newest change of the service is older than one that it has sent.
    #[error("the service went back from change {after} to {head}")]
    Back {
        /// What was given out last.
        after: u64,
        /// The newest, as the service has it.
        head: u64,
    },
    /// The service is ahead and sends no changes.
    #[error("the service is at change {head} and sends nothing after {after}")]
    Stuck {
        /// What was given out last.
        after: u64,
        /// The newest, as the service has it.
        head: u64,
    },
    /// An event is longer than any change can be.
    #[error("an event has more than {EVENT_BYTES_MAX} bytes")]
    TooLong,
    /// An event is not what it says it is.
    #[error("an event cannot be used")]
    Distrusted(#[source] Distrusted),
}

impl From<Gap> for StreamError {
    fn from(gap: Gap) -> Self {
        Self::Gap(gap)
    }
}

impl ChangeStream {
    /// Reads changes after `sequence`. If nothing comes for `silence_max`, it is over.
    pub(super) fn new(body: Incoming, sequence: u64, silence_max: Duration) -> Self {
        let pending = Arc::<AtomicUsize>::default();
        let bounded = Bounded {
            pieces: BodyDataStream::new(body),
            pending: Arc::clone(&pending),
        };
        Self {
            events: SseByteStream::new(bounded),
            pending,
            silence_max,
            sequence,
            behind: None,
        }
    }

    /// The newest change that was given out.
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The next event that means something to us.
    pub(super) async fn next(&mut self, answers: &Answers) -> Result<Next, StreamError> {
        loop {
            let event = timeout(self.silence_max, self.events.next()).await;
            let event = event.map_err(|_| StreamError::Silent(self.silence_max))?;
            let event = match event {
                None => return Err(StreamError::Ended),
                Some(Ok(event)) => event,
                Some(Err(_)) if self.pending.load(Ordering::Relaxed) > EVENT_BYTES_MAX => {
                    return Err(Gap::TooLong.into());
                }
                Some(Err(error)) => return Err(StreamError::Broken(error)),
            };
            self.pending.store(0, Ordering::Relaxed);
            if let Some(next) = self.judge(&event, answers)? {
                return Ok(next);
            }
        }
    }

    fn judge(&mut self, event: &Sse, answers: &Answers) -> Result<Option<Next>, Gap> {
        let data = event.data.as_deref().unwrap_or_default().as_bytes();
        match event.event.as_deref() {
            Some("change") => {
                let (change, ours) = answers.change(data).map_err(Gap::Distrusted)?;
                let (after, given) = (self.sequence, change.sequence);
                if after.checked_add(1) != Some(given) {
                    return Err(Gap::Jump { after, given });
                }
                self.sequence = given;
                Ok(Some(Next::Change(Box::new((change, ours)))))
            }
            Some("head") => self.judge_head(answers.head(data).map_err(Gap::Distrusted)?),
            Some("gap") => Err(Gap::Told(self.sequence)),
            // What a later version may add.
            _ => Ok(None),
        }
    }

    fn judge_head(&mut self, head: wire::Head) -> Result<Option<Next>, Gap> {
        let after = self.sequence;
        let newest = head.sequence;
        if newest < after {
            return Err(Gap::Back {
                after,
                head: newest,
            });
        }
        if newest == after {
            self.behind = None;
            return Ok(Some(Next::Current));
        }
        // A whole heartbeat has passed since the last head, and not one change.
        if self.behind == Some(after) {
            return Err(Gap::Stuck {
                after,
                head: newest,
            });
        }
        self.behind = Some(after);
        Ok(Some(Next::Behind))
    }
}

/// Pieces of a body, until an event takes more than it may.
struct Bounded<S> {
    pieces: S,
    pending: Arc<AtomicUsize>,
}

impl<S, E> Stream for Bounded<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = match ready!(self.pieces.poll_next_unpin(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
            Some(Ok(piece)) => piece,
        };
        let before = self.pending.fetch_add(piece.len(), Ordering::Relaxed);
        if before + piece.len() > EVENT_BYTES_MAX {
            let error = io::Error::other("the event is too long");
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

// Limit: as much as a line of a snapshot, which is an account with its links, too.
const EVENT_BYTES_MAX: usize = 1024 * 1024;
