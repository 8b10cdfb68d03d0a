//! The path of a request: admit → headers → forward → respond; or upgrade.
//!
//! [`handle`] is called for each request of a connection and always has an answer. Whatever happens,
//! the [`exchange::Exchange`] tells of it once.

pub mod admit;
pub mod body;
pub mod exchange;
pub mod forward;
pub mod headers;
pub mod limits;
pub mod respond;
pub mod retry;
pub mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use crate::access_log::AccessLog;
use crate::connection::authorize::Authorizer;
use crate::connection::http::Connection;
use crate::credentials::Credentials;
use crate::metrics::Metrics;
use crate::outcome::Refusal;
use crate::request::admit::Load;
use crate::request::body::{AnswerBody, Incoming, RequestBody};
use crate::request::exchange::Exchange;
use crate::upstream::Upstream;

/// Bounds of a request.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// From the request head to the answer's head.
    pub response_timeout: Duration,
    /// How long an upgraded connection may be silent in both directions.
    pub upgraded_idle_timeout: Duration,
    /// Most header fields of a request. hyper keeps to it over HTTP/1.1 alone.
    pub headers_max: usize,
}

/// What the handling of requests uses. One for each worker thread and configuration.
#[derive(Clone)]
pub struct Requests {
    /// The bounds.
    pub options: Options,
    /// Who may reach what.
    pub authorizer: Arc<Authorizer>,
    /// Certificates towards clients, to tell which hosts share one.
    pub credentials: Arc<Credentials>,
    /// This worker's connections to the ingress.
    pub upstream: Arc<Upstream>,
    /// What may be sent to the ingress once more.
    pub retries: Arc<retry::Budget>,
    /// Requests in flight in the process.
    pub load: Arc<Load>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line for each request.
    pub access_log: AccessLog,
}

/// Answers one request.
pub async fn handle(
    requests: &Arc<Requests>,
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (mut parts, incoming) = request.into_parts();
    let body = RequestBody::new(incoming, &parts.headers, connection);
    let mut exchange = Exchange::begin(
        Arc::clone(requests),
        Arc::clone(connection),
        &parts,
        body.clone(),
    );
    let admitted = match admit::admit(requests, connection, &parts, &mut exchange).await {
        Ok(admitted) => admitted,
        Err(refusal) => return respond::refuse(refusal, connection, exchange),
    };
    let upgrade = upgrade::requested(&mut parts, connection);
    if upgrade.is_some() && !body.is_empty() {
        // Where the body ends and the tunnel begins, two parsers could see differently.
        return respond::refuse(Refusal::BadRequest, connection, exchange);
    }
    let answer = match upgrade {
        Some(upgrade) => {
            // Boxed, like all that is rare: each request carries the future of its whole path.
            let upgraded =
                upgrade::forward(requests, connection, &admitted, upgrade, parts, exchange);
            Box::pin(upgraded).await
        }
        None => forward::forward(requests, connection, &admitted, parts, body, exchange).await,
    };
    match answer {
        Ok(response) => response,
        Err((refusal, exchange)) => respond::refuse(refusal, connection, exchange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<'a, F>(
        _: fn(&'a Arc<Requests>, &'a Arc<Connection>, Request<Incoming>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_request_stays_small() {
        // Limit: each request moves it and each HTTP/2 stream allocates it. It was 20 KiB when connecting to the
        // ingress was a part of it.
        let bytes = size_of_future(handle);
        assert!(bytes <= 3072, "{bytes}");
    }
}
