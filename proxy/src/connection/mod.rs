//! The path of a connection: accept → `proxy_header` → `client_hello` → authorize → handshake → http.
//!
//! Each stage is a file, takes the value of the stage before, and gives the value of the stage after; only
//! [`serve`] knows the order. Whatever way a connection ends, it ends here, with one [`Ending`], counted and
//! (where it was refused) logged.

pub mod accept;
pub mod authorize;
pub mod client_hello;
pub mod framing;
pub mod gate;
pub mod handshake;
pub mod http;
mod http1;
mod http2;
pub mod late_ticket;
pub mod proxy_header;
pub mod registry;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_api::{HostName, LinkId};
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::access_log::{AccessLog, ConnectionRecord};
use crate::connection::accept::Accepted;
use crate::connection::authorize::Authorizer;
use crate::connection::client_hello::Greeted;
use crate::connection::proxy_header::{Announced, Caller};
use crate::connection::registry::Registry;
use crate::credentials::Credentials;
use crate::metrics::Metrics;
use crate::outcome::{Answer, Ending, Refusal};
use crate::probe::Health;
use crate::request::Requests;

/// Bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// HTTP's.
    pub http: http::Options,
    /// The PROXY header's.
    pub proxy_header: proxy_header::Options,
    /// From the end of the PROXY header to the end of the TLS handshake, authorization included.
    pub tls_timeout: Duration,
    /// Whether a link that is refused gets a TLS alert instead of an HTTP answer.
    pub refuse_by_alert: bool,
}

/// Which open connections are not waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closing {
    /// None: each ends as its client wants.
    Nothing,
    /// HTTP/1.1 connections without a request.
    Idle,
    /// All that are left.
    Everything,
}

/// When in the life of the process a connection got ready for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Born {
    /// While it accepted.
    Serving,
    /// When it had stopped accepting.
    Draining,
    /// When connections like it were closed already: its requests are refused.
    Late,
}

impl Born {
    /// Now, in a process that drains or does not, and closes these.
    pub fn now(draining: bool, closing: Closing) -> Self {
        match closing {
            _ if !draining => Self::Serving,
            Closing::Nothing => Self::Draining,
            Closing::Idle | Closing::Everything => Self::Late,
        }
    }
}

/// What the stages of a connection use. One for each worker thread and configuration: a connection keeps the bounds that
/// it was opened with.
#[derive(Clone)]
pub struct Connections {
    /// The bounds.
    pub options: Options,
    /// Certificates towards clients.
    pub credentials: Arc<Credentials>,
    /// Who may reach what.
    pub authorizer: Arc<Authorizer>,
    /// What handles requests.
    pub requests: Arc<Requests>,
    /// The connections that are open.
    pub registry: Arc<Registry<http::Connection>>,
    /// The answer to probes.
    pub health: Arc<Health>,
    /// Which connections a drain does not wait for any more.
    pub closing: watch::Receiver<Closing>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line for each refused connection.
    pub access_log: AccessLog,
}

/// Takes a connection to HTTP, and on its way from there: resolves when it has ended or speaks HTTP. That goes on
/// as a task of its own, on this thread, so that a connection keeps no room for the stages it has behind it.
pub async fn serve(own: &Arc<Connections>, accepted: Accepted, drain: watch::Receiver<bool>) {
    let options = own.options;
    own.metrics.connection_accepted();
    let mut story = Story::new(accepted.source, accepted.opened);
    let ended = match proxy_header::read(accepted, options.proxy_header).await {
        Err(failed) if failed.silent => Err(Ending::Closed),
        Err(failed) => Err(Ending::Refused(failed.refusal)),
        Ok(announced) => {
            story.client = Some(announced.client);
            match announced.caller {
                Caller::Probe => Err(own
                    .health
                    .serve_on_data_port(announced, &own.credentials, options.tls_timeout)
                    .await),
                Caller::Link(link_id) => {
                    story.link_id = Some(link_id);
                    secure_in_time(own, announced, link_id, &mut story).await
                }
            }
        }
    };
    match ended {
        Err(ending) => story.end(own, ending),
        Ok(secured) => {
            tokio::spawn(serve_http(Arc::clone(own), secured, drain, story));
        }
    }
}

