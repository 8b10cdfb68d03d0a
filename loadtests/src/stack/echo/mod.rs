//! The back end behind the ingress, for tests: cleartext HTTP/1.1, HTTP/2 with prior knowledge, upgrades.
//!
//! It does on purpose what a real service does now and then (slow answers, trailers, breaks in the middle)
//! and remembers what it saw, so that a test can ask it. Never a part of the product.
//!
//! | path | does |
//! |---|---|
//! | `/status/N` | answers N without a body; the request's body is not read |
//! | `/generate/N` | answers N bytes as [`pattern`](super::nginx::pattern), with Content-Length |
//! | `/slow/MS` | answers after MS milliseconds |
//! | `/drip/N/MS` | N chunks, MS milliseconds apart |
//! | `/stream`, `/grpc/stream` | sends each piece of the request's body back as it comes; trailers `grpc-status`, `x-bytes` |
//! | `/trailers` | `hello` and the trailer `x-trailer: yes` |
//! | `/sink` | reads the body, answers `{"bytes": N}` |
//! | `/break` | announces 1000 bytes, sends 10, breaks off |
//! | `/websocket` | WebSocket (RFC 6455) that sends each message back |
//! | `/upgrade` | 101 to the protocol asked for, then each byte back |
//! | `/_seen` | GET: [`Seen`] of the last requests; DELETE: forgets them |
//! | anything else | reads the body, answers method, target, headers and body as JSON |

mod record;
mod routes;

use std::net::SocketAddr;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use record::Records;
pub use record::Seen;

use super::client::{ClientError, Connection};
use super::{StackError, free_address};

/// A running echo back end in this process; ends on drop.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
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
        Ok(Self {
            address,
            task: tokio::spawn(serve(listener)),
        })
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

async fn serve(listener: TcpListener) {
    let records = Records::default();
    loop {
        // An accept that fails (too many open files) passes; the next one may do better.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let records = records.clone();
        let service = service_fn(move |request| routes::answer(request, records.clone()));
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // How a test's connection ends is the test's business.
            let _ = server
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}
