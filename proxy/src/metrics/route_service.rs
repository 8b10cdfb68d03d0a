//! What is counted about the account-routing service: second attempts, lies, the change stream, snapshots.

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge};

use super::MetricsError;
use super::families::{By, Maker};
use super::labels::{DistrustReason, SnapshotRefusal};

/// The metrics of the account-routing service. All 0 where routes come from elsewhere.
pub struct RouteService {
    second_attempts: IntCounter,
    distrusted: By<DistrustReason, IntCounter>,
    stream_up: IntGauge,
    sequence: IntGauge,
    change: IntGauge,
    changes: IntCounter,
    gaps: IntCounter,
    contact: IntGauge,
    snapshot: IntGauge,
    snapshot_bytes: IntGauge,
    snapshot_refusals: By<SnapshotRefusal, IntCounter>,
}

impl RouteService {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            second_attempts: maker.counter("postern_route_second_attempts_total")?,
            distrusted: maker.counters_by("postern_route_answers_distrusted_total")?,
            stream_up: maker.gauge("postern_route_stream_up")?,
            sequence: maker.gauge("postern_route_sequence")?,
            change: maker.gauge("postern_route_change_seconds")?,
            changes: maker.counter("postern_route_changes_total")?,
            gaps: maker.counter("postern_route_gaps_total")?,
            contact: maker.gauge("postern_route_contact_seconds")?,
            snapshot: maker.gauge("postern_route_snapshot_seconds")?,
            snapshot_bytes: maker.gauge("postern_route_snapshot_bytes")?,
            snapshot_refusals: maker.counters_by("postern_route_snapshot_refusals_total")?,
        })
    }

    /// A second attempt of a lookup begins.
    pub fn second_attempt(&self) {
        self.second_attempts.inc();
    }

    /// Something that it said was not believed.
    pub fn distrusted(&self, why: DistrustReason) {
        self.distrusted.at(why).inc();
    }

    /// The change stream is followed, or is not any more.
    pub fn streaming(&self, up: bool) {
        self.stream_up.set(i64::from(up));
    }

    /// This is the newest change that was seen.
    pub fn sequence(&self, sequence: u64) {
        self.sequence
            .set(i64::try_from(sequence).unwrap_or(i64::MAX));
    }

    /// A change was applied that was made `at`, in seconds since 1970.
    pub fn changed(&self, at: i64) {
        self.changes.inc();
        self.change.set(at);
    }

    /// Changes were missed.
    pub fn gap(&self) {
        self.gaps.inc();
    }

    /// It was heard of at `now`.
    pub fn heard(&self, now: Timestamp) {
        self.contact.set(now.as_second());
    }

    /// The routes of the snapshot on disk were known to hold `at`, in seconds since 1970.
    pub fn snapshot_at(&self, at: i64) {
        self.snapshot.set(at);
    }

    /// A snapshot was written that has so many bytes.
    pub fn snapshot_bytes(&self, bytes: u64) {
        self.snapshot_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The snapshot on disk was not used.
    pub fn snapshot_refused(&self, why: SnapshotRefusal) {
        self.snapshot_refusals.at(why).inc();
    }

    /// No snapshot could be written.
    pub fn snapshot_not_written(&self) {
        self.snapshot_refused(SnapshotRefusal::Unwritten);
    }
}
