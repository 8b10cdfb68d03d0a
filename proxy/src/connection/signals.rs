//! The reasons to end a connection: drain, a change of routes, a request that asked for the end, silence, a
//! request head that does not get whole.
//!
//! Goes on while the connection is ending, since a link can be revoked during a drain, and while a tunnel
//! (WebSocket) has taken the connection over.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::connection::authorize::Reconsidered;
use crate::connection::http::{Connection, Options};
use crate::connection::{Born, Closing, Connections};
use crate::outcome::Ending;
use crate::routing::RouteWatch;

/// Why, and within what time, a connection is asked to end.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The word for it; none if a request asked for the end.
    pub reason: Option<Ending>,
    /// After this time it is cut. `None`: when nothing moves any more.
    pub within: Option<Duration>,
}

impl End {
    fn gently(reason: Ending) -> Self {
        Self {
            reason: Some(reason),
            within: None,
        }
    }

    fn within(reason: Ending, within: Duration) -> Self {
        Self {
            reason: Some(reason),
            within: Some(within),
        }
    }
}

/// What a connection is told.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// To end.
    End(End),
    /// To end when that fails no request.
    Drain,
    /// That nothing has moved for a while.
    Quiet,
}

/// What is listened to on behalf of one connection.
pub struct Signals<'a> {
    own: &'a Connections,
    connection: &'a Connection,
    drain: watch::Receiver<bool>,
    draining: bool,
    closing: watch::Receiver<Closing>,
    /// What of that was heeded.
    heeded: Closing,
    /// Tells when its standing may have changed; none in mode `forward`.
    routes: Option<RouteWatch>,
    /// When it may have changed, if account routing has not yet said whether.
    unanswered: Option<Instant>,
    /// When the change was known here that revoked it.
    revoked: Option<Instant>,
    tick: Pin<Box<Sleep>>,
    head: PartialHead,
    asked: bool,
}

impl<'a> Signals<'a> {
    /// Listens. `drain` turns true when connections are to end, `routes` tells when the standing may have changed.
    pub fn new(
        own: &'a Connections,
        connection: &'a Connection,
        drain: watch::Receiver<bool>,
        routes: Option<RouteWatch>,
    ) -> Self {
        let closing = own.closing.clone();
        // Whoever is new is idle, but about to say something.
        let heeded = closing.borrow().min(Closing::Idle);
        Self {
            own,
            connection,
            // Whoever is born draining is ended by a tick, after its request.
            draining: connection.born != Born::Serving,
            drain,
            closing,
            heeded,
            routes,
            unanswered: None,
            revoked: None,
            tick: Box::pin(sleep(period(connection, own.options.http, false))),
            head: PartialHead::default(),
            asked: false,
        }
    }

    /// Resolves when there is a reason to end the connection, or another one, or when nothing has moved for a
    /// while. Never resolves twice for nothing.
    pub async fn next(&mut self) -> Signal {
        let options = self.own.options.http;
        let end = loop {
            tokio::select! {
                () = self.connection.closing() => break End { reason: None, within: None },
                closing = beyond(&mut self.closing, self.heeded) => {
                    self.heeded = closing;
                    if closing == Closing::Everything {
                        break End::within(Ending::Drained, Duration::ZERO);
                    }
                    if self.idle() {
                        break End::gently(Ending::Drained);
                    }
                }
                changed = self.drain.changed(), if !self.draining => {
                    self.draining = changed.is_err() || *self.drain.borrow_and_update();
                    if self.draining {
                        return Signal::Drain;
                    }
                }
                since = changed(&mut self.routes) => {
                    if Box::pin(self.reconsider(since)).await {
                        break End::within(Ending::Revoked, options.revoked_timeout);
                    }
                }
                () = self.tick.as_mut() => {
                    if let Some(since) = self.unanswered
                        && Box::pin(self.reconsider(since)).await
                    {
                        break End::within(Ending::Revoked, options.revoked_timeout);
                    }
                    if let Some(end) = self.look(options) {
                        break end;
                    }
                    let quiet = self.quiet();
                    let mut period = period(self.connection, options, quiet);
                    if self.unanswered.is_some() {
                        period = period.min(UNANSWERED_PAUSE);
                    }
                    self.tick.as_mut().reset(Instant::now() + period);
                    if quiet && !self.connection.activity.parked() {
                        return Signal::Quiet;
                    }
                }
            }
        };
        self.asked = true;
        Signal::End(end)
    }

    /// Whether it is between two requests of HTTP/1.1. Over HTTP/2, GOAWAY has said all there is to say.
    fn idle(&self) -> bool {
        let Connection {
            activity, framing, ..
        } = self.connection;
        framing
            .as_ref()
            .is_some_and(|framing| framing.partial_head_bytes() == 0)
            && !activity.busy()
            && !activity.tunnels()
    }

