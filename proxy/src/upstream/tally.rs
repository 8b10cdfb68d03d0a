//! How many connections to the ingress are open, and how many of them were made with credentials that have been
//! replaced since: what an operator waits for before an old certificate may go.
//!
//! A connection counts from the end of its TLS handshake until its socket is closed, as a WebSocket, too. The mutex
//! is taken when a connection opens or closes and never by a request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::delegate::delegate_write;
use crate::metrics::{Metrics, UpstreamGeneration};

/// Counts the connections of one pool.
pub struct Tally {
    metrics: Arc<Metrics>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// The latest generation that was heard of.
    generation: u64,
    /// How many connections of it are open.
    current: usize,
}

impl Tally {
    /// Counts nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            open: Mutex::default(),
        }
    }

    /// A connection of this generation is open until the value is dropped.
    pub fn enter(self: &Arc<Self>, generation: u64) -> Entered {
        let mut open = self.open();
        self.renew(&mut open, generation);
        self.metrics.upstream_opened();
        if generation == open.generation {
            open.current += 1;
        } else {
            // The credentials changed while it connected.
            self.metrics.upstream_superseded();
        }
        drop(open);
        Entered {
            tally: Arc::clone(self),
            generation,
        }
    }

    /// `generation` is in use now: what was current before is not any more.
    pub fn supersede(&self, generation: u64) {
        self.renew(&mut self.open(), generation);
    }

    fn renew(&self, open: &mut Open, generation: u64) {
        if generation > open.generation {
            for _ in 0..open.current {
                self.metrics.upstream_superseded();
            }
            *open = Open {
                generation,
                current: 0,
            };
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection's place in the tally.
pub struct Entered {
    tally: Arc<Tally>,
    generation: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.tally.open();
        let was = if self.generation == open.generation {
            open.current -= 1;
            UpstreamGeneration::Current
        } else {
            UpstreamGeneration::Previous
        };
        self.tally.metrics.upstream_closed(was);
    }
}

/// A connection with its place in the tally: whoever holds the socket holds the place.
pub struct Tallied<T> {
    io: T,
    _entered: Entered,
}

impl<T> Tallied<T> {
    /// Binds the place to the connection.
    pub fn new(io: T, entered: Entered) -> Self {
        Self {
            io,
            _entered: entered,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tallied<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

delegate_write!(Tallied<T>, io);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::AccessLog;
    use crate::config::Mode;

    fn shown(metrics: &Metrics) -> (String, String) {
        let text = metrics.render().unwrap();
        let value = |generation: &str| {
            let series = format!("postern_upstream_connections{{generation=\"{generation}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&series));
            line.unwrap().to_owned()
        };
        (value("current"), value("previous"))
    }

    #[test]
    fn a_connection_is_of_a_previous_generation_once_there_is_a_newer_one() {
        let metrics = Arc::new(Metrics::new(Mode::Enforce, AccessLog::off()).unwrap());
        let tally = Arc::new(Tally::new(Arc::clone(&metrics)));
        let is = |current: &str, previous: &str| {
            assert_eq!(shown(&metrics), (current.to_owned(), previous.to_owned()));
        };
        let (one, two) = (tally.enter(1), tally.enter(1));
        is("2", "0");
        drop(one);
        tally.supersede(2);
        is("0", "1");
        let late = tally.enter(1);
        is("0", "2");
        let (three, four) = (tally.enter(2), tally.enter(3));
        is("1", "3");
        drop((two, late, three));
        is("1", "0");
        drop(four);
        is("0", "0");
    }
}
