//! Customers of one machine: they go to another one when they are told to, and not before.
//!
//! Those who are connected stay until an answer, or GOAWAY, says that the connection ends. New ones come as long as the
//! load balancer sends them: until its probe has noticed. An upload goes on for a while after nothing more is accepted.
//!
//! Over HTTP/2 a request may cross the GOAWAY that says that it is not answered any more: "activity on streams numbered
//! higher than the last stream identifier was not or will not be processed" (RFC 9113, section 6.8). It is sent
//! elsewhere, and must not have been seen behind Postern.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use http::header::CONNECTION;
use http_body_util::channel::Channel;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::machine::{Machine, Seen};
use crate::check::{Broken, expect, with_causes};
use crate::proxy_v2::Header;
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::{Answer, BodyError, ClientError, Connection, Protocol, Tls, streaming};

const REQUEST_PAUSE: Duration = Duration::from_millis(25);
const UPLOAD_PAUSE: Duration = Duration::from_millis(50);
const UPLOAD_PIECE_BYTES: usize = 4 * 1024;
/// So many pieces of an upload follow after nothing more is accepted: two seconds.
const UPLOAD_TAIL: u32 = 40;
/// Connections that are kept, of each protocol.
const KEPT: usize = 3;

/// What customers did.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) requests: u64,
    pub(super) uploads: u64,
    /// When the last upload was answered.
    pub(super) uploaded: Option<SystemTime>,
    pub(super) failures: Vec<String>,
    /// The paths of requests that crossed a GOAWAY.
    pub(super) crossed: Vec<String>,
}

/// What one customer did.
enum Done {
    Requests { count: u64, crossed: Option<String> },
    Uploaded(SystemTime),
}

/// Customers who are at it.
pub(super) struct Clients(JoinSet<Result<Done, Broken>>);

#[derive(Clone)]
struct Client {
    tls: Tls,
    data: SocketAddr,
    protocol: Protocol,
    seen: watch::Receiver<Seen>,
}

impl Clients {
    pub(super) fn start(machine: &Machine, seen: &watch::Receiver<Seen>) -> Result<Self, Broken> {
        let mut tasks = JoinSet::new();
        for protocol in Protocol::ALL {
            let client = Client {
                tls: machine.stack.tls()?,
                data: machine.stack.postern.data(),
                protocol,
                seen: seen.clone(),
            };
            for _ in 0..KEPT {
                tasks.spawn(client.clone().stay());
            }
            tasks.spawn(client.clone().come());
            tasks.spawn(client.upload());
        }
        Ok(Self(tasks))
    }

    /// Waits until all of them are done.
    pub(super) async fn done(mut self) -> Told {
        let mut told = Told::default();
        while let Some(done) = self.0.join_next().await {
            match done {
                Ok(Ok(Done::Requests { count, crossed })) => {
                    told.requests += count;
                    told.crossed.extend(crossed);
                }
                Ok(Ok(Done::Uploaded(at))) => {
                    told.uploads += 1;
                    told.uploaded = told.uploaded.max(Some(at));
                }
                Ok(Err(error)) => told.failures.push(with_causes(&error)),
                Err(error) => told.failures.push(error.to_string()),
            }
        }
        told
    }
}

impl Client {
    async fn connect(&self) -> Result<Connection, ClientError> {
        let header = Header::link(LINK_A);
        self.tls
            .connect(self.data, &header, HOST_A, self.protocol)
            .await
    }

    /// One request after the other, on one connection, until it is told to go.
    async fn stay(self) -> Result<Done, Broken> {
        let mut connection = self.connect().await?;
        let (mut count, mut crossed) = (0, None);
        loop {
            if connection.is_closed() {
                let announced = self.protocol == Protocol::Http2;
                expect(announced, || format!("cut after {count} requests"))?;
                break;
            }
            let nonce = Uuid::new_v4().to_string();
            let path = format!("/nonce/{nonce}");
            match connection.get(&path).await {
                Ok(answer) => {
                    count += 1;
                    expect(answer.text() == nonce, || answer.summary())?;
                    if answer.header(CONNECTION.as_str()) == "close" {
                        break;
                    }
                }
                Err(ClientError::Http(error)) if has_crossed(&error, self.protocol) => {
                    crossed = Some(path);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(REQUEST_PAUSE).await;
        }
        Ok(Done::Requests { count, crossed })
    }

    /// A connection for each request, as long as the load balancer sends them here.
    async fn come(self) -> Result<Done, Broken> {
        let mut count = 0;
        while self.seen.borrow().not_ready.is_none() {
            let nonce = Uuid::new_v4().to_string();
            let answer = self
                .connect()
                .await?
                .get(&format!("/nonce/{nonce}"))
                .await?;
            expect(answer.text() == nonce, || answer.summary())?;
            count += 1;
            tokio::time::sleep(REQUEST_PAUSE).await;
        }
        let crossed = None;
        Ok(Done::Requests { count, crossed })
    }

    /// An upload that began before, and ends a while after nothing more is accepted.
    async fn upload(self) -> Result<Done, Broken> {
        let mut connection = self.connect().await?;
        let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
        let request = connection.request(Method::POST, "/sink")?;
        let request = request.body(streaming(body))?;
        let send = async {
            let (mut bytes, mut tail) = (0, UPLOAD_TAIL);
            while tail > 0 {
                tail -= u32::from(self.seen.borrow().not_accepting.is_some());
                let piece = Bytes::from_static(&[b'u'; UPLOAD_PIECE_BYTES]);
                if sender.send_data(piece).await.is_err() {
                    // The answer says why.
                    break;
                }
                bytes += UPLOAD_PIECE_BYTES as u64;
                tokio::time::sleep(UPLOAD_PAUSE).await;
            }
            drop(sender);
            bytes
        };
        let (answer, bytes) = tokio::join!(connection.send(request), send);
        let answer = Answer::read(answer?).await?;
        let at = SystemTime::now();
        expect(answer.json()["bytes"] == bytes, || {
            format!("of an upload of {bytes} bytes: {}", answer.summary())
        })?;
        Ok(Done::Uploaded(at))
    }
}

/// Whether GOAWAY without an error came before the answer, or before the request was sent over HTTP/2, which announces
/// its end.
fn has_crossed(error: &hyper::Error, protocol: Protocol) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    let crossed = cause.is_some_and(|cause: &h2::Error| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    });
    let unsent = error.is_canceled() || error.is_closed();
    crossed || (unsent && protocol == Protocol::Http2)
}
