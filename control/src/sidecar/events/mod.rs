//! Scheduled Events: what Azure plans for this machine, and a drain before it happens.
//!
//! ```text
//!   instance metadata ──▶ document ──▶ for us? ──▶ response: drain ──▶ drained, or the deadline ──▶ acknowledge
//!        service                         │                     └─ Postern's admin listener             │
//!           ▲                            └─ no: counted                                                │
//!           └──────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Promises: an event that is about this machine alone is acknowledged as soon as nothing can be lost by it, and no
//! sooner; one that is about others, too, never. Keeps nothing: another process that sees the same event goes on where
//! this one ended, since a drain and an acknowledgement may be asked for again. Never touches certificates, whose
//! rotation and readiness know nothing of it.
//!
//! In reading order: `document`, `imds`; `postern`; `response`, and this, which has one for each event; `wire` is under
//! both neighbours.

mod document;
mod imds;
mod postern;
mod response;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};

use super::metrics::Metrics;
use super::options::ScheduledEventsOptions;
use document::Event;
use imds::{Imds, ImdsError};
use postern::Postern;
use response::Response;

pub use document::EventKind;
pub use response::Outcome;

/// Everything that is known of what is planned.
#[derive(Debug)]
pub(super) struct Watch {
    options: ScheduledEventsOptions,
    imds: Imds,
    postern: Postern,
    metrics: Arc<Metrics>,
    /// What this machine is called in events.
    machine: Option<String>,
    /// By id, what was listed last.
    known: BTreeMap<String, Known>,
    next_look: Timestamp,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Known {
    event: Event,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not ours.
    Ignored,
    Responding(Response),
    Settled(Outcome),
}

/// The metadata service has been of no use for a while.
#[derive(Debug)]
struct Outage {
    began: Timestamp,
    pauses: ExponentialBackoff,
}

impl Watch {
    /// Asks nothing yet.
    pub(super) fn new(
        options: &ScheduledEventsOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let client = wire::client()?;
        metrics.watching_events();
        Ok(Self {
            imds: Imds::new(client.clone(), &options.endpoint),
            postern: Postern::new(client, options.postern_admin),
            metrics,
            machine: options.vm_name.clone(),
            known: BTreeMap::new(),
            next_look: Timestamp::MIN,
            outage: None,
            options: options.clone(),
        })
    }

    /// Looks and responds for ever.
    pub(super) async fn run(mut self) {
        loop {
            let rest = self.step(Timestamp::now()).await;
            tokio::time::sleep(rest).await;
        }
    }

    /// One step at `now`. Returns how long to rest.
    pub(super) async fn step(&mut self, now: Timestamp) -> Duration {
        // A look that is far away is one from before the clock was set back.
        let longest = self.pause_max() * 2;
        if now >= self.next_look || self.until_look(now) > longest {
            if !self.postern.has_answered() {
                // Whatever it says: what counts is that it is there.
                let _ = self.postern.progress().await;
            }
            let pause = self.look(now).await;
            self.next_look = now.saturating_add(signed(pause)).unwrap_or(now);
        }
        let mut rest = self.until_look(now);
        for known in self.known.values_mut() {
            let Known { event, state } = known;
            let State::Responding(response) = state else {
                continue;
            };
            let outcome = response.step(event, now, &mut self.postern, &self.imds);
            let outcome = outcome.await;
            if let Some(outcome) = outcome {
                settled(event, outcome, response.drained_after(now), &self.metrics);
                *state = State::Settled(outcome);
            } else {
                rest = rest.min(self.options.interval);
            }
        }
        rest
    }

    fn until_look(&self, now: Timestamp) -> Duration {
        let wait = self.next_look.duration_since(now);
        Duration::try_from(wait).unwrap_or_default()
    }

    /// Asks what is planned. Returns how long not to ask again.
    async fn look(&mut self, now: Timestamp) -> Duration {
        match self.ask().await {
            Ok((machine, events)) => {
                self.recovered(now);
                self.take(&machine, events, now);
                self.options.interval
            }
            Err(error) => self.failed(&error, now),
        }
    }

    async fn ask(&mut self) -> Result<(String, Vec<Event>), ImdsError> {
        let machine = if let Some(machine) = &self.machine {
            machine.clone()
        } else {
            let machine = self.imds.name().await?;
            tracing::info!(machine, "scheduled events: the name of this machine");
            self.machine.insert(machine).clone()
        };
        Ok((machine, self.imds.events().await?))
    }

    fn recovered(&mut self, now: Timestamp) {
        self.metrics.events_contact(now.as_second());
        if let Some(outage) = self.outage.take() {
            let seconds = now.duration_since(outage.began).as_secs();
            tracing::info!(
                seconds,
                "scheduled events: the metadata service answers again"
            );
        }
    }

