//! A connection without a socket, for benchmarks of what requests do with one.
//!
//! Compiled with the feature `testing` alone: in the data plane, a connection comes from a handshake.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::http::HeaderValue;
use arc_swap::ArcSwap;
use postern_api::{HostName, LinkId};
use tokio::sync::Notify;

use super::{Activity, Connection, ip_header};
use crate::connection::Born;
use crate::connection::accept::Seats;
use crate::connection::authorize::Standing;
use crate::connection::registry::Registry;

/// What a connection would have learned from its stages.
#[derive(Debug)]
pub struct Detached {
    /// The private endpoint.
    pub link_id: LinkId,
    /// The client's own address, and the TCP peer's.
    pub client: SocketAddr,
    /// The name in the `ClientHello`.
    pub sni: HostName,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
    /// What it may do.
    pub standing: Standing,
}

impl Detached {
    /// A connection like this that nothing can be read from.
    ///
    /// # Panics
    ///
    /// If a house with one seat has none for the first who enters.
    pub fn connect(self) -> Arc<Connection> {
        #[expect(clippy::expect_used, reason = "the first to enter finds a seat")]
        let seat = Seats::new(1).take().expect("a seat");
        Arc::<Registry<Connection>>::default().enter(|entry| Connection {
            link_id: self.link_id,
            client: self.client,
            source: self.client,
            opened: Instant::now(),
            sni: self.sni,
            http2: self.http2,
            tls_version: "TLSv1.3",
            resumed: false,
            authorize: Duration::ZERO,
            standing: ArcSwap::from_pointee(self.standing),
            framing: (!self.http2).then(Arc::default),
            link_id_header: HeaderValue::from(self.link_id.get()),
            client_header: ip_header(self.client),
            activity: Activity::new(),
            spoken: OnceLock::new(),
            born: Born::Serving,
            last_answer: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            closing: Notify::new(),
            tunnel: Mutex::default(),
            _seat: seat,
            _entry: entry,
        })
    }
}
