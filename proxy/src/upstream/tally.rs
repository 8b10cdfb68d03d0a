//! How many connections to the ingress are open, and how many of them were made with credentials that have been
//! replaced since: what an operator waits for before an old certificate may go. That wait has an end: what is still
//! busy then is cut.
//!
//! A connection counts from the end of its TLS handshake until its socket is closed, as a WebSocket, too. The mutex
//! is taken when a connection opens or closes and never by a request.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use crate::delegate::delegate_write;
use crate::metrics::{Metrics, UpstreamGeneration};

/// Counts the connections of one pool.
pub struct Tally {
    metrics: Arc<Metrics>,
    open: Mutex<Open>,
    /// The latest generation whose connections are cut.
    cut: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Open {
    /// The latest generation that was heard of.
    generation: u64,
    /// How many connections of it are open.
    current: usize,
    /// Those of which some are still open.
    previous: BTreeMap<u64, Superseded>,
}

/// A generation that has been replaced.
#[derive(Debug)]
struct Superseded {
    connections: usize,
    since: Instant,
}

impl Tally {
    /// Counts nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            open: Mutex::default(),
            cut: watch::Sender::new(0),
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
            open.superseded(generation).connections += 1;
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
            let (before, connections) = (open.generation, open.current);
            for _ in 0..connections {
                self.metrics.upstream_superseded();
            }
            if connections > 0 {
                open.superseded(before).connections += connections;
            }
            (open.generation, open.current) = (generation, 0);
        }
    }

    /// Cuts the connections whose credentials were replaced so long ago.
    pub fn cut(&self, timeout: Duration) {
        let open = self.open();
        let is_over = |(_, it): &(&u64, &Superseded)| it.since.elapsed() >= timeout;
        let over = open.previous.iter().rev().find(is_over);
        let Some((&generation, _)) =
            over.filter(|(generation, _)| **generation > *self.cut.borrow())
        else {
            return;
        };
        let cut = open.previous.range(..=generation);
        let connections: usize = cut.map(|(_, it)| it.connections).sum();
        drop(open);
        tracing::warn!(
            generation,
            connections,
            "connections to the ingress are cut: their credentials were replaced long ago"
        );
        self.cut.send_replace(generation);
    }

    /// Waits until the connections of this generation are cut.
    pub fn cutting(&self, generation: u64) -> impl Future<Output = ()> + use<> {
        let mut cut = self.cut.subscribe();
        async move {
            if cut.wait_for(|cut| generation <= *cut).await.is_err() {
                // Nobody is left to cut anything.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Drives a connection of this generation to its end, or until it is cut.
    pub fn drive(&self, generation: u64, connection: impl Future<Output = ()> + Send + 'static) {
        // A task of its own waits, so that the connection's is not woken or polled for it.
        let mut driver = tokio::spawn(connection);
        let cutting = self.cutting(generation);
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut driver => {}
                () = cutting => driver.abort(),
            }
        });
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn superseded(&mut self, generation: u64) -> &mut Superseded {
        self.previous
            .entry(generation)
            .or_insert_with(|| Superseded {
                connections: 0,
                since: Instant::now(),
            })
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
            let it = open.superseded(self.generation);
            it.connections -= 1;
            if it.connections == 0 {
                open.previous.remove(&self.generation);
            }
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

    #[tokio::test]
    async fn what_is_busy_with_replaced_credentials_is_cut_when_its_time_is_over() {
        let metrics = Arc::new(Metrics::new(Mode::Enforce, AccessLog::off()).unwrap());
        let tally = Arc::new(Tally::new(Arc::clone(&metrics)));
        let begin = |generation| {
            let entered = tally.enter(generation);
            tally.drive(generation, async move {
                let _entered = entered;
                std::future::pending::<()>().await;
            });
        };
        begin(1);
        begin(1);
        tally.supersede(2);
        begin(2);
        tally.cut(Duration::from_hours(1));
        let tunnel = tally.cutting(1);
        assert!(futures_util::poll!(std::pin::pin!(tally.cutting(1))).is_pending());
        tally.cut(Duration::ZERO);
        tunnel.await;
        while shown(&metrics).1 != "0" {
            tokio::task::yield_now().await;
        }
        assert_eq!(shown(&metrics), ("1".to_owned(), "0".to_owned()));
        // Who comes late with what was cut already is cut, too.
        begin(1);
        while shown(&metrics).1 != "0" {
            tokio::task::yield_now().await;
        }
        assert!(futures_util::poll!(std::pin::pin!(tally.cutting(2))).is_pending());
    }
}
