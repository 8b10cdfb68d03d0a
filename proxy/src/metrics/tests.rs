use std::collections::HashSet;
use std::path::Path;

use super::table::{Kind, Metric, TABLE};
use super::*;

fn metrics() -> Metrics {
    Metrics::new(Mode::Audit, AccessLog::off()).unwrap()
}

/// The value of one line of the text format, labels included in the name.
fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}"))
        .parse()
        .unwrap()
}

#[test]
fn every_metric_of_the_table_is_rendered_with_help_and_type_and_nothing_else_is() {
    let metrics = metrics();
    metrics.credential_refused(CredentialUse::Server, "expired");
    metrics.credential_taken(CredentialUse::Server, Path::new("certs"), "", "1");
    metrics
        .capacity()
        .endpoints([("dicom".to_owned(), 1, 0)].into_iter());
    metrics.dns().begin("dicom");
    let text = metrics.render().unwrap();
    let rendered: HashSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ").map(ToOwned::to_owned))
        .collect();
    let table: HashSet<_> = TABLE
        .iter()
        .map(|metric| {
            format!(
                "{} {}",
                metric.name,
                format!("{:?}", metric.kind).to_lowercase()
            )
        })
        .collect();
    assert_eq!(rendered, table);
    for metric in TABLE {
        assert!(
            text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)),
            "{}",
            metric.name
        );
    }
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for metric in TABLE {
        let Metric { name, kind, .. } = metric;
        assert!(
            name.starts_with("postern_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(
            *kind != Kind::Histogram || name.ends_with("_seconds"),
            "{name}"
        );
        assert!(
            metric.help.ends_with('.') && !metric.help.contains('|'),
            "{name}"
        );
        for unit in ["_ms", "_us", "_millis", "_kb"] {
            assert!(
                !name.contains(&format!("{unit}_")) && !name.ends_with(unit),
                "{name}"
            );
        }
    }
}

#[test]
fn deploy_metrics_md_is_what_postern_metrics_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/METRICS.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        page,
        print_documentation(),
        "run: postern metrics > deploy/METRICS.md"
    );
}

#[test]
fn every_refusal_and_every_ending_starts_at_zero() {
    let text = metrics().render().unwrap();
    for refusal in Refusal::all() {
        let (blame, reason) = (refusal.blame().label(), refusal.label());
        let series = format!("postern_refusals_total{{blame=\"{blame}\",reason=\"{reason}\"}}");
        assert!(value(&text, &series).abs() < f64::EPSILON);
    }
    for ending in Ending::ALL {
        let (blame, ending) = (ending.blame().label(), ending.label());
        value(
            &text,
            &format!("postern_connections_total{{blame=\"{blame}\",ending=\"{ending}\"}}"),
        );
    }
    value(
        &text,
        "postern_connections_total{blame=\"policy\",ending=\"refused\"}",
    );
}

/// Series and value.
const COUNTED: &[(&str, f64)] = &[
    ("postern_connections_open", 1.0),
    ("postern_connections_accepted_total", 2.0),
    (
        "postern_connections_total{blame=\"policy\",ending=\"refused\"}",
        1.0,
    ),
    (
        "postern_refusals_total{blame=\"policy\",reason=\"link_unknown\"}",
        1.0,
    ),
    (
        "postern_would_refuse_total{reason=\"host_not_permitted\"}",
        1.0,
    ),
    ("postern_requests_in_flight", 1.0),
    (
        "postern_requests_total{protocol=\"h2\",status=\"2xx\"}",
        1.0,
    ),
    (
        "postern_request_duration_seconds_bucket{protocol=\"h2\",le=\"0.0025\"}",
        0.0,
    ),
    (
        "postern_request_duration_seconds_bucket{protocol=\"h2\",le=\"0.005\"}",
        1.0,
    ),
    ("postern_request_body_bytes_total", 5.0),
    ("postern_response_body_bytes_total", 7.0),
    (
        "postern_handshakes_total{resumed=\"true\",version=\"TLSv1.3\"}",
        1.0,
    ),
    ("postern_upstream_connections{generation=\"current\"}", 0.0),
    ("postern_upstream_connections{generation=\"previous\"}", 1.0),
    (
        "postern_upstream_requests_total{protocol=\"h1\",reused=\"true\"}",
        1.0,
    ),
    ("postern_credential_generation", 4.0),
    (
        "postern_credential_not_after_seconds{use=\"client\"}",
        1_800_000_000.0,
    ),
    (
        "postern_credential_last_success_seconds{use=\"client\"}",
        1_700_000_000.0,
    ),
    ("postern_mode{mode=\"audit\"}", 1.0),
    ("postern_mode{mode=\"enforce\"}", 0.0),
];

