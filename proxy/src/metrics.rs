//! Metrics, in the Prometheus text format.
//!
//! Promises that counting an event is a few atomic additions: every label is resolved at start, and nothing is
//! looked up or allocated later. Methods are named after what happened.
//! Never has a link id, a host, an account or an address as a label.
//!
//! Invariant: what [`Metrics::render`] shows is exactly the table, each metric with its help.

mod capacity;
mod credentials;
mod dns;
mod families;
mod labels;
mod lifecycle;
mod process;
mod reloads;
mod route_service;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

pub use self::capacity::{Capacity, Limits};
pub use self::dns::Dns;
use self::families::{By, ByReason, ByTwo, Maker, refusals};
pub use self::labels::{
    CacheEntry, ConfigOutcome, ConnectOutcome, CredentialUse, DistrustReason, DnsOutcome,
    DrainPhase, EndpointState, LookupEnd, LookupOutcome, Protocol, ReloadOutcome, Reused,
    RevocationStage, SnapshotRefusal, StatusClass, TlsVersion, UpgradeOutcome, UpstreamGeneration,
};
pub use self::lifecycle::Lifecycle;
use self::process::Process;
pub use self::reloads::Reloads;
pub use self::route_service::RouteService;
use crate::access_log::AccessLog;
use crate::config::Mode;
use crate::outcome::{Blame, Ending, Refusal};
use crate::routing::RouteCacheStats;
use crate::telemetry::AcceptErrors;

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    capacity: Capacity,
    ready: IntGauge,
    reloads: Reloads,
    lifecycle: Lifecycle,
    connections_open: IntGauge,
    connections_accepted: IntCounter,
    connections: ByReason<(&'static str, Blame)>,
    refusals: ByReason<Refusal>,
    would_refuse: ByReason<Refusal>,
    handshakes: ByTwo<TlsVersion, Reused>,
    handshake_duration: Histogram,
    requests: ByTwo<Protocol, StatusClass>,
    request_duration: By<Protocol, Histogram>,
    requests_in_flight: IntGauge,
    request_body_bytes: IntCounter,
    response_body_bytes: IntCounter,
    upgrades: IntCounter,
    upstream_connections: By<UpstreamGeneration, IntGauge>,
    upstream_connects: By<ConnectOutcome, IntCounter>,
    upstream_requests: ByTwo<Protocol, Reused>,
    upstream_retries: IntCounter,
    upstream_retries_withheld: IntCounter,
    upstream_duration: Histogram,
    dns: Dns,
    route_lookups: By<LookupOutcome, IntCounter>,
    route_lookup_duration: By<LookupEnd, Histogram>,
    route_cache_entries: By<CacheEntry, IntGauge>,
    route_cache_evictions: By<CacheEntry, IntCounter>,
    revocations: IntCounter,
    revocation_duration: By<RevocationStage, Histogram>,
    routes_generation: IntGauge,
    routes_reload: By<ReloadOutcome, IntCounter>,
    route_service: RouteService,
    credential_not_after: By<CredentialUse, IntGauge>,
    credential_generation: IntGauge,
    credential_refusals: IntCounterVec,
    credential_changes: By<CredentialUse, IntCounter>,
    credential_info: IntGaugeVec,
    tickets_shared: IntGauge,
    credential_last_success: By<CredentialUse, IntGauge>,
    sampled: Mutex<Sampled>,
}

/// What is read when metrics are asked for.
struct Sampled {
    access_log: AccessLog,
    dropped: IntCounter,
    write_errors: IntCounter,
    accept_errors: IntCounter,
    process: Process,
}

