//! The change log as a stream, for hundreds of readers.
//!
//! ```text
//!   store ──▶ one task reads, writes each change down once ──▶ broadcast ──▶ follower ──▶ outlet ──▶ a data plane
//!                                                                             ▲ what it missed: from the store
//! ```
//!
//! Promises: a follower sees every change after the one it named, in order, once each; or a `gap`. A `head` never names a
//! change that was not sent before it on the same stream. No follower waits for another: one that is behind reads the
//! log by itself until it is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern_api::routing::{Change, ChangePage, Head};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Health;
use super::outlet::{Outlet, Over};
use crate::routing::metrics::Metrics;
use crate::routing::store::{Store, StoreError};

/// The log, read once for all who follow it.
pub(in crate::routing) struct Feed {
    store: Arc<dyn Store>,
    batches: broadcast::Sender<Batch>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    heartbeat: Duration,
}

/// What followers are told.
#[derive(Debug, Clone)]
enum Batch {
    /// Changes that follow each other.
    Changes(Changes),
    /// Where the log stands.
    Head(Head),
    /// Changes were lost; the log goes on from here.
    Gap(Head),
}

/// Changes, written down.
#[derive(Debug, Clone)]
struct Changes {
    /// The sequence of the first.
    first: u64,
    /// Where in the text each of them ends.
    ends: Arc<[usize]>,
    text: Bytes,
}

impl Feed {
    pub(in crate::routing) fn new(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        heartbeat: Duration,
    ) -> Self {
        Self {
            store,
            batches: broadcast::Sender::new(BATCHES_MAX),
            metrics,
            health,
            heartbeat,
        }
    }

