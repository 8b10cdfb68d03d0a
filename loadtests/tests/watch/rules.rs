//! The rules: what they ask for exists, what they tell is whole, and none is about a customer's key.

use std::collections::BTreeSet;

use serde_yaml::Value;

use crate::expressions::{Expression, takes};
use crate::metrics::Tables;
use crate::{files, read, repository};

/// One rule that alerts.
pub struct Alert {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub expression: Expression,
    /// Who is woken, and with what words.
    rule: Value,
}

struct Record {
    name: String,
    expression: Expression,
}

fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str)
}

fn rules() -> Vec<Value> {
    let mut found = Vec::new();
    for (name, content) in files("deploy/watch/rules", "yaml") {
        let file: Value =
            serde_yaml::from_str(&content).unwrap_or_else(|error| panic!("{name}: {error}"));
        for group in file["groups"].as_sequence().unwrap() {
            found.extend(group["rules"].as_sequence().unwrap().iter().cloned());
        }
    }
    found
}

/// Every alert, in the order of the files.
pub fn alerts() -> Vec<Alert> {
    let alert = |rule: Value| {
        let name = text(&rule, "alert")?.to_owned();
        let expression = Expression::read(&name, text(&rule, "expr").unwrap());
        Some(Alert {
            name,
            expression,
            rule,
        })
    };
    rules().into_iter().filter_map(alert).collect()
}

fn records() -> Vec<Record> {
    let record = |rule: Value| {
        let name = text(&rule, "record")?.to_owned();
        let expression = Expression::read(&name, text(&rule, "expr").unwrap());
        Some(Record { name, expression })
    };
    rules().into_iter().filter_map(record).collect()
}

/// The tables of the programs, and what is recorded.
pub fn tables() -> Tables {
    let mut tables = Tables::read();
    for Record { name, expression } in records() {
        let (wrong, labels) = expression.check(&tables);
        assert_eq!(wrong, [""; 0], "{name}");
        tables.record(&name, labels);
    }
    tables
}

#[test]
fn each_rule_asks_for_what_exists_and_tells_only_labels_that_it_has() {
    let tables = tables();
    for alert in alerts() {
        let Alert {
            name,
            expression,
            rule,
        } = &alert;
        let (wrong, labels) = expression.check(&tables);
        assert_eq!(wrong, [""; 0], "{name}");
        for (key, annotation) in rule["annotations"].as_mapping().unwrap() {
            for part in annotation.as_str().unwrap().split("$labels.").skip(1) {
                let end = part.find(|c: char| !c.is_alphanumeric() && c != '_');
                let label = &part[..end.unwrap_or(part.len())];
                assert!(
                    labels.contains(label),
                    "{name}: {key:?} tells {label}, and there are {labels:?}"
                );
            }
        }
    }
}

#[test]
fn each_alert_says_how_urgent_it_is_and_leads_to_its_page_and_a_dashboard() {
    let dashboards: BTreeSet<String> = (files("deploy/watch/dashboards", "json").iter())
        .map(|(_, content)| serde_json::from_str::<serde_json::Value>(content).unwrap())
        .map(|dashboard| dashboard["uid"].as_str().unwrap().to_owned())
        .collect();
    let mut names = BTreeSet::new();
    for Alert { name, rule, .. } in alerts() {
        assert!(
            names.insert(name.clone()) && name.starts_with("Postern"),
            "{name}"
        );
        let severity = text(&rule["labels"], "severity").unwrap();
        assert!(["page", "ticket"].contains(&severity), "{name}: {severity}");
        let annotations = &rule["annotations"];
        let summary = text(annotations, "summary").unwrap();
        assert!((20..200).contains(&summary.len()), "{name}: {summary}");
        let runbook = format!("https://runbooks.postern.example/{name}.md");
        assert_eq!(text(annotations, "runbook_url"), Some(runbook.as_str()));
        let dashboard = text(annotations, "dashboard_url").unwrap();
        let uid = dashboard
            .strip_prefix("https://grafana.postern.example/d/")
            .and_then(|rest| rest.split('?').next());
        assert!(
            uid.is_some_and(|uid| dashboards.contains(uid)),
            "{name}: {dashboard}"
        );
    }
}

#[test]
fn each_alert_is_proven_to_fire_and_nothing_else_is_expected() {
    let names: BTreeSet<String> = alerts().into_iter().map(|alert| alert.name).collect();
    let mut proven = BTreeSet::new();
    for (file, content) in files("deploy/watch/rules/tests", "yaml") {
        for part in content.split("alertname=\"").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(
                names.contains(name),
                "{file} expects {name}, which is no alert"
            );
            proven.insert(name.to_owned());
        }
    }
    let unproven: Vec<_> = names.difference(&proven).collect();
    assert!(unproven.is_empty(), "no test expects {unproven:?}");
}

/// The blame policy: a customer's key that is out of reach is for the customer. `customer_key.yaml` proves that nothing
/// fires; this proves that nothing looks.
#[test]
fn no_rule_looks_at_a_customers_key() {
    let records = records().into_iter().map(|it| (it.name, it.expression));
    let alerts = alerts().into_iter().map(|it| (it.name, it.expression));
    for (name, expression) in records.chain(alerts) {
        for selector in expression.selectors() {
            let metric = selector.name.as_deref().unwrap();
            let sees = match metric {
                "postern_refusals_total" => {
                    takes(selector, "reason", "customer_key") && takes(selector, "blame", "policy")
                }
                "postern_would_refuse_total" => takes(selector, "reason", "customer_key"),
                "postern_routing_authorizations_total" => takes(selector, "answer", "customer_key"),
                "postern_connections_total" => takes(selector, "blame", "policy"),
                // As a whole it is what something is a share of.
                "postern_requests_total" => {
                    !takes(selector, "status", "2xx") && takes(selector, "status", "4xx")
                }
                _ => false,
            };
            assert!(!sees, "{name} looks at customers' keys: {selector}");
        }
    }
}

#[test]
fn what_is_scraped_is_what_the_rules_ask_for() {
    let scrape: Value =
        serde_yaml::from_str(&read(&repository("deploy/watch/scrape.yaml"))).unwrap();
    let jobs: BTreeSet<_> = (scrape["scrape_configs"].as_sequence().unwrap().iter())
        .map(|job| text(job, "job_name").unwrap())
        .collect();
    let asked: BTreeSet<String> = (alerts().iter())
        .flat_map(|alert| alert.expression.selectors())
        .flat_map(|selector| &selector.matchers.matchers)
        .filter(|matcher| matcher.name == "job")
        .flat_map(|matcher| matcher.value.split('|').map(ToOwned::to_owned))
        .collect();
    assert!(
        asked.iter().all(|job| jobs.contains(job.as_str())),
        "{asked:?}"
    );
    assert!(text(&scrape["global"]["external_labels"], "region").is_some());
}
