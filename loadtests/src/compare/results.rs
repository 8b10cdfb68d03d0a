//! What was measured becomes medians, and ratios to the peers.
//!
//! Where there are many turns, in each of which everybody is measured within seconds, a ratio is the median of the ratios
//! of each: when the machine is slow for a minute, all are slow in the same turns. Where there are few, it is the ratio of
//! the medians.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::case::{Case, Metric};
use super::generator::Figures;
use super::peer::Contender;

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// About the run: rounds, seconds, cores, build.
    pub(super) about: Map<String, Value>,
    /// Name and version of each program.
    pub(super) versions: BTreeMap<String, String>,
    /// Name and configuration of each.
    configurations: BTreeMap<String, String>,
    /// Peers that could not be compared with, and why.
    missing: BTreeMap<String, String>,
    /// The rate of `latency-half-load`.
    pub(super) half_load: Option<f64>,
    /// Without a proxy, at that rate.
    pub(super) direct: Vec<Figures>,
    measured: BTreeMap<(Case, Contender), Measured>,
}

/// One proxy in one case.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// One a turn; without figures where it could not be measured.
    turns: Vec<Figures>,
    broken: Option<String>,
}

/// One case, judged.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) case: Case,
    /// Who was measured, with medians over the rounds; Postern first.
    pub(super) rows: Vec<(Contender, Figures, &'a Measured)>,
    /// The best of the others, by the metric that Postern is furthest behind in.
    pub(super) best_peer: Option<&'static str>,
    pub(super) ratio: Option<f64>,
    /// By metric, where there is more than one.
    pub(super) ratios: BTreeMap<&'static str, f64>,
}

impl Judged<'_> {
    /// Whether the goal is met; `None` if nobody knows.
    pub(super) fn met(&self) -> Option<bool> {
        self.ratio.map(|ratio| ratio <= self.case.goal())
    }
}

impl Measured {
    /// Why it could not be measured, at least once.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }
}

impl Results {
    pub(super) fn configured(&mut self, name: &str, configuration: &str) {
        self.configurations
            .insert(name.to_owned(), configuration.to_owned());
    }

    pub(super) fn configurations(&self) -> &BTreeMap<String, String> {
        &self.configurations
    }

    pub(super) fn missing(&mut self, name: &str, reason: &str) {
        self.missing.insert(name.to_owned(), reason.to_owned());
    }

    pub(super) fn all_missing(&self) -> &BTreeMap<String, String> {
        &self.missing
    }

    pub(super) fn add(
        &mut self,
        case: Case,
        contender: Contender,
        outcome: Result<Figures, String>,
    ) {
        let measured = self.measured.entry((case, contender)).or_default();
        match outcome {
            Ok(figures) => measured.turns.push(figures),
            Err(reason) => {
                measured.turns.push(Figures::new());
                measured.broken = Some(reason);
            }
        }
    }

