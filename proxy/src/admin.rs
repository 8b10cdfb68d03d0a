//! The admin listener: what an operator sees and may do, over plain HTTP on the loopback.
//!
//! Promises that nobody who can reach it makes it hold much: connections, request heads and lifetimes are bounded.
//! Never shows a key.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::Config;
use crate::metrics::{self, Metrics};
use crate::telemetry::LevelHandle;

/// Answers operators.
pub struct Admin {
    metrics: Arc<Metrics>,
    seats: Semaphore,
}

impl Admin {
    /// Answers by these parts.
    pub fn new(_config: &Config, metrics: Arc<Metrics>, _level: LevelHandle) -> Self {
        Self {
            metrics,
            seats: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    /// Serves a connection of the admin listener.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok(_seat) = self.seats.try_acquire() else {
            return;
        };
        let service = service_fn(|request: Request<Incoming>| {
            let response = self.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        let mut served = pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_TIMEOUT)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(TokioIo::new(io), service)
        );
        if timeout(AGE_MAX, served.as_mut()).await.is_err() {
            served.as_mut().graceful_shutdown();
            let _ = timeout(LAST_ANSWER_TIMEOUT, served).await;
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        match (path, method) {
            ("/metrics", &Method::GET | &Method::HEAD) => match self.metrics.render() {
                Ok(text) => respond(StatusCode::OK, metrics::CONTENT_TYPE, text),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            ("/metrics", _) => {
                let mut response = text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method not allowed\n".into(),
                );
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "not found\n".into()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

// Limit: a scraper, a sidecar and a few people; each may hold a page of about 100 KiB.
const CONNECTIONS_MAX: usize = 64;
// Limit: an operator's request is one line and what a browser adds.
const BUFFER_BYTES: usize = 32 * 1024;
// Limit: scrapers come at least once a minute and keep their connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
// Limit: a peer that reads nothing holds its seat no longer than this.
const AGE_MAX: Duration = Duration::from_mins(10);
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::AccessLog;
    use crate::config::Mode;

    #[test]
    fn metrics_are_served_in_the_text_format() {
        let metrics = Metrics::new(Mode::Enforce, AccessLog::off()).unwrap();
        let admin = Admin {
            metrics: Arc::new(metrics),
            seats: Semaphore::new(1),
        };
        let response = admin.answer(&Method::GET, "/metrics");
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "text/plain; version=0.0.4"
        );
        let refused = admin.answer(&Method::POST, "/metrics");
        assert_eq!(refused.status(), 405);
        assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        assert_eq!(admin.answer(&Method::GET, "/nothing").status(), 404);
    }
}