    fn failed(&mut self, error: &ImdsError, now: Timestamp) -> Duration {
        let pause_max = self.pause_max();
        let outage = self.outage.get_or_insert_with(|| {
            let error = postern_chassis::whole(error);
            tracing::warn!(
                error,
                "scheduled events: the metadata service does not say what is planned"
            );
            let pauses = ExponentialBuilder::default()
                .with_min_delay(self.options.interval)
                .with_max_delay(pause_max)
                .without_max_times()
                .with_jitter()
                .build();
            Outage { began: now, pauses }
        });
        outage.pauses.next().unwrap_or(pause_max)
    }

    /// The longest time between looks of an outage, to which chance adds as much again at most.
    fn pause_max(&self) -> Duration {
        PAUSE_MAX.max(self.options.interval)
    }

    /// Takes note of what is listed, and of what is not any more.
    fn take(&mut self, machine: &str, events: Vec<Event>, now: Timestamp) {
        let listed: BTreeSet<String> = events.iter().map(|event| event.id.clone()).collect();
        let all = std::mem::take(&mut self.known);
        for (id, known) in all {
            if listed.contains(&id) {
                self.known.insert(id, known);
            } else {
                self.gone(known, now);
            }
        }
        for event in events {
            let before = self.known.remove(&event.id);
            let state = match before {
                Some(known) if known.event == event => known.state,
                Some(Known {
                    state: State::Settled(outcome),
                    ..
                }) => State::Settled(outcome),
                before => self.respond(machine, &event, before.is_some(), now),
            };
            self.known.insert(event.id.clone(), Known { event, state });
        }
    }

    /// What is done about an event that is new, or that has changed.
    fn respond(&self, machine: &str, event: &Event, is_known: bool, now: Timestamp) -> State {
        let ours = event.names(machine) && self.options.kinds.contains(&event.kind);
        let (kind, machines) = (event.kind.label(), event.machines.len());
        if !ours {
            if !is_known {
                self.metrics.event(event.kind, Outcome::Ignored);
                tracing::debug!(
                    event_id = event.id,
                    kind,
                    machines,
                    "scheduled event: not ours"
                );
            }
            return State::Ignored;
        }
        tracing::info!(
            event_id = event.id,
            kind,
            machines,
            not_before = event.not_before.map(tracing::field::display),
            description = event.description,
            "{}",
            if is_known {
                "scheduled event: changed"
            } else {
                "scheduled event: about this machine; Postern is asked to drain"
            }
        );
        State::Responding(Response::new(event, self.options.margin, now))
    }

    /// An event is listed no more: it is over, or will not be.
    fn gone(&self, known: Known, now: Timestamp) {
        let Known { event, state } = known;
        let (was_acknowledged, has_drained) = match state {
            State::Ignored => return,
            State::Responding(_) => (false, true),
            State::Settled(outcome) => (outcome.is_acknowledged(), outcome.has_drained()),
        };
        let ahead = event.not_before.is_some_and(|at| now < at);
        let cancelled = ahead && !was_acknowledged;
        if cancelled {
            self.metrics.event(event.kind, Outcome::Cancelled);
        }
        if has_drained {
            tracing::warn!(
                event_id = event.id,
                kind = event.kind.label(),
                cancelled,
                "scheduled event: gone, and this machine is still here; the drained instance stays not ready until it \
                 is replaced or Postern is restarted"
            );
        }
    }
}

/// There is nothing more to do about this event.
fn settled(event: &Event, outcome: Outcome, took: Option<Duration>, metrics: &Metrics) {
    metrics.event(event.kind, outcome);
    if let Some(took) = took {
        metrics.drained(took);
    }
    let (event_id, kind, outcome) = (&event.id, event.kind.label(), outcome);
    let (word, drain_seconds) = (outcome.label(), took.map(|took| took.as_secs_f64()));
    match outcome {
        Outcome::Acknowledged | Outcome::Shared => {
            tracing::info!(
                event_id,
                kind,
                outcome = word,
                drain_seconds,
                "scheduled event: drained"
            );
        }
        Outcome::NotDrained => {
            tracing::error!(
                event_id,
                kind,
                outcome = word,
                "scheduled event: Postern has not drained"
            );
        }
        _ => {
            tracing::warn!(
                event_id,
                kind,
                outcome = word,
                drain_seconds,
                "scheduled event: done what could be done"
            );
        }
    }
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

// Limit: of the 30 seconds' notice of a preemption, an outage that has ended costs a sixth.
const PAUSE_MAX: Duration = Duration::from_millis(2500);