    /// Reads the log until the store or, by dropping this, the service is gone.
    pub(in crate::routing) async fn run(&self) {
        let mut heads = self.store.head();
        let mut at = heads.borrow_and_update().sequence;
        self.metrics.head(*heads.borrow());
        let mut beats = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            let is_beat = tokio::select! {
                changed = heads.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                _ = beats.tick() => true,
                () = tokio::time::sleep(RETRY), if is_failing => false,
            };
            // Also at a beat without a change: a sign of life says that the log can be read.
            let read = self.read(&mut at).await;
            is_failing = read.is_err();
            if let (Ok(head), true) = (read, is_beat) {
                self.tell(Batch::Head(head));
            }
        }
    }

    /// Tells what follows `at`, and moves it.
    async fn read(&self, at: &mut u64) -> Result<Head, StoreError> {
        loop {
            let page = self.page(*at).await;
            match page {
                Ok(page) => {
                    self.metrics.head(page.head);
                    for change in &page.changes {
                        self.metrics.change_read(&change.what);
                    }
                    let is_last = page.changes.len() < PAGE;
                    if let Some(changes) = Changes::write(&page.changes) {
                        *at = changes.last();
                        self.tell(Batch::Changes(changes));
                    }
                    if is_last {
                        let sequence = *at;
                        return Ok(Head {
                            sequence,
                            ..page.head
                        });
                    }
                }
                Err(StoreError::Gone(head)) => {
                    tracing::error!(
                        after = *at,
                        oldest = head.oldest,
                        head = head.sequence,
                        "changes were lost"
                    );
                    *at = head.sequence;
                    self.tell(Batch::Gap(head));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The changes after `after`, a page of them.
    async fn page(&self, after: u64) -> Result<ChangePage, StoreError> {
        let page = self.store.changes(after, PAGE).await;
        self.health.note(&page, &self.metrics);
        page
    }

    fn tell(&self, batch: Batch) {
        // An error means that nobody follows.
        let _ = self.batches.send(batch);
    }

    /// Writes what follows `after`, beginning with `first`, the page after it, until there is nobody to write for.
    pub(super) async fn follow(
        &self,
        mut after: u64,
        first: Result<ChangePage, Head>,
        outlet: &Outlet,
    ) -> Over {
        let mut first = Some(first);
        loop {
            // Before the log is read, so that nothing falls between the two.
            let mut batches = self.batches.subscribe();
            let caught_up = self.catch_up(&mut after, first.take(), outlet).await;
            let followed = match caught_up {
                Ok(()) => self.live(&mut after, &mut batches, outlet).await,
                Err(over) => Err(over),
            };
            if let Err(over) = followed {
                return over;
            }
        }
    }

    /// Writes what is in the log after `after`, then where it stands.
    async fn catch_up(
        &self,
        after: &mut u64,
        mut first: Option<Result<ChangePage, Head>>,
        outlet: &Outlet,
    ) -> Result<(), Over> {
        loop {
            let page = match first.take() {
                Some(first) => first,
                None => match self.page(*after).await {
                    Ok(page) => Ok(page),
                    Err(StoreError::Gone(head)) => Err(head),
                    Err(_) => {
                        tokio::select! {
                            () = tokio::time::sleep(RETRY) => continue,
                            over = outlet.over() => return Err(over),
                        }
                    }
                },
            };
            match page {
                Ok(page) => {
                    let is_last = page.changes.len() < PAGE;
                    if let Some(changes) = Changes::write(&page.changes) {
                        *after = changes.last();
                        outlet.write(changes.text).await?;
                    }
                    if is_last {
                        let sequence = *after;
                        let head = Head {
                            sequence,
                            ..page.head
                        };
                        return outlet.write(event("head", None, &head)).await;
                    }
                }
                Err(head) => {
                    *after = head.sequence;
                    outlet
                        .write(event("gap", Some(head.sequence), &head))
                        .await?;
                }
            }
        }
    }

    /// Writes what is told, until something was missed.
    async fn live(
        &self,
        after: &mut u64,
        batches: &mut broadcast::Receiver<Batch>,
        outlet: &Outlet,
    ) -> Result<(), Over> {
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                over = outlet.over() => return Err(over),
            };
            match batch {
                Ok(Batch::Changes(changes)) if changes.first > *after + 1 => return Ok(()),
                Ok(Batch::Changes(changes)) => {
                    if let Some(text) = changes.after(*after) {
                        *after = changes.last();
                        outlet.write(text).await?;
                    }
                }
                Ok(Batch::Head(head)) if head.sequence > *after => return Ok(()),
                Ok(Batch::Head(head)) => {
                    let sequence = *after;
                    let head = Head { sequence, ..head };
                    outlet.write(event("head", None, &head)).await?;
                }
                Ok(Batch::Gap(head)) => {
                    *after = head.sequence;
                    outlet
                        .write(event("gap", Some(head.sequence), &head))
                        .await?;
                }
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(Over::Gone),
            }
        }
    }
}

impl Changes {
    /// `None` if there are none.
    fn write(changes: &[Change]) -> Option<Self> {
        let first = changes.first()?.sequence;
        let mut text = BytesMut::new();
        let mut ends = Vec::with_capacity(changes.len());
        for change in changes {
            text.extend_from_slice(&event("change", Some(change.sequence), change));
            ends.push(text.len());
        }
        Some(Self {
            first,
            ends: ends.into(),
            text: text.freeze(),
        })
    }

    fn last(&self) -> u64 {
        self.first + (self.ends.len() as u64).saturating_sub(1)
    }

    /// Those after `after`, if there are any.
    fn after(&self, after: u64) -> Option<Bytes> {
        let known = (after + 1).saturating_sub(self.first);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let begin = match known.checked_sub(1) {
            None => 0,
            Some(last) => *self.ends.get(last)?,
        };
        Some(self.text.slice(begin..)).filter(|text| !text.is_empty())
    }
}

/// A server-sent event ("HTML Living Standard", section 9.2.6). JSON as it is written here has no line breaks.
fn event(name: &str, id: Option<u64>, of: &impl Serialize) -> Bytes {
    // What is written here are numbers and texts: nothing that JSON does not have.
    let json = serde_json::to_string(of).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("{id}event: {name}\ndata: {json}\n\n"))
}

// Limit: an account has some hundred links of 60 bytes and 16 hosts; a page of its changes has a megabyte at most.
const PAGE: usize = 128;
// Limit: pages that a follower may be behind before it reads the log by itself.
const BATCHES_MAX: usize = 64;
const RETRY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_batch_a_follower_gets_what_it_does_not_have() {
        let changes: Vec<_> = (5..8)
            .map(|sequence| Change {
                sequence,
                at: 0,
                what: "account.created".into(),
                account: "clinic/images".into(),
                route: None,
                removed_hosts: Vec::new(),
                links: Vec::new(),
            })
            .collect();
        assert!(Changes::write(&[]).is_none());
        let batch = Changes::write(&changes).unwrap();
        assert_eq!((batch.first, batch.last()), (5, 7));
        for (after, first) in [
            (3, Some(5)),
            (4, Some(5)),
            (5, Some(6)),
            (6, Some(7)),
            (7, None),
            (9, None),
        ] {
            let text = batch.after(after);
            let text = text.as_ref().map(|text| std::str::from_utf8(text).unwrap());
            let begin =
                first.map(|id| format!("id: {id}\nevent: change\ndata: {{\"sequence\":{id},"));
            assert_eq!(text.is_some(), begin.is_some(), "{after}");
            if let (Some(text), Some(begin)) = (text, begin) {
                assert!(
                    text.starts_with(&begin) && text.ends_with("}\n\n"),
                    "{text}"
                );
            }
        }
    }
}
