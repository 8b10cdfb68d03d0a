//! All of it as an `OpenAPI` document, from the handlers themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use postern_api::routing::Change;
use utoipa::{IntoParams, IntoResponses, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::error::ErrorBody;
use super::{Api, operations};

/// What is not said at a handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postern account routing",
        description = "Who may reach what: the books, and what the data plane is told of them. HTTP/2 or HTTP/1.1 over \
            mutual TLS; what a client may do depends on the DNS name in its certificate: \"read\" for the data plane, \
            \"authorize\" for an ingress, \"write\" for the books. Every answer has `x-ms-request-id`; every error has \
            the shape of `ErrorBody`, with its code in `x-ms-error-code`, too.",
        license(name = "MIT")
    ),
    components(schemas(Change)),
    tags(
        (name = "data plane", description = "Lookups, changes, snapshots. Role \"read\"."),
        (name = "ingress", description = "The judgement for an ingress that validates by itself. Role \"authorize\"."),
        (name = "books", description = "Workspaces, accounts, private endpoint connections. Role \"write\".")
    )
)]
struct Document;

pub(super) fn document() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
}

/// In the path of a workspace.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone; `request::At` reads it")]
pub(super) struct InWorkspace {
    /// 3 to 24 letters, digits and hyphens.
    workspace: String,
}

/// In the path of an account.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone; `request::At` reads them")]
pub(super) struct InAccount {
    /// 3 to 24 letters, digits and hyphens.
    workspace: String,
    /// 3 to 24 letters, digits and hyphens.
    account: String,
}

/// In the path of a private endpoint connection.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone; `request::At` reads them")]
pub(super) struct InConnection {
    /// 3 to 24 letters, digits and hyphens.
    workspace: String,
    /// 3 to 24 letters, digits and hyphens.
    account: String,
    /// 1 to 80 letters, digits, hyphens, dots and underscores.
    name: String,
}

/// Of every list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone; `books::page` reads them")]
pub(super) struct OfLists {
    /// At most so many: 1 to 1000, otherwise 100.
    #[param(rename = "$top")]
    top: Option<usize>,
    /// What follows this name.
    #[param(rename = "$skipToken")]
    skip_token: Option<String>,
}

/// Of every change to what is there.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "for the document alone; `request::condition` reads it"
)]
pub(super) struct OfChanges {
    /// The version that it must have, or *: it must be there.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// Of every put.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "for the document alone; `request::condition` reads them"
)]
pub(super) struct OfPuts {
    /// The version that it must have, or *: it must be there.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// *: it must not be there.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// Whatever goes wrong.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the document alone")]
pub(super) enum Failed {
    /// It was refused, or failed: no answer, and no "no".
    #[response(status = "default")]
    Any(#[to_schema] ErrorBody),
}

/// What becomes of a deletion.
#[derive(IntoResponses)]
#[expect(
    dead_code,
    reason = "for the document alone; `books::deleted` answers so"
)]
pub(super) enum Deleted {
    /// It is gone.
    #[response(status = 200)]
    Gone,
    /// It was not there.
    #[response(status = 204)]
    Absent,
}

/// The document, as indented JSON.
pub fn print_openapi() -> String {
    let document = operations(|_, routes| routes).into_openapi();
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "books",
    responses((status = 200, description = "This document.", content_type = "application/json")))]
pub(super) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], api.document.clone()).into_response()
}
