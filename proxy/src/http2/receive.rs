//! A body that arrives on a stream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

/// A body that arrives on a stream.
pub struct Received {
    stream: RecvStream,
    /// What `Content-Length` still promises. h2 holds the peer to it.
    left: Option<u64>,
    data_ended: bool,
    /// Whether nothing more will come, as of the last piece. To ask h2 costs a lock.
    ended: bool,
}

impl Received {
    /// The body of the message that has these headers.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self {
            left: length(headers),
            data_ended: false,
            ended: stream.is_end_stream(),
            stream,
        }
    }

    /// The next piece of it.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Passed on means read: whoever does not read does not poll.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    self.ended = self.stream.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.ended = true;
        match trailers {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Whether nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        self.ended
    }

    /// How much more will come, as far as is known.
    pub fn size_hint(&self) -> SizeHint {
        if self.ended {
            return SizeHint::with_exact(0);
        }
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// `Content-Length`, if it says one thing.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let first = values.next()?;
    if values.any(|value| value != first) {
        return None;
    }
    first.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length_of(values: &[&'static str]) -> Option<u64> {
        let value = |&text| (CONTENT_LENGTH, http::HeaderValue::from_static(text));
        length(&values.iter().map(value).collect())
    }

    #[test]
    fn a_length_is_known_if_it_is_said_once_or_the_same_each_time() {
        assert_eq!(length_of(&[]), None);
        assert_eq!(length_of(&["5"]), Some(5));
        assert_eq!(length_of(&["5", "5"]), Some(5));
        assert_eq!(length_of(&["5", "6"]), None);
        assert_eq!(length_of(&["five"]), None);
    }
}
