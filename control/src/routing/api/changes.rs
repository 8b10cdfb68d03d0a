//! The change log: as a stream of server-sent events, and as pages.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};
use postern_api::routing::{ChangePage, Head};

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::gate::Caller;
use super::openapi::Failed;
use super::outlet::{Outlet, Over};
use super::request::{Parameters, only};
use crate::routing::store::StoreError;

/// What has changed after a change that is known.
///
/// With `Accept: text/event-stream` a stream that lasts: `change` with a `Change` and its sequence as `id`; `head` with a
/// `Head` once everything before is sent, and then every few seconds; `gap` with a `Head` if changes were missed that are
/// no longer kept: the stream goes on after that head, and only a snapshot tells what was before. `Last-Event-ID` counts
/// before `after`. Otherwise a page, or 410 where the stream would have a gap.
#[utoipa::path(get, path = "/v1/changes", tag = "data plane",
    params(("after" = u64, Query, description = "The newest change that is known; 0 for none."),
        ("max" = Option<usize>, Query, description = "At most so many in a page: 1 to 1000, otherwise 100."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The newest change that was received, for a stream."),
        ("Accept" = Option<String>, Header, description = "text/event-stream for a stream.")),
    responses((status = 200, content((ChangePage = "application/json"), (String = "text/event-stream")),
            description = "The changes."),
        (status = 410, body = ErrorBody, description = "Changes that followed are no longer kept."),
        Failed))]
pub(super) async fn changes(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let parameters = Parameters::read(&uri, &["after", "max"])?;
    let after: Option<u64> = parameters.get("after")?;
    let required = || {
        ApiError::parameter(
            "after",
            "the parameter is required: 0 for everything that is kept",
        )
    };
    if is_stream(&headers) {
        let last = only(&headers, &LAST_EVENT_ID)?.map(str::parse).transpose();
        let last =
            last.map_err(|_| ApiError::header("Last-Event-ID", "is not the id of a change"))?;
        let after = last.or(after).ok_or_else(required)?;
        return stream(&api, caller, after).await;
    }
    let max = parameters.get("max")?.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&max) {
        let message = format!("must be from 1 to {PAGE_MAX}");
        return Err(ApiError::parameter("max", message));
    }
    let page = api.store.changes(after.ok_or_else(required)?, max).await;
    Ok(Json(api.kept(page)?).into_response())
}

async fn stream(api: &Arc<Api>, caller: Caller, after: u64) -> Result<Response, ApiError> {
    let seat = Arc::clone(&api.subscribers).try_acquire_owned();
    let seat = seat.map_err(|_| ApiError::busy("too many streams are open"))?;
    let first: Result<ChangePage, Head> = match api.store.changes(after, PAGE).await {
        Err(StoreError::Gone(head)) => Err(head),
        page => Ok(api.kept(page)?),
    };
    let (outlet, body) = Outlet::new(Arc::clone(&caller.peer), api.changes.stall_timeout);
    let api = Arc::clone(api);
    tokio::spawn(async move {
        let open = api.metrics.subscriber();
        if api.feed.follow(after, first, &outlet).await == Over::Stalled {
            api.metrics.subscriber_cut();
            tracing::warn!(
                client = %caller.peer, request_id = %caller.request_id,
                "a stream of changes is cut, as it is not read"
            );
        }
        drop((open, seat));
    });
    let stream = HeaderValue::from_static("text/event-stream");
    let uncached = HeaderValue::from_static("no-store");
    let headers = [(CONTENT_TYPE, stream), (CACHE_CONTROL, uncached)];
    Ok((headers, body).into_response())
}

fn is_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/event-stream"))
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
// Limit: see `feed::PAGE`. Who asks for more gets a few megabytes.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
