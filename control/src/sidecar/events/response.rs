//! What is done about one event: drain, look until that is over, acknowledge.
//!
//! A state and a step, and the time is told. Each step asks once and again what may be asked again: a drain that has
//! begun, an event that is acknowledged. So another process may go on where this one ended.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::document::Event;
use super::imds::Imds;
use super::postern::{Phase, Postern, PosternError, Progress};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All connections had ended, and the event was acknowledged.
    Acknowledged,
    /// What had not ended by the deadline was cut, and the event was acknowledged.
    Deadline,
    /// The Postern that was here has ended, so there was nothing to lose: the event was acknowledged.
    NotRunning,
    /// Drained. It is about other machines, too, and an acknowledgement would speak for them: left alone.
    Shared,
    /// It had begun before all connections had ended: there was nothing to acknowledge.
    Started,
    /// Postern did not agree to drain before the deadline: not acknowledged, so that all the time that is left is used.
    NotDrained,
    /// Drained, but the metadata service took no acknowledgement before the event began.
    Unacknowledged,
    /// It was listed no more before it began. Counted besides what became of it before, if it had been drained for.
    Cancelled,
    /// It is about other machines alone, or of a kind that does not drain.
    Ignored,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Acknowledged,
        Self::Deadline,
        Self::NotRunning,
        Self::Shared,
        Self::Started,
        Self::NotDrained,
        Self::Unacknowledged,
        Self::Cancelled,
        Self::Ignored,
    ];

    /// The word in log and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Deadline => "deadline",
            Self::NotRunning => "not_running",
            Self::Shared => "shared",
            Self::Started => "started",
            Self::NotDrained => "not_drained",
            Self::Unacknowledged => "unacknowledged",
            Self::Cancelled => "cancelled",
            Self::Ignored => "ignored",
        }
    }

    /// Whether the event was told that it may begin.
    pub(super) const fn is_acknowledged(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Deadline | Self::NotRunning)
    }

    /// Whether a Postern has drained and takes nothing new.
    pub(super) const fn has_drained(self) -> bool {
        !matches!(self, Self::NotRunning | Self::NotDrained | Self::Ignored)
    }
}

/// What is done about one event.
#[derive(Debug)]
pub(super) struct Response {
    began: Timestamp,
    /// When the drain must be over.
    deadline: Timestamp,
    stage: Stage,
    /// How many times in a row nobody listened.
    refusals: u32,
    told: Option<(Phase, Timestamp)>,
    is_in_trouble: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Postern has not agreed to drain.
    Asking,
    /// It has.
    Draining,
    /// That is over. What follows needs no Postern.
    Over(Drained),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// Each connection has ended.
    Whole,
    /// Some were cut, or are being cut.
    Cut,
    /// The Postern that has answered before has ended.
    NotRunning,
    /// There is one that did not agree to drain.
    Not,
}

impl Response {
    /// Nothing is asked before the first step.
    pub(super) fn new(event: &Event, margin: Duration, now: Timestamp) -> Self {
        let margin = SignedDuration::try_from(margin).unwrap_or_default();
        let deadline = match event.not_before {
            Some(at) => at.checked_sub(margin),
            // It may be over any moment.
            None => now.checked_add(margin),
        };
        Self {
            began: now,
            deadline: deadline.unwrap_or(now),
            stage: Stage::Asking,
            refusals: 0,
            told: None,
            is_in_trouble: false,
        }
    }

    /// How long the drain has taken, once it is over.
    pub(super) fn drained_after(&self, now: Timestamp) -> Option<Duration> {
        let drained = matches!(self.stage, Stage::Over(Drained::Whole | Drained::Cut));
        drained.then(|| now.duration_since(self.began).unsigned_abs())
    }

    /// The next step at `now`. `None`: there is more to do.
    pub(super) async fn step(
        &mut self,
        event: &Event,
        now: Timestamp,
        postern: &mut Postern,
        imds: &Imds,
    ) -> Option<Outcome> {
        if !matches!(self.stage, Stage::Over(_)) {
            self.drain(event, now, postern).await;
        }
        match self.stage {
            Stage::Over(drained) => self.conclude(event, drained, now, imds).await,
            Stage::Asking | Stage::Draining => None,
        }
    }

