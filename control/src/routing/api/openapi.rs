//! All of it as an `OpenAPI` document, from the handlers themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use postern_api::routing::Change;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

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
