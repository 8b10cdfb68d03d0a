//! The configuration in force, since when it is, and what became of the last attempt to change it.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::MutexGuard;

use crate::config::Config;
use crate::metrics::{ConfigOutcome, Metrics};

/// The configuration in force.
pub struct InForce {
    config: ArcSwap<Config>,
    history: Mutex<History>,
    turn: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

/// What happened to the configuration.
#[derive(Debug, Clone)]
pub struct History {
    /// Since when it is in force.
    pub since: Timestamp,
    /// Why the last reload changed nothing, if it was refused.
    pub refusal: Option<Refused>,
}

/// A reload that was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Why: with file, line, column and suggestion where it is a mistake in the file.
    pub why: String,
}

impl InForce {
    /// In force from now on, by a start.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        let since = Timestamp::now();
        metrics.reloads().loaded(since);
        Self {
            config: ArcSwap::from_pointee(config),
            history: Mutex::new(History {
                since,
                refusal: None,
            }),
            turn: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// The right to replace it, by another process. Waits for a reload to end.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The right to replace it at once; none while another process is about to.
    pub(super) fn turn_now(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// The configuration.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// What happened to it.
    pub fn history(&self) -> History {
        self.locked().clone()
    }

    /// A reload has put this one in force.
    pub(super) fn applied(&self, config: Config) {
        self.config.store(Arc::new(config));
        let since = Timestamp::now();
        *self.locked() = History {
            since,
            refusal: None,
        };
        self.metrics.reloads().loaded(since);
        self.metrics.reloads().ended(ConfigOutcome::Applied);
    }

    /// A reload has found nothing new.
    pub(super) fn unchanged(&self) {
        self.locked().refusal = None;
        self.metrics.reloads().ended(ConfigOutcome::Unchanged);
    }

    /// A reload was refused.
    pub(super) fn refused(&self, why: String) {
        let at = Timestamp::now();
        self.locked().refusal = Some(Refused { at, why });
        self.metrics.reloads().ended(ConfigOutcome::Refused);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
