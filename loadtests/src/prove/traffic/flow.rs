//! One client: what it does again and again, until the traffic is to end.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::header::CONNECTION;
use http::{Method, StatusCode};
use http_body_util::channel::Channel;
use rustls::HandshakeKind;
use rustls::client::Resumption;
use serde_json::json;
use uuid::Uuid;

use super::Shared;
use super::tally::{Kind, Sort};
use crate::check::with_causes;
use crate::proxy_v2::Header;
use crate::stack::client::{
    Answer, BodyError, ClientError, Connection, Protocol, STEP_TIMEOUT, Tls, empty, full, open,
    streaming,
};
use crate::stack::nginx::pattern;
use crate::stack::web_socket;

/// How long an upload takes, unless the targets say otherwise.
pub const UPLOAD_TIME: Duration = Duration::from_secs(2);

const UPLOAD_PAUSE: Duration = Duration::from_millis(100);
// A whole number of the pattern's periods, so that each piece continues the one before.
const UPLOAD_PIECE_BYTES: usize = 251 * 32;

// Limit: the pace of what is small, and that of connections, which cost most.
const REQUEST_PAUSE: Duration = Duration::from_millis(25);
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

// Limit: streams at the same time on an HTTP/2 connection.
const STREAMS: u32 = 3;

// Limit: sessions of one client; it needs the latest of each protocol.
const SESSIONS_MAX: usize = 8;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// We were done.
    Ours,
    /// The server had announced it.
    Farewell,
    /// Nobody had.
    Cut,
}

struct Flow {
    shared: Arc<Shared>,
    kind: Kind,
    address: SocketAddr,
    tls: Tls,
}

/// Runs until the traffic is to end; each connection goes to the next of the addresses.
pub(super) async fn run(shared: Arc<Shared>, kind: Kind, addresses: Vec<SocketAddr>) {
    let resumption = match kind.sort {
        Sort::Resumptions => Resumption::in_memory_sessions(SESSIONS_MAX),
        _ => Resumption::disabled(),
    };
    let tls = shared.targets.tls.resuming(resumption);
    for &address in addresses.iter().cycle() {
        let flow = Flow {
            shared: Arc::clone(&shared),
            kind,
            address,
            tls: tls.clone(),
        };
        flow.once().await;
        if !flow.goes_on_after(CONNECT_PAUSE).await {
            return;
        }
    }
}

impl Flow {
    /// One connection.
    async fn once(&self) {
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return self.failed(&error),
        };
        let end = match self.kind.sort {
            Sort::Requests | Sort::Uploads => self.streams(connection).await,
            Sort::Messages => self.converse(connection).await,
            Sort::Handshakes | Sort::Resumptions => self.exchange_once(connection).await,
        };
        match end {
            End::Ours => {}
            End::Farewell => self.shared.tally().count(self.kind).farewells += 1,
            End::Cut => {
                self.shared.tally().count(self.kind).cut += 1;
                self.note("the connection was cut");
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let targets = &self.shared.targets;
        let (host, protocol) = (targets.host, self.kind.protocol);
        let stream = open(self.address, None, &Header::link(targets.link_id)).await?;
        let stream = self.tls.handshake(stream, Some(host), protocol).await?;
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.shared.tally().count(self.kind).resumed += 1;
        }
        Ok(Connection::new(stream, protocol, host).await?)
    }

    /// Several exchanges at the same time, if the protocol has streams for them, until the connection ends.
    async fn streams(&self, connection: Connection) -> End {
        let mut all: Vec<_> = (1..STREAMS).filter_map(|_| connection.share()).collect();
        all.push(connection);
        // Uploads overlap, so that one is always in flight.
        let apart = match self.kind.sort {
            Sort::Uploads => self.shared.targets.upload_time,
            _ => REQUEST_PAUSE,
        } / STREAMS;
        let turns = all.into_iter().zip(0..);
        let ends = turns.map(async |(stream, turn): (Connection, u32)| {
            if self.goes_on_after(apart * turn).await {
                self.repeat(stream).await
            } else {
                End::Ours
            }
        });
        let ends = join_all(ends).await;
        ends.into_iter().max().unwrap_or(End::Ours)
    }

    /// One exchange after the other, until the connection ends.
    async fn repeat(&self, mut connection: Connection) -> End {
        let mut has_failed = false;
        while self.goes_on_after(REQUEST_PAUSE).await {
            if connection.is_closed() {
                // HTTP/2 announces its end by GOAWAY; without one, whatever was in flight fails.
                let announced = self.kind.protocol == Protocol::Http2 && !has_failed;
                return if announced { End::Farewell } else { End::Cut };
            }
            match self.exchange(&mut connection).await {
                Ok(answer) => {
                    self.done();
                    if is_last(&answer) {
                        return End::Farewell;
                    }
                }
                Err(error) if self.came_too_late(&error) => return End::Farewell,
                Err(error) => {
                    self.failed(&error);
                    has_failed = true;
                }
            }
        }
        End::Ours
    }

    async fn exchange_once(&self, mut connection: Connection) -> End {
        match get(&mut connection).await {
            Ok(_) => self.done(),
            Err(error) if self.came_too_late(&error) => return End::Farewell,
            Err(error) => self.failed(&error),
        }
        End::Ours
    }

    async fn exchange(&self, connection: &mut Connection) -> Result<Answer, Failure> {
        match self.kind.sort {
            Sort::Uploads => upload(connection, self.shared.targets.upload_time).await,
            // As a coin falls.
            _ if Uuid::new_v4().as_u128().is_multiple_of(2) => post(connection).await,
            _ => get(connection).await,
        }
    }

