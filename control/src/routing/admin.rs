//! The admin listener: alive, ready, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use postern_certs::UnixTime;
use tokio::sync::watch;

use super::api::Health;
use super::metrics::Metrics;
use super::server::Tls;
use super::store::{Store, StoreError};

/// What readiness depends on.
pub(super) struct Admin {
    pub(super) store: Arc<dyn Store>,
    pub(super) tls: watch::Receiver<Tls>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
}

/// `/livez`, `/readyz` and `/metrics`.
pub(super) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(admin))
}

/// 200 if the store answers and the certificates are valid, else 503; a line for each.
async fn readyz(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let (store, certificates) = admin.look().await;
    let status = if store == "ok" && certificates == "ok" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        format!("store: {store}\ncertificates: {certificates}\n"),
    )
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let is_ready = admin.look().await == ("ok", "ok");
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, admin.metrics.text(is_ready))
}

impl Admin {
    /// The store and the certificates, a word for each.
    async fn look(&self) -> (&'static str, &'static str) {
        let at = self.store.head().borrow().sequence;
        let asked = tokio::time::timeout(STORE_TIMEOUT, self.store.changes(at, 1)).await;
        let store = match asked {
            Ok(answer) => {
                self.health.note(&answer, &self.metrics);
                match answer {
                    Ok(_) | Err(StoreError::Gone(_)) => "ok",
                    Err(_) => "does not answer",
                }
            }
            Err(_) => "does not answer in time",
        };
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let certificates = match &*self.tls.borrow() {
            None => "not there yet",
            Some(in_use) if in_use.until < now => "ended",
            Some(_) => "ok",
        };
        (store, certificates)
    }
}

// Limit: a page of one change takes a millisecond; a probe waits a few seconds.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