    /// Whether no request has come for a while, and nothing of one or of an answer is left.
    fn quiet(&self) -> bool {
        let Connection {
            activity, framing, ..
        } = self.connection;
        framing.as_ref().is_some_and(|framing| framing.quiet())
            && !activity.busy()
            && !self.asked
            && activity.silence() >= QUIET_AFTER
    }

    fn look(&mut self, options: Options) -> Option<End> {
        let Connection { activity, .. } = self.connection;
        if self.head.stuck(self.connection, options.header_timeout) {
            return Some(End::within(Ending::HeadLate, Duration::ZERO));
        }
        if self.outstays(options) && !activity.busy() && !self.asked {
            return Some(End::gently(Ending::Drained));
        }
        let limit = if activity.tunnels() {
            options.upgraded_idle_timeout
        } else {
            options.idle_timeout
        };
        if activity.silence() < limit {
            return None;
        }
        // Busy and silent for so long: nobody reads or nobody sends any more. Asked and still here: likewise.
        Some(if activity.busy() || self.asked {
            End::within(Ending::Idle, Duration::ZERO)
        } else {
            End::gently(Ending::Idle)
        })
    }

    /// Whether it is only here still since the drain found it too young, or busy.
    fn outstays(&self, options: Options) -> bool {
        let Connection { activity, .. } = self.connection;
        let silent = activity.silence() >= options.header_timeout;
        if self.connection.born == Born::Serving {
            silent && self.heeded == Closing::Idle && self.idle()
        } else {
            silent || activity.served() > 0
        }
    }

    /// Asks again whether the link may do what it does, after a change at `since`. `true`: no more.
    async fn reconsider(&mut self, since: Instant) -> bool {
        let Connection {
            standing,
            link_id,
            sni,
            ..
        } = self.connection;
        let before = standing.load_full();
        let authorizer = &self.own.authorizer;
        self.unanswered = None;
        let now = match authorizer.reconsider(*link_id, sni, &before).await {
            Reconsidered::Same => return false,
            Reconsidered::Changed(now) => now,
            Reconsidered::Unanswered => {
                self.unanswered = Some(since);
                let next = self.tick.deadline().min(Instant::now() + UNANSWERED_PAUSE);
                self.tick.as_mut().reset(next);
                return false;
            }
        };
        let revoked = before.is_ok() && now.is_err();
        standing.store(std::sync::Arc::new(now));
        if revoked {
            self.own.metrics.revoked(since.elapsed());
            self.revoked = Some(since);
        }
        revoked
    }
}

impl Drop for Signals<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.revoked {
            self.own.metrics.revoked_closed(since.elapsed());
        }
    }
}

async fn changed(routes: &mut Option<RouteWatch>) -> Instant {
    match routes {
        Some(routes) => routes.changed().await,
        None => std::future::pending().await,
    }
}

/// The guard that `wait_for` gives must not be held across an await.
async fn beyond(closing: &mut watch::Receiver<Closing>, heeded: Closing) -> Closing {
    if let Ok(closing) = closing.wait_for(|closing| *closing > heeded).await {
        return *closing;
    }
    std::future::pending().await
}

/// From one look at a connection to the next. One that is quiet is only looked at for its bounds of seconds.
fn period(connection: &Connection, options: Options, quiet: bool) -> Duration {
    let bounds = options.header_timeout.min(options.idle_timeout) / 2;
    let period = if quiet || connection.http2 {
        bounds
    } else {
        bounds.min(QUIET_AFTER)
    };
    period.max(TICK_MIN)
}

/// Notices a request head that stays unfinished for the header timeout.
#[derive(Default)]
struct PartialHead {
    number: u32,
    since: Option<Instant>,
}

impl PartialHead {
    fn stuck(&mut self, connection: &Connection, timeout: Duration) -> bool {
        let Some(framing) = &connection.framing else {
            return false;
        };
        let number = framing.heads();
        let partial = framing.partial_head_bytes() > 0 && !connection.activity.busy();
        if !partial || number != self.number {
            self.since = None;
        }
        self.number = number;
        if !partial {
            return false;
        }
        let now = Instant::now();
        now.duration_since(*self.since.get_or_insert(now)) >= timeout
    }
}

// Ticks are for bounds of seconds; more often would only cost.
const TICK_MIN: Duration = Duration::from_millis(50);
// While account routing does not answer. A revocation that was missed meanwhile holds this long after it answers
// again; ten thousand connections then ask five thousand times a second, together once for each link and host.
const UNANSWERED_PAUSE: Duration = Duration::from_secs(2);
// Who pauses for less would pay for it with each request, and who pauses for longer would hold memory for nothing.
const QUIET_AFTER: Duration = Duration::from_secs(1);
