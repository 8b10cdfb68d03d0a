//! What a link has open when it is revoked.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, timeout};

use super::lane::path;
use super::{BOUND, GIVE_UP};
use crate::check::{Broken, expect};
use crate::prove::routed::Routed;
use crate::stack::Deadline;
use crate::stack::accounts::HOST_A;
use crate::stack::client::{BodyError, Connection, Protocol, empty, streaming};
use crate::stack::web_socket::{self, WebSocket};

// Limit: between two requests or messages.
const PAUSE: Duration = Duration::from_millis(10);

// Limit: after the first refusal, so many more requests have to be refused.
const ONCE_MORE: usize = 3;

/// A download that would last longer than anybody waits here.
const DOWNLOAD: &str = "/drip/3000/20";

/// A connection, and what goes on over it besides requests.
pub(super) struct Open {
    connection: Connection,
    protocol: Protocol,
    load: Load,
}

enum Load {
    /// Nothing else.
    Requests,
    WebSocket(Box<WebSocket>),
    Download(Incoming),
    /// A gRPC call with messages both ways, over HTTP/2.
    Call(Sender<Bytes, BodyError>, Incoming),
}

#[derive(Clone, Copy)]
enum Sort {
    Requests,
    WebSocket,
    Download,
    Call,
}

impl Sort {
    const fn over(protocol: Protocol) -> &'static [Self] {
        match protocol {
            Protocol::Http1 => &[Self::Requests, Self::WebSocket, Self::Download],
            Protocol::Http2 => &[Self::Requests, Self::WebSocket, Self::Download, Self::Call],
        }
    }
}

/// How it ended.
pub(super) struct End {
    /// When the first request was refused, if the connection can carry any.
    pub(super) refused: Option<Instant>,
    /// When the last of it was gone.
    pub(super) gone: Instant,
    /// What was asked for in vain.
    pub(super) refused_paths: Vec<String>,
}

impl Open {
    /// One of each kind.
    pub(super) async fn all(stage: &Routed, link_id: u32) -> Result<Vec<Self>, Broken> {
        let mut all = Vec::new();
        for protocol in Protocol::ALL {
            for sort in Sort::over(protocol) {
                let postern = &stage.posterns[0];
                let connection = stage.connect(postern, link_id, HOST_A, protocol).await?;
                all.push(Self::begin(connection, protocol, *sort).await?);
            }
        }
        Ok(all)
    }

    async fn begin(
        mut connection: Connection,
        protocol: Protocol,
        sort: Sort,
    ) -> Result<Self, Broken> {
        // An answer shows that the server's SETTINGS have arrived.
        let answer = connection.get(&path()).await?;
        expect(answer.status == StatusCode::OK, || answer.summary())?;
        let load = match sort {
            Sort::Requests => Load::Requests,
            Sort::WebSocket => {
                let socket = web_socket::open(&mut connection, protocol, "/websocket").await?;
                Load::WebSocket(Box::new(socket))
            }
            Sort::Download => {
                let request = connection.request(Method::GET, DOWNLOAD)?.body(empty())?;
                Load::Download(connection.send(request).await?.into_body())
            }
            Sort::Call => {
                let (sender, body) = Channel::new(1);
                let request = connection.request(Method::POST, "/grpc/stream")?;
                let request = request
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(streaming(body))?;
                Load::Call(sender, connection.send(request).await?.into_body())
            }
        };
        Ok(Self {
            connection,
            protocol,
            load,
        })
    }

    /// Goes on, from when everybody is there, until it has ended.
    pub(super) async fn work(mut self, at_work: &Barrier) -> Result<End, Broken> {
        at_work.wait().await;
        // HTTP/1.1 has no room for a request beside a download or a tunnel.
        let asks = self.protocol == Protocol::Http2 || matches!(self.load, Load::Requests);
        let (label, connection) = (self.label(), &mut self.connection);
        let asked = async {
            let asked = async { Some(ask(connection).await) };
            if asks { asked.await } else { None }.transpose()
        };
        let limit = BOUND + GIVE_UP;
        let ended = async {
            let ended = timeout(limit, self.load.goes_on()).await;
            ended.map_err(|_| Broken::Unexpected(format!("{label} goes on after {limit:?}")))?
        };
        let (asked, ()) = tokio::try_join!(asked, ended)?;
        let connection = &self.connection;
        let closed = async || connection.is_closed().then_some(());
        let closed = Deadline::after(GIVE_UP).poll(closed).await;
        expect(closed.is_some(), || {
            format!("the connection of {label} stays open")
        })?;
        let (refused, refused_paths) = asked.unzip();
        Ok(End {
            refused,
            gone: Instant::now(),
            refused_paths: refused_paths.unwrap_or_default(),
        })
    }

    fn label(&self) -> String {
        let load = match self.load {
            Load::Requests => "requests",
            Load::WebSocket(_) => "a WebSocket",
            Load::Download(_) => "a download",
            Load::Call(..) => "a gRPC call",
        };
        format!("{load} over {}", self.protocol.label())
    }
}

impl Load {
    /// Returns when it has been ended.
    async fn goes_on(&mut self) -> Result<(), Broken> {
        match self {
            Self::Requests => {}
            Self::WebSocket(socket) => {
                while web_socket::says_back(socket, "still here").await? {
                    sleep(PAUSE).await;
                }
            }
            Self::Download(body) => {
                while let Some(frame) = body.frame().await {
                    if frame.is_err() {
                        return Ok(());
                    }
                }
                return Err(Broken::Unexpected("the download came to its end".into()));
            }
            Self::Call(sender, body) => {
                let message = || Bytes::from_static(b"still here");
                while sender.send_data(message()).await.is_ok()
                    && let Some(Ok(_)) = body.frame().await
                {
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }
}

/// Sends requests until they are refused: by 403, or by the end of the connection. Returns when the first one was, and
/// what was asked for in vain.
async fn ask(connection: &mut Connection) -> Result<(Instant, Vec<String>), Broken> {
    let mut first = None;
    let mut refused = Vec::new();
    while refused.len() <= ONCE_MORE {
        let path = path();
        let answer = connection.get(&path).await;
        let status = answer.as_ref().map(|answer| answer.status);
        match status {
            Ok(StatusCode::OK) if refused.is_empty() => sleep(PAUSE).await,
            Ok(StatusCode::FORBIDDEN) | Err(_) => {
                first.get_or_insert_with(Instant::now);
                refused.push(path);
            }
            Ok(status) => {
                let text = format!("after {} refusals, {status}", refused.len());
                return Err(Broken::Unexpected(text));
            }
        }
    }
    Ok((first.unwrap_or_else(Instant::now), refused))
}
