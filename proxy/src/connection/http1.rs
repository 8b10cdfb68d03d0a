//! HTTP/1.1 on a secured connection: hyper's server while requests come, next to nothing between them, a tunnel
//! after an upgrade.
//!
//! hyper holds two buffers of 8 KiB for as long as it lives. A connection that has been quiet for a while is
//! *parked*: hyper's part of it is dropped, and made anew when something arrives. What is read to
//! find out is kept for it, undecrypted: whatever ends a parked connection is hyper's to see and to answer, as if it
//! had never been away.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio_rustls::server::TlsStream;

use crate::connection::client_hello::TlsIo;
use crate::connection::framing::Tap;
use crate::connection::http::{Connection, Graceful, Options, Tunnel};
use crate::request::body::AnswerBody;
use crate::short_slices::ShortSlices;

/// What is read and written: TLS, whose message heads are watched.
pub type Io = Tap<ShortSlices<Box<TlsStream<TlsIo>>>>;

/// An HTTP/1.1 connection, and then the tunnel that it was upgraded to.
pub struct Http1<'a, S: HttpService<Incoming>> {
    state: State<S>,
    connection: &'a Connection,
    options: Options,
}

enum State<S: HttpService<Incoming>> {
    Serving(Box<UpgradeableConnection<TokioIo<Io>, S>>),
    Parked(Io, S),
    Tunnel(Tunnel),
    Over,
}

impl<'a, S> Http1<'a, S>
where
    S: HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves what comes over `io`.
    pub fn new(io: Io, service: S, connection: &'a Connection, options: Options) -> Self {
        Self {
            state: serving(io, service, options),
            connection,
            options,
        }
    }

    fn unpark(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Parked(io, service) => {
                self.connection.activity.park(false);
                serving(io, service, self.options)
            }
            other => other,
        };
    }
}

fn serving<S>(io: Io, service: S, options: Options) -> State<S>
where
    S: HttpService<Incoming, ResBody = AnswerBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http1 = Builder::new();
    http1
        .half_close(false)
        .header_read_timeout(None)
        .max_header_size(options.head_bytes_max)
        .max_buf_size(options.head_bytes_max.max(BUFFER_BYTES));
    if options.headers_max > HYPER_HEADERS_MAX {
        http1.max_headers(options.headers_max);
    }
    let served = http1.serve_connection(TokioIo::new(io), service);
    State::Serving(Box::new(served.with_upgrades()))
}

impl<S> Future for Http1<'_, S>
where
    S: HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    UpgradeableConnection<TokioIo<Io>, S>: Future<Output = hyper::Result<()>>,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Serving(served) => {
                    ready!(Pin::new(&mut **served).poll(cx))?;
                    this.state = match this.connection.take_tunnel() {
                        Some(tunnel) => State::Tunnel(tunnel),
                        None => State::Over,
                    };
                }
                State::Parked(io, _) => {
                    let (tls, _) = io.get_mut().get_mut().get_mut();
                    ready!(tls.get_mut().poll_ready(cx));
                    this.unpark();
                }
                State::Tunnel(tunnel) => return tunnel.as_mut().poll(cx).map(Ok),
                State::Over => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: HttpService<Incoming>> Drop for Http1<'_, S> {
    /// A tunnel that never began holds the connection, which holds the tunnel.
    fn drop(&mut self) {
        drop(self.connection.take_tunnel());
    }
}

impl<S> Graceful<hyper::Error> for Http1<'_, S>
where
    S: HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    UpgradeableConnection<TokioIo<Io>, S>: Future<Output = hyper::Result<()>>,
{
    /// Whoever has asked for nothing yet may be about to: it gets its answer, which says that it is the last one. What
    /// says so already would surprise a client that has the head of its answer and sends the next request behind it.
    fn drain(self: Pin<&mut Self>) {
        self.connection.answer_once_more();
    }

    /// There is no gentle end for a tunnel: only its two sides know how to part.
    fn end_gently(mut self: Pin<&mut Self>) {
        self.unpark();
        if let State::Serving(served) = &mut self.state {
            Pin::new(&mut **served).graceful_shutdown();
        }
    }

    fn park(mut self: Pin<&mut Self>) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Serving(served) => match served.into_parts() {
                Some(parts) => {
                    let mut io = parts.io.into_inner();
                    io.give_back(&parts.read_buf);
                    self.connection.activity.park(true);
                    State::Parked(io, parts.service)
                }
                None => State::Over,
            },
            other => other,
        };
    }
}

// What hyper reads into a table on the stack. For more it allocates two tables for each request; for fewer,
// `admit` counts.
const HYPER_HEADERS_MAX: usize = 100;
// Limit: hyper reads a body in pieces of at most this; twice a TLS record keeps copies few.
const BUFFER_BYTES: usize = 64 * 1024;
