//! May this link reach this host?

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode, Uri};
use postern_api::routing::{Answer, LookupAnswer};
use postern_api::{HostName, LinkId};

use super::Api;
use super::error::ApiError;
use super::openapi::Failed;
use super::request::{Parameters, is_known};

/// What a link may reach as a host: a route, or a definite no. Without `linkId`: what is there, whoever asks.
///
/// The entity tag is the answer's, whatever else has changed since. `X-Postern-Sequence` is `sequence`, also of a 304.
#[utoipa::path(get, path = "/v1/lookup", tag = "data plane",
    params(("linkId" = Option<LinkId>, Query, description = "The link id, a decimal number."),
        ("host" = HostName, Query, description = "The host name."),
        ("If-None-Match" = Option<String>, Header, description = "The answer that is known already.")),
    responses((status = 200, body = LookupAnswer, description = "A route, or a definite no."),
        (status = 304, description = "The answer is the one that is known."),
        Failed))]
pub(super) async fn lookup(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let parameters = Parameters::read(&uri, &["linkId", "host"])?;
    let link: Option<LinkId> = parameters.get("linkId")?;
    let host: HostName = parameters.require("host")?;
    let (sequence, answer) = api.kept(api.store.lookup(link, &host).await)?;
    api.metrics.looked_up(&answer);
    let etag = etag(&answer)?;
    let mut response = if is_known(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let max_age = api.max_age;
        let answer = LookupAnswer {
            sequence,
            max_age,
            answer,
        };
        Json(answer).into_response()
    };
    let age = format!("private, max-age={}", api.max_age);
    let of = [
        (ETAG, etag),
        (CACHE_CONTROL, age),
        (SEQUENCE, sequence.to_string()),
    ];
    for (name, value) in of {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// The same for the same answer, in every process and version that writes it alike.
fn etag(answer: &Answer) -> Result<String, ApiError> {
    let text =
        serde_json::to_vec(answer).map_err(|error| ApiError::unavailable(error.to_string()))?;
    let digest = digest(&SHA256, &text);
    // Limit: half of a digest, so that two answers of one key have never the same by chance.
    let half = digest.as_ref().first_chunk().copied().unwrap_or_default();
    Ok(format!("\"{:032x}\"", u128::from_be_bytes(half)))
}

const SEQUENCE: HeaderName = HeaderName::from_static("x-postern-sequence");
