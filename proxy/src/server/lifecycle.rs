//! The life of a process: it accepts once it may, hands over to a new one when asked to (SIGUSR2), drains and ends
//! (SIGTERM, SIGQUIT), or ends at once, even a drain (SIGINT).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::connection::accept::Seats;
use crate::metrics::{Metrics, UpgradeOutcome};
use crate::readiness::Readiness;
use crate::server::drain::{Drain, Phase};
use crate::server::opening::Opening;
use crate::server::upgrade::{Incoming, Previous, Successor, Upgrade};
use crate::server::{ServerError, supervision};

/// What a process lives by.
pub struct Life {
    /// What is told when it accepts.
    pub listening: Listening,
    /// Lets it accept.
    pub opening: Opening,
    /// Whether it is ready.
    pub readiness: Arc<Readiness>,
    /// Its connections.
    pub seats: Arc<Seats>,
    /// Its drain.
    pub drain: Arc<Drain>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What replaces it.
    pub upgrade: Upgrade,
    /// What it takes over from, if it does. Taken once.
    pub incoming: Mutex<Option<Incoming>>,
    /// Why it failed, if it did.
    pub failure: Arc<Mutex<Option<ServerError>>>,
}

/// What a process says when it accepts.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// The enforcement mode.
    pub mode: &'static str,
    /// Threads that accept on the data port.
    pub workers: usize,
    /// The data listener.
    pub data: SocketAddr,
    /// The probe listener.
    pub probe: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl Listening {
    fn log(self, taken_over: bool) {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), mode = self.mode, workers = self.workers,
            data = %self.data, probe = %self.probe, admin = %self.admin, taken_over,
            "listening"
        );
    }
}

/// The signals that are listened to.
struct Signals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

#[async_trait]
impl ShutdownSignalWatch for Life {
    async fn recv(&self) -> ShutdownSignal {
        if let Err(error) = self.live().await {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        ShutdownSignal::FastShutdown
    }
}

impl Life {
    /// Resolves when the process is to end. Whatever it had to do first is done.
    async fn live(&self) -> Result<(), ServerError> {
        let Signals {
            mut terminate,
            mut quit,
            mut interrupt,
            mut upgrade,
        } = Signals::listen().map_err(ServerError::Signals)?;
        let incoming = self
            .incoming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let previous = tokio::select! {
            begun = self.begin(incoming) => begun?,
            // Nothing is accepted yet.
            _ = terminate.recv() => return Ok(()),
            _ = quit.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = refuse_each(&mut upgrade, &self.upgrade, "this process does not serve yet") => None,
        };
        tokio::select! {
            () = self.serve(&mut terminate, &mut quit, &mut upgrade) => Ok(()),
            _ = interrupt.recv() => {
                tracing::warn!("SIGINT: stopping at once");
                self.drain.cut().await;
                Ok(())
            }
            () = self.tell_service_manager(previous) => Ok(()),
        }
    }

    /// Accepts, once it may.
    async fn begin(&self, incoming: Option<Incoming>) -> Result<Option<Previous>, ServerError> {
        let previous = match incoming {
            Some(incoming) => Some(incoming.take_over(&self.readiness, &self.opening).await?),
            None if self.opening.open().await => None,
            None => return Err(ServerError::NotAccepting),
        };
        self.listening.log(previous.is_some());
        Ok(previous)
    }

    /// Serves until a drain that ends this process is over.
    async fn serve(&self, terminate: &mut Signal, quit: &mut Signal, upgrade: &mut Signal) {
        let successor = tokio::select! {
            _ = terminate.recv() => None,
            _ = quit.recv() => None,
            successor = self.replaced(upgrade) => Some(successor),
        };
        match successor {
            None => {
                supervision::stopping();
                self.drain.begin(None);
            }
            Some(successor) => {
                let pid = successor.pid;
                self.drain.hand_over();
                supervision::main_process(pid);
                tracing::info!(pid, "upgrade: the new process has taken over; draining");
                let (seats, metrics) = (Arc::clone(&self.seats), Arc::clone(&self.metrics));
                tokio::spawn(async move { successor.tell(&seats, &metrics).await });
            }
        }
        let why = "this process is draining";
        tokio::select! {
            () = self.drain.done() => {}
            () = refuse_each(upgrade, &self.upgrade, why) => {}
        }
    }

    /// Resolves when another process has taken over, which may take several attempts.
    async fn replaced(&self, upgrade: &mut Signal) -> Successor {
        loop {
            // One signal at least; if none can come any more, none does.
            if upgrade.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            let why = "another upgrade is under way";
            let successor = tokio::select! {
                successor = self.upgrade.attempt() => successor,
                () = refuse_each(upgrade, &self.upgrade, why) => None,
            };
            if let Some(successor) = successor {
                return successor;
            }
        }
    }

    /// Tells the service manager that this process accepts and, from then on, how it is.
    async fn tell_service_manager(&self, previous: Option<Previous>) {
        if let Some(mut previous) = previous {
            self.metrics.lifecycle().upgraded(UpgradeOutcome::TakenOver);
            // By then the service manager takes our word for the service's.
            previous.introduces_us().await;
            let metrics = Arc::clone(&self.metrics);
            tokio::spawn(async move { previous.follow(&metrics).await });
        }
        supervision::ready();
        let taken_over = self.drain.taken_over();
        let mut told = String::new();
        loop {
            let status = self.status();
            if status != told && !*taken_over.borrow() {
                supervision::status(&status);
                told = status;
            }
            sleep(STATUS_INTERVAL).await;
        }
    }

    fn status(&self) -> String {
        let connections = self.seats.taken();
        match self.drain.phase() {
            Phase::Serving if self.readiness.is_ready() => "ready".to_owned(),
            Phase::Serving => format!("waiting for {}", self.readiness.waiting_for().join(", ")),
            Phase::Noticing => format!("draining: {connections} connections, not ready"),
            Phase::Ending => format!("draining: {connections} connections, not accepting"),
            Phase::Drained => "drained".to_owned(),
        }
    }
}

/// Refuses each request for an upgrade, for ever.
async fn refuse_each(signal: &mut Signal, upgrade: &Upgrade, why: &str) {
    while signal.recv().await.is_some() {
        upgrade.refuse(why);
    }
    std::future::pending::<()>().await;
}

const STATUS_INTERVAL: Duration = Duration::from_secs(1);
