//! Small plain HTTP/1.1 listeners for operators and probes, bounded in connections and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Binds a listener.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until dropped.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Such as no file descriptors: they come back when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // How a client leaves is its own affair.
            let _ = tokio::time::timeout(CONNECTION_AGE_MAX, connection).await;
            drop(seat);
        });
    }
}

// Limit: Prometheus, a probe and a person; each connection is one file descriptor and some 20 KiB.
const CONNECTIONS_MAX: usize = 64;
// Limit: the smallest that hyper allows; heads here have some hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
// Limit: who keeps a connection is asked to make another one now and then, whatever it does on it.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