    /// One WebSocket, until it, its time or the traffic ends.
    async fn converse(&self, mut connection: Connection) -> End {
        let opened = async {
            // An answer shows that the server's SETTINGS have arrived.
            let answer = get(&mut connection).await?;
            if is_last(&answer) {
                return Ok(None);
            }
            let socket = web_socket::open(&mut connection, self.kind.protocol, "/websocket");
            Ok(Some(socket.await?))
        };
        let mut socket = match opened.await {
            Ok(Some(socket)) => socket,
            Ok(None) => return End::Farewell,
            Err(error) if self.came_too_late(&error) => return End::Farewell,
            Err(error) => {
                self.failed(&error);
                return End::Ours;
            }
        };
        let opened = Instant::now();
        let talk_time = self.shared.targets.talk_time.unwrap_or(Duration::MAX);
        while opened.elapsed() < talk_time && self.goes_on_after(REQUEST_PAUSE).await {
            match web_socket::says_back(&mut socket, &Uuid::new_v4().to_string()).await {
                Ok(true) => self.done(),
                Ok(false) => return End::Cut,
                Err(error) => {
                    self.failed(&error.into());
                    return End::Ours;
                }
            }
        }
        // Whoever is gone by now is not missed.
        let _ = socket.close(None).await;
        End::Ours
    }

    /// Whether all that is wrong is GOAWAY: it came before the request was sent, or crossed it, and the server says
    /// that it has done nothing about it ("the client MAY retry the request on a new connection", RFC 9113 section
    /// 8.7). Then it goes elsewhere.
    fn came_too_late(&self, error: &Failure) -> bool {
        let Failure::Client(ClientError::Http(error)) = error else {
            return false;
        };
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        let crossed = cause.is_some_and(|cause: &h2::Error| {
            cause.is_go_away() && cause.is_remote() && cause.reason() == Some(Reason::NO_ERROR)
        });
        if crossed {
            self.shared.tally().count(self.kind).crossed += 1;
        }
        // Both say that it was never sent.
        let unsent = error.is_canceled() || error.is_closed();
        crossed || (unsent && self.kind.protocol == Protocol::Http2)
    }

    async fn goes_on_after(&self, pause: Duration) -> bool {
        self.shared.goes_on_after(pause).await
    }

    fn done(&self) {
        self.shared.tally().count(self.kind).done += 1;
    }

    fn failed(&self, error: &Failure) {
        let reason = error.reason();
        self.note(&with_causes(error));
        let mut tally = self.shared.tally();
        *tally.count(self.kind).failed.entry(reason).or_default() += 1;
    }

    fn note(&self, what: &str) {
        let after = self.shared.started.elapsed().as_secs_f64();
        let (kind, address) = (self.kind, self.address);
        let finding = format!("{kind} to {address}, after {after:.1} s: {what}");
        self.shared.tally().note(finding);
    }
}

async fn get(connection: &mut Connection) -> Result<Answer, Failure> {
    let nonce = Uuid::new_v4().to_string();
    let request = connection.request(Method::GET, &format!("/nonce/{nonce}"))?;
    let answer = connection.fetch(request.body(empty())?).await?;
    is_ok(&answer, answer.text() == nonce)?;
    Ok(answer)
}

async fn post(connection: &mut Connection) -> Result<Answer, Failure> {
    let nonce = Uuid::new_v4().to_string();
    let request = connection.request(Method::POST, "/echo")?;
    let answer = connection.fetch(request.body(full(nonce.clone()))?).await?;
    is_ok(&answer, answer.json()["body"] == nonce)?;
    Ok(answer)
}

/// Sends a body piece by piece over this time, and expects the back end to have seen it byte for byte.
async fn upload(connection: &mut Connection, time: Duration) -> Result<Answer, Failure> {
    let pieces = time.as_millis() / UPLOAD_PAUSE.as_millis();
    let piece = Bytes::from(pattern(UPLOAD_PIECE_BYTES));
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
    let request = connection.request(Method::POST, "/sink")?;
    let send = async move {
        for _ in 0..pieces {
            if sender.send_data(piece.clone()).await.is_err() {
                // The answer says why.
                return;
            }
            tokio::time::sleep(UPLOAD_PAUSE).await;
        }
    };
    let limit = time + STEP_TIMEOUT;
    let fetch = connection.send_within(limit, request.body(streaming(body))?);
    let (answer, ()) = tokio::join!(fetch, send);
    let answer = Answer::read(answer?).await?;
    #[expect(clippy::cast_possible_truncation, reason = "minutes, and not years")]
    let bytes = UPLOAD_PIECE_BYTES as u64 * pieces as u64;
    let all = json!({ "bytes": bytes, "complete": true, "pattern": true });
    is_ok(&answer, answer.json() == all)?;
    Ok(answer)
}

/// Whether the server has said that it closes the connection.
fn is_last(answer: &Answer) -> bool {
    answer.header(CONNECTION.as_str()) == "close"
}

fn is_ok(answer: &Answer, is_right: bool) -> Result<(), Failure> {
    match answer.status {
        StatusCode::OK if is_right => Ok(()),
        StatusCode::OK => Err(Failure::Content(answer.summary())),
        status => Err(Failure::Status(status)),
    }
}

/// Why something failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is another one's: {0}")]
    Content(String),
}

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Self {
        Self::Client(error.into())
    }
}

impl Failure {
    /// The word that it is counted by.
    fn reason(&self) -> String {
        let word = match self {
            Self::Status(status) => return format!("status {}", status.as_str()),
            Self::Content(_) => "wrong answer",
            Self::Client(ClientError::Connect { .. }) => "connect",
            Self::Client(ClientError::Handshake(_)) => "handshake",
            Self::Client(ClientError::Http(_)) => "reset",
            Self::Client(ClientError::Late(_)) => "timeout",
            Self::Client(_) => "client",
        };
        word.to_owned()
    }
}
