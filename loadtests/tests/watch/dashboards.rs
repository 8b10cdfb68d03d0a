//! The dashboards: every panel asks for what exists, says what it is, and has room of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::expressions::Expression;
use crate::{files, repository, rules};

/// A dashboard with its name.
fn dashboards() -> Vec<(String, Value)> {
    let read = |(name, text): (String, String)| {
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, value)
    };
    let found = files("deploy/watch/dashboards", "json");
    found.into_iter().map(read).collect()
}

/// Every panel but the headings of rows, with where it stands.
fn panels(dashboards: &[(String, Value)]) -> Vec<(String, &Value)> {
    let of = |(name, dashboard): &'_ (String, Value)| {
        let panels = dashboard["panels"].as_array().unwrap().len();
        (0..panels).map(|n| (name.clone(), n)).collect::<Vec<_>>()
    };
    let places = dashboards
        .iter()
        .enumerate()
        .flat_map(|(d, it)| of(it).into_iter().map(move |(name, n)| (d, name, n)));
    places
        .map(|(d, name, n)| {
            let panel = &dashboards[d].1["panels"][n];
            (
                format!("{name}: {}", panel["title"].as_str().unwrap()),
                panel,
            )
        })
        .filter(|(_, panel)| panel["type"] != "row")
        .collect()
}

/// As Prometheus would see it, with the variables of Grafana filled in.
fn filled_in(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "5m")
        .replace("$__range", "1h")
}

#[test]
fn each_panel_asks_for_what_exists_and_names_series_by_labels_that_they_have() {
    let mut tables = rules::tables();
    let of_alerts = ["alertname", "alertstate", "severity", "region", "instance"];
    tables.record("ALERTS", of_alerts.map(ToOwned::to_owned).into());
    let dashboards = dashboards();
    for (place, panel) in panels(&dashboards) {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{place}");
        for target in targets {
            let text = target["expr"].as_str().unwrap();
            let expression = Expression::read(&place, &filled_in(text));
            let (wrong, labels) = expression.check(&tables);
            assert_eq!(wrong, [""; 0], "{place}");
            let legend = target["legendFormat"].as_str().unwrap_or("");
            for part in legend.split("{{").skip(1) {
                let label = part.split("}}").next().unwrap();
                assert!(labels.contains(label), "{place}: {label} of {labels:?}");
            }
            let many = targets.len() > 1 || !labels.is_empty();
            assert!(
                !many || !legend.is_empty() || panel["type"] == "table",
                "{place}: nothing names {text}"
            );
            let chosen = text.contains("region=~\"$region\"");
            let whole = [
                "postern_routing_subscribers",
                "postern_route_stale_max_seconds > 0",
            ];
            assert!(
                chosen || whole.iter().any(|part| text.contains(part)),
                "{place}: {text} ignores the region"
            );
        }
    }
}

#[test]
fn each_panel_says_what_it_is_and_in_which_unit() {
    let dashboards = dashboards();
    for (place, panel) in panels(&dashboards) {
        let kind = panel["type"].as_str().unwrap();
        assert!(
            ["stat", "timeseries", "state-timeline", "table"].contains(&kind),
            "{place}: {kind}"
        );
        let about = panel["description"].as_str().unwrap();
        assert!(about.len() > 15 && about.ends_with('.'), "{place}: {about}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
        assert!(UNITS.contains(&unit), "{place}: {unit}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
        let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array();
        let values: Vec<_> = steps
            .into_iter()
            .flatten()
            .map(|step| step["value"].as_f64())
            .collect();
        assert!(
            values.is_sorted() && values.first().is_none_or(Option::is_none),
            "{place}: {values:?}"
        );
    }
}

#[test]
fn panels_have_identities_and_room_of_their_own() {
    let mut identities = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert_eq!(dashboard["uid"], name.as_str());
        assert!(identities.insert(name.clone()) && name.len() <= 40);
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{name}: {}",
                panel["id"]
            );
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(
                at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24,
                "{name}: {}",
                panel["title"]
            );
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(
                        taken.insert((x, y)),
                        "{name}: {} lies over another",
                        panel["title"]
                    );
                }
            }
        }
    }
}

#[test]
fn each_dashboard_lets_one_choose_source_region_and_instance_and_leads_to_the_others() {
    let tables = rules::tables();
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let names: Vec<_> = variables
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["datasource", "region", "instance"], "{name}");
        for variable in &variables[1..] {
            let query = variable["query"].as_str().unwrap();
            let (metric, label) = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
                .unwrap();
            let (wrong, labels) = Expression::read(&name, metric).check(&tables);
            assert_eq!(wrong, [""; 0], "{name}");
            assert!(
                labels.contains(label) && variable["allValue"] == ".*",
                "{name}: {query}"
            );
        }
        assert_eq!(dashboard["links"][0]["tags"], dashboard["tags"], "{name}");
        assert_eq!(dashboard["editable"], false, "{name}");
    }
}

/// Each alert is seen on some panel, which leads to its page.
#[test]
fn each_alert_has_a_panel_that_shows_it() {
    let dashboards = dashboards();
    let mut shown = BTreeSet::new();
    for (place, panel) in panels(&dashboards) {
        for link in panel["links"].as_array().into_iter().flatten() {
            let title = link["title"].as_str().unwrap();
            assert_eq!(
                link["url"],
                format!("https://runbooks.postern.example/{title}.md"),
                "{place}"
            );
            let page = repository("deploy/watch/runbook").join(format!("{title}.md"));
            assert!(page.is_file(), "{place}: {title}");
            shown.insert(title.to_owned());
        }
    }
    let alerts: BTreeSet<_> = rules::alerts()
        .into_iter()
        .map(|alert| alert.name)
        .collect();
    let missing: Vec<_> = alerts.difference(&shown).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

/// Those of Grafana that are used.
const UNITS: [&str; 9] = [
    "none",
    "short",
    "percentunit",
    "s",
    "bytes",
    "Bps",
    "reqps",
    "ops",
    "cps",
];
