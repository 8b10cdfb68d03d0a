//! What the back end saw.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Version};
use hyper::body::{Body, Frame, Incoming};
use serde::{Deserialize, Serialize};

use crate::stack::nginx::pattern;

// Limit: of this many last requests the record is kept; more than any test makes between two looks.
const RECORDS_MAX: usize = 4096;

/// One request as it arrived at the back end.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one observation of its own, and a key in the JSON of `/_seen`"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its target, with the query; `:path` over HTTP/2.
    pub uri: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Every header line in order, names in lower case; over HTTP/2, `:authority` is `host`.
    pub headers: Vec<(String, String)>,
    /// Bytes of its body read so far.
    pub body_bytes: u64,
    /// Whether its body was read to its proper end.
    pub complete: bool,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether its body broke off.
    pub broken: bool,
    /// Whether its body, as far as it came, is the [`pattern`].
    pub is_pattern: bool,
    /// Bytes of the answer of `/pour` that were taken so far.
    pub poured_bytes: u64,
    /// Whether whoever took that answer went away before its end.
    pub abandoned: bool,
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
            uri: target(&head),
            version: format!("{:?}", head.version),
            headers: fields(&head),
            complete: body.is_end_stream(),
            is_pattern: true,
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

    /// Tells of the answer.
    pub(super) fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.record))
    }
}

/// Tells the record how far the answer came.
pub(super) struct Teller(Shared);

impl Teller {
    /// So many more bytes of the answer were taken.
    pub(super) fn poured(&self, bytes: usize) {
        lock(&self.0).poured_bytes += bytes as u64;
    }

    /// Nobody takes the rest.
    pub(super) fn abandoned(&self) {
        lock(&self.0).abandoned = true;
    }
}

/// Whether `data` is what the [`pattern`] has from `position` on.
pub fn continues_pattern(position: u64, data: &[u8]) -> bool {
    static PERIODS: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(PERIOD + PIECE_BYTES));
    let pieces = data.chunks(PIECE_BYTES).enumerate();
    pieces.into_iter().all(|(index, piece)| {
        let offset = (position + (index * PIECE_BYTES) as u64) % PERIOD as u64;
        #[expect(clippy::cast_possible_truncation, reason = "less than the period")]
        let offset = offset as usize;
        PERIODS[offset..offset + piece.len()] == *piece
    })
}

/// The period of [`pattern`].
const PERIOD: usize = 251;
/// Compared at once.
const PIECE_BYTES: usize = 64 * 1024;

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
                    record.is_pattern &= continues_pattern(record.body_bytes, data);
                    record.body_bytes += data.len() as u64;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    record.trailers = lines(trailers);
                }
                record.complete = self.body.is_end_stream();
            }
            Some(Err(_)) => record.broken = true,
            None => record.complete = true,
        }
        drop(record);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn target(head: &Parts) -> String {
    match head.uri.path_and_query() {
        Some(path) if head.version == Version::HTTP_2 => path.to_string(),
        _ => head.uri.to_string(),
    }
}

fn fields(head: &Parts) -> Vec<(String, String)> {
    let authority = head
        .uri
        .authority()
        .filter(|_| head.version == Version::HTTP_2);
    let host = authority.map(|authority| ("host".to_owned(), authority.to_string()));
    host.into_iter().chain(lines(&head.headers)).collect()
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
