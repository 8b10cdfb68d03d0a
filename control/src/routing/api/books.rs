//! Book-keeping: what the handlers of workspaces, accounts and connections have in common.

pub(super) mod accounts;
pub(super) mod connections;
pub(super) mod workspaces;

use std::fmt::Display;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HOST, HeaderMap, HeaderValue};
use http::{StatusCode, Uri};
use serde::Serialize;

use super::error::ApiError;
use super::gate::Caller;
use super::request::{Parameters, is_known};
use super::resources::ListOf;
use super::{Api, Operation};
use crate::routing::store::{ETag, List, Page, Put};

/// A resource: 200, or 304 for who has it already.
fn shown(headers: &HeaderMap, etag: ETag, resource: impl Serialize) -> Response {
    if is_known(headers, &etag.to_string()) {
        return tagged(etag, StatusCode::NOT_MODIFIED.into_response());
    }
    tagged(etag, Json(resource).into_response())
}

/// What was put: 201 if it was not there before, else 200.
fn put<T>(put: &Put<T>, resource: impl Serialize) -> Response {
    let status = if put.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let response = (status, Json(resource)).into_response();
    tagged(put.versioned.etag, response)
}

/// What was deleted: 200, or 204 if it was not there.
fn deleted(was_there: bool) -> Response {
    if was_there {
        StatusCode::OK.into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    }
}

fn tagged(etag: ETag, mut response: Response) -> Response {
    if let Ok(value) = HeaderValue::from_str(&etag.to_string()) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

impl Api {
    /// One line for each change, in the trail of changes.
    fn record<T>(&self, caller: &Caller, operation: Operation, of: &impl Display, put: &Put<T>) {
        if put.changed {
            let etag = put.versioned.etag.to_string();
            self.trail(caller, operation, of, Some((put.created, &etag)));
        }
    }

    fn record_deletion(
        &self,
        caller: &Caller,
        operation: Operation,
        of: &impl Display,
        was_there: bool,
    ) {
        if was_there {
            self.trail(caller, operation, of, None);
        }
    }

    fn trail(
        &self,
        caller: &Caller,
        operation: Operation,
        of: &impl Display,
        now: Option<(bool, &str)>,
    ) {
        // At least the change's own: others may have followed.
        let sequence = self.store.head().borrow().sequence;
        tracing::info!(
            client = %caller.peer, request_id = %caller.request_id, what = operation.label(), resource = %of,
            created = now.map(|(created, _)| created), etag = now.map(|(_, etag)| etag), sequence, "changed"
        );
    }
}

/// Which part of a list: `$top` and `$skipToken`.
fn page<N: std::str::FromStr<Err: Display>>(uri: &Uri) -> Result<Page<N>, ApiError> {
    let parameters = Parameters::read(uri, &["$top", "$skipToken"])?;
    let max = parameters.get::<usize>("$top")?.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&max) {
        let message = format!("must be from 1 to {PAGE_MAX}");
        return Err(ApiError::parameter("$top", message));
    }
    let after = parameters.get("$skipToken")?;
    Ok(Page { after, max })
}

/// A part of a list, with the link to the next.
fn listed<N: Display, T, R: Serialize>(
    uri: &Uri,
    headers: &HeaderMap,
    max: usize,
    list: &List<N, T>,
    show: impl Fn(&N, &crate::routing::store::Versioned<T>) -> R,
) -> Json<ListOf<R>> {
    let last = list.items.last().filter(|_| list.more);
    Json(ListOf {
        value: list.items.iter().map(|(name, it)| show(name, it)).collect(),
        next_link: last.map(|(name, _)| {
            let path = uri.path();
            let authority = uri.authority().map(http::uri::Authority::as_str);
            let host = || headers.get(HOST)?.to_str().ok();
            let host = authority.or_else(host).unwrap_or_default();
            format!("https://{host}{path}?$top={max}&$skipToken={name}")
        }),
    })
}

// Limit: a resource has some kilobytes, a page a megabyte.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
