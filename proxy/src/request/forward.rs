//! Forwarding: one request to one endpoint of the permit's cluster, and its answer back.
//!
//! A request is sent again, once, only if that cannot make anything happen twice: it was never sent, or it is
//! idempotent (RFC 9110 section 9.2.2) and the connection it was sent on turned out to be closed before a byte
//! of an answer. Its body must not have been read.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::outcome::Refusal;
use crate::request::Requests;
use crate::request::admit::Admitted;
use crate::request::body::{AnswerBody, RequestBody};
use crate::request::exchange::Exchange;
use crate::request::headers;
use crate::upstream::{Lease, SendError};

/// A refusal, and the exchange it is the end of.
pub type Refused = (Refusal, Exchange);

/// Sends the request and gives the answer's head; the bodies stream on.
pub async fn forward(
    requests: &Requests,
    admitted: &Admitted,
    mut parts: Parts,
    body: RequestBody,
    mut exchange: Exchange,
) -> Result<Response<AnswerBody>, Refused> {
    parts.extensions.clear();
    let limit = requests.options.response_timeout;
    let progress = body.clone();
    let sent = {
        let sending = pin!(send(requests, admitted, parts, body, &mut exchange));
        patiently(limit, &progress, sending).await
    };
    match sent {
        Some(Ok((response, lease))) => Ok(answer(response, lease, exchange)),
        Some(Err(refusal)) => Err((refusal, exchange)),
        None => Err((Refusal::UpstreamTimeout, exchange)),
    }
}

/// Waits for the answer's head for `limit`, and on for as long as the request's body still moves: an upload may
/// take longer than any answer. `None`: it took too long.
async fn patiently<T>(
    limit: Duration,
    body: &RequestBody,
    mut sending: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut before = 0;
    loop {
        if let Ok(sent) = timeout(limit, sending.as_mut()).await {
            return Some(sent);
        }
        let now = body.bytes();
        if now == before {
            return None;
        }
        before = now;
    }
}

async fn send(
    requests: &Requests,
    admitted: &Admitted,
    parts: Parts,
    body: RequestBody,
    exchange: &mut Exchange,
) -> Result<(Response<Incoming>, Lease), Refusal> {
    let cluster = admitted.permit.cluster();
    let mut again = Some(parts.clone());
    let mut parts = parts;
    loop {
        let mut lease = requests.upstream.lease(cluster).await.map_err(|error| {
            tracing::warn!(request_id = %exchange.id(), %cluster, %error, "no connection to the ingress");
            if error.is_timeout() { Refusal::UpstreamTimeout } else { Refusal::UpstreamConnect }
        })?;
        exchange.served_by(lease.served());
        let reused = lease.reused();
        let request = address(parts, &admitted.authority, lease.is_http2(), body.clone());
        let error = match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(error) => error,
        };
        let spare = again
            .take()
            .filter(|spare| may_send_again(&error, reused, spare, &body));
        tracing::debug!(request_id = %exchange.id(), %error, retry = spare.is_some(), "the ingress broke");
        let Some(spare) = spare else {
            tracing::warn!(
                request_id = %exchange.id(), %cluster, %error,
                "the ingress broke before it answered"
            );
            return Err(Refusal::UpstreamBroke);
        };
        parts = spare;
        requests.metrics.upstream_retried();
    }
}

fn may_send_again(error: &SendError, reused: bool, parts: &Parts, body: &RequestBody) -> bool {
    if body.touched() {
        return false;
    }
    error.never_sent() || (reused && error.before_answer() && parts.method.is_idempotent())
}

/// Addresses the request: `:scheme`, `:authority` and path for HTTP/2, path and `Host` for HTTP/1.1.
fn address(
    mut parts: Parts,
    authority: &HeaderValue,
    http2: bool,
    body: RequestBody,
) -> Request<RequestBody> {
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    if http2 {
        parts.version = Version::HTTP_2;
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = authority.as_bytes().try_into().ok();
        parts.headers.remove(HOST);
    } else {
        parts.version = Version::HTTP_11;
    }
    // The parts come from a URI that was valid and an authority that `admit` read.
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    Request::from_parts(parts, body)
}

fn answer(
    response: Response<Incoming>,
    lease: Lease,
    mut exchange: Exchange,
) -> Response<AnswerBody> {
    let (mut parts, incoming) = response.into_parts();
    exchange.answered(parts.status);
    headers::to_client(&mut parts.headers, exchange.id());
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Response::from_parts(parts, AnswerBody::upstream(incoming, exchange, lease))
}
