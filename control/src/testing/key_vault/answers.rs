//! Key Vault's way of saying no.
//!
//! Texts are those that the service gave in the recorded tests of Azure's SDKs or that its documentation
//! shows, as far as either does.

use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;

use crate::testing::http::Answer;
use crate::testing::tokens::Unusable;

/// Why a vault does not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No usable token; with the address of the authority to ask for one.
    Unauthorized(String, Option<Unusable>),
    /// The switch `deny`.
    Denied,
    /// The switch `throttle`: seconds.
    Throttled(u32),
    /// The switch `error`.
    Broken(u16),
    /// No `api-version`, or one that the service does not know.
    ApiVersion(Option<String>),
    /// Something in the request has no meaning.
    BadParameter(String),
    /// No certificate, secret or key of this name and version: `Certificate`, …
    NotFound(&'static str, String),
    /// No deleted one: `Certificate`, …
    DeletedNotFound(&'static str, String),
    /// No creation is or was under way, or another than the one asked for.
    PendingNotFound(String),
    /// Create or import while a creation is under way.
    Pending,
    /// Merge or cancel when there is nothing to.
    NotPending,
    /// The version is disabled: `Secret` or `Key`, and the operation.
    Disabled(&'static str, &'static str),
    /// The key's time has not come or is over: `NotYetValid` or `Expired`, and the operation.
    OutOfWindow(&'static str, &'static str),
    /// The name is that of a deleted object: `Certificate` or `Secret`.
    Deleted(&'static str, String),
    /// A certificate's secret cannot be set or deleted by itself.
    Managed(String),
    /// Not a path of Key Vault, or not one that this stand-in has.
    NoSuchPath,
    /// A method that the path does not have.
    NoSuchMethod,
}

pub(super) fn bad(message: impl Into<String>) -> Refusal {
    Refusal::BadParameter(message.into())
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized(authority, unusable) => unauthorized(&authority, unusable),
            Refusal::Denied => inner(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "Caller is not authorized to perform action on resource.",
                "ForbiddenByRbac",
            ),
            Refusal::Throttled(seconds) => error(
                StatusCode::TOO_MANY_REQUESTS,
                "Throttled",
                "Request was not processed because too many requests were received. Reason: \
                 VaultRequestTypeLimitReached",
            )
            .with(RETRY_AFTER, &seconds.to_string()),
            Refusal::Broken(status) => error(
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "InternalServerError",
                "An error occurred.",
            ),
            Refusal::ApiVersion(None) => bad_request("api-version must be specified"),
            Refusal::ApiVersion(Some(version)) => bad_request(&format!(
                "The specified version ({version}) is not recognized. Consider using the latest supported \
                 version (2025-07-01)."
            )),
            Refusal::BadParameter(message) => bad_request(&message),
            Refusal::NotFound(kind, id) => not_found(kind, &id),
            Refusal::DeletedNotFound(kind, name) => error(
                StatusCode::NOT_FOUND,
                &format!("{kind}NotFound"),
                &format!("Deleted {kind} not found: {name}"),
            ),
            Refusal::PendingNotFound(name) => error(
                StatusCode::NOT_FOUND,
                "PendingCertificateNotFound",
                &format!("Pending certificate not found: {name}"),
            ),
            // The code does not go with the status; the documentation has it so.
            Refusal::Pending => error(
                StatusCode::CONFLICT,
                "Forbidden",
                "A new key vault certificate can not be created or imported while a pending key vault \
                 certificate's status is inProgress.",
            ),
            Refusal::NotPending => error(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "Pending status must be in progress to allow update.",
            ),
            Refusal::Disabled(kind, operation) => inner(
                StatusCode::FORBIDDEN,
                "Forbidden",
                &format!(
                    "Operation {operation} is not allowed on a disabled {}.",
                    kind.to_lowercase()
                ),
                &format!("{kind}Disabled"),
            ),
            Refusal::OutOfWindow(window, operation) => inner(
                StatusCode::FORBIDDEN,
                "Forbidden",
                &format!("Operation {operation} is not allowed on a key that is not valid now."),
                &format!("Key{window}"),
            ),
            Refusal::Deleted(kind, name) => inner(
                StatusCode::CONFLICT,
                "Conflict",
                &format!(
                    "{kind} {name} is currently in a deleted but recoverable state, and its name cannot be \
                     reused; in this state, the {} can only be recovered or purged.",
                    kind.to_lowercase()
                ),
                "ObjectIsDeletedButRecoverable",
            ),
            Refusal::Managed(name) => error(
                StatusCode::FORBIDDEN,
                "Forbidden",
                &format!(
                    "The secret {name} belongs to a certificate, and only with it can be changed."
                ),
            ),
            Refusal::NoSuchPath => error(StatusCode::NOT_FOUND, "NotFound", "Resource not found"),
            Refusal::NoSuchMethod => error(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "The request method is not allowed here.",
            ),
        }
    }
}

fn unauthorized(authority: &str, unusable: Option<Unusable>) -> Answer {
    let challenge = format!(
        "Bearer authorization=\"{authority}\", resource=\"{}\"",
        super::RESOURCE
    );
    let (message, challenge) = match unusable {
        None => (
            "AKV10000: Request is missing a Bearer or PoP token.",
            challenge,
        ),
        Some(Unusable::Expired) => (
            "[TokenExpired] Error validating token: 'S2S12086'.",
            format!("{challenge}, error=\"invalid_token\""),
        ),
        Some(Unusable::Unknown) => (
            "AKV10032: Invalid issuer, audience or signature of the token.",
            format!("{challenge}, error=\"invalid_token\""),
        ),
    };
    error(StatusCode::UNAUTHORIZED, "Unauthorized", message).with(WWW_AUTHENTICATE, &challenge)
}

fn not_found(kind: &str, id: &str) -> Answer {
    error(
        StatusCode::NOT_FOUND,
        &format!("{kind}NotFound"),
        &format!(
            "A {} with (name/id) {id} was not found in this key vault. If you recently deleted this {0} you \
             may be able to recover it using the correct recovery command.",
            kind.to_lowercase()
        ),
    )
}

fn bad_request(message: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, "BadParameter", message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let error = json!({ "code": code, "message": message });
    Answer::new(status, json!({ "error": error }))
}

fn inner(status: StatusCode, code: &str, message: &str, inner: &str) -> Answer {
    let error = json!({ "code": code, "message": message, "innererror": { "code": inner } });
    Answer::new(status, json!({ "error": error }))
}
