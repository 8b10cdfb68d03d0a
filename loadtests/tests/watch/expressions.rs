//! What a `PromQL` expression asks for, and what comes out of it.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{
    self, AggregateExpr, BinaryExpr, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
};

use crate::metrics::Tables;

/// An expression that was read.
pub struct Expression(Expr);

impl Expression {
    /// Reads it. Panics with `place` if it is none.
    pub fn read(place: &str, text: &str) -> Self {
        Self(parser::parse(text).unwrap_or_else(|error| panic!("{place}: {error}\n{text}")))
    }

    /// Everything that it selects.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        walk(&self.0, &mut |expression| match expression {
            Expr::VectorSelector(selector) => found.push(selector),
            Expr::MatrixSelector(selector) => found.push(&selector.vs),
            _ => {}
        });
        found
    }

    /// What is wrong with it, and the labels that come out of it.
    pub fn check(&self, tables: &Tables) -> (Vec<String>, BTreeSet<String>) {
        let mut wrong = Vec::new();
        let labels = labels(&self.0, tables, &mut wrong);
        (wrong, labels)
    }
}

/// Whether a selector with these matchers takes a series whose label has this value.
pub fn takes(selector: &VectorSelector, label: &str, value: &str) -> bool {
    let matchers = selector.matchers.matchers.iter();
    matchers
        .filter(|matcher| matcher.name == label)
        .all(|matcher| matches(matcher, value))
}

fn matches(matcher: &Matcher, value: &str) -> bool {
    match &matcher.op {
        MatchOp::Equal => matcher.value == value,
        MatchOp::NotEqual => matcher.value != value,
        MatchOp::Re(pattern) => whole(pattern.as_str(), value, |text| pattern.is_match(text)),
        MatchOp::NotRe(pattern) => !whole(pattern.as_str(), value, |text| pattern.is_match(text)),
    }
}

/// Prometheus anchors patterns; alternatives of plain words are compared as words.
fn whole(pattern: &str, value: &str, found: impl Fn(&str) -> bool) -> bool {
    let pattern = pattern.trim_start_matches("^(?:").trim_end_matches(")$");
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || "_-|".contains(c))
    };
    if plain(pattern) {
        pattern.split('|').any(|word| word == value)
    } else {
        found(value)
    }
}

fn walk<'a>(expression: &'a Expr, seen: &mut impl FnMut(&'a Expr)) {
    seen(expression);
    match expression {
        Expr::Aggregate(it) => {
            walk(&it.expr, seen);
            if let Some(parameter) = &it.param {
                walk(parameter, seen);
            }
        }
        Expr::Unary(it) => walk(&it.expr, seen),
        Expr::Binary(it) => {
            walk(&it.lhs, seen);
            walk(&it.rhs, seen);
        }
        Expr::Paren(it) => walk(&it.expr, seen),
        Expr::Subquery(it) => walk(&it.expr, seen),
        Expr::Call(it) => {
            for argument in &it.args.args {
                walk(argument, seen);
            }
        }
        Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => {}
    }
}

