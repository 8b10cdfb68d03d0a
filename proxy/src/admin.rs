//! The admin listener: what an operator sees and may do, over plain HTTP on the loopback.
//!
//! | page | what |
//! |---|---|
//! | `/` | the state in one page, for people |
//! | `/metrics` | for Prometheus |
//! | `/certs` | every certificate in use, and what was refused |
//! | `/config` | the configuration in force |
//! | `/routes/explain?link_id=&sni=&host=` | what would happen to a request, and why |
//! | `/connections` | the open connections |
//! | `/drain` | how far the drain is; `POST [?within=25s]` begins it and leaves the process running |
//! | `/log-level` | the operational log's level; `PUT` changes it |
//!
//! Promises that nobody who can reach it makes it hold much: connections, request heads, bodies and lifetimes are
//! bounded. A page in an operator's browser can change nothing: what a script sends names its origin, and that is
//! refused. Never shows a key.

mod answer;
mod certificates;
mod connections;
mod drain;
mod effective;
mod explain;
mod page;
mod recent;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::{Config, LogLevel};
use crate::connection::accept::Seats;
use crate::connection::authorize::Authorizer;
use crate::connection::http::Connection;
use crate::connection::registry::Registry;
use crate::credentials::Credentials;
use crate::metrics::{self, Limits, Metrics};
use crate::readiness::Readiness;
use crate::routing::RemoteRoutes;
use crate::server::{Drain, InForce};
use crate::telemetry::Telemetry;
use crate::upstream::Clusters;
use answer::{html, json, text};
use recent::{Recent, Refused};

/// What the admin listener shows and changes. It shows the whole process, so unlike a stage it is given all of it.
pub struct Sources {
    /// The configuration.
    pub in_force: Arc<InForce>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether this process is ready, and what it waits for.
    pub readiness: Arc<Readiness>,
    /// Certificates.
    pub credentials: Arc<Credentials>,
    /// Who may reach what.
    pub authorizer: Arc<Authorizer>,
    /// The ingress.
    pub clusters: Arc<Clusters>,
    /// Connections that speak HTTP.
    pub registry: Arc<Registry<Connection>>,
    /// Connections of every kind.
    pub seats: Arc<Seats>,
    /// The drain of this process.
    pub drain: Arc<Drain>,
    /// The account-routing service, if routes come from there.
    pub service: Option<Arc<RemoteRoutes>>,
    /// The operational log.
    pub telemetry: Telemetry,
}

