//! The answers we give ourselves.
//!
//! `application/fhir+json` with an `OperationOutcome` on FHIR routes, and on all for a customer's own key that is out
//! of reach; `application/problem+json` (RFC 9457) otherwise; never a word about another account; always with the request's id; no body for HEAD.

use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use postern_api::ServiceKind;
use serde::Serialize;

use crate::connection::authorize::Permit;
use crate::connection::http::Connection;
use crate::outcome::{Answer, Refusal};
use crate::request::body::AnswerBody;
use crate::request::exchange::Exchange;
use crate::request::headers::X_REQUEST_ID;

/// Says no to a request.
pub fn refuse(
    refusal: Refusal,
    connection: &Connection,
    mut exchange: Exchange,
) -> Response<AnswerBody> {
    // Refusals of connections never get this far; if one did, the request would still be refused.
    let (status, retry_after, close) = match refusal.answer() {
        Answer::Status {
            status,
            retry_after,
            close,
        } => (status, retry_after, close),
        Answer::Close | Answer::Alert(_) => (StatusCode::FORBIDDEN, None, true),
    };
    let id = exchange.id();
    let kind = exchange.permit().and_then(Permit::kind);
    let fhir = as_operation_outcome(refusal, kind);
    let body = if *exchange.method() == Method::HEAD {
        Bytes::new()
    } else {
        body(refusal, status, fhir, &id.to_string())
    };
    if refusal == Refusal::BadRequest {
        exchange.distrust_body();
    }
    exchange.refused(refusal);
    exchange.answered(status, Instant::now());
    if close && connection.http2 {
        connection.close();
    }
    let length = body.len();
    let mut response = Response::new(AnswerBody::local(body, exchange));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if length > 0 {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let media_type = if fhir {
        "application/fhir+json"
    } else {
        "application/problem+json"
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, id.to_header());
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if close && !connection.http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// For a client that is gone: told as such, and seen by nobody.
pub fn gone(mut exchange: Exchange) -> Response<AnswerBody> {
    exchange.client_broke();
    drop(exchange);
    let mut response = Response::new(AnswerBody::none());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// How the answer is written: as FHIR does it, or as HTTP does. A DICOM service, too, tells that a customer's own key
/// is out of reach by an `OperationOutcome`.
fn as_operation_outcome(refusal: Refusal, kind: Option<ServiceKind>) -> bool {
    refusal == Refusal::CustomerKey || kind == Some(ServiceKind::Fhir)
}

fn body(refusal: Refusal, status: StatusCode, fhir: bool, id: &str) -> Bytes {
    let text = if fhir {
        serde_json::to_vec(&OperationOutcome {
            resource_type: "OperationOutcome",
            id,
            issue: [Issue {
                severity: "error",
                code: issue_type(refusal, status),
                details: Details {
                    text: refusal.explanation(),
                },
                diagnostics: format!("{}; request id {id}", refusal.label()),
            }],
        })
    } else {
        serde_json::to_vec(&Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: refusal.explanation(),
            code: refusal.label(),
            request_id: id,
        })
    };
    // Serialising strings and numbers into memory cannot fail; an empty body would still be an answer.
    Bytes::from(text.unwrap_or_default())
}

/// The code of a FHIR issue (value set issue-type, FHIR R4).
fn issue_type(refusal: Refusal, status: StatusCode) -> &'static str {
    match (refusal, status) {
        (Refusal::CustomerKey, _) => "invalid",
        (_, StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => "structure",
        (_, StatusCode::FORBIDDEN) => "forbidden",
        (_, StatusCode::TOO_MANY_REQUESTS) => "throttled",
        (_, StatusCode::GATEWAY_TIMEOUT) => "timeout",
        (_, StatusCode::MISDIRECTED_REQUEST) => "processing",
        _ => "transient",
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(rename = "requestId")]
    request_id: &'a str,
}

#[derive(Serialize)]
struct OperationOutcome<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'a str,
    id: &'a str,
    issue: [Issue<'a>; 1],
}

#[derive(Serialize)]
struct Issue<'a> {
    severity: &'a str,
    code: &'a str,
    details: Details<'a>,
    diagnostics: String,
}

#[derive(Serialize)]
struct Details<'a> {
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(refusal: Refusal, fhir: bool) -> serde_json::Value {
        let Answer::Status { status, .. } = refusal.answer() else {
            panic!("{refusal:?}")
        };
        serde_json::from_slice(&body(refusal, status, fhir, "0123")).unwrap()
    }

    #[test]
    fn a_problem_has_what_rfc_9457_asks_for_and_the_request_id() {
        let problem = json(Refusal::LinkUnknown, false);
        assert_eq!(problem["status"], 403);
        assert_eq!(problem["title"], "Forbidden");
        assert_eq!(problem["code"], "link_unknown");
        assert_eq!(problem["requestId"], "0123");
    }

    #[test]
    fn a_lost_customer_key_is_an_operation_outcome_on_every_kind_of_account() {
        for kind in [Some(ServiceKind::Dicom), Some(ServiceKind::Fhir), None] {
            assert!(as_operation_outcome(Refusal::CustomerKey, kind));
        }
        assert!(as_operation_outcome(
            Refusal::RateLimited,
            Some(ServiceKind::Fhir)
        ));
        assert!(!as_operation_outcome(
            Refusal::RateLimited,
            Some(ServiceKind::Dicom)
        ));
        let outcome = json(Refusal::CustomerKey, true);
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        assert_eq!(outcome["issue"][0]["severity"], "error");
        assert_eq!(outcome["issue"][0]["code"], "invalid");
        assert!(
            outcome["issue"][0]["diagnostics"]
                .as_str()
                .unwrap()
                .contains("0123")
        );
    }
}
