//! What the back end saw.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::{Body, Frame, Incoming};
use serde::{Deserialize, Serialize};

// Limit: of this many last requests the record is kept; more than any test makes between two looks.
const RECORDS_MAX: usize = 4096;

/// One request as it arrived at the back end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its target, with the query.
    pub uri: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Every header line in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of its body read so far.
    pub body_bytes: u64,
    /// Whether its body was read to its proper end.
    pub complete: bool,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// All values of a header, in order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(key, _)| key == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }
}

type Shared = Arc<Mutex<Seen>>;

/// The last requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(Arc<Mutex<VecDeque<Shared>>>);

impl Records {
    /// Remembers a request; its body is counted as it is read.
    pub(super) fn begin(&self, request: Request<Incoming>) -> Request<Counted> {
        let (head, body) = request.into_parts();
        let record = Arc::new(Mutex::new(Seen {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            version: format!("{:?}", head.version),
            headers: lines(&head.headers),
            complete: body.is_end_stream(),
            ..Seen::default()
        }));
        let mut records = lock(&self.0);
        if records.len() == RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(Arc::clone(&record));
        Request::from_parts(head, Counted { body, record })
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        lock(&self.0)
            .iter()
            .map(|record| lock(record).clone())
            .collect()
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// A request's body that is counted into its record.
#[derive(Debug)]
pub(super) struct Counted {
    body: Incoming,
    record: Shared,
}

impl Counted {
    /// What is known of the request now.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.record).clone()
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let mut record = lock(&self.record);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    record.body_bytes += data.len() as u64;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    record.trailers = lines(trailers);
                }
                record.complete = self.body.is_end_stream();
            }
            Some(Err(_)) => {}
            None => record.complete = true,
        }
        drop(record);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Header lines in order, names in lower case.
pub(super) fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A record is whole after each statement, so a test that panicked elsewhere has not spoilt it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
