//! The reasons to end a connection: drain, a change of routes, a request that asked for the end, silence, a
//! request head that does not get whole.
//!
//! Goes on while the connection is ending, since a link can be revoked during a drain, and while a tunnel
//! (WebSocket) has taken the connection over.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::connection::Connections;
use crate::connection::http::{Connection, Options};
use crate::outcome::Ending;

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
    /// That nothing has moved for a while.
    Quiet,
}

/// What is listened to on behalf of one connection.
pub struct Signals<'a> {
    own: &'a Connections,
    connection: &'a Connection,
    drain: watch::Receiver<bool>,
    draining: bool,
    cut: watch::Receiver<bool>,
    routes: watch::Receiver<u64>,
    tick: Pin<Box<Sleep>>,
    head: PartialHead,
    asked: bool,
}

impl<'a> Signals<'a> {
    /// Listens. `drain` turns true when connections are to end.
    pub fn new(
        own: &'a Connections,
        connection: &'a Connection,
        drain: watch::Receiver<bool>,
    ) -> Self {
        let mut routes = own.authorizer.changes();
        routes.borrow_and_update();
        Self {
            own,
            connection,
            // Whoever is born draining is ended by a tick, after its request.
            draining: connection.born_draining,
            drain,
            cut: own.cut.clone(),
            routes,
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
                () = turned_true(&mut self.cut) => break End::within(Ending::Drained, Duration::ZERO),
                changed = self.drain.changed(), if !self.draining => {
                    self.draining = changed.is_err() || *self.drain.borrow_and_update();
                    if self.draining {
                        break End::gently(Ending::Drained);
                    }
                }
                // An error means that nothing will ever change again.
                Ok(()) = self.routes.changed() => {
                    if Box::pin(self.revoked()).await {
                        break End::within(Ending::Revoked, options.revoked_timeout);
                    }
                }
                () = self.tick.as_mut() => {
                    if let Some(end) = self.look(options) {
                        break end;
                    }
                    let quiet = self.quiet();
                    let next = Instant::now() + period(self.connection, options, quiet);
                    self.tick.as_mut().reset(next);
                    if quiet && !self.connection.activity.parked() {
                        return Signal::Quiet;
                    }
                }
            }
        };
        self.asked = true;
        Signal::End(end)
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
        if self.connection.born_draining && !activity.busy() && !self.asked {
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

    /// Asks again whether the link may do what it does. `true`: no more.
    async fn revoked(&self) -> bool {
        let Connection {
            standing,
            link_id,
            sni,
            ..
        } = self.connection;
        let before = standing.load_full();
        let authorizer = &self.own.authorizer;
        let Some(now) = authorizer.reconsider(*link_id, sni, &before).await else {
            return false;
        };
        let revoked = before.is_ok() && now.is_err();
        standing.store(std::sync::Arc::new(now));
        revoked
    }
}

/// The guard that `wait_for` gives must not be held across an await.
async fn turned_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
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
// Who pauses for less would pay for it with each request, and who pauses for longer would hold memory for nothing.
const QUIET_AFTER: Duration = Duration::from_secs(1);
