//! The results as one page that needs nothing else: bars, tables, versions, configurations.

use std::fmt::Write as _;

use super::case::{Case, FAILED, Metric, P50, P99, RATE, RESIDENT};
use super::peer::Contender;
use super::results::{Judged, Results};

/// The page.
pub(super) fn page(results: &Results) -> String {
    let judged = results.judged();
    let mut page = String::from(HEAD);
    // Writing to a `String` cannot fail.
    let _ = write!(page, "<h1>Postern beside its peers</h1><p class=about>");
    for (name, value) in &results.about {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned);
        let _ = write!(page, "{}: {} · ", escape(name), escape(&value));
    }
    page.push_str("shorter bars are better</p>");
    for (name, reason) in results.all_missing() {
        let (name, reason) = (escape(name), escape(reason));
        let _ = write!(page, "<p class=bad>Missing: {name}. {reason}</p>");
    }
    summary(&judged, &mut page);
    for case in &judged {
        chart_section(case, results, &mut page);
    }
    page.push_str("<h2>Versions</h2><table>");
    for (name, version) in &results.versions {
        let (name, version) = (escape(name), escape(version));
        let _ = write!(page, "<tr><th>{name}</th><td>{version}</td></tr>");
    }
    page.push_str("</table><h2>Configurations</h2>");
    for (name, configuration) in results.configurations() {
        let (name, configuration) = (escape(name), escape(configuration));
        let _ = write!(
            page,
            "<details><summary>{name}</summary><pre>{configuration}</pre></details>"
        );
    }
    page.push_str("</main></body></html>\n");
    page
}

fn summary(judged: &[Judged<'_>], page: &mut String) {
    page.push_str(
        "<table><tr><th>case</th><th>best peer</th><th>Postern ÷ best peer</th><th>goal</th><th></th></tr>",
    );
    for case in judged {
        let ratio = case
            .ratio
            .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let (class, word) = match case.met() {
            Some(true) => ("good", "met"),
            Some(false) => ("bad", "not met"),
            None => ("", "unknown"),
        };
        let (name, title) = (case.case.name(), case.case.title());
        let (best, goal) = (case.best_peer.unwrap_or("–"), case.case.goal());
        let _ = write!(
            page,
            "<tr><td><a href='#{name}'>{title}</a></td><td>{best}</td><td class=n>{ratio}</td>\
             <td class=n>≤ {goal:.2}</td><td class='{class}'>{word}</td></tr>"
        );
    }
    page.push_str("</table>");
}

fn chart_section(judged: &Judged<'_>, results: &Results, page: &mut String) {
    let (name, title) = (judged.case.name(), judged.case.title());
    let _ = write!(page, "<h2 id='{name}'>{title}</h2>");
    if judged.case == Case::LatencyHalfLoad
        && let Some(rate) = results.half_load
    {
        let _ = write!(page, "<p>{rate} requests a second for everyone</p>");
    }
    for metric in judged.case.judged_by() {
        chart(judged, *metric, page);
    }
    page.push_str("<table><tr><th></th>");
    let columns = [RATE, P50, P99, RESIDENT, FAILED];
    for metric in columns {
        let _ = write!(page, "<th>{}</th>", metric.title);
    }
    page.push_str("</tr>");
    for (contender, figures, measured) in &judged.rows {
        let _ = write!(page, "<tr><th>{}</th>", contender.name());
        for metric in columns {
            let value = figures.get(metric.key);
            let value = value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
            let _ = write!(page, "<td class=n>{value}</td>");
        }
        if let Some(reason) = measured.broken() {
            let _ = write!(page, "<td class=bad>{}</td>", escape(reason));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
}

/// One bar a proxy, and a dashed line where Postern's must end.
fn chart(judged: &Judged<'_>, metric: Metric, page: &mut String) {
    let values: Vec<(Contender, f64)> = judged
        .rows
        .iter()
        .filter_map(|(contender, figures, _)| Some((*contender, *figures.get(metric.key)?)))
        .collect();
    let most = values
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::EPSILON, f64::max);
    let peers = values
        .iter()
        .filter(|(contender, _)| matches!(contender, Contender::Peer(_)));
    let best = peers.map(|(_, value)| *value).min_by(f64::total_cmp);
    let x = |value: f64| LABEL_WIDTH + (value.max(0.0) / most * BAR_WIDTH);
    let rows = u16::try_from(values.len()).unwrap_or(u16::MAX);
    let height = ROW_HEIGHT * f64::from(rows) + 4.0;
    let title = metric.title;
    let _ = write!(
        page,
        "<figure><figcaption>{title}</figcaption><svg viewBox='0 0 720 {height}' role='img' aria-label='{title}'>"
    );
    let mut y = 2.0;
    for (contender, value) in &values {
        let class = match (*contender == Contender::Postern, Some(*value) == best) {
            (true, _) => "ours",
            (false, true) => "best",
            (false, false) => "peer",
        };
        let width = (x(*value) - LABEL_WIDTH).max(1.0);
        let (text_y, end, name) = (y + 16.0, x(*value) + 6.0, contender.name());
        let _ = write!(
            page,
            "<text x='{label}' y='{text_y}' text-anchor='end'>{name}</text>\
             <rect class='{class}' x='{LABEL_WIDTH}' y='{y}' width='{width:.1}' height='20' rx='2'/>\
             <text x='{end:.1}' y='{text_y}'>{value:.1}</text>",
            label = LABEL_WIDTH - 8.0,
        );
        y += ROW_HEIGHT;
    }
    if let Some(best) = best {
        let goal = x(best * judged.case.goal());
        let _ = write!(
            page,
            "<line class='goal' x1='{goal:.1}' x2='{goal:.1}' y1='0' y2='{height}'>\
             <title>the goal for Postern</title></line>"
        );
    }
    page.push_str("</svg></figure>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const LABEL_WIDTH: f64 = 100.0;
const BAR_WIDTH: f64 = 540.0;
const ROW_HEIGHT: f64 = 26.0;

const HEAD: &str = "<!doctype html>
<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>
<title>Postern beside its peers</title>
<style>
:root { color-scheme: light dark; --ours: #0b7a75; --peer: #a9b1bb; --best: #6b7683; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; font-weight: normal; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--ours); } .bad { color: var(--bad); }
.about { opacity: .75; }
figure { margin: .5rem 0; } figcaption { opacity: .75; }
svg { width: 100%; height: auto; font-size: 14px; }
svg text { fill: currentColor; }
.ours { fill: var(--ours); } .peer { fill: var(--peer); } .best { fill: var(--best); }
.goal { stroke: currentColor; stroke-dasharray: 4 3; }
pre { overflow: auto; padding: .8rem; background: #8882; font-size: 13px; }
</style></head><body><main>
";

#[cfg(test)]
mod tests {
    use super::super::case::CPU;
    use super::super::generator::Figures;
    use super::super::peer::Peer;
    use super::*;

    #[test]
    fn the_page_has_a_bar_for_each_and_loads_nothing() {
        let mut results = Results::default();
        results.configured("nginx", "if (a < b) {}");
        for contender in [Contender::Postern, Contender::Peer(Peer::Nginx)] {
            let figures = Figures::from([(CPU.key, 10.0)]);
            results.add(Case::H1Small, contender, Ok(figures));
        }
        let page = page(&results);
        assert_eq!(page.matches("<rect").count(), 2);
        assert!(page.contains("a &lt; b"));
        for outside in ["src=", "http:", "https:", "@import", "<link", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
