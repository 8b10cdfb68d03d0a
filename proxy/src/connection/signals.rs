//! The reasons to end a connection: drain, a change of routes, a request that asked for the end, silence, a
//! request head that does not get whole.
//!
//! Goes on while the connection is ending, since a link can be revoked during a drain, and while a tunnel
//! (WebSocket) has taken the connection over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

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

/// What is listened to on behalf of one connection.
pub struct Signals<'a> {
    own: &'a Connections,
    connection: &'a Connection,
    drain: watch::Receiver<bool>,
    draining: bool,
    cut: watch::Receiver<bool>,
    routes: watch::Receiver<u64>,
    tick: Interval,
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
        let options = own.options.http;
        let period = (options.header_timeout.min(options.idle_timeout) / 2).max(TICK_MIN);
        let mut tick = interval_at(tokio::time::Instant::now() + period, period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            own,
            connection,
            // Whoever is born draining is ended by a tick, after its request.
            draining: connection.born_draining,
            drain,
            cut: own.cut.clone(),
            routes,
            tick,
            head: PartialHead::default(),
            asked: false,
        }
    }

    /// Resolves when there is a reason to end the connection, or another one. Never resolves twice for nothing.
    pub async fn next(&mut self) -> End {
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
                    if self.revoked().await {
                        break End::within(Ending::Revoked, options.revoked_timeout);
                    }
                }
                _ = self.tick.tick() => {
                    if let Some(end) = self.look(options) {
                        break end;
                    }
                }
            }
        };
        self.asked = true;
        end
    }

    fn look(&mut self, options: Options) -> Option<End> {
        let Connection { activity, .. } = self.connection;
        if self.head.stuck(self.connection) {
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

/// Notices a request head that stays unfinished from one tick to the next but one: the header timeout.
#[derive(Default)]
struct PartialHead {
    number: u32,
    ticks: u32,
}

impl PartialHead {
    fn stuck(&mut self, connection: &Connection) -> bool {
        let Some(framing) = &connection.framing else {
            return false;
        };
        let number = framing.heads();
        let partial = framing.partial_head_bytes() > 0 && !connection.activity.busy();
        if !partial || number != self.number {
            self.ticks = 0;
        }
        self.number = number;
        self.ticks += u32::from(partial);
        self.ticks > 2
    }
}

// Ticks are for bounds of seconds; more often would only cost.
const TICK_MIN: Duration = Duration::from_millis(50);
