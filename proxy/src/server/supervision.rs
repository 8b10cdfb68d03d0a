//! What the service manager is told and asks for: systemd's `sd_notify(3)` and its watchdog. Nothing is told where
//! there is no `NOTIFY_SOCKET`.
//!
//! The watchdog is fed only while every thread that serves answers, so that a process of which one worker hangs is
//! started anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use sd_notify::NotifyState;

use crate::server::ServerError;

/// The listeners accept, or a reload is over.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins. [`ready`] says that it is over.
pub fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    tell(&[
        NotifyState::Reloading,
        now.unwrap_or(NotifyState::MonotonicUsec(0)),
    ]);
}

/// This process is going away because it was asked to.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the service from now on.
pub fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// A line for whoever asks how the service is.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told how this process is");
    }
}

/// Has the services watched and the watchdog fed, if the service manager asks for it.
pub fn watch(
    services: Vec<Box<dyn ServiceWithDependents>>,
) -> Result<Vec<Box<dyn ServiceWithDependents>>, ServerError> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return Ok(services);
    };
    // Half of it, as sd_watchdog_enabled(3) recommends.
    let interval = limit / 2;
    let mut watched: Vec<Box<dyn ServiceWithDependents>> = Vec::new();
    let mut pulses = Vec::new();
    for inner in services {
        let pulse = Arc::new(Pulse::new(inner.name()));
        pulses.push(Arc::clone(&pulse));
        let interval = interval / BEATS;
        watched.push(Box::new(Watched {
            inner,
            pulse,
            interval,
        }));
    }
    let feed = move || {
        loop {
            std::thread::sleep(interval);
            let now = Instant::now();
            match late(&pulses, now, interval) {
                None => tell(&[NotifyState::Watchdog]),
                Some(pulse) => tracing::error!(
                    thread = pulse.name,
                    silent_seconds = pulse.age(now).as_secs_f64(),
                    "watchdog: a thread does not answer; the service manager is not told that all is well"
                ),
            }
        }
    };
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(feed)
        .map_err(ServerError::Thread)?;
    Ok(watched)
}

/// A thread that has not had a turn for longer than this.
fn late(pulses: &[Arc<Pulse>], now: Instant, limit: Duration) -> Option<&Pulse> {
    let late = pulses.iter().find(|pulse| pulse.age(now) > limit);
    late.map(Arc::as_ref)
}

/// When a thread has last had a turn.
struct Pulse {
    name: String,
    since: Instant,
    last_millis: AtomicU64,
}

impl Pulse {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            since: Instant::now(),
            last_millis: AtomicU64::new(0),
        }
    }

    fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.since).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }

    fn age(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        let all = now.saturating_duration_since(self.since);
        all.saturating_sub(last)
    }
}

/// A service whose thread shows that it has its turns.
struct Watched {
    inner: Box<dyn ServiceWithDependents>,
    pulse: Arc<Pulse>,
    interval: Duration,
}

#[async_trait]
impl ServiceWithDependents for Watched {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        let (pulse, interval) = (Arc::clone(&self.pulse), self.interval);
        tokio::spawn(async move {
            loop {
                pulse.beat(Instant::now());
                tokio::time::sleep(interval).await;
            }
        });
        let inner = &mut self.inner;
        inner
            .start_service(fds, shutdown, listeners_per_fd, ready)
            .await;
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn threads(&self) -> Option<usize> {
        self.inner.threads()
    }
}

// A thread has this many turns before it is late, so that a slow one is no dead one.
const BEATS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_only_while_every_thread_has_its_turns() {
        let pulses = ["worker-0", "worker-1"].map(|name| Arc::new(Pulse::new(name)));
        let after = |seconds| pulses[1].since + Duration::from_secs(seconds);
        let limit = Duration::from_secs(15);
        let late = |seconds| late(&pulses, after(seconds), limit).map(|one| one.name.as_str());
        assert_eq!(late(14), None);
        pulses[0].beat(after(10));
        // One that has never had a turn is late, too.
        assert_eq!(late(16), Some("worker-1"));
        pulses[1].beat(after(16));
        assert_eq!(late(20), None);
        assert_eq!(late(26), Some("worker-0"));
    }
}
