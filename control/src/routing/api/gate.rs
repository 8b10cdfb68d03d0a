//! What every request passes: who may, how many at once, how long; and what is counted and said of its answer.
//!
//! Promises: deny by default. A handler runs only for a client with its operation's role.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use tokio::time::Instant;
use uuid::Uuid;

use super::error::ApiError;
use super::{Api, Operation};
use crate::routing::server::Peer;

/// Who asks, for the trail of changes.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) peer: Arc<Peer>,
    pub(super) request_id: Uuid,
}

/// Lets a request through to its handler, or not.
pub(super) async fn pass(
    State((api, operation)): State<(Arc<Api>, Operation)>,
    mut request: Request,
    next: Next,
) -> Response {
    let begin = Instant::now();
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let request_id = Uuid::new_v4();
    let answer = async {
        // Without a connection there is nobody.
        let peer = peer.ok_or_else(|| ApiError::unavailable("there is no connection"))?;
        admit(&api, operation, &peer)?;
        let seat = api.seats.try_acquire();
        let _seat = seat.map_err(|_| ApiError::busy("too many requests are in work"))?;
        request.extensions_mut().insert(Caller { peer, request_id });
        let timeout = api.limits.request_timeout;
        let answer = tokio::time::timeout(timeout, next.run(request)).await;
        answer.map_err(|_| ApiError::unavailable("the answer took too long"))
    };
    let mut response = answer.await.unwrap_or_else(IntoResponse::into_response);
    api.metrics
        .answered(operation, response.status(), begin.elapsed());
    name(&mut response, request_id);
    response
}

/// What there is no operation for.
pub(super) async fn nothing(uri: Uri) -> Response {
    unrouted(ApiError::no_such_path(uri.path()))
}

/// What there is another operation for.
pub(super) async fn no_method(method: Method, uri: Uri) -> Response {
    unrouted(ApiError::no_such_method(&method, uri.path()))
}

fn unrouted(error: ApiError) -> Response {
    let mut response = error.into_response();
    name(&mut response, Uuid::new_v4());
    response
}

fn admit(api: &Api, operation: Operation, peer: &Peer) -> Result<(), ApiError> {
    let role = operation.role();
    if peer.may(role) {
        return Ok(());
    }
    api.metrics.refused(role);
    tracing::debug!(client = %peer, operation = operation.label(), role = role.label(), "a client was refused");
    let message = format!(
        "the client certificate is for {peer}, which has not the role \"{}\"",
        role.label()
    );
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "AuthorizationFailed",
        message,
    ))
}

/// Gives the answer the request's id, and keeps it out of caches unless it says otherwise.
fn name(response: &mut Response, request_id: Uuid) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
