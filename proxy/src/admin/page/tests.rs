use super::*;
use crate::outcome::Refusal;
use crate::server::Refused as RefusedReload;

fn page() -> Page {
    Page {
        mode: "enforce",
        waiting_for: Vec::new(),
        ready: true,
        progress: Progress {
            phase: Phase::Serving,
            connections: 3,
            requests_in_flight: 1,
            connections_cut: 0,
            began: None,
            deadline_seconds: None,
        },
        configuration: History {
            since: Timestamp::UNIX_EPOCH,
            refusal: None,
        },
        previous_connections: 0,
        up: Duration::from_hours(26),
        limits: Limits {
            connections: 100_000,
            requests: 20_000,
            route_stale: Some(Duration::from_hours(1)),
        },
        descriptors: Some((90, 100)),
        routes_generation: 7,
        service: Some(ServiceContact {
            last_contact_seconds: Some(90),
            out_of_reach: true,
            sequence: 812,
        }),
        certificates: Vec::new(),
        refused_certificates: vec![RefusedRow::new(
            "client",
            "/etc/<x>",
            "expired",
            "ended \"then\" & there",
        )],
        clusters: vec![Cluster {
            name: "dicom".into(),
            server_name: "z1.example".into(),
            endpoints: vec![
                ("10.0.0.1:443".into(), true),
                ("10.0.0.2:443".into(), false),
            ],
        }],
        refused: Refused {
            within: Duration::from_mins(5),
            since_start: false,
            counts: vec![(Refusal::Overloaded, 1200), (Refusal::LinkUnknown, 4)],
        },
        now: 1_000_000,
    }
}

#[track_caller]
fn assert_shows(page: &Page, parts: &[&str]) {
    let text = page.to_string();
    for part in parts {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn every_value_is_escaped_and_nothing_is_fetched_from_elsewhere_or_run() {
    let hostile = "<script src=\"http://e\">'&";
    let escaped = "&lt;script src=&quot;http://e&quot;&gt;&#39;&amp;";
    let mut page = page();
    page.clusters[0].name = hostile.into();
    page.clusters[0].server_name = hostile.into();
    page.clusters[0].endpoints[0].0 = hostile.into();
    page.refused_certificates
        .push(RefusedRow::new("server", hostile, "expired", hostile));
    let text = page.to_string();
    assert_eq!(text.matches(escaped).count(), 7, "{text}");
    assert!(!text.contains(hostile));
    let own = text.replace(escaped, "");
    for source in [
        "src=", "http:", "https:", "<script", "url(", "@import", "<link", "<img", "onload",
        "onclick",
    ] {
        assert!(!own.contains(source), "{source}");
    }
    assert_shows(
        &page,
        &["client /etc/&lt;x&gt;<p>ended &quot;then&quot; &amp; there</p>"],
    );
}

#[test]
fn what_is_shown_is_what_there_is() {
    assert_shows(
        &page(),
        &[
            "<title>Ready · Postern</title>",
            "<header class=\"state good\">\n<h1>Ready</h1>",
            "<dt>Connections<dd><span class=plain>3</span> <small>of 100,000</small><meter min=0 low=60000 high=80000 max=100000",
            "<dt>Requests in flight<dd><span class=plain>1</span>",
            "<dt>File descriptors<dd><span class=warn>90</span>",
            "<dt>Account routing<dd><span class=bad>heard of 1 min 30 s ago</span><small class=line>out of reach now, at change 812; without it, routes hold for 1 h</small>",
            "<dt>Configuration<dd><span class=plain>in force</span><small class=line>since 1970-01-01T00:00:00Z</small>",
            "<h2 id=refused>Refused in the last 5 min</h2>",
            "<span class=bad>overloaded</span><td data-of=\"Times\"><span class=plain>1,200</span>",
            "<span class=plain>link_unknown</span>",
            "<span class=plain>10.0.0.1:443</span><td data-of=\"State\"><span class=good>up</span>",
            "<span class=plain>10.0.0.2:443</span><td data-of=\"State\"><span class=bad>down</span>",
            " · mode enforce · up for 1 d 2 h · 1970-01-12T13:46:40Z</small>",
        ],
    );
    let text = page().to_string();
    assert!(!text.contains("http-equiv") && !text.contains("The process before"));
}

#[test]
fn a_mode_that_does_not_enforce_stands_out() {
    let mut page = page();
    page.mode = "audit";
    assert_shows(
        &page,
        &["<div class=\"note warn\"><b>Mode audit</b>: decisions are made and not enforced"],
    );
    page.mode = "forward";
    assert_shows(&page, &["<b>Mode forward</b>: nothing is looked up here"]);
}

#[test]
fn what_is_missing_is_named_and_the_page_looks_again_by_itself() {
    let mut page = page();
    page.ready = false;
    page.waiting_for = vec!["ingress", "routes"];
    assert_shows(
        &page,
        &[
            "<header class=\"state bad\">\n<h1>Not ready</h1>",
            "<li><b>ingress</b>: no address of the ingress answers",
            "<li><b>routes</b>: no route file was read",
            "<meta http-equiv=refresh content=5>",
        ],
    );
}

#[test]
fn a_drain_shows_how_far_it_is_and_how_long_it_may_take() {
    let mut page = page();
    page.ready = false;
    page.progress = Progress {
        phase: Phase::Ending,
        connections: 1200,
        requests_in_flight: 2,
        connections_cut: 0,
        began: Some("1970-01-12T13:46:30.000Z".into()),
        deadline_seconds: Some(290.4),
    };
    assert_shows(
        &page,
        &[
            "<header class=\"state warn\">\n<h1>Draining</h1>",
            "<p>Not accepting. Left: 1,200 connections, 2 requests in flight.</p>",
            "<p>What has not ended in <b>4 min 50 s</b> is cut.</p>",
            "<progress max=300 value=10></progress>",
            "http-equiv=refresh",
        ],
    );
    page.progress.phase = Phase::Noticing;
    assert_shows(&page, &["still accepting until the probes have noticed"]);
    page.progress = Progress {
        phase: Phase::Drained,
        connections: 0,
        requests_in_flight: 0,
        connections_cut: 4,
        began: Some("1970-01-12T13:40:00.000Z".into()),
        deadline_seconds: None,
    };
    assert_shows(&page, &["<h1>Drained</h1>", "Open: 0 connections. Cut: 4."]);
    assert!(!page.to_string().contains("http-equiv"));
}

#[test]
fn an_upgrade_and_a_name_that_is_not_resolved_are_seen() {
    let mut page = page();
    page.previous_connections = 12;
    page.clusters[0].endpoints.clear();
    page.refused.counts.clear();
    page.refused.since_start = true;
    assert_shows(
        &page,
        &[
            "<dt>The process before this one<dd><span class=plain>12 connections</span><small class=line>left</small>",
            "<span class=bad>not resolved</span>",
            "<h2 id=refused>Refused since the start, 5 min</h2>\n<p>Nothing.</p>",
        ],
    );
}

#[test]
fn a_reload_that_was_refused_stands_out_and_is_escaped() {
    let mut page = page();
    page.configuration.refusal = Some(RefusedReload {
        at: Timestamp::UNIX_EPOCH,
        why: "postern.toml:3: did you mean <data>?".into(),
    });
    assert_shows(
        &page,
        &[
            "<b>The reload at 1970-01-01T00:00:00Z was refused</b>; the configuration before stays in force.<pre>postern.toml:3: did you mean &lt;data&gt;?</pre>",
        ],
    );
}
