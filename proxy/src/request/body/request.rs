//! The body of a request: shared with who may have to send it again, and told of when it broke.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};

use super::incoming::Incoming;
use super::kept::Kept;
use super::linger;
use crate::connection::http::Connection;
use crate::request::headers;

/// The body of a request, shared between whoever sends it and whoever may have to send it again.
#[derive(Clone)]
pub struct RequestBody {
    shared: Option<Arc<Shared>>,
    /// Whose turn it is to send it.
    turn: u32,
}

struct Shared {
    source: Mutex<Source>,
    touched: AtomicBool,
    /// Whether the client waits for `100 Continue` before it sends anything.
    expects: bool,
    broken: OnceLock<Broken>,
    bytes: AtomicU64,
    connection: Arc<Connection>,
}

/// Where the body comes from: what was read of it before, then what the client sends.
struct Source {
    kept: Kept,
    /// `None` only while it is dropped.
    incoming: Option<Incoming>,
    ended: bool,
    turn: u32,
}

/// Why no more of the body can be sent.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// HTTP/1.1 broke.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2 broke.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// Another attempt has begun to send it.
    #[error("the request is sent once more, elsewhere")]
    Elsewhere,
}

/// How the body of a request broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Its framing makes no sense.
    Malformed,
    /// The client broke off.
    Gone,
}

impl Broken {
    fn of(error: &BodyError) -> Self {
        // Over HTTP/2, h2 has reset the stream of what made no sense.
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(error) = cause.downcast_ref::<std::io::Error>() {
                return match error.kind() {
                    // What hyper's decoder says of a chunk that is none.
                    std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                        Self::Malformed
                    }
                    _ => Self::Gone,
                };
            }
            source = cause.source();
        }
        Self::Gone
    }
}

impl RequestBody {
    /// Wraps what the client sends. A body that is known to be empty costs nothing.
    pub fn new(incoming: Incoming, headers: &HeaderMap, connection: &Arc<Connection>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let source = Source {
            kept: Kept::default(),
            incoming: Some(incoming),
            ended: false,
            turn: 0,
        };
        let shared = Arc::new(Shared {
            source: Mutex::new(source),
            touched: AtomicBool::new(false),
            expects: headers.contains_key(EXPECT),
            broken: OnceLock::new(),
            bytes: AtomicU64::new(0),
            connection: Arc::clone(connection),
        });
        Self {
            shared: Some(shared),
            turn: 0,
        }
    }

    /// A body of no bytes.
    pub fn empty() -> Self {
        Self {
            shared: None,
            turn: 0,
        }
    }

    /// The body from its first byte, to be sent; whoever sent it before gets no more of it. What is read of it is
    /// kept, within bounds, if whom it is sent to can `decline` it after that.
    #[must_use]
    pub fn attempt(&self, decline: bool) -> Self {
        let turn = self.shared.as_ref().map_or(0, |shared| {
            let mut source = shared.source();
            source.kept.rewind(decline);
            source.turn += 1;
            source.turn
        });
        Self {
            shared: self.shared.clone(),
            turn,
        }
    }

    /// Whether it can be sent from its first byte: nothing was read of it, or all that was is kept.
    pub fn whole(&self) -> bool {
        let whole = |shared: &Arc<Shared>| shared.source().kept.whole();
        self.shared.as_ref().is_none_or(whole)
    }

    /// It will not be sent again: what was kept of it for that is forgotten.
    pub fn settle(&self) {
        if let Some(shared) = &self.shared {
            shared.source().kept.forget();
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// Whether somebody began to read it.
    pub fn touched(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.touched.load(Ordering::Relaxed))
    }

    /// Where it ends is in doubt: nothing more of it will be read.
    pub fn distrust(&self) {
        if let Some(shared) = &self.shared {
            // What is known to be broken stays so.
            let _ = shared.broken.set(Broken::Malformed);
        }
    }

    /// How it broke, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.shared
            .as_ref()
            .and_then(|shared| shared.broken.get().copied())
    }

    /// Bytes that passed so far.
    pub fn bytes(&self) -> u64 {
        self.shared
            .as_ref()
            .map_or(0, |shared| shared.bytes.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_frame(
        &self,
        turn: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut source = self.source();
        if source.turn != turn {
            return Poll::Ready(Some(Err(BodyError::Elsewhere)));
        }
        if let Some(frame) = source.kept.next() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Source {
            kept,
            incoming: Some(incoming),
            ended: ended @ false,
            ..
        } = &mut *source
        else {
            return Poll::Ready(None);
        };
        self.touched.store(true, Ordering::Relaxed);
        let frame = match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Err(error)) => {
                // The first error is the one that tells.
                let _ = self.broken.set(Broken::of(&error));
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => Some(self.passed(frame)),
            None => None,
        };
        if let Some(frame) = &frame {
            kept.add(frame);
        }
        if frame.is_none() || incoming.is_end_stream() {
            *ended = true;
            self.ended();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn passed(&self, mut frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            self.connection.activity.touch(Instant::now());
        }
        if let Some(trailers) = frame.trailers_mut() {
            headers::trailers_to_ingress(trailers);
        }
        frame
    }

    fn ended(&self) {
        if let Some(framing) = &self.connection.framing {
            framing.body_ended();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let source = self.source.get_mut();
        let source = source.unwrap_or_else(PoisonError::into_inner);
        let incoming = source.incoming.take();
        let Some(incoming) = incoming else { return };
        let waits_for_us = self.expects && !*self.touched.get_mut();
        let settled = incoming.is_end_stream() || self.broken.get().is_some() || waits_for_us;
        // HTTP/2 resets the stream; its connection goes on.
        if self.connection.http2 || settled {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(linger::forget(incoming, Arc::clone(&self.connection)));
        }
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        let incoming = || self.incoming.as_ref().is_none_or(Body::is_end_stream);
        self.kept.is_empty() && (self.ended || incoming())
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.kept.bytes_left();
        let mut hint = self.incoming.as_ref().map_or_else(none, Body::size_hint);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(hint.lower().saturating_add(left));
        hint
    }
}

fn none() -> SizeHint {
    SizeHint::with_exact(0)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &self.shared {
            None => Poll::Ready(None),
            Some(shared) => shared.poll_frame(self.turn, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended = |shared: &Arc<Shared>| shared.source().is_end_stream();
        self.shared.as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = |shared: &Arc<Shared>| shared.source().size_hint();
        self.shared.as_ref().map_or_else(none, hint)
    }
}
