//! Listeners: bound by us before anything runs, served by pingora.
//!
//! We bind so that a port in use is a clear error with an exit code, before any traffic is taken. pingora then
//! finds the sockets in its hand-over table under the names we gave them.
//!
//! After an upgrade most of them are there already. Each data socket has a queue of its own, whose connections are
//! lost with it: so each is accepted from as long as its address is ours, by whichever worker, and more workers get
//! more sockets.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::poll;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::{Stream, TcpKeepalive as PingoraKeepalive};
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::listening::Service as Listening;
use pingora_core::services::{Service, ServiceWithDependents};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::config::Config;
use crate::connection;
use crate::connection::accept::{Accepted, Seats, TrustedSources};
use crate::outcome::Ending;
use crate::probe::Health;
use crate::server::ServerError;
use crate::server::background::{Background, Following};
use crate::server::opening::Opening;
use crate::server::parts::Parts;
use crate::server::reload::Reload;
use crate::server::workers::Worker;
use crate::telemetry::Telemetry;

/// Sockets that are bound, and listening or about to.
pub struct Listeners {
    workers: usize,
    /// The names of the sockets of the data port, in order.
    data: Vec<String>,
    keepalive: Duration,
    fds: ListenFds,
}

/// What pingora is to run.
pub struct Services {
    /// All of them.
    pub all: Vec<Box<dyn ServiceWithDependents>>,
    /// How many of them are workers.
    pub workers: usize,
    /// The sockets, for whoever takes over.
    pub fds: ListenFds,
    /// What lets them accept.
    pub opening: Opening,
}

/// Binds every listener of the configuration that is not among those of the process before this one.
pub fn bind(config: &Config, mut fds: Fds) -> Result<Listeners, ServerError> {
    let workers = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let keepalive = config.data.tcp_keepalive;
    let data = data_sockets(config, workers, &mut fds)?;
    for (key, name, address) in [
        ("probe.listen", PROBE, config.probe.listen),
        ("admin.listen", ADMIN, config.admin.listen),
    ] {
        let name = format!("{name}/{address}");
        if fds.get(&name).is_none() {
            let socket = bound(address, false).and_then(listening);
            let socket = socket.map_err(in_use(key, address))?;
            fds.add(name, socket.into_raw_fd());
        }
    }
    let keep = data.iter().cloned();
    let others = [(PROBE, config.probe.listen), (ADMIN, config.admin.listen)];
    let keep = keep.chain(others.map(|(name, address)| format!("{name}/{address}")));
    // The addresses of the previous process that are not ours any more.
    let closed = fds.close_unclaimed(&keep.collect::<HashSet<_>>());
    if !closed.is_empty() {
        tracing::info!(?closed, "upgrade: these listeners are given up");
    }
    Ok(Listeners {
        workers,
        data,
        keepalive,
        fds: Arc::new(Mutex::new(fds)),
    })
}

/// The names of the data sockets: those that are there, and as many as workers at least.
fn data_sockets(
    config: &Config,
    workers: usize,
    fds: &mut Fds,
) -> Result<Vec<String>, ServerError> {
    let (address, keepalive) = (config.data.listen, config.data.tcp_keepalive);
    let prefix = format!("data/{address}/");
    let (mut names, _) = fds.serialize();
    names.retain(|name| name.starts_with(&prefix));
    names.sort();
    let first = names.is_empty();
    let failed = in_use("data.listen", address);
    if first {
        // An address that another process holds must be refused, although our own workers share it.
        drop(bound(address, false).and_then(listening).map_err(failed)?);
    }
    let numbers = 0..workers + names.len();
    let seconds = keepalive.as_secs();
    let free = numbers.filter(|number| {
        let taken = format!("{prefix}{number}/");
        !names.iter().any(|name| name.starts_with(&taken))
    });
    let missing: Vec<_> = free.take(workers.saturating_sub(names.len())).collect();
    for number in missing {
        let mut socket = bound(address, true).and_then(|socket| kept_alive(socket, keepalive));
        if first {
            socket = socket.and_then(listening);
        }
        // Beside others, it listens when it is accepted from: connections would come to it at once.
        let socket = socket.map_err(failed)?;
        let name = format!("{prefix}{number}/{seconds}");
        fds.add(name.clone(), socket.into_raw_fd());
        names.push(name);
    }
    Ok(names)
}

