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
use hyper::body::Incoming;

use super::linger;
use crate::connection::http::Connection;
use crate::request::headers;

/// The body of a request, shared between whoever sends it and whoever may have to send it again.
#[derive(Clone)]
pub struct RequestBody(Option<Arc<Shared>>);

struct Shared {
    /// `None` only while it is dropped.
    incoming: Mutex<Option<Incoming>>,
    touched: AtomicBool,
    /// Whether the client waits for `100 Continue` before it sends anything.
    expects: bool,
    broken: OnceLock<Broken>,
    bytes: AtomicU64,
    connection: Arc<Connection>,
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
    fn of(error: &hyper::Error) -> Self {
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
            return Self(None);
        }
        Self(Some(Arc::new(Shared {
            incoming: Mutex::new(Some(incoming)),
            touched: AtomicBool::new(false),
            expects: headers.contains_key(EXPECT),
            broken: OnceLock::new(),
            bytes: AtomicU64::new(0),
            connection: Arc::clone(connection),
        })))
    }

    /// A body of no bytes.
    pub fn empty() -> Self {
        Self(None)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a part of it was read, so that it cannot be sent again.
    pub fn touched(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|shared| shared.touched.load(Ordering::Relaxed))
    }

    /// Where it ends is in doubt: nothing more of it will be read.
    pub fn distrust(&self) {
        if let Some(shared) = &self.0 {
            // What is known to be broken stays so.
            let _ = shared.broken.set(Broken::Malformed);
        }
    }

    /// How it broke, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.0
            .as_ref()
            .and_then(|shared| shared.broken.get().copied())
    }

    /// Bytes that passed so far.
    pub fn bytes(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |shared| shared.bytes.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut incoming = self.incoming();
        let Some(incoming) = incoming.as_mut() else {
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
        if frame.is_none() || incoming.is_end_stream() {
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
        let incoming = self.incoming.get_mut();
        let incoming = incoming.unwrap_or_else(PoisonError::into_inner).take();
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &self.0 {
            None => Poll::Ready(None),
            Some(shared) => shared.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended =
            |shared: &Arc<Shared>| shared.incoming().as_ref().is_none_or(Body::is_end_stream);
        self.0.as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        let known = |shared: &Arc<Shared>| shared.incoming().as_ref().map(Body::size_hint);
        let hint = self.0.as_ref().and_then(known);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}
