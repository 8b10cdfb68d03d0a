//! The back end behind the ingress, for tests: cleartext HTTP/1.1, HTTP/2 with prior knowledge, upgrades.
//!
//! It does on purpose what a real service does now and then (slow answers, trailers, breaks in the middle)
//! and remembers what it saw, so that a test can ask it. Never a part of the product.
//!
//! | path | does |
//! |---|---|
//! | `/status/N` | answers N without a body; the request's body is not read |
//! | `/pour/N` | answers N bytes of the pattern as fast as they are taken, of any size, chunked |
//! | `/gate` | reads the body once [`Echo::open_gate`] was called, then as `/sink` |
//! | `/grpc/error` | a gRPC error that is headers only: `grpc-status: 5` |
//! | `/generate/N` | answers N bytes as [`pattern`](super::nginx::pattern), with Content-Length |
//! | `/redirect` | 302 to another host |
//! | `/slow/MS` | answers after MS milliseconds |
//! | `/drip/N/MS` | N chunks, MS milliseconds apart |
//! | `/stream`, `/grpc/stream` | sends each piece of the request's body back as it comes; trailers `grpc-status`, `x-bytes` |
//! | `/trailers` | `hello` and the trailer `x-trailer: yes` |
//! | `/sink` | reads the body, answers `{"bytes": N}` |
//! | `/break` | announces 1000 bytes, sends 10, breaks off |
//! | `/websocket` | WebSocket (RFC 6455) that sends each message back, and closes on `close` |
//! | `/upgrade` | 101 to the protocol asked for, then each byte back |
//! | `/_seen` | GET: [`Seen`] of the last requests; DELETE: forgets them |
//! | anything else | reads the body, answers method, target, headers and body as JSON |

mod record;
mod routes;

use std::net::SocketAddr;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use record::Records;
pub use record::{Seen, continues_pattern};

use super::child::READY_TIMEOUT;
use super::client::{ClientError, Connection};
use super::credentials::Credentials;
use super::{Deadline, StackError, free_address, scripted};

/// A running echo back end in this process; ends on drop.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    state: State,
    task: JoinHandle<()>,
}

/// What all connections share.
#[derive(Debug, Clone)]
struct State {
    records: Records,
    gate: watch::Sender<bool>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            records: Records::default(),
            gate: watch::Sender::new(false),
        }
    }
}

impl Echo {
    /// Listens on `address`, or on a free port of the loopback interface.
    pub async fn start(address: Option<SocketAddr>) -> Result<Self, StackError> {
        let address = match address {
            Some(address) => address,
            None => free_address()?,
        };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StackError::Listen { address, source })?;
        let state = State::default();
        Ok(Self {
            address,
            task: tokio::spawn(serve(listener, None, state.clone())),
            state,
        })
    }

    /// Is the ingress itself: TLS with its certificate, for who shows ours, offering these protocols by ALPN.
    /// What an ingress in between would change arrives here as it was sent.
    pub async fn start_as_ingress(
        credentials: &Credentials,
        protocols: &[&str],
    ) -> Result<Self, StackError> {
        let address = free_address()?;
        let listen = |source| StackError::Listen { address, source };
        let acceptor =
            scripted::acceptor(credentials, &credentials.ingress, protocols).map_err(listen)?;
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let state = State::default();
        Ok(Self {
            address,
            task: tokio::spawn(serve(listener, Some(acceptor), state.clone())),
            state,
        })
    }

    /// What it saw, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.records.all()
    }

    /// Waits for a request that `matches`; `awaited` says in words what it is.
    pub async fn saw(
        &self,
        awaited: &str,
        matches: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, StackError> {
        let find = async || self.seen().into_iter().find(|seen| matches(seen));
        let limit = READY_TIMEOUT;
        let found = Deadline::after(limit).poll(find).await;
        found.ok_or_else(|| StackError::Late {
            name: "echo".to_owned(),
            limit,
            awaited: awaited.to_owned(),
            log: format!("{:#?}", self.seen()),
        })
    }

    /// Lets the requests for `/gate` read on.
    pub fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the back end ends, which it does not by itself.
    pub async fn join(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the back end at `address` saw, oldest first.
pub async fn seen(address: SocketAddr) -> Result<Vec<Seen>, ClientError> {
    let answer = Connection::plain(address).await?.get("/_seen").await?;
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: State) {
    loop {
        // An accept that fails (too many open files) passes; the next one may do better.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            match tls {
                None => serve_connection(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_connection(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection<S>(stream: S, state: State)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| routes::answer(request, state.clone()));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    // How a test's connection ends is the test's business.
    let _ = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}