    async fn drain(&mut self, event: &Event, now: Timestamp, postern: &mut Postern) {
        let answer = match self.stage {
            Stage::Draining => postern.progress().await,
            _ => postern.drain(self.within(now)).await,
        };
        match answer {
            Ok(progress) => self.advance(event, progress, now),
            Err(error) => self.not_answered(event, &error, postern.has_answered()),
        }
        if now >= self.deadline {
            self.stage = match self.stage {
                Stage::Asking => Stage::Over(Drained::Not),
                Stage::Draining => Stage::Over(Drained::Cut),
                over @ Stage::Over(_) => over,
            };
        }
    }

    fn advance(&mut self, event: &Event, progress: Progress, now: Timestamp) {
        self.refusals = 0;
        self.is_in_trouble = false;
        self.tell(event, progress, now);
        self.stage = match progress.phase {
            // A new process in place of the one that had agreed.
            Phase::Serving => Stage::Asking,
            Phase::Noticing | Phase::Ending => Stage::Draining,
            Phase::Drained if progress.connections_cut == 0 => Stage::Over(Drained::Whole),
            Phase::Drained => Stage::Over(Drained::Cut),
        };
    }

    /// How far it is: at once when the phase changes, else now and then.
    fn tell(&mut self, event: &Event, progress: Progress, now: Timestamp) {
        let is_known = self.told.is_some_and(|(phase, at)| {
            phase == progress.phase && now.duration_since(at) < TELL_INTERVAL
        });
        if is_known {
            return;
        }
        self.told = Some((progress.phase, now));
        tracing::info!(
            event_id = event.id,
            phase = progress.phase.label(),
            connections = progress.connections,
            requests_in_flight = progress.requests_in_flight,
            connections_cut = progress.connections_cut,
            seconds_left = self.deadline.duration_since(now).as_secs(),
            "scheduled event: draining"
        );
    }

    fn not_answered(&mut self, event: &Event, error: &PosternError, is_known: bool) {
        if error.is_refused() && is_known {
            self.refusals = self.refusals.saturating_add(1);
            if self.refusals >= REFUSALS {
                self.stage = Stage::Over(Drained::NotRunning);
            }
        } else {
            // Whoever accepts and says nothing may be busy with what there is to lose.
            self.refusals = 0;
        }
        if !self.is_in_trouble {
            self.is_in_trouble = true;
            let error = postern_chassis::whole(error);
            tracing::warn!(
                event_id = event.id,
                error,
                "scheduled event: Postern does not say how far it is"
            );
        }
    }

    /// What Postern is given. It needs a moment more to cut what is left.
    fn within(&self, now: Timestamp) -> Duration {
        let left = Duration::try_from(self.deadline.duration_since(now)).unwrap_or_default();
        left.saturating_sub(CUT_TIME).clamp(WITHIN_MIN, WITHIN_MAX)
    }

    async fn conclude(
        &mut self,
        event: &Event,
        drained: Drained,
        now: Timestamp,
        imds: &Imds,
    ) -> Option<Outcome> {
        let outcome = match drained {
            Drained::Not => return Some(Outcome::NotDrained),
            _ if event.not_before.is_none() => return Some(Outcome::Started),
            _ if event.names_others() => return Some(Outcome::Shared),
            Drained::Whole => Outcome::Acknowledged,
            Drained::Cut => Outcome::Deadline,
            Drained::NotRunning => Outcome::NotRunning,
        };
        let Err(error) = imds.acknowledge(&event.id).await else {
            return Some(outcome);
        };
        if !self.is_in_trouble {
            self.is_in_trouble = true;
            let error = postern_chassis::whole(&error);
            tracing::warn!(
                event_id = event.id,
                error,
                "scheduled event: the acknowledgement was not taken"
            );
        }
        let begins = event.not_before.is_some_and(|at| now >= at);
        begins.then_some(Outcome::Unacknowledged)
    }
}

// Limit: a Postern that is restarted listens again within its `RestartSec` and a look.
const REFUSALS: u32 = 10;
// Limit: Postern cuts within half a second.
const CUT_TIME: Duration = Duration::from_secs(1);
// Limit: less is no drain; zero is no length of time to Postern.
const WITHIN_MIN: Duration = Duration::from_secs(1);
// Limit: an event may be planned for days; no drain takes an hour, and Postern has a limit of its own below.
const WITHIN_MAX: Duration = Duration::from_hours(1);
// Limit: a line every ten seconds of a drain.
const TELL_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
