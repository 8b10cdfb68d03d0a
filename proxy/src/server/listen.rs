//! Listeners: bound by us before anything runs, served by pingora.
//!
//! We bind so that a port in use is a clear error with an exit code, before any traffic is taken. pingora then
//! finds the sockets in its hand-over table under the names we gave them, as it would after an upgrade.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::listening::Service as Listening;
use pingora_core::services::{Service, ServiceWithDependents};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::config::Config;
use crate::connection::accept::{Accepted, Seats, TrustedSources};
use crate::connection::{self, Connections};
use crate::outcome::Ending;
use crate::probe::Health;
use crate::server::ServerError;
use crate::server::background::{Background, Following};
use crate::server::parts::Parts;
use crate::telemetry::Telemetry;

/// Sockets that are bound and listening.
pub struct Listeners {
    workers: usize,
    fds: ListenFds,
}

/// What pingora is to run.
pub struct Services {
    /// The services.
    pub services: Vec<Box<dyn ServiceWithDependents>>,
    /// How many of them are workers.
    pub workers: usize,
}

/// Binds every listener of the configuration.
pub fn bind(config: &Config) -> Result<Listeners, ServerError> {
    let workers = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let mut fds = Fds::new();
    let mut add = |key, name: String, address, shared| {
        let mut socket = listen(address, shared);
        if shared {
            socket = socket.and_then(|socket| kept_alive(socket, config.data.tcp_keepalive));
        }
        let socket = socket.map_err(|source| ServerError::Bind {
            key,
            address,
            source,
        })?;
        fds.add(name, socket.into_raw_fd());
        Ok::<_, ServerError>(())
    };
    // An address that another process holds must be refused, although our own workers share it.
    drop(
        listen(config.data.listen, false).map_err(|source| ServerError::Bind {
            key: "data.listen",
            address: config.data.listen,
            source,
        })?,
    );
    for worker in 0..workers {
        add("data.listen", data_name(worker), config.data.listen, true)?;
    }
    add("probe.listen", PROBE.into(), config.probe.listen, false)?;
    add("admin.listen", ADMIN.into(), config.admin.listen, false)?;
    Ok(Listeners {
        workers,
        fds: Arc::new(Mutex::new(fds)),
    })
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

impl Listeners {
    /// The services on these sockets.
    pub fn services(self, config: &Config, parts: &Parts, telemetry: Telemetry) -> Services {
        let sources = Arc::new(parts.sources(config));
        let mut services: Vec<Box<dyn ServiceWithDependents>> = Vec::new();
        for worker in 0..self.workers {
            let connections = Arc::new(parts.worker(config));
            let upstream = Arc::clone(&connections.requests.upstream);
            let app = Data {
                connections,
                sources: Arc::clone(&sources),
                seats: Arc::clone(&parts.seats),
            };
            let mut inner = Listening::new(format!("worker-{worker}"), app);
            inner.set_connection_filter(Arc::clone(&sources) as _);
            inner.add_listener(endpoint(data_name(worker)));
            services.push(Box::new(Bound {
                inner,
                fds: Arc::clone(&self.fds),
                accept_until: parts.drain.ending(),
                upstream: Some(upstream),
            }));
        }
        let mut probe = Listening::new(PROBE.into(), Probe(Arc::clone(&parts.health)));
        probe.add_listener(endpoint(PROBE.into()));
        services.push(self.always(probe, parts));
        let mut admin = Listening::new(ADMIN.into(), parts.admin(config, telemetry));
        admin.add_listener(endpoint(ADMIN.into()));
        services.push(self.always(admin, parts));
        services.push(Box::new(Background::new(parts)));
        if let Some(following) = Following::new(parts) {
            services.push(Box::new(following));
        }
        Services {
            services,
            workers: self.workers,
        }
    }

    /// A service that goes on while the process drains, until another process does its work.
    fn always<A: ServerApp + Send + Sync + 'static>(
        &self,
        inner: Listening<A>,
        parts: &Parts,
    ) -> Box<dyn ServiceWithDependents> {
        let accept_until = parts.drain.taken_over();
        Box::new(Bound {
            inner,
            fds: Arc::clone(&self.fds),
            accept_until,
            upstream: None,
        })
    }
}

fn data_name(worker: usize) -> String {
    format!("data/{worker}")
}

fn endpoint(name: String) -> ListenerConfig {
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
        let (fds, until) = (Arc::clone(&self.fds), self.accept_until.clone());
        Service::start_service(&mut self.inner, Some(fds), until, listeners_per_fd).await;
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
    connections: Arc<Connections>,
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
        match Accepted::new(stream, &self.sources, &self.seats) {
            Ok(accepted) => {
                connection::serve(&self.connections, accepted, draining.clone()).await;
            }
            Err((refusal, source)) => {
                self.connections.metrics.connection_accepted();
                self.connections
                    .metrics
                    .connection_ended(Ending::Refused(refusal));
                self.connections.metrics.refused(refusal);
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
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        self.0.serve(stream).await;
        None
    }
}

#[async_trait]
impl ServerApp for Admin {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        self.serve(stream).await;
        None
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
        let listener = listen(any, true).and_then(|socket| kept_alive(socket, idle));
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
