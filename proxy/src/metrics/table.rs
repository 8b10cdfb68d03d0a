//! The one table of metrics: name, type, labels, help.
//!
//! Promises that a metric which is not in the table does not exist. `postern metrics` prints it, and
//! deploy/METRICS.md is that print. Label values are closed sets, or names that the configuration chose; never a link
//! id, a host or an account.

use std::fmt::Write as _;

/// How a metric's value behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets of seconds.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

macro_rules! table {
    ($($kind:ident $name:ident $([$($label:ident),+])? $help:literal)+) => {
        pub(super) const TABLE: &[Metric] = &[$(
            Metric {
                name: stringify!($name),
                kind: Kind::$kind,
                labels: &[$($(stringify!($label)),+)?],
                help: $help,
            }
        ),+];
    };
}

table! {
    Gauge     postern_build_info[version]                       "Always 1; the label says which version runs."
    Gauge     postern_mode[mode]                                "1 for the enforcement mode that is in force, 0 for the others."
    Gauge     postern_workers                                   "Threads that serve connections, each busy with one thing at a time."
    Gauge     postern_ready                                     "1 while the probes are told that this process is ready."
    Gauge     postern_draining                                  "1 while this process drains."
    Counter   postern_reloads_total[outcome]                    "Reloads of the configuration (SIGHUP), by what they came to."
    Gauge     postern_reload_refused                            "1 while the last reload was refused, so that the file is not what is in force."
    Gauge     postern_config_loaded_seconds                     "Since when the configuration in force is, in seconds since 1970."
    Gauge     postern_drain_phase[phase]                        "1 for the phase of the drain that this process is in, 0 for the others."
    Counter   postern_drain_connections_cut_total               "Connections that had not ended when the time of the drain was up, and were cut."
    Counter   postern_process_upgrades_total[outcome]           "Attempts to replace this process by a new one; the one that has taken over counts that."
    Gauge     postern_previous_process_connections              "Connections that the process before this one still has; 0 when it has ended."

    Counter   postern_accept_errors_total                       "Failures to accept a connection, such as running out of file descriptors."
    Gauge     postern_connections_open                          "Client connections that are open."
    Gauge     postern_connections_max                           "Client connections that may be open: `data.connections_max`."
    Counter   postern_connections_accepted_total                "Client connections that were accepted."
    Counter   postern_connections_total[ending, blame]          "Client connections that ended, by how, and by who has to act when it is often."
    Counter   postern_refusals_total[reason, blame]             "Connections and requests that were refused, by reason, and by who has to act."
    Counter   postern_would_refuse_total[reason]                "Connections and requests that another mode would have refused."
    Counter   postern_handshakes_total[version, resumed]        "TLS handshakes with clients that succeeded."
    Histogram postern_handshake_duration_seconds                "Time of a TLS handshake with a client, authorization included."

    Counter   postern_requests_total[protocol, status]          "Requests that ended, by the client's protocol and the class of the status it got; `none` if it got none."
    Histogram postern_request_duration_seconds[protocol]        "Time from the whole request head to the end of the answer."
    Gauge     postern_requests_in_flight                        "Requests that are being answered."
    Gauge     postern_requests_max                              "Requests that may be in flight: `http.requests_max`."
    Counter   postern_request_body_bytes_total                  "Bytes of request bodies."
    Counter   postern_response_body_bytes_total                 "Bytes of response bodies."
    Counter   postern_upgrades_total                            "Requests that became a tunnel, such as a WebSocket."

    Gauge     postern_upstream_endpoints[cluster, state]        "Addresses of the ingress, by whether the last attempt to connect to them succeeded."
    Gauge     postern_upstream_connections[generation]          "Open connections to the ingress, by whether they were made with the current client certificate."
    Counter   postern_upstream_connects_total[outcome]          "Attempts to connect to the ingress."
    Counter   postern_upstream_requests_total[protocol, reused] "Requests that were sent to the ingress, by protocol and by whether the connection had carried one before."
    Counter   postern_upstream_retries_total                    "Requests that were sent to the ingress once more."
    Counter   postern_upstream_retries_withheld_total           "Requests that were not sent to the ingress once more, since the retry budget was used up."
    Histogram postern_upstream_duration_seconds                 "Time from sending a request to the ingress to the head of its answer."

    Counter   postern_dns_lookups_total[cluster, outcome]       "Lookups of names of ingress endpoints, by how they ended."
    Gauge     postern_dns_answer_seconds[cluster]               "When a name of the cluster's was last resolved, in seconds since 1970; 0 before the first time."

    Counter   postern_route_lookups_total[outcome]              "Account-routing lookups, by what the cache had for them."
    Histogram postern_route_lookup_duration_seconds[outcome]    "Time that account routing took to answer, by what it came to."
    Gauge     postern_route_cache_entries[entry]                "Answers in the route cache."
    Counter   postern_route_cache_evictions_total[entry]        "Answers that the route cache gave up for newer ones, since it was full."
    Counter   postern_revocations_total                         "Open connections whose link was no longer approved."
    Histogram postern_revocation_duration_seconds[stage]        "Time from when a change was known here to when an open connection's requests were refused, and to when it was closed."
    Gauge     postern_routes_generation                         "Counts the versions of the routes that were loaded; 0 before the first."
    Counter   postern_routes_reload_total[outcome]              "Attempts to load changed routes."

    Counter   postern_route_second_attempts_total               "Lookups that were sent to another endpoint or connection, too, since the first failed or took long."
    Counter   postern_route_answers_distrusted_total[reason]    "Answers, changes and snapshot lines of the account-routing service that were not believed."
    Gauge     postern_route_stream_up                           "1 while the change stream of the account-routing service is followed."
    Gauge     postern_route_sequence                            "The newest change of account routing that was seen."
    Gauge     postern_route_change_seconds                      "When the newest change that was seen was made, in seconds since 1970."
    Counter   postern_route_changes_total                       "Changes that were applied to the route cache."
    Counter   postern_route_gaps_total                          "Times that changes were missed, so that every route was asked for again."
    Gauge     postern_route_contact_seconds                     "When the account-routing service was last heard of, in seconds since 1970; 0 before the first time."
    Gauge     postern_route_stale_max_seconds                   "Silence of the account-routing service after which no route holds any more: `route_cache.stale_max`; 0 if routes come from elsewhere."
    Gauge     postern_route_snapshot_seconds                    "When the routes of the snapshot on disk were known to hold, in seconds since 1970; 0 if there is none."
    Gauge     postern_route_snapshot_bytes                      "Size of the snapshot that was written last."
    Counter   postern_route_snapshot_refusals_total[reason]     "Snapshots on disk that were not used at start, or not written: `unwritten`."

    Gauge     postern_credential_not_after_seconds[use]         "When the first of the credentials in use ceases to be good, in seconds since 1970."
    Gauge     postern_credential_generation                     "Counts the pairs of client certificate and trust that were taken into use towards the ingress; 0 before the first."
    Counter   postern_credential_refusals_total[use, reason]    "New credentials that were refused; the last good ones stay in use."
    Counter   postern_credential_changes_total[use]             "New credentials that were taken into use."
    Gauge     postern_credential_info[use, path, version]       "Always 1; the labels say which version is in use from which path, as its publisher calls it: the Key Vault version."
    Gauge     postern_tickets_shared                            "1 while session tickets are encrypted with a key that the fleet shares, 0 while with one of this process alone."
    Gauge     postern_credential_last_success_seconds[use]      "When the credentials were last looked at and all of them were good and in use, in seconds since 1970."

    Counter   postern_access_log_dropped_total                  "Access-log lines that were not written."
    Counter   postern_access_log_write_errors_total             "Writes of the access log that failed."

    Gauge     process_resident_memory_bytes                     "Resident memory."
    Counter   process_cpu_seconds_total                         "User and system CPU time."
    Gauge     process_open_fds                                  "Open file descriptors."
    Gauge     process_max_fds                                   "File descriptors that may be open."
    Gauge     process_threads                                   "Threads."
    Gauge     process_start_time_seconds                        "When the process started, in seconds since 1970."
}

/// The table as a page of Markdown.
pub(super) fn print() -> String {
    // Writing to a `String` cannot fail.
    let mut page = String::from(INTRODUCTION);
    for Metric {
        name,
        kind,
        labels,
        help,
    } in TABLE
    {
        let kind = format!("{kind:?}").to_lowercase();
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        );
    }
    page.push_str("\n## Values of the labels\n\n| label | values |\n|---|---|\n");
    for (label, values) in super::labels::documented() {
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        let _ = writeln!(page, "| {label} | {} |", values.join(", "));
    }
    page
}

const INTRODUCTION: &str = "\
# Metrics

Served at `/metrics` of the admin listener, in the Prometheus text format. Written by `postern metrics`.
A counter whose labels are a closed set starts at 0 for each of its values, so that `rate()` sees the first event.
`cluster` is a name of the configuration.

| name | type | labels | meaning |
|---|---|---|---|
";
