//! One virtual machine of a scale set: Postern, its sidecar, and the metadata service that tells what is planned.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use postern_control::testing::scheduled_events::ScheduledEvents;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::check::{Broken, expect};
use crate::stack::client::Connection;
use crate::stack::local::{LocalOptions, LocalStack};
use crate::stack::sidecar::{Sidecar, SidecarOptions};
use crate::stack::vault::Vault;
use crate::stack::{Deadline, StackError, accepts};

/// What this machine is called.
pub(super) const NAME: &str = "postern-weu_3";
/// The part of the notice that the sidecar keeps for itself.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// How long Postern lets probes notice.
const NOTICE: &str = "2s";
/// How long it lets an idle HTTP/1.1 connection be.
const IDLE_GRACE: &str = "5s";
/// How often the sidecar looks.
const INTERVAL: &str = "250ms";

// Limit: a step of a busy machine.
const STEP: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A running machine. Its parts end in the order of the fields.
pub(super) struct Machine {
    pub(super) sidecar: Sidecar,
    options: SidecarOptions,
    folder: PathBuf,
    pub(super) stack: LocalStack,
    pub(super) events: ScheduledEvents,
    _vault: Vault,
}

/// What a load balancer's probe and its next connection would find.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// When the probe was first answered with something else than 200.
    pub(super) not_ready: Option<SystemTime>,
    /// When a connection was first refused.
    pub(super) not_accepting: Option<SystemTime>,
}

/// Looks at a machine as a load balancer does, until dropped.
pub(super) struct Eye {
    pub(super) seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Machine {
    pub(super) async fn start(folder: &Path) -> Result<Self, Broken> {
        let variables = [
            ("POSTERN_DRAIN__NOTICE", NOTICE),
            ("POSTERN_DRAIN__IDLE_GRACE", IDLE_GRACE),
        ];
        let options = LocalOptions {
            environment: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..LocalOptions::default()
        };
        let stack = LocalStack::start(folder, &options).await?;
        let vault = Vault::start(&folder.join("vault"), &stack.credentials).await?;
        let events = ScheduledEvents::start(NAME)
            .await
            .map_err(StackError::from)?;
        let (endpoint, admin) = (events.url(), stack.postern.admin());
        let margin = MARGIN.as_secs();
        let options = SidecarOptions {
            more: format!(
                "[scheduled_events]\nendpoint = \"{endpoint}\"\npostern_admin = \"{admin}\"\n\
                 interval = \"{INTERVAL}\"\nmargin = \"{margin}s\"\n"
            ),
            ..SidecarOptions::new(vault.access(), &folder.join("stores")).looking_every("300ms")
        };
        let folder = folder.join("sidecar");
        let machine = Self {
            sidecar: Sidecar::start(&folder, &options).await?,
            options,
            folder,
            stack,
            events,
            _vault: vault,
        };
        machine.looked(1).await?;
        Ok(machine)
    }

    /// Waits until the sidecar has looked so many times more.
    pub(super) async fn looked(&self, times: usize) -> Result<(), Broken> {
        let target = self.events.looks() + times;
        let looked = async || (self.events.looks() >= target).then_some(());
        let looked = Deadline::after(STEP).poll(looked).await;
        looked.ok_or_else(|| late(&format!("{times} looks of the sidecar")))
    }

    /// Waits until an event is acknowledged, and tells when that was.
    pub(super) async fn acknowledged(
        &self,
        event: &str,
        limit: Duration,
    ) -> Result<SystemTime, Broken> {
        let found = async || {
            let all = self.events.acknowledgements();
            let found = all.iter().find(|it| it.event == event);
            found.map(|it| it.at)
        };
        let found = Deadline::after(limit).poll(found).await;
        found.ok_or_else(|| late("the acknowledgement"))
    }

    /// Waits until Postern is in this phase of a drain.
    pub(super) async fn is_in(&self, phase: &str) -> Result<(), Broken> {
        let is_so = async || (self.phase().await.ok()? == phase).then_some(());
        let is_so = Deadline::after(STEP).poll(is_so).await;
        is_so.ok_or_else(|| late(&format!("the phase {phase}")))
    }

    /// The phase of a drain that Postern is in.
    pub(super) async fn phase(&self) -> Result<String, Broken> {
        let mut admin = Connection::plain(self.stack.postern.admin()).await?;
        let answer = admin.get("/drain").await?.json();
        Ok(answer["phase"].as_str().unwrap_or_default().to_owned())
    }

    /// How many events of the kind Terminate the sidecar says came to this.
    pub(super) async fn counted(&self, outcome: &str) -> Result<f64, Broken> {
        let labels = [("type", "terminate"), ("outcome", outcome)];
        let metrics = self.sidecar.metrics().await?;
        Ok(metrics.sum("postern_control_scheduled_events_total", &labels))
    }

    /// Kills the sidecar, as the kernel would that is out of memory, and starts another.
    pub(super) async fn replace_sidecar(&mut self) -> Result<(), Broken> {
        let child = self.sidecar.child();
        child.signal(Signal::KILL)?;
        let status = child.wait_for_exit(STEP).await?;
        expect(!status.success(), || format!("it ended with {status}"))?;
        self.sidecar = Sidecar::start(&self.folder, &self.options).await?;
        Ok(())
    }

    pub(super) fn eye(&self) -> Eye {
        let (probe, data) = (self.stack.postern.probe(), self.stack.postern.data());
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            loop {
                let answer = async { Connection::plain(probe).await?.get("/healthz").await };
                let is_ready = answer
                    .await
                    .is_ok_and(|it| it.status == http::StatusCode::OK);
                let is_accepting = accepts(data).await;
                sender.send_if_modified(|seen| {
                    let before = (seen.not_ready, seen.not_accepting);
                    let first = |is_so: bool, at: Option<SystemTime>| match at {
                        None if !is_so => Some(SystemTime::now()),
                        at => at,
                    };
                    seen.not_ready = first(is_ready, seen.not_ready);
                    seen.not_accepting = first(is_accepting, seen.not_accepting);
                    before != (seen.not_ready, seen.not_accepting)
                });
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        Eye { seen, task }
    }
}

impl Drop for Eye {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn late(what: &str) -> Broken {
    Broken::Unexpected(format!("still waiting for {what}"))
}
