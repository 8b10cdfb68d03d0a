//! Every account with all its links, for a data plane that knows nothing.

use std::io::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut as _, BytesMut};
use http::header::{CONTENT_TYPE, ETAG, HeaderValue};
use http::{HeaderMap, StatusCode};
use postern_api::routing::{AccountLinks, SnapshotHead};
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::gate::Caller;
use super::openapi::Failed;
use super::outlet::{Outlet, Over};
use super::request::is_known;
use crate::routing::store::Snapshot;

/// Every account with all its links, as they are at one moment: one JSON text a line, a `SnapshotHead`, then as many
/// `AccountLinks` as it says. Who gets less has been given a piece.
#[utoipa::path(get, path = "/v1/snapshot", tag = "data plane",
    params(("If-None-Match" = Option<String>, Header, description = "The snapshot that is known already.")),
    responses((status = 200, content((SnapshotHead = "application/x-ndjson"), (AccountLinks = "application/x-ndjson")),
            description = "Everything."),
        (status = 304, description = "Nothing has changed since."), Failed))]
pub(super) async fn snapshot(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seat = Arc::clone(&api.snapshots).acquire_owned().await;
    let seat = seat.map_err(|_| ApiError::unavailable("the service is stopping"))?;
    let snapshot = api.kept(api.store.snapshot().await)?;
    let etag = format!("\"{}\"", snapshot.head.sequence);
    let tag = HeaderValue::from_str(&etag);
    let tag = tag.map_err(|error| ApiError::unavailable(error.to_string()))?;
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let (outlet, body) = Outlet::new(Arc::clone(&caller.peer), api.changes.stall_timeout);
    let api = Arc::clone(&api);
    tokio::spawn(async move {
        if write(&api, snapshot, &outlet).await == Err(Over::Stalled) {
            tracing::warn!(
                client = %caller.peer, request_id = %caller.request_id,
                "a snapshot is cut, as it is not read"
            );
        }
        drop(seat);
    });
    let lines = HeaderValue::from_static("application/x-ndjson");
    Ok(([(CONTENT_TYPE, lines), (ETAG, tag)], body).into_response())
}

async fn write(api: &Api, mut snapshot: Snapshot, outlet: &Outlet) -> Result<(), Over> {
    let mut text = BytesMut::new();
    line(&mut text, &snapshot.head);
    while let Some(account) = snapshot.accounts.recv().await {
        api.health.note(&account, &api.metrics);
        let Ok(account) = account else {
            return outlet.break_off().await;
        };
        line(&mut text, &account);
        if text.len() >= CHUNK_BYTES {
            outlet.write(text.split().freeze()).await?;
        }
    }
    outlet.write(text.freeze()).await
}

fn line(text: &mut BytesMut, of: &impl Serialize) {
    let mut writer = text.writer();
    // Memory takes it all, and JSON has all that is in it.
    let _ = serde_json::to_writer(&mut writer, of);
    let _ = writer.write_all(b"\n");
}

// Limit: what is written at once; the last line may go beyond.
const CHUNK_BYTES: usize = 64 * 1024;
