//! The admin listener: alive, ready, metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use postern_certs::UnixTime;

use super::cycle::Shared;

/// `/livez`, `/readyz` and `/metrics`.
pub(super) fn router(parts: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(parts)
}

/// 200 if everything is published and nothing has ended, else 503; a line for each certificate.
async fn readyz(State(parts): State<Arc<Shared>>) -> impl IntoResponse {
    let (is_ready, lines) = parts.status.report(now());
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, lines)
}

async fn metrics(State(parts): State<Arc<Shared>>) -> impl IntoResponse {
    let (is_ready, _) = parts.status.report(now());
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, parts.metrics.text(is_ready))
}

/// Unix seconds.
pub(super) fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}
