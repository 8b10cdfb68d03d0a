//! One certificate's rounds, one after the other: what each did is logged once and counted, and says when the next is.
//!
//! A state and a step. The time is told, so that an hour of an outage can be gone through in a moment.

use std::sync::Arc;
use std::time::Duration;

use postern_certs::UnixTime;
use tokio::sync::Notify;

use super::certificate::{Certificate, at, blocking};
use super::metrics::Metrics;
use super::options::RestOptions;
use super::outcome::{Done, Outcome, Published, RoundError};
use super::rest::{Last, RETRY_AFTER_MAX, rest};
use super::status::Status;
use super::tickets::Tickets;

/// What is published.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    Certificate(Arc<Certificate>),
    Tickets(Arc<Tickets>),
}

impl Subject {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Certificate(it) => &it.name,
            Self::Tickets(it) => &it.name,
        }
    }

    /// `server`, `client`, `trust` or `tickets`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Certificate(it) => it.kind,
            Self::Tickets(_) => "tickets",
        }
    }

    /// How many requests its first round takes, as a rule.
    pub(super) fn first_requests(&self) -> u32 {
        match self {
            Self::Certificate(it) => it.first_requests(),
            // The versions, and the keys that are alive.
            Self::Tickets(_) => 5,
        }
    }

    async fn round(&self, now: i64) -> Result<Done, RoundError> {
        match self {
            Self::Certificate(it) => it.round(now).await,
            Self::Tickets(it) => it.round(now).await,
        }
    }

    fn published(&self, now: UnixTime) -> Option<Published> {
        match self {
            Self::Certificate(it) => it.published(now),
            Self::Tickets(it) => it.published(now),
        }
    }
}

/// One certificate's rounds.
#[derive(Debug)]
pub(super) struct Cycle {
    subject: Subject,
    /// Its number in the status.
    index: usize,
    parts: Arc<Shared>,
    /// Who looks again when this is published, if it waits for it: the clients of a trust.
    followers: Vec<Arc<Notify>>,
    until: Option<i64>,
    failing: Option<Failing>,
    /// How long the vault wants to be left alone after the last round.
    asked: Duration,
    older: Option<String>,
}

/// What all cycles of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rest: RestOptions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Status,
}

/// Rounds have not ended well for a while.
#[derive(Debug)]
struct Failing {
    label: &'static str,
    version: Option<String>,
    rounds: u32,
}

impl Cycle {
    pub(super) fn new(
        subject: Subject,
        index: usize,
        parts: Arc<Shared>,
        followers: Vec<Arc<Notify>>,
    ) -> Self {
        Self {
            subject,
            index,
            parts,
            followers,
            until: None,
            failing: None,
            asked: Duration::ZERO,
            older: None,
        }
    }

    pub(super) const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether the last round did not end well.
    pub(super) const fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Whether it waits for the trust that it is held against.
    pub(super) fn waits_for_trust(&self) -> bool {
        let waits = |failing: &Failing| ["no_trust", "wrong_order"].contains(&failing.label);
        self.failing.as_ref().is_some_and(waits)
    }

    /// How long the vault wants to be left alone after the last round, whoever has news.
    pub(super) const fn asked(&self) -> Duration {
        self.asked
    }

    /// Takes note of what an earlier process has published.
    pub(super) async fn recall(&mut self, now: i64) {
        let subject = self.subject.clone();
        let found = blocking(move || Ok(subject.published(at(now)))).await;
        if let Ok(Some(published)) = found {
            self.publish(&published);
        }
    }

    /// One round at `now` (Unix seconds). Returns how long to rest; `chance` is from 0 to 1.
    pub(super) async fn step(&mut self, now: i64, chance: f64) -> Duration {
        self.asked = Duration::ZERO;
        let last = match self.subject.round(now).await {
            Ok(done) => {
                self.succeeded(&done, now);
                Last::Good
            }
            Err(error) => {
                let rounds = self.failed(&error);
                self.asked = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
                Last::Failed {
                    rounds,
                    retry_after: error.retry_after(),
                }
            }
        };
        let until = match self.subject {
            Subject::Certificate(_) => self.until,
            // Keys come and go all the time: their end is nothing to hurry for.
            Subject::Tickets(_) => None,
        };
        let rest = rest(&self.parts.rest, now, until, last, chance);
        self.next_look(now, rest);
        rest
    }

    /// Says when the next look is.
    pub(super) fn next_look(&self, now: i64, rest: Duration) {
        let seconds = i64::try_from(rest.as_secs()).unwrap_or(i64::MAX);
        let at = now.saturating_add(seconds);
        self.parts.metrics.next_look(self.subject.name(), at);
    }

    fn publish(&mut self, published: &Published) {
        self.until = Some(published.until);
        self.parts.status.publish(self.index, published.until);
        self.parts.metrics.published(self.subject.name(), published);
    }

    fn succeeded(&mut self, done: &Done, now: i64) {
        let name = self.subject.name().to_owned();
        self.publish(&done.published);
        self.parts.metrics.succeeded(&name, done.outcome, now);
        if let Some(failing) = self.failing.take() {
            tracing::info!(
                certificate = name,
                reason = failing.label,
                rounds = failing.rounds,
                "recovered"
            );
        }
        let known = self.older.take();
        match done.outcome {
            Outcome::Unchanged => {
                tracing::debug!(
                    certificate = name,
                    generation = done.published.generation,
                    "unchanged"
                );
            }
            Outcome::Published => {
                tracing::info!(
                    certificate = name,
                    kind = self.subject.kind(),
                    generation = done.published.generation,
                    version = done.published.label,
                    subject = done.published.subject,
                    not_after = done.published.until,
                    "published"
                );
                self.followers
                    .iter()
                    .for_each(|follower| follower.notify_one());
            }
            Outcome::Older => {
                if known.as_ref() != Some(&done.version) {
                    tracing::warn!(
                        certificate = name,
                        version = done.version,
                        published = done.published.label,
                        generation = done.published.generation,
                        "the newest enabled version is older than what is published, which stays"
                    );
                }
                self.older = Some(done.version.clone());
            }
        }
    }

    /// Returns how many rounds in a row have failed.
    fn failed(&mut self, error: &RoundError) -> u32 {
        let name = self.subject.name();
        self.parts.metrics.failed(name, error);
        let label = error.label();
        let version = error.version().map(ToOwned::to_owned);
        let before = self.failing.take();
        let is_known = before
            .as_ref()
            .is_some_and(|it| it.label == label && it.version == version);
        if !is_known {
            tracing::warn!(
                certificate = name,
                kind = self.subject.kind(),
                reason = label,
                error = postern_chassis::whole(error),
                published_until = self.until,
                "{}",
                if self.until.is_some() {
                    "not renewed; what is published stays"
                } else {
                    "not published yet"
                }
            );
        }
        let rounds = before.map_or(0, |it| it.rounds).saturating_add(1);
        self.failing = Some(Failing {
            label,
            version,
            rounds,
        });
        rounds
    }
}
