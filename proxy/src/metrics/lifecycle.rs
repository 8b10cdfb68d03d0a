//! What is counted about the process itself: its drain, and how one follows the other.

use prometheus::{IntCounter, IntGauge};

use super::MetricsError;
use super::families::{By, Maker};
use super::labels::{DrainPhase, Label as _, UpgradeOutcome};

/// The metrics of the process's own life.
pub struct Lifecycle {
    draining: IntGauge,
    phase: By<DrainPhase, IntGauge>,
    connections_cut: IntCounter,
    upgrades: By<UpgradeOutcome, IntCounter>,
    previous_connections: IntGauge,
}

impl Lifecycle {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        let lifecycle = Self {
            draining: maker.gauge("postern_draining")?,
            phase: maker.gauges_by("postern_drain_phase")?,
            connections_cut: maker.counter("postern_drain_connections_cut_total")?,
            upgrades: maker.counters_by("postern_process_upgrades_total")?,
            previous_connections: maker.gauge("postern_previous_process_connections")?,
        };
        lifecycle.drain(DrainPhase::Serving);
        Ok(lifecycle)
    }

    /// The drain has come to this phase.
    pub fn drain(&self, phase: DrainPhase) {
        self.draining.set((phase != DrainPhase::Serving).into());
        for each in DrainPhase::VALUES {
            self.phase.at(*each).set((*each == phase).into());
        }
    }

    /// So many connections are cut, since the time of the drain is up.
    pub fn cut(&self, connections: usize) {
        self.connections_cut.inc_by(connections as u64);
    }

    /// Connections that were cut.
    pub fn connections_cut(&self) -> u64 {
        self.connections_cut.get()
    }

    /// An upgrade came to this.
    pub fn upgraded(&self, outcome: UpgradeOutcome) {
        self.upgrades.at(outcome).inc();
    }

    /// The process before this one has so many connections left.
    pub fn previous(&self, connections: usize) {
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        self.previous_connections.set(connections);
    }

    /// Connections that the process before this one has left, as far as it has told.
    pub fn previous_connections(&self) -> usize {
        self.previous_connections.get().try_into().unwrap_or(0)
    }
}