/// Answers operators.
pub struct Admin {
    sources: Sources,
    started: Instant,
    recent: Recent,
    seats: Semaphore,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Answers by these parts.
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            started: Instant::now(),
            recent: Recent::new(Instant::now()),
            seats: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    /// Serves a connection of the admin listener, and closes it between two requests once `leaving` resolves: another
    /// process answers then.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        leaving: impl Future<Output = ()>,
    ) {
        let Ok(_seat) = self.seats.try_acquire() else {
            return;
        };
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.answer(request).await)
        });
        let mut served = pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(io), service)
        );
        let over = tokio::select! {
            served = timeout(AGE_MAX, served.as_mut()) => served.is_ok(),
            () = leaving => false,
        };
        if !over {
            served.as_mut().graceful_shutdown();
            // Whoever does not read the last answer in time does not get it.
            let _ = timeout(LAST_ANSWER_TIMEOUT, served).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let Some(allowed) = allowed(path) else {
            return text(StatusCode::NOT_FOUND, "not found; / lists what there is\n");
        };
        if !allowed.split(", ").any(|method| parts.method == *method) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            let allow = HeaderValue::from_static(allowed);
            response.headers_mut().insert(ALLOW, allow);
            return response;
        }
        if !parts.method.is_safe() && parts.headers.contains_key(ORIGIN) {
            let why = "changes are not taken from a web page: send the request without an Origin\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        match (path, &parts.method) {
            ("/metrics", _) => self.metrics(),
            ("/certs", _) => json(
                StatusCode::OK,
                &certificates::list(&self.sources.credentials),
            ),
            ("/config", _) => text(StatusCode::OK, effective::print(&self.sources.in_force)),
            ("/routes/explain", _) => self.explain(parts.uri.query().unwrap_or("")).await,
            ("/connections", _) => self.connections(),
            ("/drain", &Method::POST) => self.drain(parts.uri.query().unwrap_or("")),
            ("/drain", _) => json(StatusCode::OK, &self.sources.drain.progress()),
            ("/log-level", &Method::PUT) => self.set_log_level(body).await,
            ("/log-level", _) => self.log_level(),
            _ => html(
                &page::Page::of(&self.sources, self.started.elapsed(), self.refused()).to_string(),
            ),
        }
    }

    /// What was refused within the last minutes.
    fn refused(&self) -> Refused {
        let totals = self.sources.metrics.refusals().collect();
        self.recent.take(Instant::now(), totals)
    }

    fn metrics(&self) -> Answer {
        // The page can tell what has happened since.
        let _ = self.refused();
        let Sources {
            in_force,
            metrics,
            authorizer,
            clusters,
            telemetry,
            ..
        } = &self.sources;
        metrics.capacity().limits(limits(&in_force.config()));
        metrics.route_cache(&authorizer.cache().stats());
        metrics.accept_errors(&telemetry.accept_errors);
        metrics.capacity().endpoints(clusters.iter().map(|cluster| {
            let (up, down): (Vec<_>, Vec<_>) = cluster.states().partition(|(_, up)| *up);
            (cluster.name.to_string(), up.len(), down.len())
        }));
        match metrics.render() {
            Ok(page) => answer::respond(StatusCode::OK, metrics::CONTENT_TYPE, page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    async fn explain(&self, query: &str) -> Answer {
        let question = match explain::Question::parse(query) {
            Ok(question) => question,
            Err(mistake) => return text(StatusCode::BAD_REQUEST, format!("{mistake}\n")),
        };
        let explanation = crate::explain::decide(
            &self.sources.authorizer,
            &self.sources.credentials,
            question.link_id,
            &question.sni,
            &question.host,
        );
        let service = self.sources.service.as_deref();
        json(StatusCode::OK, &explanation.await.with_service(service))
    }

    fn connections(&self) -> Answer {
        let oldest = self.sources.registry.oldest(connections::LISTED_MAX);
        json(
            StatusCode::OK,
            &connections::Listing {
                phase: self.sources.drain.phase(),
                connections_open: self.sources.seats.taken(),
                requests_in_flight: self.sources.metrics.requests_in_flight(),
                draining: self.sources.readiness.is_draining(),
                listed: oldest.len(),
                connections: oldest.iter().map(|one| connections::Row::of(one)).collect(),
            },
        )
    }

    fn drain(&self, query: &str) -> Answer {
        match drain::within(query) {
            Ok(within) => {
                self.sources.drain.begin(within);
                json(StatusCode::ACCEPTED, &self.sources.drain.progress())
            }
            Err(mistake) => text(StatusCode::BAD_REQUEST, format!("{mistake}\n")),
        }
    }

    fn log_level(&self) -> Answer {
        match self.sources.telemetry.level.level() {
            Ok(level) => text(StatusCode::OK, format!("{level}\n")),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    async fn set_log_level(&self, body: Incoming) -> Answer {
        let body = Limited::new(body, LEVEL_BYTES_MAX).collect();
        let word = match timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            // Too long, which is no level either, or the peer is gone.
            Ok(Err(_)) => Bytes::new(),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body did not come\n"),
        };
        let level = std::str::from_utf8(&word).map_or("", str::trim);
        let level = match level.parse::<LogLevel>() {
            Ok(level) => level,
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        match self.sources.telemetry.level.set_level(level) {
            Ok(()) => {
                tracing::warn!(level = level.label(), "log level changed");
                text(StatusCode::OK, format!("{level}\n"))
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// The bounds that what is open is held against.
fn limits(config: &Config) -> Limits {
    let service = config.routes.service.as_ref();
    Limits {
        connections: config.data.connections_max,
        requests: config.http.requests_max,
        route_stale: service.map(|_| config.route_cache.stale_max),
    }
}

/// The methods of a page, as `Allow` lists them.
fn allowed(path: &str) -> Option<&'static str> {
    Some(match path {
        "/" | "/metrics" | "/certs" | "/config" | "/routes/explain" | "/connections" => "GET, HEAD",
        "/drain" => "GET, HEAD, POST",
        "/log-level" => "GET, HEAD, PUT",
        _ => return None,
    })
}

// Limit: a scraper, a sidecar and a few people; each may hold one page of about 500 KiB.
const CONNECTIONS_MAX: usize = 64;
// Limit: an operator's request is one line and what a browser adds.
const HEAD_BYTES_MAX: usize = 32 * 1024;
// Limit: a level is one word.
const LEVEL_BYTES_MAX: usize = 64;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
// Limit: scrapers come at least once a minute and keep their connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
// Limit: a peer that reads nothing holds its seat no longer than this.
const AGE_MAX: Duration = Duration::from_mins(10);
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
