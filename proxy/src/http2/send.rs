//! A body that leaves on a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// Sends a body as fast as the peer takes it. An error is what the stream is to be reset with: `broken` if it is
/// the body that broke.
pub async fn send<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    stream: &mut SendStream<Bytes>,
    broken: Reason,
) -> Result<(), Reason> {
    loop {
        let next = std::future::poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            // The peer may not want the rest.
            Poll::Pending => stream.poll_reset(cx).map(Err),
        });
        let frame = match next.await {
            // It is reset already; there is nothing left to say.
            Err(_) => return Ok(()),
            Ok(None) => return send_data(stream, Bytes::new(), true),
            Ok(Some(Err(_))) => return Err(broken),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            // What ends the body need not wait: h2 keeps it until there is room.
            Ok(data) if body.is_end_stream() => return send_data(stream, data, true),
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                if std::future::poll_fn(|cx| poll_room(stream, cx))
                    .await
                    .is_err()
                {
                    return Ok(());
                }
                send_data(stream, data, false)?;
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return stream
                    .send_trailers(trailers)
                    .map_err(|_| Reason::INTERNAL_ERROR);
            }
        }
    }
}

/// The stream is over; its reset has told the rest.
pub(super) struct Over;

/// Waits until the peer has room for something. h2 keeps the rest of the piece that is sent then, and the next
/// one waits for that to be gone.
///
/// No room is reserved before there is something to send: it would be taken from the other streams.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Over>> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Err(Over)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

fn send_data(stream: &mut SendStream<Bytes>, data: Bytes, last: bool) -> Result<(), Reason> {
    stream
        .send_data(data, last)
        .map_err(|_| Reason::INTERNAL_ERROR)
}
