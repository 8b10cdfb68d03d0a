//! Forwarding: one request to one endpoint of the permit's cluster, and its answer back.
//!
//! What breaks before its answer may be sent once more: see [`retry`].

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::header::TE;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use tokio::time::timeout;

use crate::connection::http::{Connection, Spoken};
use crate::outcome::Refusal;
use crate::request::Requests;
use crate::request::admit::Admitted;
use crate::request::body::{AnswerBody, Broken, RequestBody};
use crate::request::exchange::Exchange;
use crate::request::{headers, respond, retry};
use crate::upstream::{IngressBody, Lease, Traffic, Way};

/// A refusal, and the exchange it is the end of.
pub type Refused = (Refusal, Exchange);

/// Sends the request and gives the answer's head; the bodies stream on.
pub async fn forward(
    requests: &Requests,
    connection: &Connection,
    admitted: &Admitted,
    parts: Parts,
    body: RequestBody,
    mut exchange: Exchange,
) -> Result<Response<AnswerBody>, Refused> {
    let limit = requests.options.response_timeout;
    let progress = body.clone();
    let sent = {
        let sending = pin!(send(
            requests,
            connection,
            admitted,
            &parts,
            body,
            &mut exchange
        ));
        patiently(limit, &progress, sending).await
    };
    progress.settle();
    match sent {
        Some(Ok((response, lease))) => Ok(answer(response, lease, exchange)),
        Some(Err(Failed::Refused(refusal))) => Err((refusal, exchange)),
        Some(Err(Failed::ClientBroke)) => Ok(respond::gone(exchange)),
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
    connection: &Connection,
    admitted: &Admitted,
    parts: &Parts,
    body: RequestBody,
    exchange: &mut Exchange,
) -> Result<(Response<IngressBody>, Lease), Failed> {
    let cluster = admitted.permit.cluster();
    let traffic = traffic(connection, parts, &body);
    let mut way = Way::Pooled;
    let mut attempt = 1;
    requests.retries.earn();
    loop {
        let leased = requests.upstream.lease(cluster, way, traffic).await;
        let mut lease = leased.map_err(|error| {
            tracing::warn!(request_id = %exchange.id(), %cluster, %error, "no connection to the ingress");
            if error.is_timeout() { Refusal::UpstreamTimeout } else { Refusal::UpstreamConnect }
        })?;
        exchange.served_by(lease.served());
        let http2 = lease.is_http2();
        // Only HTTP/2 has words for a request that was received and not processed.
        let whole = body.attempt(http2);
        let mut request = address(parts, &admitted.authority, http2, whole);
        *request.headers_mut() = headers::to_ingress(
            &parts.headers,
            connection,
            &admitted.authority.header,
            http2,
            exchange.id(),
        );
        let error = match lease.send(request).await {
            Ok((response, now)) => {
                exchange.answered(response.status(), now);
                return Ok((response, lease));
            }
            Err(error) => error,
        };
        // What the client broke is not the ingress's fault, whatever the ingress said to it.
        match body.broken() {
            Some(Broken::Malformed) => return Err(Refusal::BadRequest.into()),
            Some(Broken::Gone) => return Err(Failed::ClientBroke),
            None => {}
        }
        way = retry::again(&requests.retries, &error, attempt, parts, &body).map_err(|no| {
            let over_budget = no == retry::No::OverBudget;
            tracing::warn!(
                request_id = %exchange.id(), %cluster, %error, over_budget,
                "the ingress broke before it answered"
            );
            if over_budget {
                requests.metrics.upstream_retry_withheld();
            }
            Refusal::from(no)
        })?;
        attempt += 1;
        tracing::debug!(request_id = %exchange.id(), %error, attempt, "the ingress broke, once more");
        requests.metrics.upstream_retried();
    }
}

/// What the request will be like, as far as can be told.
fn traffic(connection: &Connection, parts: &Parts, body: &RequestBody) -> Traffic {
    let replayable = body.is_empty();
    Traffic {
        replayable,
        // An HTTP/1.1 connection that the ingress closes at this moment loses what it was sent, so only what may be
        // sent again. Who wants trailers gets them by HTTP/2.
        bulk: replayable
            && parts.method.is_safe()
            && connection.activity.latest_answer() >= BULK_BYTES
            && !parts.headers.contains_key(TE),
    }
}

// From here on HTTP/1.1 took less CPU for an answer than HTTP/2: 15 % at 64 KiB, and 8 % more at 100 bytes.
const BULK_BYTES: u64 = 32 * 1024;

/// Why there is no answer of the ingress's.
enum Failed {
    Refused(Refusal),
    ClientBroke,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Addresses the request: `:scheme`, `:authority` and path for HTTP/2, the path for HTTP/1.1. No headers yet.
fn address(parts: &Parts, spoken: &Spoken, http2: bool, body: RequestBody) -> Request<RequestBody> {
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    let mut request = Request::new(body);
    if http2 {
        *request.version_mut() = Version::HTTP_2;
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(spoken.authority.clone());
    }
    request.method_mut().clone_from(&parts.method);
    // The parts come from a URI that was valid and an authority that `admit` read.
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    request
}

fn answer(
    response: Response<IngressBody>,
    lease: Lease,
    exchange: Exchange,
) -> Response<AnswerBody> {
    let (mut parts, incoming) = response.into_parts();
    headers::to_client(&mut parts.headers, exchange.id());
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Response::from_parts(parts, AnswerBody::upstream(incoming, exchange, lease))
}
