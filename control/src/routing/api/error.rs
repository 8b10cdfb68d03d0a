//! What goes wrong, in the shape of Azure Resource Manager's errors:
//! `{"error": {"code": …, "message": …, "target": …}}`, with the code in `x-ms-error-code`, too
//! ("Azure REST API guidelines", handling errors).
//!
//! Promises that the message is a sentence for whoever asked, names no other client, and has a bound.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routing::store::{Resource, StoreError};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    target: Option<String>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// One word, also in `x-ms-error-code`.
    code: &'static str,
    /// A sentence for people.
    message: String,
    /// Which part of the request is to blame, such as `properties.linkIdentifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.chars().count() > MESSAGE_CHARS_MAX {
            message = message
                .chars()
                .take(MESSAGE_CHARS_MAX)
                .chain(['…'])
                .collect();
        }
        Self {
            status,
            code,
            message,
            target: None,
        }
    }

    /// Something in the body.
    pub(super) fn content(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestContent", message)
    }

    /// A parameter of the query.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidQueryParameter", message).about(name)
    }

    /// A header.
    pub(super) fn header(name: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidHeaderValue", message).about(name)
    }

    /// Too much at present.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", message)
    }

    /// It cannot be answered at present.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        )
    }

    /// There is nothing at this path.
    pub(super) fn no_such_path(path: &str) -> Self {
        let message = format!("there is nothing at {path}");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// There is something at this path, and it cannot be asked so.
    pub(super) fn no_such_method(method: &Method, path: &str) -> Self {
        let message = format!("{path} has no {method}");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "HttpMethodNotAllowed",
            message,
        )
    }

    /// Names the part of the request that is to blame.
    #[must_use]
    pub(super) fn about(mut self, target: impl Into<String>) -> Self {
        let target: String = target.into();
        self.target = Some(target.chars().take(TARGET_CHARS_MAX).collect());
        self
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound(resource) => {
                Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", message)
                    .about(path_of(&resource))
            }
            StoreError::PreconditionFailed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                message,
            ),
            StoreError::Conflict { field, .. } => {
                Self::new(StatusCode::CONFLICT, "Conflict", message).about(field.path())
            }
            StoreError::Invalid { field, .. } => Self::content(message).about(field.path()),
            StoreError::Gone(_) => {
                Self::new(StatusCode::GONE, "ChangesGone", message).about("after")
            }
            StoreError::Busy => Self::busy(message),
            // Its cause is for the log.
            StoreError::Unavailable(_) => Self::unavailable("the store does not answer"),
        }
    }
}

fn path_of(resource: &Resource) -> String {
    match resource {
        Resource::Workspace(name) => super::resources::workspace_path(name),
        Resource::Account(id) => super::resources::account_path(id),
        Resource::Connection(id) => super::resources::connection_path(id),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self {
            status,
            code,
            message,
            target,
        } = self;
        let error = ErrorDetail {
            code,
            message,
            target,
        };
        let headers = [(ERROR_CODE, HeaderValue::from_static(code))];
        let mut response = (status, headers, Json(ErrorBody { error })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, second);
        }
        response
    }
}

const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");
// Limit: what a client sent may be in it.
const MESSAGE_CHARS_MAX: usize = 512;
const TARGET_CHARS_MAX: usize = 256;
