//! The judgement for an ingress that validates by itself: nginx's `auth_request`. The proxy's mode `forward` hands it
//! the link id.
//!
//! ```text
//! location / {
//!     auth_request /_authorize;
//!     auth_request_set $account $upstream_http_x_postern_account;
//!     …
//! }
//! location = /_authorize {
//!     internal;
//!     proxy_pass https://routing/v1/authorize;          # an `upstream` with `keepalive 32;`
//!     proxy_pass_request_body off;
//!     proxy_set_header Content-Length "";
//!     proxy_set_header Connection "";
//!     proxy_http_version 1.1;
//!     proxy_set_header X-MS-Private-Link-Id $http_x_ms_private_link_id;
//!     proxy_set_header X-Original-Host $host;
//!     proxy_ssl_certificate     /etc/nginx/tls/tls.crt;  # a name with the role "authorize"
//!     proxy_ssl_certificate_key /etc/nginx/tls/tls.key;
//!     proxy_ssl_trusted_certificate /etc/nginx/tls/ca.crt;
//!     proxy_ssl_verify on;
//!     proxy_ssl_name routing.internal.example;           # the name in our certificate
//!     proxy_ssl_server_name on;
//! }
//! ```
//!
//! | header | is |
//! |---|---|
//! | `X-MS-Private-Link-Id` | the link id, a decimal number, as the proxy sent it |
//! | `X-Original-Host` | the host that the request is for, without port: `$host`. Never taken from the client's headers |
//!
//! The proxy takes away what a client sends under the first name. Nobody else may reach nginx: before 1.23, it takes the
//! first of several.
//!
//! 200 with `X-Postern-Account` lets the request through. 403 with `X-Postern-Reason` does not. Anything else, such as
//! 503, is a failure, which nginx answers with 500. Answers are not for caches: nobody tells an ingress of a revocation.
//!
//! Promises: never 200 unless the store said so about exactly one link id and one host.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use postern_api::routing::Answer;
use postern_api::{CustomerKey, HostName, LinkId, LinkState};

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::openapi::Failed;
use super::request::only;

/// May this request pass? For nginx's `auth_request`.
#[utoipa::path(get, path = "/v1/authorize", tag = "ingress",
    params(("X-MS-Private-Link-Id" = LinkId, Header, description = "The link id, a decimal number."),
        ("X-Original-Host" = HostName, Header, description = "The host that the request is for, without port.")),
    responses((status = 200, description = "It may. `X-Postern-Account` says where to."),
        (status = 403, description = "It may not. `X-Postern-Reason` is one word that says why.", body = ErrorBody),
        Failed))]
pub(super) async fn authorize(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let judgement = match (read(&headers, &LINK_ID), read(&headers, &HOST)) {
        (Err(Unread::Missing), _) => Err("link_id_missing"),
        (Err(Unread::Malformed), _) => Err("link_id_malformed"),
        (_, Err(Unread::Missing)) => Err("host_missing"),
        (_, Err(Unread::Malformed)) => Err("host_malformed"),
        (Ok(link), Ok(host)) => judge(&api, link, &host).await?,
    };
    api.metrics
        .judged(judgement.as_ref().err().unwrap_or(&ALLOWED));
    Ok(match judgement {
        Ok(account) => (StatusCode::OK, [(ACCOUNT, account)]).into_response(),
        Err(word) => {
            let message = format!("the request may not pass: {word}");
            let refusal = ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message);
            let reason = [(REASON, HeaderValue::from_static(word))];
            (reason, refusal).into_response()
        }
    })
}

/// The account that the link reaches as the host, or one word that says why none.
async fn judge(
    api: &Api,
    link: LinkId,
    host: &HostName,
) -> Result<Result<HeaderValue, &'static str>, ApiError> {
    let (_, answer) = api.kept(api.store.lookup(Some(link), host).await)?;
    Ok(match answer {
        Answer::Found { account, .. } if account.customer_key == CustomerKey::NotAccessible => {
            Err("customer_key")
        }
        Answer::Found { account, .. } => {
            let name = HeaderValue::from_str(&account.account);
            Ok(name.map_err(|_| ApiError::unavailable("the account has no name"))?)
        }
        Answer::NotApproved { state } => Err(match state {
            LinkState::Pending => "link_pending",
            LinkState::Rejected => "link_rejected",
            LinkState::Disconnected => "link_disconnected",
            // It would have been found.
            LinkState::Approved => "link_not_approved",
        }),
        Answer::Unknown => Err("link_unknown"),
    })
}

/// Why a header says nothing.
enum Unread {
    Missing,
    Malformed,
}

/// What a header says that must be there exactly once.
fn read<T: std::str::FromStr>(headers: &HeaderMap, name: &HeaderName) -> Result<T, Unread> {
    match only(headers, name) {
        Ok(Some(text)) if !text.is_empty() => text.parse().map_err(|_| Unread::Malformed),
        // nginx sends no header for an empty value, and other ingresses an empty one.
        Ok(_) => Err(Unread::Missing),
        Err(_) => Err(Unread::Malformed),
    }
}

const LINK_ID: HeaderName = HeaderName::from_static("x-ms-private-link-id");
const HOST: HeaderName = HeaderName::from_static("x-original-host");
const ACCOUNT: HeaderName = HeaderName::from_static("x-postern-account");
const REASON: HeaderName = HeaderName::from_static("x-postern-reason");

const ALLOWED: &str = "allowed";
/// The word for a request that may pass, and those for one that may not.
pub(in crate::routing) const JUDGEMENTS: [&str; 11] = [
    ALLOWED,
    "link_id_missing",
    "link_id_malformed",
    "host_missing",
    "host_malformed",
    "link_unknown",
    "link_pending",
    "link_rejected",
    "link_disconnected",
    "link_not_approved",
    "customer_key",
];