/// What an open connection keeps: no more than this.
fn serve_http(
    own: Arc<Connections>,
    mut secured: handshake::Secured,
    mut drain: watch::Receiver<bool>,
    story: Story,
) -> impl Future<Output = ()> {
    own.metrics
        .handshake(secured.tls_version(), secured.resumed(), secured.handshake);
    let draining = *drain.borrow_and_update();
    let born = Born::now(draining, *own.closing.borrow());
    let routes = secured.watch.take();
    let (connection, stream) = http::Connection::new(secured, born, &own.registry);
    async move {
        let ending = http::serve(&own, connection, stream, drain, routes).await;
        story.end(&own, ending);
    }
}

/// What is known of a connection, for the one line that tells how it ended.
struct Story {
    source: SocketAddr,
    opened: Instant,
    client: Option<SocketAddr>,
    link_id: Option<LinkId>,
    sni: Option<HostName>,
}

impl Story {
    fn new(source: SocketAddr, opened: Instant) -> Self {
        Self {
            source,
            opened,
            client: None,
            link_id: None,
            sni: None,
        }
    }

    fn end(&self, own: &Connections, ending: Ending) {
        own.metrics.connection_ended(ending);
        if let Ending::Refused(refusal) = ending {
            own.metrics.refused(refusal);
        }
        let loggable = matches!(
            ending,
            Ending::Refused(_)
                | Ending::HandshakeFailed
                | Ending::HandshakeLate
                | Ending::HeadLate
                | Ending::ProtocolError
        );
        if loggable {
            own.access_log.connection(&ConnectionRecord {
                source: self.source,
                client: self.client,
                link_id: self.link_id,
                sni: self.sni.as_ref().map(HostName::as_str),
                duration: self.opened.elapsed(),
                ending,
            });
        }
    }
}

async fn secure_in_time(
    own: &Connections,
    announced: Announced,
    link_id: LinkId,
    story: &mut Story,
) -> Result<handshake::Secured, Ending> {
    let deadline = tokio::time::Instant::now() + own.options.tls_timeout;
    match timeout_at(deadline, secure(own, announced, link_id, story)).await {
        Ok(secured) => secured,
        Err(_) => Err(Ending::HandshakeLate),
    }
}

async fn secure(
    own: &Connections,
    announced: Announced,
    link_id: LinkId,
    story: &mut Story,
) -> Result<handshake::Secured, Ending> {
    let Announced {
        io,
        source,
        client,
        opened,
        seat,
        ..
    } = announced;
    let caller = client_hello::Caller {
        link_id,
        client,
        source,
        opened,
        seat,
    };
    let greeted = match client_hello::read(io, caller, &own.credentials.server()).await {
        Ok(greeted) => greeted,
        Err(failed) => {
            story.sni = failed.sni;
            let silent = failed.silent;
            return Err(if silent {
                Ending::Closed
            } else {
                Ending::Refused(failed.refusal)
            });
        }
    };
    story.sni = Some(greeted.sni.clone());
    let started = Instant::now();
    let watch = own.authorizer.watch(link_id);
    let standing = own.authorizer.authorize(link_id, &greeted.sni).await;
    let took = started.elapsed();
    if let Err(refusal) = standing
        && own.options.refuse_by_alert
        && by_alert(refusal)
    {
        return Err(refuse_by_alert(greeted, refusal).await);
    }
    handshake::finish(greeted, standing, watch, took)
        .await
        .map_err(|error| {
            tracing::debug!(%client, %link_id, %error, "TLS handshake failed");
            Ending::HandshakeFailed
        })
}

/// Whether the option `refuse = "alert"` applies: to a definite no, not to an outage of ours.
fn by_alert(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::LinkUnknown | Refusal::LinkNotApproved)
}

async fn refuse_by_alert(mut greeted: Greeted, refusal: Refusal) -> Ending {
    debug_assert!(matches!(refusal.answer(), Answer::Status { .. }));
    let io = &mut greeted.start.io;
    client_hello::send_alert(io, crate::outcome::ALERT_ACCESS_DENIED).await;
    Ending::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_an_open_connection_stays_small() {
        // Limit: every idle connection keeps it.
        let bytes = size_of_future(serve_http);
        assert!(bytes <= 1024, "{bytes}");
    }
}
