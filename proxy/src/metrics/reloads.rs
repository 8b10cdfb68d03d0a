//! What is counted about the configuration: which one is in force since when, and what became of reloads.

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge};

use super::MetricsError;
use super::families::{By, Maker};
use super::labels::ConfigOutcome;

/// The metrics of the configuration.
pub struct Reloads {
    outcomes: By<ConfigOutcome, IntCounter>,
    loaded: IntGauge,
    refused: IntGauge,
}

impl Reloads {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            outcomes: maker.counters_by("postern_reloads_total")?,
            loaded: maker.gauge("postern_config_loaded_seconds")?,
            refused: maker.gauge("postern_reload_refused")?,
        })
    }

    /// A configuration is in force since `at`.
    pub fn loaded(&self, at: Timestamp) {
        self.loaded.set(at.as_second());
    }

    /// A reload came to this.
    pub fn ended(&self, outcome: ConfigOutcome) {
        self.outcomes.at(outcome).inc();
        self.refused
            .set(i64::from(outcome == ConfigOutcome::Refused));
    }
}
