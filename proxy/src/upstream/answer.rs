//! The body of the ingress's answer, by whichever HTTP it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::upstream::http2;

/// The body of the ingress's answer.
pub enum IngressBody {
    /// By HTTP/1.1.
    Http1(Incoming),
    /// By HTTP/2.
    Http2(http2::Answer),
}

/// Why the body of an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// HTTP/1.1 broke.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2 broke.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Body for IngressBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(incoming) => {
                let frame = Pin::new(incoming).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Http2(answer) => {
                let frame = answer.poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(answer) => answer.size_hint(),
        }
    }
}
