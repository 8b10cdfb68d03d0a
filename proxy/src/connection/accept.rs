//! Accept: who may open a connection, and how many may be open.
//!
//! pingora accepts on a listener that belongs to one worker thread; [`TrustedSources`] drops strangers
//! before anything else is spent on them, and [`Seats`] bounds how many connections are open in the whole
//! process. What leaves this file is an [`Accepted`]: a socket, its TCP peer, and the seat it holds until
//! it is dropped.
//!
//! `EMFILE` on accept is survived by pingora's listener, which waits for descriptors to come back.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ipnet::IpNet;
use pingora_core::listeners::ConnectionFilter;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::access_log::{AccessLog, ConnectionRecord};
use crate::delegate::delegate_write;
use crate::metrics::Metrics;
use crate::outcome::{Ending, Refusal};

/// A connection from a trusted source that holds a seat.
pub struct Accepted {
    /// The bytes.
    pub socket: ClientSocket,
    /// The TCP peer: the Private Link Service's NAT address, or a probe.
    pub source: SocketAddr,
    /// What `source` may do.
    pub trust: Trust,
    /// When it was accepted.
    pub opened: Instant,
    /// Its place among the open connections.
    pub seat: Seat,
}

impl Accepted {
    /// Takes what pingora accepted. A full house is [`Refusal::ConnectionLimit`].
    pub fn new(
        stream: Stream,
        sources: &TrustedSources,
        seats: &Arc<Seats>,
    ) -> Result<Self, (Refusal, Option<SocketAddr>)> {
        let source = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|peer| peer.as_inet().copied()))
            .ok_or((Refusal::UntrustedSource, None))?;
        let seat = seats
            .take()
            .ok_or((Refusal::ConnectionLimit, Some(source)))?;
        Ok(Self {
            trust: sources.trust(source.ip()),
            socket: ClientSocket(stream),
            source,
            opened: Instant::now(),
            seat,
        })
    }
}

/// What a source may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing.
    Nothing,
    /// Announce link ids: it is the Private Link Service.
    Links,
    /// Probe.
    Probes,
    /// Both.
    Both,
}

/// The accepted socket. The only name for pingora's stream outside this file.
pub struct ClientSocket(Stream);

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

delegate_write!(ClientSocket, 0);

/// Who may open a connection on the data port. Everyone else is closed without a byte and counted.
pub struct TrustedSources {
    networks: ArcSwap<Networks>,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
}

/// Who is known on the data port.
#[derive(Debug, Clone)]
pub struct Networks {
    /// NAT subnets of the Private Link Service.
    pub private_link: Vec<IpNet>,
    /// Sources of health probes.
    pub probes: Vec<IpNet>,
}

impl TrustedSources {
    /// These and no other.
    pub fn new(networks: Networks, metrics: Arc<Metrics>, access_log: AccessLog) -> Self {
        Self {
            networks: ArcSwap::from_pointee(networks),
            metrics,
            access_log,
        }
    }

    /// These and no other from now on. Open connections stay.
    pub fn replace(&self, networks: Networks) {
        self.networks.store(Arc::new(networks));
    }

    /// Writes the line of a connection that was refused at accept.
    pub fn log(&self, refusal: Refusal, source: Option<SocketAddr>) {
        let Some(source) = source else { return };
        self.access_log.connection(&ConnectionRecord {
            source,
            client: None,
            link_id: None,
            sni: None,
            duration: Duration::ZERO,
            ending: Ending::Refused(refusal),
        });
    }

    fn trust(&self, ip: IpAddr) -> Trust {
        let networks = self.networks.load();
        match (
            contains(&networks.private_link, ip),
            contains(&networks.probes, ip),
        ) {
            (true, true) => Trust::Both,
            (true, false) => Trust::Links,
            (false, true) => Trust::Probes,
            (false, false) => Trust::Nothing,
        }
    }
}

fn contains(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| net.contains(&ip))
}

impl fmt::Debug for TrustedSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedSources")
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ConnectionFilter for TrustedSources {
    async fn should_accept(&self, source: Option<&SocketAddr>) -> bool {
        let admitted = source.is_some_and(|source| self.trust(source.ip()) != Trust::Nothing);
        if !admitted {
            self.metrics.refused(Refusal::UntrustedSource);
            self.log(Refusal::UntrustedSource, source.copied());
        }
        admitted
    }
}

/// How many connections may be open in the process.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    max: AtomicUsize,
}

impl Seats {
    /// Room for `max` connections.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
        })
    }

    /// Room for `max` from now on. Whoever has a seat keeps it.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Connections open now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn take(self: &Arc<Self>) -> Option<Seat> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (before < self.max.load(Ordering::Relaxed)).then_some(seat)
    }
}

/// One open connection's place, given back on drop.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_come_back() {
        let seats = Seats::new(2);
        let first = seats.take().unwrap();
        let second = seats.take().unwrap();
        assert!(seats.take().is_none());
        assert_eq!(seats.taken(), 2);
        drop(first);
        assert!(seats.take().is_some());
        drop(second);
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn fewer_seats_are_for_whoever_comes_next() {
        let seats = Seats::new(2);
        let both = [seats.take().unwrap(), seats.take().unwrap()];
        seats.set_max(1);
        assert_eq!(seats.taken(), 2);
        drop(both);
        let one = seats.take().unwrap();
        assert!(seats.take().is_none());
        seats.set_max(2);
        assert!(seats.take().is_some());
        drop(one);
    }

    #[test]
    fn an_address_mapped_into_ipv6_is_judged_as_ipv4() {
        let nets = ["10.0.0.0/24".parse().unwrap()];
        assert!(contains(&nets, "::ffff:10.0.0.7".parse().unwrap()));
        assert!(!contains(&nets, "10.0.1.7".parse().unwrap()));
    }
}