/// The metrics could not be made: a mistake in this module, which shows at start.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A name is not in the table, or there with another type.
    #[error("the metric {0} is not in the table with this type")]
    NotInTable(&'static str),
    /// The metrics library refuses a name, a label, or a second metric of the same name.
    #[error("a metric cannot be made")]
    Library(#[from] prometheus::Error),
}

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every metric with its type, labels and meaning, as Markdown.
pub fn print_documentation() -> String {
    table::print()
}

impl Metrics {
    /// All metrics at 0. The access log's own counts are read from it when metrics are asked for.
    pub fn new(mode: Mode, access_log: AccessLog) -> Result<Self, MetricsError> {
        let maker = Maker::new();
        maker
            .gauges("postern_build_info")?
            .get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?
            .set(1);
        let modes = maker.gauges("postern_mode")?;
        for each in Mode::ALL {
            modes
                .get_metric_with_label_values(&[each.label()])?
                .set(i64::from(each == mode));
        }
        let endings = maker.counters("postern_connections_total")?;
        let would_refuse = maker.counters("postern_would_refuse_total")?;
        Ok(Self {
            capacity: Capacity::new(&maker)?,
            ready: maker.gauge("postern_ready")?,
            reloads: Reloads::new(&maker)?,
            lifecycle: Lifecycle::new(&maker)?,
            connections_open: maker.gauge("postern_connections_open")?,
            connections_accepted: maker.counter("postern_connections_accepted_total")?,
            connections: ByReason::new(all_endings(), |(ending, blame)| {
                endings.get_metric_with_label_values(&[*ending, blame.label()])
            })?,
            refusals: refusals(&maker.counters("postern_refusals_total")?)?,
            would_refuse: ByReason::new(Refusal::all(), |refusal| {
                would_refuse.get_metric_with_label_values(&[refusal.label()])
            })?,
            handshakes: maker.counters_by_two("postern_handshakes_total")?,
            handshake_duration: maker.histogram("postern_handshake_duration_seconds")?,
            requests: maker.counters_by_two("postern_requests_total")?,
            request_duration: maker.histograms("postern_request_duration_seconds")?,
            requests_in_flight: maker.gauge("postern_requests_in_flight")?,
            request_body_bytes: maker.counter("postern_request_body_bytes_total")?,
            response_body_bytes: maker.counter("postern_response_body_bytes_total")?,
            upgrades: maker.counter("postern_upgrades_total")?,
            upstream_connections: maker.gauges_by("postern_upstream_connections")?,
            upstream_connects: maker.counters_by("postern_upstream_connects_total")?,
            upstream_requests: maker.counters_by_two("postern_upstream_requests_total")?,
            upstream_retries: maker.counter("postern_upstream_retries_total")?,
            upstream_retries_withheld: maker.counter("postern_upstream_retries_withheld_total")?,
            upstream_duration: maker.histogram("postern_upstream_duration_seconds")?,
            dns: Dns::new(&maker)?,
            route_lookups: maker.counters_by("postern_route_lookups_total")?,
            route_lookup_duration: maker.histograms("postern_route_lookup_duration_seconds")?,
            route_cache_entries: maker.gauges_by("postern_route_cache_entries")?,
            route_cache_evictions: maker.counters_by("postern_route_cache_evictions_total")?,
            revocations: maker.counter("postern_revocations_total")?,
            revocation_duration: maker.histograms("postern_revocation_duration_seconds")?,
            routes_generation: maker.gauge("postern_routes_generation")?,
            routes_reload: maker.counters_by("postern_routes_reload_total")?,
            route_service: RouteService::new(&maker)?,
            credential_not_after: maker.gauges_by("postern_credential_not_after_seconds")?,
            credential_generation: maker.gauge("postern_credential_generation")?,
            credential_refusals: maker.counters("postern_credential_refusals_total")?,
            credential_changes: maker.counters_by("postern_credential_changes_total")?,
            credential_info: maker.gauges("postern_credential_info")?,
            tickets_shared: maker.gauge("postern_tickets_shared")?,
            credential_last_success: maker.gauges_by("postern_credential_last_success_seconds")?,
            sampled: Mutex::new(Sampled::new(&maker, access_log)?),
            registry: maker.finish(),
        })
    }

    /// Everything, in the Prometheus text format (version 0.0.4).
    pub fn render(&self) -> Result<String, MetricsError> {
        self.sampled().sample();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    fn sampled(&self) -> MutexGuard<'_, Sampled> {
        self.sampled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told about the room that there is.
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// The probes are told that this process is ready, or is not.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// What is counted about this process and the one before it.
    pub const fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// A client connection was accepted. Each is followed by one [`Metrics::connection_ended`].
    pub fn connection_accepted(&self) {
        self.connections_accepted.inc();
        self.connections_open.inc();
    }

    /// A client connection ended. A refusal that ended it is counted by [`Metrics::refused`].
    pub fn connection_ended(&self, ending: Ending) {
        self.connections_open.dec();
        self.connections.count(&(ending.label(), ending.blame()));
    }

    /// Client connections that are open.
    pub fn connections_open(&self) -> i64 {
        self.connections_open.get()
    }

    /// A connection or a request was refused.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals.count(&refusal);
    }

    /// Another mode would have refused.
    pub fn would_refuse(&self, refusal: Refusal) {
        self.would_refuse.count(&refusal);
    }

    /// A TLS handshake with a client succeeded. `version` as in the access log: `TLSv1.3`.
    pub fn handshake(&self, version: &str, resumed: bool, duration: Duration) {
        self.handshakes
            .at(TlsVersion::of(version), resumed.into())
            .inc();
        self.handshake_duration.observe(duration.as_secs_f64());
    }

    /// A request head is whole. Each is followed by one [`Metrics::request_ended`].
    pub fn request_began(&self) {
        self.requests_in_flight.inc();
    }

    /// An exchange ended, with the status that the client got, if any, and so many bytes of bodies from and to it.
    pub fn request_ended(
        &self,
        http2: bool,
        status: Option<u16>,
        duration: Duration,
        request_bytes: u64,
        response_bytes: u64,
    ) {
        let protocol = Protocol::of(http2);
        self.requests_in_flight.dec();
        self.requests.at(protocol, StatusClass::of(status)).inc();
        self.request_duration
            .at(protocol)
            .observe(duration.as_secs_f64());
        self.request_body_bytes.inc_by(request_bytes);
        self.response_body_bytes.inc_by(response_bytes);
    }

    /// Requests that are being answered.
    pub fn requests_in_flight(&self) -> i64 {
        self.requests_in_flight.get()
    }

    /// A request became a tunnel.
    pub fn upgraded(&self) {
        self.upgrades.inc();
    }

    /// Refusals so far, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::all().map(|refusal| (refusal, self.refusals.get(&refusal)))
    }

    /// An attempt to connect to the ingress ended.
    pub fn upstream_connected(&self, connected: bool) {
        let outcome = if connected {
            ConnectOutcome::Connected
        } else {
            ConnectOutcome::Failed
        };
        self.upstream_connects.at(outcome).inc();
    }

    /// A connection to the ingress is open, with the current client certificate. Each is followed by one
    /// [`Metrics::upstream_closed`].
    pub fn upstream_opened(&self) {
        self.upstream_connections
            .at(UpstreamGeneration::Current)
            .inc();
    }

    /// A connection to the ingress that was of the current generation is not any more.
    pub fn upstream_superseded(&self) {
        self.upstream_connections
            .at(UpstreamGeneration::Current)
            .dec();
        self.upstream_connections
            .at(UpstreamGeneration::Previous)
            .inc();
    }

    /// A connection to the ingress closed.
    pub fn upstream_closed(&self, generation: UpstreamGeneration) {
        self.upstream_connections.at(generation).dec();
    }

    /// A request was sent to the ingress.
    pub fn upstream_request(&self, http2: bool, reused: bool) {
        self.upstream_requests
            .at(Protocol::of(http2), reused.into())
            .inc();
    }

    /// A request is sent to the ingress once more.
    pub fn upstream_retried(&self) {
        self.upstream_retries.inc();
    }

    /// A request was not sent once more, since the budget was used up.
    pub fn upstream_retry_withheld(&self) {
        self.upstream_retries_withheld.inc();
    }

    /// The head of the ingress's answer came, so long after the request was sent.
    pub fn upstream_answered(&self, duration: Duration) {
        self.upstream_duration.observe(duration.as_secs_f64());
    }

    /// What the route cache has counted by itself so far, read when metrics are asked for.
    pub fn route_cache(&self, stats: &RouteCacheStats) {
        // One at a time, so that no two add the same difference.
        let _one = self.sampled();
        for (outcome, total) in [
            (LookupOutcome::Hit, stats.hits),
            (LookupOutcome::Stale, stats.stale),
            (LookupOutcome::Miss, stats.misses),
            (LookupOutcome::Negative, stats.negative_hits),
            (LookupOutcome::Error, stats.errors),
            (LookupOutcome::Coalesced, stats.coalesced),
        ] {
            raise(self.route_lookups.at(outcome), total);
        }
        for (entry, held, evicted) in [
            (CacheEntry::Route, stats.entries, stats.evictions),
            (
                CacheEntry::Negative,
                stats.negative_entries,
                stats.negative_evictions,
            ),
        ] {
            let held = i64::try_from(held).unwrap_or(i64::MAX);
            self.route_cache_entries.at(entry).set(held);
            raise(self.route_cache_evictions.at(entry), evicted);
        }
    }

    /// Account routing was asked, and took so long.
    pub fn route_asked(&self, end: LookupEnd, took: Duration) {
        self.route_lookup_duration
            .at(end)
            .observe(took.as_secs_f64());
    }

    /// An open connection's requests are refused from now on, so long after it was known that its link is no longer
    /// approved.
    pub fn revoked(&self, after: Duration) {
        self.revocations.inc();
        self.revocation_duration
            .at(RevocationStage::Refused)
            .observe(after.as_secs_f64());
    }

    /// Such a connection is closed, so long after that was known.
    pub fn revoked_closed(&self, after: Duration) {
        self.revocation_duration
            .at(RevocationStage::Closed)
            .observe(after.as_secs_f64());
    }

    /// What the operational log has heard of connections that could not be accepted, read when metrics are asked for.
    pub fn accept_errors(&self, errors: &AcceptErrors) {
        raise(&self.sampled().accept_errors, errors.total());
    }

    /// What is counted about the configuration.
    pub const fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// What is counted about the names of ingress endpoints.
    pub const fn dns(&self) -> &Dns {
        &self.dns
    }

    /// What is counted about the account-routing service.
    pub const fn route_service(&self) -> &RouteService {
        &self.route_service
    }

    /// Changed routes are in use; they are version `generation`.
    pub fn routes_loaded(&self, generation: u64) {
        self.routes_reload.at(ReloadOutcome::Loaded).inc();
        self.routes_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Changed routes were refused.
    pub fn routes_refused(&self) {
        self.routes_reload.at(ReloadOutcome::Refused).inc();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Each ending with each blame that it can have.
fn all_endings() -> impl Iterator<Item = (&'static str, Blame)> {
    Ending::ALL
        .into_iter()
        .chain(Refusal::all().map(Ending::Refused))
        .map(|ending| (ending.label(), ending.blame()))
}

impl Sampled {
    fn new(maker: &Maker, access_log: AccessLog) -> Result<Self, MetricsError> {
        Ok(Self {
            access_log,
            dropped: maker.counter("postern_access_log_dropped_total")?,
            write_errors: maker.counter("postern_access_log_write_errors_total")?,
            accept_errors: maker.counter("postern_accept_errors_total")?,
            process: Process::new(maker)?,
        })
    }

    fn sample(&self) {
        raise(&self.dropped, self.access_log.dropped());
        raise(&self.write_errors, self.access_log.write_errors());
        self.process.sample();
    }
}

/// Brings a counter up to what was counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