    /// Each case that was measured, in the order of the report.
    pub(super) fn judged(&self) -> Vec<Judged<'_>> {
        let cases = Case::ALL.into_iter();
        let measured = |case: &Case| self.measured.keys().any(|(key, _)| key == case);
        cases
            .filter(measured)
            .map(|case| self.judge(case))
            .collect()
    }

    fn judge(&self, case: Case) -> Judged<'_> {
        let of_case = self.measured.iter().filter(|((key, _), _)| *key == case);
        let rows: Vec<_> = of_case
            .map(|((_, contender), measured)| (*contender, medians(&measured.turns), measured))
            .collect();
        let mut judged = Judged {
            case,
            rows,
            best_peer: None,
            ratio: None,
            ratios: BTreeMap::new(),
        };
        for metric in case.judged_by() {
            let Some((best, ratio)) = compare(case, *metric, &judged.rows) else {
                // One metric that nobody knows makes the whole unknown.
                judged.ratio = None;
                break;
            };
            judged.ratios.insert(metric.key, ratio);
            if judged.ratio.is_none_or(|worst| ratio > worst) {
                (judged.ratio, judged.best_peer) = (Some(ratio), Some(best));
            }
        }
        judged
    }

    /// The report for machines.
    pub(super) fn json(&self) -> Value {
        let mut report = self.about.clone();
        report.insert("versions".to_owned(), json!(self.versions));
        report.insert("missing".to_owned(), json!(self.missing));
        let cases: Vec<Value> = self
            .judged()
            .iter()
            .map(|judged| self.case_json(judged))
            .collect();
        report.insert("cases".to_owned(), cases.into());
        report.insert("configurations".to_owned(), json!(self.configurations));
        report.into()
    }

    fn case_json(&self, judged: &Judged<'_>) -> Value {
        let mut proxies = Map::new();
        for (contender, medians, measured) in &judged.rows {
            let mut row: Map<String, Value> = rounded(medians);
            let rounds: Vec<Value> = measured
                .turns
                .iter()
                .map(|figures| rounded(figures).into())
                .collect();
            row.insert("rounds".to_owned(), rounds.into());
            if let Some(reason) = measured.broken() {
                row.insert("broken".to_owned(), reason.into());
            }
            proxies.insert(contender.name().to_owned(), row.into());
        }
        let keys = judged.case.judged_by().iter().map(|metric| metric.key);
        let mut case = json!({
            "case": judged.case.name(),
            "title": judged.case.title(),
            "metrics": keys.collect::<Vec<_>>(),
            "goal": judged.case.goal(),
            "proxies": proxies,
            "best_peer": judged.best_peer,
            "ratio_to_best_peer": judged.ratio.map(round),
            "ratios": rounded(&judged.ratios),
        });
        if judged.case == Case::LatencyHalfLoad {
            case["requests_per_second"] = json!(self.half_load);
            case["direct"] = rounded(&medians(&self.direct)).into();
        }
        case
    }
}

/// The peer that Postern is furthest behind, and the ratio to it.
fn compare(
    case: Case,
    metric: Metric,
    rows: &[(Contender, Figures, &Measured)],
) -> Option<(&'static str, f64)> {
    let value = |figures: &Figures| Some(figures.get(metric.key)?.max(metric.floor));
    let ours = rows
        .iter()
        .find(|(contender, ..)| *contender == Contender::Postern);
    let (_, our_medians, ours) = ours?;
    let peers = rows
        .iter()
        .filter(|(contender, ..)| matches!(contender, Contender::Peer(_)));
    let ratio = |(ours, theirs)| Some(value(ours)? / value(theirs)?);
    let ratios = peers.filter_map(|(contender, medians, measured)| {
        let mut ratios: Vec<f64> = if case.sliced() {
            let turns = ours.turns.iter().zip(&measured.turns);
            turns.filter_map(ratio).collect()
        } else {
            ratio((our_medians, medians)).into_iter().collect()
        };
        (!ratios.is_empty()).then(|| (contender.name(), median(&mut ratios)))
    });
    ratios.max_by(|one, other| one.1.total_cmp(&other.1))
}