fn in_use(key: &'static str, address: SocketAddr) -> impl Fn(io::Error) -> ServerError + Copy {
    move |source| ServerError::Bind {
        key,
        address,
        source,
    }
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(socket: Socket) -> io::Result<Socket> {
    socket.listen(BACKLOG)?;
    Ok(socket)
}

impl Listeners {
    /// The services on these sockets.
    pub fn services(
        self,
        config: &Config,
        parts: &Parts,
        telemetry: Telemetry,
        reload: Reload,
    ) -> Services {
        let sources = &parts.sources;
        // Workers, probe and admin accept.
        let opening = Opening::new(self.workers + 2);
        let mut services: Vec<Box<dyn ServiceWithDependents>> = Vec::new();
        for worker in 0..self.workers {
            let connections = parts.worker(config);
            let upstream = Arc::clone(&connections.load().requests.upstream);
            let app = Data {
                connections,
                sources: Arc::clone(sources),
                seats: Arc::clone(&parts.seats),
            };
            let mut inner = Listening::new(format!("worker-{worker}"), app);
            inner.set_connection_filter(Arc::clone(sources) as _);
            for name in self.data.iter().skip(worker).step_by(self.workers) {
                inner.add_listener(self.data_endpoint(name));
            }
            services.push(Box::new(Bound {
                inner,
                fds: Arc::clone(&self.fds),
                opening: opening.clone(),
                accept_until: parts.drain.ending(),
                upstream: Some(upstream),
            }));
        }
        let probe = Probe(Arc::clone(&parts.health));
        services.push(self.always(PROBE, config.probe.listen, probe, &opening, parts));
        let admin = parts.admin(telemetry);
        services.push(self.always(ADMIN, config.admin.listen, admin, &opening, parts));
        services.push(Box::new(Background::new(parts, reload)));
        if let Some(following) = Following::new(parts) {
            services.push(Box::new(following));
        }
        Services {
            all: services,
            workers: self.workers,
            fds: self.fds,
            opening,
        }
    }

    /// A service that goes on while the process drains, until another process does its work.
    fn always<A: ServerApp + Send + Sync + 'static>(
        &self,
        name: &str,
        address: SocketAddr,
        app: A,
        opening: &Opening,
        parts: &Parts,
    ) -> Box<dyn ServiceWithDependents> {
        let mut inner = Listening::new(name.to_owned(), app);
        inner.add_listener(endpoint(&format!("{name}/{address}")));
        Box::new(Bound {
            inner,
            fds: Arc::clone(&self.fds),
            opening: opening.clone(),
            accept_until: parts.drain.taken_over(),
            upstream: None,
        })
    }

    /// A data socket. One that was made under another configuration has its connections kept alive one by one, which
    /// costs each of them five system calls, until the next restart.
    fn data_endpoint(&self, name: &str) -> ListenerConfig {
        let endpoint = endpoint(name);
        if name.ends_with(&format!("/{}", self.keepalive.as_secs())) {
            return endpoint;
        }
        let mut options = TcpSocketOptions::default();
        options.tcp_keepalive = Some(PingoraKeepalive {
            idle: self.keepalive,
            interval: KEEPALIVE_INTERVAL,
            count: KEEPALIVE_COUNT as usize,
            user_timeout: Duration::ZERO,
        });
        endpoint.tcp_socket_options(options)
    }
}

fn endpoint(name: &str) -> ListenerConfig {
    // We read ahead only while bytes pour in: no buffer of pingora's for idle connections.
    ListenerConfig::tcp(name).l4_buffer(L4BufferSettings::unbuffered())
}

/// Has the kernel probe whoever is silent on a connection of this listener. A connection inherits it, which saves
/// five system calls for each.
fn kept_alive(socket: Socket, idle: Duration) -> io::Result<Socket> {
    let keepalive = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_COUNT);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

/// A pingora service on a socket of ours, which stops accepting when we say so.
struct Bound<A> {
    inner: Listening<A>,
    fds: ListenFds,
    opening: Opening,
    accept_until: watch::Receiver<bool>,
    upstream: Option<Arc<crate::upstream::Upstream>>,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> Service for Bound<A> {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(upstream) = self.upstream.take() {
            tokio::spawn(async move { upstream.sweep_for_ever().await });
        }
        self.opening.opened().await;
        let (fds, until) = (Arc::clone(&self.fds), self.accept_until.clone());
        let mut serving =
            Service::start_service(&mut self.inner, Some(fds), until, listeners_per_fd);
        // Its first turn takes the sockets and begins to accept.
        if poll!(serving.as_mut()).is_pending() {
            self.opening.accepting();
            serving.await;
        }
    }

    fn name(&self) -> &str {
        Service::name(&self.inner)
    }

    fn threads(&self) -> Option<usize> {
        // One: whatever is accepted here is served here.
        Some(1)
    }
}

/// The data listener of one worker.
struct Data {
    connections: Worker,
    sources: Arc<TrustedSources>,
    seats: Arc<Seats>,
}

#[async_trait]
impl ServerApp for Data {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        draining: &ShutdownWatch,
    ) -> Option<Stream> {
        // As the configuration is now; it keeps to it.
        let own = self.connections.load_full();
        match Accepted::new(stream, &self.sources, &self.seats) {
            Ok(accepted) => {
                connection::serve(&own, accepted, draining.clone()).await;
            }
            Err((refusal, source)) => {
                own.metrics.connection_accepted();
                own.metrics.connection_ended(Ending::Refused(refusal));
                own.metrics.refused(refusal);
                self.sources.log(refusal, source);
            }
        }
        None
    }
}

/// The probe listener.
struct Probe(Arc<Health>);

#[async_trait]
impl ServerApp for Probe {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        taken_over: &ShutdownWatch,
    ) -> Option<Stream> {
        self.0.serve(stream, turned_true(taken_over.clone())).await;
        None
    }
}

#[async_trait]
impl ServerApp for Admin {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        taken_over: &ShutdownWatch,
    ) -> Option<Stream> {
        self.serve(stream, turned_true(taken_over.clone())).await;
        None
    }
}

async fn turned_true(mut flag: ShutdownWatch) {
    if flag.wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
}

const PROBE: &str = "probe";
const ADMIN: &str = "admin";
// Limit: connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
// After the idle time, this often and this many times, before the kernel gives a peer up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_alive_as_its_listener_says() {
        let idle = Duration::from_secs(77);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bound(any, true).and_then(|socket| kept_alive(socket, idle));
        let listener = listener.and_then(listening);
        let listener = listener.unwrap();
        listener.set_nonblocking(false).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), idle);
        let interval = accepted.tcp_keepalive_interval().unwrap();
        assert_eq!(interval, KEEPALIVE_INTERVAL);
        let count = accepted.tcp_keepalive_retries().unwrap();
        assert_eq!(count, KEEPALIVE_COUNT);
        drop(client);
    }
}
