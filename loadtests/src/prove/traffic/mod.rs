//! Traffic as customers cause it, for as long as a scenario does things that nobody may notice.
//!
//! All kinds run at the same time, over both protocols, to each of the processes in [`Targets`], each connection
//! with a PROXY v2 header in front. The pace is that of a few hospitals, not of a benchmark: each kind always has
//! something open and something in flight.
//!
//! | kind | one of it |
//! |---|---|
//! | requests | a small GET or POST on a connection that is kept, over HTTP/2 on several streams |
//! | uploads | a body that is sent slowly on a connection that is kept; the back end compares each byte |
//! | messages | a WebSocket message that comes back, on one WebSocket that is kept |
//! | handshakes | a connection with a full handshake, and a request |
//! | resumptions | a connection that resumes a session, to each target in turn, and a request |
//!
//! Nothing is sent twice: what fails is counted as failed, and a connection that ends as cut, unless the server had
//! announced it. Who is sent away so (`Connection: close`, GOAWAY) finishes what is under way and comes back by a new
//! connection.

mod flow;
mod tally;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use flow::UPLOAD_TIME;
pub use tally::{Count, Kind, Sort, Tally};

use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::{Protocol, STEP_TIMEOUT, Tls};

// Limit: connections with requests and no pause to speak of, a target and protocol.
const REQUESTERS: u32 = 2;

/// Where the traffic goes, and as whom.
#[derive(Debug, Clone)]
pub struct Targets {
    /// The data listeners. Each one gets all kinds.
    pub addresses: Vec<SocketAddr>,
    /// Whom the clients trust.
    pub tls: Tls,
    /// The private endpoint they come by.
    pub link_id: u32,
    /// The host they ask for.
    pub host: &'static str,
    /// How long an upload takes.
    pub upload_time: Duration,
    /// How long a WebSocket is kept before its client closes it and opens another; to the end if `None`.
    pub talk_time: Option<Duration>,
    /// Clients with an upload, and clients with a WebSocket, for each protocol and target. They begin one after the
    /// other, evenly over the time that an upload takes.
    pub lasting: u32,
}

impl Targets {
    /// These processes, for the first hospital.
    pub fn new(addresses: Vec<SocketAddr>, tls: Tls) -> Self {
        Self {
            addresses,
            tls,
            link_id: LINK_A,
            host: HOST_A,
            upload_time: UPLOAD_TIME,
            talk_time: None,
            lasting: 1,
        }
    }
}

/// Traffic on its way. Dropped, it is broken off.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    flows: JoinSet<()>,
}

/// What all flows share.
#[derive(Debug)]
struct Shared {
    targets: Targets,
    started: Instant,
    stopping: watch::Sender<bool>,
    tally: Mutex<Tally>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; `false` once the traffic is to end.
    async fn goes_on_after(&self, pause: Duration) -> bool {
        let mut stopping = self.stopping.subscribe();
        let stopped = stopping.wait_for(|stopping| *stopping);
        tokio::time::timeout(pause, stopped).await.is_err()
    }
}

impl Traffic {
    /// Begins.
    pub fn start(targets: Targets) -> Self {
        let shared = Arc::new(Shared {
            targets,
            started: Instant::now(),
            stopping: watch::Sender::new(false),
            tally: Mutex::default(),
        });
        let mut flows = JoinSet::new();
        for protocol in Protocol::ALL {
            for &address in &shared.targets.addresses {
                for sort in Sort::ALL {
                    let Targets {
                        lasting,
                        upload_time,
                        ..
                    } = shared.targets;
                    let (count, apart) = match sort {
                        Sort::Requests => (REQUESTERS, Duration::ZERO),
                        // One for all targets, below.
                        Sort::Resumptions => (0, Duration::ZERO),
                        Sort::Uploads | Sort::Messages => (lasting, upload_time / lasting.max(1)),
                        Sort::Handshakes => (1, Duration::ZERO),
                    };
                    for turn in 0..count {
                        let kind = Kind { sort, protocol };
                        let flow = flow::run(Arc::clone(&shared), kind, vec![address]);
                        let shared = Arc::clone(&shared);
                        flows.spawn(async move {
                            if turn == 0 || shared.goes_on_after(apart * turn).await {
                                flow.await;
                            }
                        });
                    }
                }
            }
            let kind = Kind {
                sort: Sort::Resumptions,
                protocol,
            };
            let addresses = shared.targets.addresses.clone();
            flows.spawn(flow::run(Arc::clone(&shared), kind, addresses));
        }
        Self { shared, flows }
    }

    /// What was counted so far.
    pub fn so_far(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Ends the traffic: what is in flight is finished, then each connection is closed.
    pub async fn stop(mut self) -> Tally {
        self.shared.stopping.send_replace(true);
        let all = async { while self.flows.join_next().await.is_some() {} };
        // Limit: what is in flight may take one step, after an upload at most.
        let limit = STEP_TIMEOUT + self.shared.targets.upload_time;
        if tokio::time::timeout(limit, all).await.is_err() {
            let left = self.flows.len();
            let finding = format!("{left} flows had no end within {limit:?}");
            self.shared.tally().note(finding);
        }
        self.so_far()
    }
}