/// The labels that an expression's result can have.
fn labels(expression: &Expr, tables: &Tables, wrong: &mut Vec<String>) -> BTreeSet<String> {
    match expression {
        Expr::VectorSelector(it) => selected(it, tables, wrong),
        Expr::MatrixSelector(it) => selected(&it.vs, tables, wrong),
        Expr::Aggregate(it) => aggregated(it, tables, wrong),
        Expr::Binary(it) => combined(it, tables, wrong),
        Expr::Unary(it) => labels(&it.expr, tables, wrong),
        Expr::Paren(it) => labels(&it.expr, tables, wrong),
        Expr::Subquery(it) => labels(&it.expr, tables, wrong),
        Expr::Call(it) => {
            let all: Vec<_> = (it.args.args.iter())
                .map(|argument| labels(argument, tables, wrong))
                .collect();
            let scalar = ["scalar", "time", "vector"].contains(&it.func.name);
            let mut found: BTreeSet<String> = if scalar {
                BTreeSet::new()
            } else {
                all.into_iter().flatten().collect()
            };
            if it.func.name == "histogram_quantile" && !found.remove("le") {
                wrong.push(format!("{expression}: a quantile of what has no buckets"));
            }
            found
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => BTreeSet::new(),
    }
}

fn selected(it: &VectorSelector, tables: &Tables, wrong: &mut Vec<String>) -> BTreeSet<String> {
    let Some(metric) = it.name.as_deref().and_then(|name| tables.get(name)) else {
        wrong.push(format!("{it}: there is no such metric"));
        return BTreeSet::new();
    };
    if !it.matchers.or_matchers.is_empty() {
        wrong.push(format!("{it}: one alternative of labels is enough"));
    }
    for matcher in &it.matchers.matchers {
        if !metric.labels.contains(&matcher.name) {
            wrong.push(format!("{it}: there is no label {}", matcher.name));
        }
        let Some(values) = metric.values.get(&matcher.name) else {
            continue;
        };
        let variable = matcher.value.starts_with('$');
        let none = !variable && !values.iter().any(|value| matches(matcher, value));
        // Each alternative that is a plain word must be a value, too.
        let unknown = (matcher.value.split('|'))
            .filter(|_| !variable)
            .find(|word| {
                word.chars().all(|c| c.is_alphanumeric() || c == '_') && !values.contains(*word)
            });
        if none || unknown.is_some() {
            wrong.push(format!("{it}: {} has no such value", matcher.name));
        }
    }
    metric.labels.clone()
}

fn aggregated(it: &AggregateExpr, tables: &Tables, wrong: &mut Vec<String>) -> BTreeSet<String> {
    let inner = labels(&it.expr, tables, wrong);
    let Some(modifier) = &it.modifier else {
        let keeps = ["topk", "bottomk"].contains(&it.op.to_string().as_str());
        return if keeps { inner } else { BTreeSet::new() };
    };
    named(modifier, &inner, &it.to_string(), wrong);
    let listed: BTreeSet<String> = modifier.labels().labels.iter().cloned().collect();
    let keeps = ["topk", "bottomk"].contains(&it.op.to_string().as_str());
    match modifier {
        _ if keeps => inner,
        LabelModifier::Include(_) => listed,
        LabelModifier::Exclude(_) => inner.difference(&listed).cloned().collect(),
    }
}

fn combined(it: &BinaryExpr, tables: &Tables, wrong: &mut Vec<String>) -> BTreeSet<String> {
    let left = labels(&it.lhs, tables, wrong);
    let right = labels(&it.rhs, tables, wrong);
    let Some(modifier) = &it.modifier else {
        return either(&left, &right, &it.op.to_string());
    };
    if let Some(matching) = &modifier.matching {
        for side in [&left, &right] {
            named(matching, side, &it.to_string(), wrong);
        }
    }
    match &modifier.card {
        VectorMatchCardinality::ManyToOne(_) => left,
        VectorMatchCardinality::OneToMany(_) => right,
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {
            either(&left, &right, &it.op.to_string())
        }
    }
}

/// `or` gives the series of both sides; every other operator those of the left, or of the side that is no number.
fn either(left: &BTreeSet<String>, right: &BTreeSet<String>, operator: &str) -> BTreeSet<String> {
    if operator == "or" {
        left.union(right).cloned().collect()
    } else if left.is_empty() {
        right.clone()
    } else {
        left.clone()
    }
}

fn named(of: &LabelModifier, there: &BTreeSet<String>, text: &str, wrong: &mut Vec<String>) {
    for label in &of.labels().labels {
        if !there.contains(label) {
            wrong.push(format!("{text}: there is no label {label}"));
        }
    }
}

#[test]
fn a_name_that_does_not_exist_is_found_wherever_it_stands() {
    let tables = Tables::read();
    for text in [
        "rate(postern_request_total[5m])",
        "sum by (reson) (postern_refusals_total)",
        "postern_refusals_total{reason=\"customer_kex\"}",
        "postern_refusals_total{reason=~\"overloaded|customer_kex\"}",
        "postern_refusals_total{raeson=\"customer_key\"}",
        "up == 0 or time() - postern_nothing_seconds > 5",
        "postern_request_duration_seconds",
        "histogram_quantile(0.9, sum by (region) (rate(postern_request_duration_seconds_bucket[5m])))",
        "postern_ready and on (cluster) postern_upstream_endpoints",
        "postern_routing_lookups_total{answer=\"hit\"}",
    ] {
        let (wrong, _) = Expression::read("test", text).check(&tables);
        assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
    }
    let good = "sum by (reason) (rate(postern_refusals_total{reason!~\"rate.*\", instance=~\"$instance\"}[5m]))";
    let (wrong, labels) = Expression::read("test", good).check(&tables);
    assert_eq!(wrong, [""; 0]);
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["reason"]);
}
