//! The results as text.

use std::fmt::Write as _;

use super::case::{ADDED_CPU, CPU, Case, FAILED, P50, P99, RATE, RESIDENT};
use super::generator::Figures;
use super::results::{Judged, Results};

/// One block a case, and a last line that sums up.
pub(super) fn text(results: &Results) -> String {
    let mut text = String::new();
    let (mut met, mut all) = (0, 0);
    for judged in results.judged() {
        case(&judged, &mut text);
        all += 1;
        met += usize::from(judged.met() == Some(true));
    }
    // Writing to a `String` cannot fail.
    for (name, reason) in results.all_missing() {
        let _ = writeln!(text, "MISSING {name}: {reason}");
    }
    let _ = write!(text, "compare: {met} of {all} goals met");
    text
}

fn case(judged: &Judged<'_>, text: &mut String) {
    let (name, title, goal) = (judged.case.name(), judged.case.title(), judged.case.goal());
    let verdict = match (judged.ratio, judged.best_peer) {
        (Some(ratio), Some(best)) => {
            let word = if judged.met() == Some(true) {
                "met"
            } else {
                "NOT MET"
            };
            format!("{ratio:.2} of {best}, goal {goal:.2}: {word}")
        }
        _ => format!("no ratio, goal {goal:.2}"),
    };
    let _ = writeln!(text, "{name}: {title}; {verdict}");
    let columns = columns(judged.case);
    let _ = write!(text, "  {:<11}", "");
    for (_, heading, width) in &columns {
        let _ = write!(text, "  {heading:>width$}");
    }
    text.push('\n');
    for (contender, figures, measured) in &judged.rows {
        let _ = write!(text, "  {:<11}", contender.name());
        for (key, _, width) in &columns {
            let _ = write!(text, "  {:>width$}", figure(figures, key));
        }
        if let Some(reason) = measured.broken() {
            let _ = write!(
                text,
                "  BROKEN {}",
                reason.lines().next().unwrap_or_default()
            );
        }
        text.push('\n');
    }
    text.push('\n');
}

/// Key, heading and width.
fn columns(case: Case) -> Vec<(&'static str, &'static str, usize)> {
    let mut columns: Vec<_> = case
        .judged_by()
        .iter()
        .map(|metric| (metric.key, metric.title, metric.title.chars().count()))
        .collect();
    if case.judged_by() == [ADDED_CPU] || case == Case::LatencyHalfLoad {
        columns.push((CPU.key, "µs CPU/request", 14));
    }
    columns.extend([
        (RATE.key, "answers/s", 10),
        (P50.key, "p50 µs", 9),
        (P99.key, "p99 µs", 9),
        (RESIDENT.key, "RSS KiB", 9),
        (FAILED.key, "failed", 6),
    ]);
    columns
}

fn figure(figures: &Figures, key: &str) -> String {
    match figures.get(key) {
        None => "-".to_owned(),
        Some(value) if [RATE.key, RESIDENT.key, FAILED.key].contains(&key) => {
            format!("{value:.0}")
        }
        Some(value) => format!("{value:.1}"),
    }
}