fn medians(turns: &[Figures]) -> Figures {
    let keys: BTreeSet<&str> = turns
        .iter()
        .flat_map(|figures| figures.keys().copied())
        .collect();
    let median_of = |key: &'static str| {
        let mut values: Vec<f64> = turns
            .iter()
            .filter_map(|figures| figures.get(key).copied())
            .collect();
        (key, median(&mut values))
    };
    keys.into_iter().map(median_of).collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => f64::NAN,
        _ if values.len() % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn rounded(figures: &BTreeMap<&'static str, f64>) -> Map<String, Value> {
    figures
        .iter()
        .map(|(key, value)| ((*key).to_owned(), round(*value).into()))
        .collect()
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::case::{ADDED_P50, ADDED_P99, CPU};
    use super::super::peer::Peer;
    use super::*;

    fn measured(results: &mut Results, contender: Contender, values: &[f64]) {
        for value in values {
            let figures = Figures::from([(CPU.key, *value)]);
            results.add(Case::H1Small, contender, Ok(figures));
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_each_turn_to_the_best_of_the_others() {
        let mut results = Results::default();
        measured(&mut results, Contender::Postern, &[9.0, 8.0, 100.0]);
        measured(
            &mut results,
            Contender::Peer(Peer::Nginx),
            &[20.0, 18.0, 1.0],
        );
        measured(
            &mut results,
            Contender::Peer(Peer::Envoy),
            &[30.0, 30.0, 30.0],
        );
        let judged = results.judged();
        assert_eq!(
            (judged[0].ratio, judged[0].best_peer),
            (Some(0.45), Some("nginx"))
        );
        assert_eq!(judged[0].met(), Some(true));
        let report = results.json();
        let case = &report["cases"][0];
        assert_eq!(case["ratio_to_best_peer"], 0.45);
        assert_eq!(case["proxies"]["postern"]["cpu_us_per_request"], 9.0);
        assert_eq!(
            case["proxies"]["nginx"]["rounds"].as_array().unwrap().len(),
            3
        );
    }

    #[test]
    fn a_slow_minute_of_the_machine_changes_no_ratio() {
        let mut results = Results::default();
        measured(&mut results, Contender::Postern, &[8.0, 8.0, 8.0, 16.0]);
        let peer = Contender::Peer(Peer::Nginx);
        measured(&mut results, peer, &[10.0, 20.0, 20.0]);
        results.add(Case::H1Small, peer, Err("once".to_owned()));
        // Medians of each would be 8 and 20.
        assert_eq!(results.judged()[0].ratio, Some(0.4));
        let mut results = Results::default();
        measured(&mut results, Contender::Postern, &[8.0, 8.0, 16.0, 16.0]);
        measured(&mut results, peer, &[10.0, 10.0, 20.0, 20.0]);
        assert_eq!(results.judged()[0].ratio, Some(0.8));
    }

    #[test]
    fn a_floor_is_shown_and_no_peer() {
        let mut results = Results::default();
        measured(&mut results, Contender::Postern, &[9.0]);
        measured(&mut results, Contender::Peer(Peer::Nginx), &[18.0]);
        measured(&mut results, Contender::Floor, &[6.0]);
        let judged = results.judged();
        assert_eq!(judged[0].ratio, Some(0.5));
        assert_eq!(judged[0].rows.len(), 3);
    }

    #[test]
    fn without_a_peer_there_is_no_ratio_and_no_goal_met() {
        let mut results = Results::default();
        measured(&mut results, Contender::Postern, &[9.0]);
        results.add(
            Case::H1Small,
            Contender::Peer(Peer::Nginx),
            Err("gone".to_owned()),
        );
        assert_eq!(results.judged()[0].met(), None);
        let case = &results.json()["cases"][0];
        assert_eq!(case["ratio_to_best_peer"], Value::Null);
        assert_eq!(case["proxies"]["nginx"]["broken"], "gone");
    }

    #[test]
    fn of_two_metrics_the_worse_ratio_counts() {
        let mut results = Results::default();
        for (contender, p50, p99) in [
            (Contender::Postern, 50.0, 300.0),
            (Contender::Peer(Peer::Nginx), 100.0, 200.0),
        ] {
            let figures = Figures::from([(ADDED_P50.key, p50), (ADDED_P99.key, p99)]);
            results.add(Case::LatencyHalfLoad, contender, Ok(figures));
        }
        let judged = results.judged();
        assert_eq!(judged[0].ratio, Some(1.5));
        assert_eq!(judged[0].ratios.get(ADDED_P50.key), Some(&0.5));
        assert_eq!(judged[0].met(), Some(false));
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_too() {
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