#[test]
#[expect(clippy::float_cmp, reason = "whole numbers")]
fn events_are_counted_under_their_labels() {
    let metrics = metrics();
    metrics.connection_accepted();
    metrics.connection_accepted();
    metrics.connection_ended(Ending::Refused(Refusal::LinkUnknown));
    metrics.refused(Refusal::LinkUnknown);
    metrics.request_began();
    metrics.request_began();
    metrics.request_ended(true, Some(204), Duration::from_millis(3), 5, 7);
    metrics.handshake("TLSv1.3", true, Duration::from_millis(1));
    metrics.upstream_connected(true);
    metrics.upstream_opened();
    metrics.upstream_superseded();
    metrics.upstream_request(false, true);
    metrics.would_refuse(Refusal::HostNotPermitted);
    metrics.credential_generation(4);
    metrics.credential_not_after(CredentialUse::Client, 1_800_000_000);
    metrics.credential_good(CredentialUse::Client, 1_700_000_000);
    let text = metrics.render().unwrap();
    for (series, expected) in COUNTED {
        assert_eq!(value(&text, series), *expected, "{series}");
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "whole numbers")]
fn what_is_counted_elsewhere_is_taken_over_once() {
    let metrics = metrics();
    let mut stats = RouteCacheStats {
        hits: 5,
        stale: 1,
        negative_hits: 2,
        misses: 3,
        coalesced: 4,
        errors: 6,
        entries: 7,
        negative_entries: 1,
        evictions: 8,
        negative_evictions: 9,
    };
    metrics.route_cache(&stats);
    metrics.route_cache(&stats);
    stats.hits += 1;
    stats.entries = 6;
    metrics.route_cache(&stats);
    let text = metrics.render().unwrap();
    for (outcome, expected) in [
        ("hit", 6.0),
        ("stale", 1.0),
        ("negative", 2.0),
        ("miss", 3.0),
        ("coalesced", 4.0),
        ("error", 6.0),
    ] {
        let series = format!("postern_route_lookups_total{{outcome=\"{outcome}\"}}");
        assert_eq!(value(&text, &series), expected, "{outcome}");
    }
    for (entry, held, evicted) in [("route", 6.0, 8.0), ("negative", 1.0, 9.0)] {
        let series = format!("postern_route_cache_entries{{entry=\"{entry}\"}}");
        assert_eq!(value(&text, &series), held);
        let series = format!("postern_route_cache_evictions_total{{entry=\"{entry}\"}}");
        assert_eq!(value(&text, &series), evicted);
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "whole numbers")]
fn bounds_and_addresses_are_shown_and_a_cluster_that_is_gone_is_not() {
    let metrics = metrics();
    metrics.capacity().limits(Limits {
        connections: 10,
        requests: 20,
        route_stale: Some(Duration::from_mins(1)),
    });
    metrics
        .capacity()
        .endpoints([("dicom".to_owned(), 2, 1), ("fhir".to_owned(), 1, 0)].into_iter());
    metrics
        .capacity()
        .endpoints([("dicom".to_owned(), 3, 0)].into_iter());
    let text = metrics.render().unwrap();
    for (series, expected) in [
        ("postern_connections_max", 10.0),
        ("postern_requests_max", 20.0),
        ("postern_route_stale_max_seconds", 60.0),
        (
            "postern_upstream_endpoints{cluster=\"dicom\",state=\"up\"}",
            3.0,
        ),
        (
            "postern_upstream_endpoints{cluster=\"dicom\",state=\"down\"}",
            0.0,
        ),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    assert!(!text.contains("fhir"));
}

#[test]
fn a_status_has_its_class() {
    for (status, class) in [
        (101, StatusClass::Informational),
        (200, StatusClass::Success),
        (304, StatusClass::Redirection),
        (421, StatusClass::ClientError),
        (599, StatusClass::ServerError),
        (999, StatusClass::ServerError),
    ] {
        assert_eq!(StatusClass::of(Some(status)), class);
    }
    assert_eq!(StatusClass::of(None), StatusClass::None);
}

#[test]
fn the_process_is_measured_when_metrics_are_asked_for() {
    let metrics = metrics();
    metrics.render().unwrap();
    let text = metrics.render().unwrap();
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, name) > 0.0, "{name}");
    }
}
